"""The inner loop: turns one rollout per task into one adapted policy per task, differentiably."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch

from envs.arguments import integer_at_least, number, one_of
from envs.errors import ArgumentError, UserError
from envs.recorded import Recorded, record
from maml_rl.algorithm.adaptation import AdaptationStep, distribution_on
from maml_rl.algorithm.advantages import Targets
from maml_rl.algorithm.inner_loop.losses import LOSSES, Loss, per_task
from maml_rl.algorithm.inner_loop.update_rules import LEARNED, SGD, MetaSGD, UpdateRule
from maml_rl.algorithm.policies import Distribution, Policy
from maml_rl.algorithm.policies.distribution import rebuilt
from maml_rl.algorithm.rollout import Params, Rollout

STATISTICS = "statistics/"


class InnerStep(NamedTuple):
    """One inner step of every task."""

    params: Params  # adapted, leaves [M, *s]
    grads: Params  # that were followed, leaves [M, *s] of what adapts
    distribution: Distribution  # of the policies before the step, on their rollout


class InnerLoop(Recorded):
    """Adaptation by `steps` policy-gradient steps, on parameters stacked over tasks.

    Args:
        steps: K, inner steps in training; evaluation may take more. 0 trains one policy for all
            tasks, without adaptation.
        step_size: of each step (what it multiplies is up to the update rule).
        loss: "likelihood_ratio", "log_likelihood", "dice" or "loaded_dice"; or a loss itself (see
            `Loss`), as inner.loss._target_ builds one.
        first_order: drop second derivatives.
        adapted: the parameters that adapt: parts of the policy ("head", "body", "context"), names
            or patterns such as "layers.2.*"; None adapts all.
        update: the update rule; plain SGD where none is given.
        dice_decay: lambda of Loaded DiCE, in [0, 1].
    """

    forward_mode = True  # whether Fisher products can go through it

    def __init__(
        self,
        steps: int = 1,
        step_size: float = 0.1,
        loss: str | Loss = "likelihood_ratio",
        first_order: bool = False,
        adapted: Sequence[str] | None = None,
        update: UpdateRule | None = None,
        dice_decay: float = 1.0,
    ) -> None:
        self.steps = integer_at_least("steps", steps, 0)
        self.step_size = number("step_size", step_size, above=0)
        decay = number("dice_decay", dice_decay, least=0, most=1)
        if callable(loss):
            self.loss_name, self.loss = type(loss).__name__, loss
        else:
            self.loss_name = one_of("loss", loss, LOSSES)
            self.loss = LOSSES[loss](decay)
        if decay != 1 and loss != "loaded_dice":
            raise ArgumentError(
                f"dice_decay={decay:g} is for loss=loaded_dice, not {self.loss_name}.",
                *("dice_decay", "loss"),
            )
        self.first_order = first_order
        if adapted is not None and not all(isinstance(entry, str) for entry in adapted):
            raise ArgumentError(
                f"adapted must be a list of names, such as [head], not {list(adapted)}.", "adapted"
            )
        if adapted is not None and not list(adapted):
            raise ArgumentError(
                "adapted=[] adapts nothing: name a part, such as [head].", "adapted"
            )
        self.adapted = adapted
        self.update = update or SGD()

    def adapted_names(self, policy: Policy) -> tuple[str, ...]:
        """Names of the parameters that adapt, in the policy's order.

        Raises:
            UserError: if an entry of `adapted` matches none.
        """
        names = policy.parts["all"]
        if self.adapted is None:
            return names
        chosen: set[str] = set()
        for entry in self.adapted:
            matches = policy.parts.get(entry) or [n for n in names if fnmatchcase(n, entry)]
            if not matches and entry == "context":
                raise UserError(
                    "inner.adapted names the context, and the policy has none: set "
                    "policy.context_size to 1 or more."
                )
            if not matches:
                raise UserError(
                    f"inner.adapted: {entry} matches no parameter; name a part "
                    f"({', '.join(policy.parts)}), a parameter such as {names[-1]}, or a pattern "
                    f"such as layers.0.*."
                )
            chosen.update(matches)
        return tuple(name for name in names if name in chosen)

    def varied(self, step_size: float | None = None, steps: int | None = None) -> InnerLoop:
        """Inner loop with another step size, or another number of full steps.

        Raises:
            UserError: if a value is wrong, or step sizes were learned.
        """
        other = copy(self)
        if steps is not None:
            other.steps = integer_at_least("steps", steps, 0)
        if step_size is not None:
            other.step_size = number("step_size", step_size, above=0)
            if isinstance(self.update, MetaSGD):
                raise ArgumentError(
                    f"step_size={step_size} changes nothing here: the step sizes of this inner "
                    f"loop were learned.",
                    "step_size",
                )
        record(other, steps=other.steps, step_size=other.step_size)
        return other

    @property
    def learns_update(self) -> bool:
        """Whether the update rule has parameters to learn."""
        return bool(self.update.learned({"parameter": torch.zeros(1)}, self.step_size))

    def meta_parameters(self, policy: Policy, initialization: Params) -> Params:
        """Meta-parameters: the initialization, and the parameters of the update rule."""
        names = self.adapted_names(policy)
        adapting = {name: initialization[name] for name in names}
        return initialization | self.update.learned(adapting, self.step_size)

    def initial_params(self, meta: Params) -> Params:
        """The policy's initialization among the meta-parameters."""
        return {
            name: leaf for name, leaf in meta.items() if not name.startswith((LEARNED, STATISTICS))
        }

    def step(
        self,
        policy: Policy,
        params: Params,
        meta: Params,
        rollout: Rollout,
        targets: Targets,
        scale: float = 1.0,
    ) -> InnerStep:
        """Take one policy-gradient step for every task at once.

        The tasks' losses are independent, so the gradient of their sum is each task's own gradient.
        Where gradients are enabled the result is differentiable in `params` and `meta`, through the
        gradient too unless `first_order`; under `torch.no_grad()` no graph is kept.

        Args:
            policy: runs the stacked parameters.
            params: each task's parameters, leaves [M, *s].
            meta: meta-parameters, a row per task, leaves [M, *s].
            rollout: collected with these parameters (or with fixed ones close to them).
            targets: of the rollout.
            scale: of this step against a full one.
        """
        names, differentiable = self.adapted_names(policy), torch.is_grad_enabled()
        params = to_differentiate(params, names)
        with torch.enable_grad():
            distribution = distribution_on(policy, params, rollout)
            leaves = torch.autograd.grad(
                per_task(self.loss, distribution, rollout, targets).sum(),
                [params[name] for name in names],
                create_graph=differentiable and not self.first_order,
                retain_graph=differentiable,  # of the distribution, which outer losses may use
            )
        if self.first_order:  # in forward mode too: J and J' of the Fisher product are one map
            leaves = tuple(leaf.detach() for leaf in leaves)
        grads = dict(zip(names, leaves, strict=True))
        scaled = grads if scale == 1.0 else {name: scale * grad for name, grad in grads.items()}
        after = self.update(meta, params, scaled, self.step_size)
        return InnerStep(after, grads, distribution if differentiable else detached(distribution))

    def replay(
        self, policy: Policy, meta: Params, steps: Sequence[AdaptationStep]
    ) -> list[AdaptationStep]:
        """Take one step on each rollout but the last, from the initialization in `meta`.

        Args:
            policy: runs the stacked parameters.
            meta: meta-parameters, a row per task, leaves [M, *s].
            steps: K + 1, whose rollouts and targets are used.

        Returns:
            The same rollouts, with policies that are functions of `meta`.
        """
        params, replayed = self.initial_params(meta), []
        for data in steps[:-1]:
            taken = self.step(policy, params, meta, data.rollout, data.targets)
            replayed.append(
                data._replace(params=params, gradients=taken.grads, distribution=taken.distribution)
            )
            params = taken.params
        last = distribution_on(policy, params, steps[-1].rollout)
        return [*replayed, steps[-1]._replace(params=params, distribution=last)]

    def adapt(self, policy: Policy, meta: Params, steps: Sequence[AdaptationStep]) -> Params:
        """Parameters after one step on every rollout, the last too."""
        params = self.initial_params(meta)
        for data in steps:
            params = self.step(policy, params, meta, data.rollout, data.targets).params
        return params


def to_differentiate(params: Params, names: Sequence[str]) -> Params:
    """Parameters of which those in `names` can be differentiated in.

    They are unchanged where they carry a graph that is kept, and leaves otherwise.
    """
    differentiable = torch.is_grad_enabled()
    return params | {
        name: params[name]
        if differentiable and params[name].requires_grad
        else params[name].view_as(params[name]).requires_grad_()
        for name in names
    }


def detached(distribution: Distribution) -> Distribution:
    """Distribution without its graph."""
    return rebuilt(distribution, (part.detach() for part in distribution))


def stack(meta: Params, num_tasks: int) -> Params:
    """The parameters once for every task: leaves [*s] to [M, *s], detached copies."""
    return {
        name: leaf.detach().expand(num_tasks, *leaf.shape).clone() for name, leaf in meta.items()
    }
