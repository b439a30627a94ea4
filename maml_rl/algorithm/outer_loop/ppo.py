"""Clipped surrogate and several epochs on the same rollouts: MAML-PPO and ProMP."""

from __future__ import annotations

from collections.abc import Sequence

from envs.arguments import integer_at_least, number, one_of
from envs.errors import ArgumentError, UserError
from envs.recorded import Recorded
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.outer_loop.objectives import PostAdaptationObjective, raise_unless_finite
from maml_rl.algorithm.outer_loop.terms import Term, clipped_surrogate, inner_kl_penalty
from maml_rl.algorithm.outer_loop.update import (
    SCHEDULES,
    OuterUpdate,
    State,
    adam_step,
    direction_metrics,
)
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.rollout import Params

COEFFICIENT_RANGE = (1e-6, 1e4)  # of the adaptive penalty


class PPO(Recorded):
    """Adam epochs on the clipped surrogate after adaptation (Schulman et al. 2017).

    With an inner-KL penalty it is ProMP's outer loop (Rothfuss et al. 2019, algorithm 1). Every
    epoch replays the adaptation from the current meta-parameters on the same rollouts.

    Args:
        step_size: Adam's learning rate.
        epochs: gradient steps on an iteration's rollouts.
        clip: epsilon of the clipped ratio.
        inner_kl_coefficient: eta of ProMP's penalty; 0 leaves it out.
        target_inner_kl: adapt the coefficient: an inner KL above 1.5 times this doubles it, and one
            below this divided by 1.5 halves it, after an iteration; None keeps it fixed.
        max_kl: the epochs of an iteration end once the adapted policies have moved by more than
            this KL divergence, mean over tasks, from those that collected; None takes them all.
        max_grad_norm: gradients are scaled down to this norm where longer; None leaves them.
        schedule: of the learning rate over the run: "constant", or to 0 "linear" or "cosine".
    """

    fisher_share = 0.0
    differentiates = True

    def __init__(
        self,
        step_size: float = 1e-3,
        epochs: int = 5,
        clip: float = 0.3,
        inner_kl_coefficient: float = 0.0,
        target_inner_kl: float | None = None,
        max_kl: float | None = None,
        max_grad_norm: float | None = None,
        schedule: str = "constant",
    ) -> None:
        self.step_size = number("step_size", step_size, above=0)
        self.epochs = integer_at_least("epochs", epochs)
        self.clip = number("clip", clip, above=0)
        self.inner_kl_coefficient = number("inner_kl_coefficient", inner_kl_coefficient, least=0)
        self.target_inner_kl = _positive("target_inner_kl", target_inner_kl)
        if self.target_inner_kl is not None and self.inner_kl_coefficient == 0:
            raise ArgumentError(
                "target_inner_kl adapts a penalty that is 0: set inner_kl_coefficient=5e-4, or "
                "where else it starts.",
                *("target_inner_kl", "inner_kl_coefficient"),
            )
        self.max_kl = _positive("max_kl", max_kl)
        self.max_grad_norm = _positive("max_grad_norm", max_grad_norm)
        self.schedule = SCHEDULES[one_of("schedule", schedule, SCHEDULES)]

    def _coefficient(self, state: State) -> float:
        return state.get("inner_kl_coefficient", self.inner_kl_coefficient)

    def check(self, inner: InnerLoop, policy: Policy) -> None:
        """Refuse an inner loop that does not fit ProMP's penalty.

        Raises:
            UserError: if there is a penalty and inner steps have another loss, or there are none.
        """
        if self.inner_kl_coefficient == 0:
            return
        if inner.loss_name != "likelihood_ratio":
            raise UserError(
                f"outer.inner_kl_coefficient above 0 is ProMP's penalty, which goes with the "
                f"likelihood ratio: write inner.loss=likelihood_ratio instead of {inner.loss_name}."
            )
        if inner.steps == 0:
            raise UserError("outer.inner_kl_coefficient above 0 needs inner.steps of at least 1.")

    def terms(self, state: State) -> Sequence[Term]:
        """Minimize the clipped surrogate, and ProMP's penalty at its current coefficient."""
        coefficient = self._coefficient(state)
        penalty = [inner_kl_penalty(coefficient)] if coefficient > 0 else []
        return [clipped_surrogate(self.clip), *penalty]

    def update(
        self, meta: Params, state: State, objective: PostAdaptationObjective, progress: float = 0.0
    ) -> OuterUpdate:
        """Take `epochs` steps at most; `state` holds Adam's own and the penalty's coefficient.

        Raises:
            NonFiniteError: if a loss or a gradient is not finite.
        """
        adam, updated = state.get("adam", {}), meta
        step_size = self.step_size * self.schedule(progress)
        for epoch in range(self.epochs):
            losses, rows = objective.losses_and_gradients(updated)
            gradient = rows.mean(0)
            if epoch == 0:
                before, described = float(losses.mean()), direction_metrics("gradient", rows)
            updated, adam = adam_step(updated, adam, gradient, step_size, self.max_grad_norm)
            if self.max_kl is None and epoch + 1 < self.epochs:
                continue
            after = objective.measure(updated)
            if self.max_kl is not None and after.kl.mean() > self.max_kl:
                break
        raise_unless_finite("outer loss after the step", after.losses[:, None])
        coefficient, moved = self._coefficient(state), float(after.inner_kl.mean())
        metrics = {
            "outer/loss": before,
            "outer/loss_after": float(after.losses.mean()),
            "outer/kl": float(after.kl.mean()),
            "outer/inner_kl": moved,
            "outer/inner_kl_coefficient": coefficient,
            "outer/accepted": 1.0,
            "outer/epochs": epoch + 1.0,
            **described,
        }
        carried = {"adam": adam, "inner_kl_coefficient": self._adapted(coefficient, moved)}
        return OuterUpdate(updated, carried, metrics)

    def _adapted(self, coefficient: float, inner_kl: float) -> float:
        """The next iteration's coefficient (Schulman et al. 2017, section 4)."""
        if self.target_inner_kl is None:
            return coefficient
        least, most = COEFFICIENT_RANGE
        if inner_kl > 1.5 * self.target_inner_kl:
            return min(2.0 * coefficient, most)
        if inner_kl < self.target_inner_kl / 1.5:
            return max(0.5 * coefficient, least)
        return coefficient


def _positive(name: str, value: float | None) -> float | None:
    return None if value is None else number(name, value, above=0)
