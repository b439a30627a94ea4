"""The inner loop through learn2learn's own MAML and MetaSGD, task by task.

The independent reference of the stacked engine (`maml_rl.inner_loop`), and selectable as
`inner=learn2learn_maml` and `inner=learn2learn_meta_sgd`. Slower: each task's policy is a clone
of a module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from maml_rl.advantages import Targets
from maml_rl.inner_loop import InnerLoop
from maml_rl.learn2learn_loader import load_learn2learn
from maml_rl.policies import GaussianMLP
from maml_rl.rollout import Params, Rollout
from maml_rl.update_rules import LEARNED, SGD, MetaSGD, UpdateRule


class Learn2LearnMAML(InnerLoop):
    """Adaptation by learn2learn's `MAML`: clone, then `adapt(loss)`.

    Args:
        steps: K, inner steps in training; evaluation may take more.
        step_size: of each step.
        loss: "likelihood_ratio" or "log_likelihood".
        first_order: drop second derivatives.
    """

    rule: type[UpdateRule] = SGD

    def __init__(
        self,
        steps: int = 1,
        step_size: float = 0.1,
        loss: str = "likelihood_ratio",
        first_order: bool = False,
    ) -> None:
        super().__init__(steps, step_size, loss, first_order, self.rule())
        self._algorithms = self.load()

    def load(self) -> Any:
        """Import learn2learn's class."""
        return load_learn2learn("algorithms.maml").MAML

    def learner(self, module: nn.Module, meta: Params, scale: float) -> Any:
        """Wrap one task's module in learn2learn's algorithm; `meta` has leaves [*s]."""
        return self._algorithms(module, lr=scale * self.step_size, first_order=self.first_order)

    def step(
        self,
        policy: GaussianMLP,  # type: ignore[override]
        params: Params,
        meta: Params,
        rollout: Rollout,
        targets: Targets,
        scale: float = 1.0,
    ) -> tuple[Params, Params]:
        """Take one inner step for each task in turn; return adapted parameters and gradients."""
        differentiable = torch.is_grad_enabled()
        rows, grads = [], []
        for task in range(len(rollout.rewards)):
            own = {name: leaf[task] for name, leaf in params.items()}
            if not differentiable:
                own = {name: leaf.view_as(leaf).requires_grad_() for name, leaf in own.items()}
            with torch.enable_grad():
                module = _module_of(policy, own)
                its_meta = {name: leaf[task] for name, leaf in meta.items()}
                learner = self.learner(module, its_meta, scale).clone()
                rollouts = rollout.tasks(task, task + 1)
                its_targets = Targets(*(leaf[task : task + 1] for leaf in targets))
                loss = self.loss(learner(rollouts.observations), rollouts, its_targets).sum()
            leaves = torch.autograd.grad(loss, list(own.values()), retain_graph=True)
            grads.append(dict(zip(own, leaves, strict=True)))
            learner.adapt(loss, first_order=self.first_order or not differentiable)
            rows.append(dict(learner.module.named_parameters()))
        adapted = {name: torch.stack([row[name] for row in rows]) for name in params}
        return adapted, {name: torch.stack([row[name] for row in grads]) for name in params}


class Learn2LearnMetaSGD(Learn2LearnMAML):
    """Adaptation by learn2learn's `MetaSGD`, with a learned raw rate per parameter."""

    rule = MetaSGD

    def load(self) -> Any:
        """Import learn2learn's class."""
        return load_learn2learn("algorithms.meta_sgd").MetaSGD

    def learner(self, module: nn.Module, meta: Params, scale: float) -> Any:
        """Wrap one task's module, its rates in the order of its parameters."""
        rates = [scale * meta[LEARNED + name] for name, _ in module.named_parameters()]
        return self._algorithms(module, first_order=self.first_order, lrs=rates)


def _module_of(policy: GaussianMLP, params: Params) -> nn.Module:
    """Clone the policy's module with `params` (leaves [*s], graph and all) in place of its own."""
    module: nn.Module = load_learn2learn("utils").clone_module(policy)
    for name, leaf in params.items():
        path, _, last = name.rpartition(".")
        own: dict[str, Any] = module.get_submodule(path)._parameters
        own[last] = leaf  # as clone_module itself does
    return module
