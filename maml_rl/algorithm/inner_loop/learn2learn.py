"""The inner loop through learn2learn's own MAML, MetaSGD and GBML, task by task.

The independent reference of the stacked engine (`inner_loop.loop`), and selectable as
`inner=learn2learn_maml`, `learn2learn_meta_sgd` and `learn2learn_gbml` (Meta-Curvature and
Kronecker-factored transforms). Slower: each task's policy is a clone of a module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from envs.arguments import one_of
from maml_rl.algorithm.advantages import Targets
from maml_rl.algorithm.inner_loop.learn2learn_loader import load_learn2learn
from maml_rl.algorithm.inner_loop.loop import InnerLoop, InnerStep, detached, to_differentiate
from maml_rl.algorithm.inner_loop.losses import Loss, per_task
from maml_rl.algorithm.inner_loop.update_rules import LEARNED, SGD, MetaSGD, UpdateRule
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.policies.distribution import rebuilt
from maml_rl.algorithm.rollout import Params, Rollout


class Learn2LearnMAML(InnerLoop):
    """Adaptation by learn2learn's `MAML`: clone, then `adapt(loss)`.

    Args:
        steps: K, inner steps in training; evaluation may take more.
        step_size: of each step.
        loss: as in `InnerLoop`.
        first_order: drop second derivatives.
        adapted: the parameters that adapt, as in `InnerLoop`; the clone's other parameters are
        frozen.
        dice_decay: lambda of Loaded DiCE, in [0, 1].
    """

    rule: Callable[[], UpdateRule] = SGD

    def __init__(
        self,
        steps: int = 1,
        step_size: float = 0.1,
        loss: str | Loss = "likelihood_ratio",
        first_order: bool = False,
        adapted: Sequence[str] | None = None,
        dice_decay: float = 1.0,
    ) -> None:
        rule = type(self).rule()
        super().__init__(steps, step_size, loss, first_order, adapted, rule, dice_decay)
        self.forward_mode = not first_order
        self._algorithms = self.load()

    def load(self) -> Any:
        """Import learn2learn's class."""
        return load_learn2learn("algorithms.maml").MAML

    def learner(self, module: nn.Module, meta: Params, scale: float) -> Any:
        """Wrap one task's module in learn2learn's algorithm; `meta` has leaves [*s]."""
        return self._algorithms(module, lr=scale * self.step_size, first_order=self.first_order)

    def step(
        self,
        policy: Policy,
        params: Params,
        meta: Params,
        rollout: Rollout,
        targets: Targets,
        scale: float = 1.0,
    ) -> InnerStep:
        """Take one inner step for each task in turn."""
        differentiable = torch.is_grad_enabled()
        names = self.adapted_names(policy)
        rows, grads, parts = [], [], []
        for task in range(len(rollout.rewards)):
            task_params = to_differentiate(
                {name: leaf[task] for name, leaf in params.items()}, names
            )
            with torch.enable_grad():
                module = AdaptedModule(policy, task_params, names)
                its_meta = {name: leaf[task] for name, leaf in meta.items()}
                learner = self.learner(module, its_meta, scale).clone()
                rollouts = rollout.tasks(task, task + 1)
                distribution = learner(rollouts.observations)
                own_targets = targets.tasks(task, task + 1)
                loss = per_task(self.loss, distribution, rollouts, own_targets).sum()
            leaves = torch.autograd.grad(
                loss, [task_params[name] for name in names], retain_graph=True
            )
            grads.append(dict(zip(names, leaves, strict=True)))
            if differentiable and self.first_order:  # adapt() frees the loss's graph
                distribution = learner(rollouts.observations)
            learner.adapt(loss, first_order=self.first_order or not differentiable)
            rows.append({**task_params, **learner.module.adapted()})
            parts.append(distribution if differentiable else detached(distribution))
        joined = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return InnerStep(
            {name: torch.stack([row[name] for row in rows]) for name in params},
            {name: torch.stack([row[name] for row in grads]) for name in names},
            rebuilt(parts[0], joined),
        )


class Learn2LearnMetaSGD(Learn2LearnMAML):
    """Adaptation by learn2learn's `MetaSGD`, with a learned raw rate per parameter.

    Arguments are `Learn2LearnMAML`'s; the rates start at `step_size`.
    """

    rule = MetaSGD

    def load(self) -> Any:
        """Import learn2learn's class."""
        return load_learn2learn("algorithms.meta_sgd").MetaSGD

    def learner(self, module: nn.Module, meta: Params, scale: float) -> Any:
        """Wrap one task's module, its rates in the order of its parameters."""
        names = (name.removeprefix("policy.") for name, _ in module.named_parameters())
        rates = [scale * meta[LEARNED + name] for name in names]
        return self._algorithms(module, first_order=self.first_order, lrs=rates)


