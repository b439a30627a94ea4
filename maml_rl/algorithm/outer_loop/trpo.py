"""Trust-region policy optimization of the surrogate after adaptation (Schulman et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from envs.arguments import integer_at_least, number, one_of
from envs.errors import UserError
from envs.recorded import Recorded
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.outer_loop.objectives import PostAdaptationObjective, flatten, unflatten
from maml_rl.algorithm.outer_loop.terms import Term, post_adaptation_surrogate
from maml_rl.algorithm.outer_loop.update import SCHEDULES, OuterUpdate, State, direction_metrics
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.policies.activations import ACTIVATIONS, has_forward_mode
from maml_rl.algorithm.rollout import Params
from maml_rl.errors import NonFiniteError


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, iterations: int, tolerance: float = 1e-10
) -> tuple[Tensor, Tensor]:
    """Solve A x = target for a symmetric positive definite A given as a product.

    Stops after `iterations`, when the squared residual has fallen to `tolerance` of its start, or
    where rounding makes A seem not positive.

    Returns:
        x [P], from 0, and the residual target - A x [P].
    """
    solution = torch.zeros_like(target)
    residual, direction = target.clone(), target.clone()
    squared = residual @ residual
    enough = tolerance * squared
    for _ in range(iterations):
        if squared <= enough:
            break
        mapped = product(direction)
        curvature = direction @ mapped
        if curvature <= 0:
            break
        step = squared / curvature
        solution = solution + step * direction
        residual = residual - step * mapped
        previous, squared = squared, residual @ residual
        direction = residual + (squared / previous) * direction
    return solution, residual


class TRPO(Recorded):
    """A natural-gradient step of KL size `max_kl`, then a backtracking line search.

    The step is accepted at the first size whose surrogate loss is lower than before and whose mean
    KL divergence, of the policies after adaptation, is at most `max_kl`. Otherwise the parameters
    do not change. The objective's graphs are differentiated exactly, through the adaptation.

    Args:
        max_kl: delta, the bound on the mean KL divergence.
        cg_iterations: conjugate-gradient steps.
        damping: added to the Fisher matrix's diagonal.
        line_search_steps: sizes tried.
        backtrack_ratio: of one size to the one before.
        schedule: of `max_kl` over the run: "constant", or to 0 "linear" or "cosine".
        fisher_share: of the tasks, whose Fisher matrices are averaged: the first ones, rounded up.
            The products take most of an outer step's time. The gradient and the line search are of
            all tasks.
    """

    fisher_share = 1.0
    differentiates = True

    def __init__(
        self,
        max_kl: float = 0.02,
        cg_iterations: int = 10,
        damping: float = 1e-5,
        line_search_steps: int = 15,
        backtrack_ratio: float = 0.8,
        schedule: str = "constant",
        fisher_share: float = 1.0,
    ) -> None:
        self.max_kl = number("max_kl", max_kl, above=0)
        self.cg_iterations = integer_at_least("cg_iterations", cg_iterations)
        self.damping = number("damping", damping, least=0)
        self.line_search_steps = integer_at_least("line_search_steps", line_search_steps)
        self.backtrack_ratio = number("backtrack_ratio", backtrack_ratio, above=0, most=0.99)
        self.fisher_share = number("fisher_share", fisher_share, above=0, most=1)
        self.schedule = SCHEDULES[one_of("schedule", schedule, SCHEDULES)]

    def check(self, inner: InnerLoop, policy: Policy) -> None:
        """Refuse an inner loop or an activation without Fisher products.

        Raises:
            UserError: if one of them cannot be differentiated in forward mode.
        """
        activation = getattr(policy, "activation", None)
        if activation is not None and not has_forward_mode(activation):
            raise UserError(
                f"policy.activation: torch has no Fisher products through {activation.__name__}: "
                f"use outer=adam or outer=ppo, or one of {', '.join(ACTIVATIONS)}."
            )
        if not inner.forward_mode:
            raise UserError(
                "inner.first_order=true through learn2learn has no Fisher products: use "
                "outer=adam, or inner=sgd or inner=meta_sgd with outer=trpo."
            )

    def terms(self, state: State) -> Sequence[Term]:
        """Minimize the surrogate after adaptation."""
        return [post_adaptation_surrogate]

    def update(
        self, meta: Params, state: State, objective: PostAdaptationObjective, progress: float = 0.0
    ) -> OuterUpdate:
        """Take one trust-region step.

        Raises:
            NonFiniteError: if the loss, the gradient or the step is not finite.
        """
        losses, rows = objective.losses_and_gradients(meta)
        gradient = rows.mean(0)
        max_kl = self.max_kl * self.schedule(progress)
        step = self._full_step(objective, gradient, max_kl)
        objective.release()
        updated, metrics = self._line_search(meta, step, max_kl, float(losses.mean()), objective)
        return OuterUpdate(updated, state, metrics | direction_metrics("gradient", rows))

    def _full_step(
        self, objective: PostAdaptationObjective, gradient: Tensor, max_kl: float
    ) -> Tensor:
        """Descent step whose quadratic model of the KL divergence is `max_kl`, [P]."""

        def damped_fisher(vector: Tensor) -> Tensor:
            return objective.fisher_vector_product(vector) + self.damping * vector

        direction, residual = conjugate_gradient(damped_fisher, gradient, self.cg_iterations)
        curvature = direction @ (gradient - residual)  # direction' (F + damping) direction
        if not torch.isfinite(curvature):
            raise NonFiniteError("the TRPO step is not finite")
        if curvature <= 0:  # no gradient: nothing to improve
            return torch.zeros_like(gradient)
        return -(2.0 * max_kl / curvature).sqrt() * direction

    def _line_search(
        self,
        meta: Params,
        step: Tensor,
        max_kl: float,
        before: float,
        objective: PostAdaptationObjective,
    ) -> tuple[Params, dict[str, float]]:
        start = flatten(meta)
        for tried in range(self.line_search_steps):
            candidate = unflatten(start + self.backtrack_ratio**tried * step, meta)
            measured = objective.measure(candidate)
            loss, kl = float(measured.losses.mean()), float(measured.kl.mean())
            if loss < before and kl <= max_kl:
                return candidate, _metrics(before, loss, kl, accepted=True, tried=tried + 1)
        return meta, _metrics(before, before, 0.0, accepted=False, tried=self.line_search_steps)


def _metrics(
    before: float, after: float, kl: float, accepted: bool, tried: int
) -> dict[str, float]:
    return {
        "outer/loss": before,
        "outer/loss_after": after,
        "outer/kl": kl,
        "outer/accepted": float(accepted),
        "outer/line_search_steps": float(tried),
        "outer/line_search_rejections": float(tried - accepted),
    }
