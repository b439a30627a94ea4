"""Outer optimizers: the protocol, the result of a step, and schedules of rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from maml_rl.algorithm.adam_step import no_moments, step_in_place, stored_moments
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.outer_loop.objectives import PostAdaptationObjective, unflatten
from maml_rl.algorithm.outer_loop.terms import Term
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.rollout import Params

State = dict[str, Any]

SCHEDULES = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
"""What a rate is multiplied by when a fraction `progress` of the run is done, from 1 to 0."""


class OuterUpdate(NamedTuple):
    """The result of one outer step."""

    meta: Params  # leaves [*s]
    state: State  # what the optimizer carries on; goes into the checkpoint
    metrics: dict[str, float]  # names begin with "outer/"


def mean_cosine(rows: Tensor) -> float | None:
    """Mean cosine between two different tasks' rows of [M, P]; None where M is 1.

    With u the rows divided by their norms, sum_{i != j} u_i u_j = |sum_i u_i|^2 - sum_i |u_i|^2.
    A row of zeros has no direction and counts as orthogonal to all others.
    """
    if len(rows) < 2:
        return None
    wide = rows.double()
    units = wide / wide.norm(dim=1, keepdim=True).clamp_min(torch.finfo(wide.dtype).tiny)
    pairs = units.sum(0).square().sum() - units.square().sum()
    return float(pairs) / (len(rows) * (len(rows) - 1))


def direction_metrics(name: str, rows: Tensor) -> dict[str, float]:
    """Metrics of the tasks' directions [M, P]: the norm of their mean, and their cosine."""
    cosine = mean_cosine(rows)
    norm = {f"outer/{name}_norm": float(rows.mean(0).norm())}
    return norm if cosine is None else norm | {f"outer/{name}_cosine": cosine}


class OuterOptimizer(Protocol):
    """Improves the meta-parameters on the objective of one iteration."""

    fisher_share: float  # of the tasks, whose Fisher matrices it multiplies by; 0 for none
    differentiates: bool  # whether it follows the gradient of the outer loss

    def check(self, inner: InnerLoop, policy: Policy) -> None:
        """Refuse an inner loop that does not fit.

        Raises:
            UserError: naming what does not fit, and what to write instead.
        """

    def terms(self, state: State) -> Sequence[Term]:
        """Terms of the loss: the surrogate of the return after adaptation, and others."""
        ...

    def update(
        self, meta: Params, state: State, objective: PostAdaptationObjective, progress: float = 0.0
    ) -> OuterUpdate:
        """Take one outer step from `meta`.

        Args:
            meta: the learned parameters, leaves [*s].
            state: empty at the first step.
            objective: of this iteration.
            progress: the fraction of the run that is done, for schedules.
        """
        ...


def adam_step(
    meta: Params, state: State, gradient: Tensor, step_size: float, max_grad_norm: float | None
) -> tuple[Params, State]:
    """Take one step of Adam along `gradient` [P], cut to `max_grad_norm` if longer.

    The state has the layout of `torch.optim.Adam`'s.
    """
    norm = float(gradient.norm())
    if max_grad_norm is not None and norm > max_grad_norm:
        gradient = gradient * (max_grad_norm / norm)
    leaves = {name: leaf.detach().clone() for name, leaf in meta.items()}
    values = list(leaves.values())
    moments = stored_moments(state, values) if state else no_moments(values)
    step_in_place(values, list(unflatten(gradient, meta).values()), moments, step_size)
    return leaves, {"state": dict(enumerate(moments))}