class Learn2LearnGBML(Learn2LearnMAML):
    """Adaptation by learn2learn's `GBML`: a learned transform of every gradient.

    The transforms are learn2learn's own and begin as the identity, where GBML is MAML. They are
    shared by all inner steps.

    Args:
        transform: "meta_curvature" (Park and Oliva 2019) or "kronecker" (Arnold et al. 2019, its
            factors kept positive semi-definite).
        steps: K, inner steps in training; evaluation may take more.
        step_size: of each step.
        loss: as in `InnerLoop`.
        first_order: drop second derivatives.
        adapted: the parameters that adapt, as in `InnerLoop`.
        dice_decay: lambda of Loaded DiCE, in [0, 1].
    """

    def __init__(
        self,
        transform: str = "meta_curvature",
        steps: int = 1,
        step_size: float = 0.1,
        loss: str | Loss = "likelihood_ratio",
        first_order: bool = False,
        adapted: Sequence[str] | None = None,
        dice_decay: float = 1.0,
    ) -> None:
        super().__init__(steps, step_size, loss, first_order, adapted, dice_decay)
        transforms = load_learn2learn("optim.transforms")
        linear = load_learn2learn("nn.kroneckers").KroneckerLinear
        makers = {
            "meta_curvature": transforms.MetaCurvatureTransform,
            "kronecker": transforms.KroneckerTransform(linear),
        }
        self.transform = one_of("transform", transform, makers)
        self._transform = makers[transform]

    def load(self) -> Any:
        """Import learn2learn's class."""
        return load_learn2learn("algorithms.gbml").GBML

    @property
    def learns_update(self) -> bool:
        """Whether the update rule has parameters to learn: those of the transforms."""
        return True

    def _updates(self, params: Sequence[Tensor]) -> nn.Module:
        """Build learn2learn's module that turns gradients of `params` into updates."""
        module: nn.Module = load_learn2learn("optim").ParameterUpdate(params, self._transform)
        return module.to(params[0].dtype)

    def meta_parameters(self, policy: Policy, initialization: Params) -> Params:
        """Initialization and the transforms' parameters, "update/<theirs>"."""
        adapted = [initialization[name] for name in self.adapted_names(policy)]
        learned = self._updates(adapted).named_parameters()
        return initialization | {LEARNED + name: leaf.detach().clone() for name, leaf in learned}

    def learner(self, module: nn.Module, meta: Params, scale: float) -> Any:
        """Wrap one task's module and its transforms, whose parameters are those in `meta`."""
        updates = self._updates(list(module.parameters()))
        for name in [name for name, _ in updates.named_parameters()]:
            put(updates, name, meta[LEARNED + name])
        return self._algorithms(
            module,
            self._transform,
            lr=scale * self.step_size,
            first_order=self.first_order,
            compute_update=updates,
        )


class AdaptedModule(nn.Module):
    """One task's policy as a module whose parameters are those that adapt.

    learn2learn adapts every parameter of a module, so parameters that must not adapt are not
    parameters of this one.

    Args:
        policy: the module.
        params: its parameters and buffers, leaves [*s], graph and all.
        names: those that adapt.
    """

    def __init__(self, policy: Any, params: Params, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.policy = load_learn2learn("utils").clone_module(policy)
        named = (*policy.named_parameters(), *policy.named_buffers())  # learn2learn goes by order
        for name, _ in named:
            put(self.policy, name, params[name], as_parameter=name in names)

    def forward(self, observations: Tensor) -> Any:
        """Action distribution for observations [1, T, B, O]."""
        return self.policy(observations)

    def adapted(self) -> Params:
        """Parameters that adapt, by the policy's names."""
        params = dict(self.named_parameters())
        return {name: params[f"policy.{name}"] for name in self.names}


def put(module: nn.Module, name: str, leaf: Tensor, as_parameter: bool = True) -> None:
    """Put `leaf` (graph and all, as learn2learn's clone_module does) in place of `name`."""
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    owner._parameters.pop(last, None)
    owner._buffers.pop(last, None)
    slot: dict[str, Any] = owner._parameters if as_parameter else owner._buffers
    slot[last] = leaf
