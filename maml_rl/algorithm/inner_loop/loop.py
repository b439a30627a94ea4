"""The inner loop: turns one rollout per task into one adapted policy per task, differentiably."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch

from envs.arguments import integer_at_least, number, one_of
from envs.errors import UserError
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


class Replay(NamedTuple):
    """An adaptation of every task."""

    params: Params  # after the last step, leaves [M, *s]
    distributions: list[Distribution]  # of the policies before each step, on their rollout


def inner_step(
    policy: Policy,
    params: Params,
    meta: Params,
    rollout: Rollout,
    targets: Targets,
    *,
    loss: Loss,
    update: UpdateRule,
    step_size: float,
    adapted: Sequence[str],
    first_order: bool = False,
    scale: float = 1.0,
) -> InnerStep:
    """Take one policy-gradient step for every task at once.

    The tasks' losses are independent, so the gradient of their sum is each task's own gradient.
    Where gradients are enabled the result is differentiable in `params` and `meta`, through the
    gradient too unless `first_order`; under `torch.no_grad()` no graph is kept.

    Args:
        policy: runs the stacked parameters.
        params: each task's parameters, leaves [M, *s].
        meta: what is meta-learned, a row per task, leaves [M, *s].
        rollout: collected with these parameters (or with fixed ones close to them).
        targets: the rollout's advantages.
        loss: gives [M].
        update: turns gradients into parameters.
        step_size: of the update.
        adapted: names of the parameters that adapt; the others stay as they are.
        first_order: leave the gradient's own dependence on the parameters out (FOMAML).
        scale: of this step against a full one.
    """
    differentiable = torch.is_grad_enabled()
    params = dict(params)
    for name in adapted:  # differentiable already, or a leaf of this step's own
        if not differentiable or not params[name].requires_grad:
            params[name] = params[name].view_as(params[name]).requires_grad_()
    with torch.enable_grad():
        distribution, _, _ = policy.distribution(
            params, rollout.observations, rollout.state, rollout.first
        )
        losses = per_task(loss, distribution, rollout, targets)
        leaves = torch.autograd.grad(
            losses.sum(),
            [params[name] for name in adapted],
            create_graph=differentiable and not first_order,
            retain_graph=differentiable,  # of the distribution, which outer losses may use
        )
    if first_order:  # in forward mode too: J and J' of the Fisher product must be one map
        leaves = tuple(leaf.detach() for leaf in leaves)
    grads = dict(zip(adapted, leaves, strict=True))
    if not differentiable:
        distribution = detached(distribution)
    scaled = grads if scale == 1.0 else {name: scale * grad for name, grad in grads.items()}
    return InnerStep(update(meta, params, scaled, step_size), grads, distribution)


class InnerLoop:
    """Adaptation by `steps` policy-gradient steps, on parameters stacked over tasks.

    Args:
        steps: K, inner steps in training; evaluation may take more. 0 trains one policy for all
            tasks, without adaptation.
        step_size: of each step (what it multiplies is up to the update rule).
        loss: "likelihood_ratio", "log_likelihood", "dice" or "loaded_dice"; or a loss itself (see
            `Loss`), as inner.loss._target_ builds one.
        first_order: drop second derivatives.
        adapted: what adapts: parts of the policy ("head", "body", "context"), names of parameters
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
        self.steps = integer_at_least("inner.steps", steps, 0)
        self.step_size = number("inner.step_size", step_size, above=0)
        decay = number("inner.dice_decay", dice_decay, least=0, most=1)
        if callable(loss):
            self.loss_name, self.loss = type(loss).__name__, loss
        else:
            self.loss_name = one_of("inner.loss", loss, LOSSES)
            self.loss = LOSSES[loss](decay)
        if decay != 1 and loss != "loaded_dice":
            raise UserError(
                f"inner.dice_decay={decay:g} is for inner.loss=loaded_dice, not {self.loss_name}."
            )
        self.first_order = first_order
        if adapted is not None and not all(isinstance(entry, str) for entry in adapted):
            raise UserError(
                f"inner.adapted must be a list of names, such as [head], not {list(adapted)}."
            )
        self.adapted = adapted
        self.update = update or SGD()

    def adapted_names(self, policy: Policy) -> tuple[str, ...]:
        """Return the names of the parameters that adapt, in the policy's order.

        Raises:
            UserError: if an entry of `adapted` matches none.
        """
        names = policy.parts["all"]
        if self.adapted is None:
            return names
        chosen: set[str] = set()
        for entry in self.adapted:
            found = policy.parts.get(entry) or [n for n in names if fnmatchcase(n, entry)]
            if not found and entry == "context":
                raise UserError(
                    "inner.adapted names the context, and the policy has none: set "
                    "policy.context_size to 1 or more."
                )
            if not found:
                raise UserError(
                    f"inner.adapted: {entry} matches no parameter; name a part "
                    f"({', '.join(policy.parts)}), a parameter such as {names[-1]}, or a pattern "
                    f"such as layers.0.*."
                )
            chosen.update(found)
        if not chosen:
            raise UserError("inner.adapted=[] adapts nothing: name a part, such as [head].")
        return tuple(name for name in names if name in chosen)

    def varied(self, step_size: float | None = None, steps: int | None = None) -> InnerLoop:
        """Return the inner loop with another step size, or another number of full steps.

        Raises:
            UserError: if a value is wrong, or step sizes were learned.
        """
        other = copy(self)
        if steps is not None:
            other.steps = integer_at_least("inner.steps", steps, 0)
        if step_size is not None:
            other.step_size = number("inner.step_size", step_size, above=0)
            if isinstance(self.update, MetaSGD):
                raise UserError(
                    f"inner.step_size={step_size} changes nothing here: the step sizes of this "
                    f"inner loop were learned."
                )
        return other

    @property
    def learns_update(self) -> bool:
        """Whether the update rule has parameters to learn."""
        return bool(self.update.learned({"parameter": torch.zeros(1)}, self.step_size))

    def meta_parameters(self, policy: Policy, initialization: Params) -> Params:
        """Return what is meta-learned: the initialization, and what the update rule learns."""
        names = self.adapted_names(policy)
        own = {name: initialization[name] for name in names}
        return initialization | self.update.learned(own, self.step_size)

    def initial_params(self, meta: Params) -> Params:
        """Return the policy's initialization among the meta-parameters."""
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
        """Take one inner step from `params`."""
        return inner_step(
            policy,
            params,
            meta,
            rollout,
            targets,
            loss=self.loss,
            update=self.update,
            step_size=self.step_size,
            adapted=self.adapted_names(policy),
            first_order=self.first_order,
            scale=scale,
        )

    def replay(
        self,
        policy: Policy,
        meta: Params,
        rollouts: Sequence[Rollout],
        targets: Sequence[Targets],
    ) -> Replay:
        """Take one step per rollout from the initialization in `meta` (leaves [M, *s])."""
        params, distributions = self.initial_params(meta), []
        for rollout, target in zip(rollouts, targets, strict=True):
            step = self.step(policy, params, meta, rollout, target)
            params = step.params
            distributions.append(step.distribution)
        return Replay(params, distributions)

    def adapt(
        self,
        policy: Policy,
        meta: Params,
        rollouts: Sequence[Rollout],
        targets: Sequence[Targets],
    ) -> Params:
        """Return the parameters after one step per rollout from the initialization in `meta`."""
        return self.replay(policy, meta, rollouts, targets).params


def detached(distribution: Distribution) -> Distribution:
    """Return the distribution without its graph."""
    return rebuilt(distribution, (part.detach() for part in distribution))


def stack(meta: Params, num_tasks: int) -> Params:
    """The parameters once for every task: leaves [*s] to [M, *s], detached copies."""
    return {
        name: leaf.detach().expand(num_tasks, *leaf.shape).clone() for name, leaf in meta.items()
    }
