"""Adam on the surrogate after adaptation (vanilla policy gradient in the outer loop)."""

from __future__ import annotations

from collections.abc import Sequence

from envs.arguments import number, one_of
from envs.recorded import Recorded
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.outer_loop.objectives import PostAdaptationObjective, raise_unless_finite
from maml_rl.algorithm.outer_loop.terms import Term, post_adaptation_surrogate
from maml_rl.algorithm.outer_loop.update import (
    SCHEDULES,
    OuterUpdate,
    State,
    adam_step,
    direction_metrics,
)
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.rollout import Params


class Adam(Recorded):
    """One step of torch's Adam along the meta-gradient.

    Args:
        step_size: Adam's learning rate.
        max_grad_norm: the gradient is scaled down to this norm where it is longer; None leaves it.
        schedule: of the learning rate over the run: "constant", or to 0 "linear" or "cosine".
    """

    fisher_share = 0.0
    differentiates = True

    def __init__(
        self,
        step_size: float = 1e-3,
        max_grad_norm: float | None = None,
        schedule: str = "constant",
    ) -> None:
        self.step_size = number("step_size", step_size, above=0)
        self.max_grad_norm = (
            None if max_grad_norm is None else number("max_grad_norm", max_grad_norm, above=0)
        )
        self.schedule = SCHEDULES[one_of("schedule", schedule, SCHEDULES)]

    def check(self, inner: InnerLoop, policy: Policy) -> None:
        """Take any inner loop."""

    def terms(self, state: State) -> Sequence[Term]:
        """Minimize the surrogate after adaptation."""
        return [post_adaptation_surrogate]

    def update(
        self, meta: Params, state: State, objective: PostAdaptationObjective, progress: float = 0.0
    ) -> OuterUpdate:
        """Take one step; `state` is torch's Adam's own.

        Raises:
            NonFiniteError: if the loss, before or after the step, or the gradient is not finite.
        """
        losses, rows = objective.losses_and_gradients(meta)
        gradient = rows.mean(0)
        step_size = self.step_size * self.schedule(progress)
        updated, state = adam_step(meta, state, gradient, step_size, self.max_grad_norm)
        after = objective.measure(updated)
        raise_unless_finite("outer loss after the step", after.losses[:, None])
        metrics = {
            "outer/loss": float(losses.mean()),
            "outer/loss_after": float(after.losses.mean()),
            "outer/kl": float(after.kl.mean()),
            "outer/accepted": 1.0,
            **direction_metrics("gradient", rows),
        }
        return OuterUpdate(updated, state, metrics)
