"""The inner loop: turns one rollout per task into one adapted policy per task, differentiably."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from envs.checks import integer_at_least, number, one_of
from maml_rl.advantages import Targets
from maml_rl.losses import LOSSES, Loss
from maml_rl.policies import Policy
from maml_rl.rollout import Params, Rollout
from maml_rl.update_rules import LEARNED, SGD, UpdateRule


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
    first_order: bool = False,
    scale: float = 1.0,
) -> tuple[Params, Params]:
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
        first_order: leave the gradient's own dependence on the parameters out (FOMAML).
        scale: of this step against a full one.

    Returns:
        Adapted parameters and the gradients that were followed, leaves [M, *s].
    """
    differentiable = torch.is_grad_enabled()
    if not differentiable:
        params = {name: leaf.view_as(leaf).requires_grad_() for name, leaf in params.items()}
    with torch.enable_grad():
        distribution, _, _ = policy.distribution(
            params, rollout.observations, rollout.state, rollout.first
        )
        losses = loss(distribution, rollout, targets)
        leaves = torch.autograd.grad(
            losses.sum(), list(params.values()), create_graph=differentiable and not first_order
        )
    if first_order:  # in forward mode too: J and J' of the Fisher product must be one map
        leaves = tuple(leaf.detach() for leaf in leaves)
    grads = dict(zip(params, leaves, strict=True))
    scaled = grads if scale == 1.0 else {name: scale * grad for name, grad in grads.items()}
    return update(meta, params, scaled, step_size), grads


class InnerLoop:
    """Adaptation by `steps` policy-gradient steps, on parameters stacked over tasks.

    Args:
        steps: K, inner steps in training; evaluation may take more.
        step_size: of each step (what it multiplies is up to the update rule).
        loss: "likelihood_ratio" or "log_likelihood".
        first_order: drop second derivatives.
        update: the update rule; plain SGD where none is given.
    """

    def __init__(
        self,
        steps: int = 1,
        step_size: float = 0.1,
        loss: str = "likelihood_ratio",
        first_order: bool = False,
        update: UpdateRule | None = None,
    ) -> None:
        self.steps = integer_at_least("inner.steps", steps)
        self.step_size = number("inner.step_size", step_size, above=0)
        self.loss = LOSSES[one_of("inner.loss", loss, LOSSES)]
        self.first_order = first_order
        self.update = update or SGD()

    def meta_parameters(self, initialization: Params) -> Params:
        """Return what is meta-learned: the initialization, and what the update rule learns."""
        return initialization | self.update.learned(initialization, self.step_size)

    def initial_params(self, meta: Params) -> Params:
        """Return the policy's initialization among the meta-parameters."""
        return {name: leaf for name, leaf in meta.items() if not name.startswith(LEARNED)}

    def step(
        self,
        policy: Policy,
        params: Params,
        meta: Params,
        rollout: Rollout,
        targets: Targets,
        scale: float = 1.0,
    ) -> tuple[Params, Params]:
        """Take one inner step from `params`; return adapted parameters and gradients."""
        return inner_step(
            policy,
            params,
            meta,
            rollout,
            targets,
            loss=self.loss,
            update=self.update,
            step_size=self.step_size,
            first_order=self.first_order,
            scale=scale,
        )

    def adapt(
        self,
        policy: Policy,
        meta: Params,
        rollouts: Sequence[Rollout],
        targets: Sequence[Targets],
    ) -> Params:
        """Take one step per rollout from the initialization in `meta` (leaves [M, *s])."""
        params = self.initial_params(meta)
        for rollout, target in zip(rollouts, targets, strict=True):
            params, _ = self.step(policy, params, meta, rollout, target)
        return params


def stack(meta: Params, num_tasks: int) -> Params:
    """Give every task a row of its own: leaves [*s] to [M, *s], detached copies."""
    return {
        name: leaf.detach().expand(num_tasks, *leaf.shape).clone() for name, leaf in meta.items()
    }
