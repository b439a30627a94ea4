"""Reptile: move the initialization towards the adapted parameters (Nichol et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from envs.arguments import number, one_of
from envs.errors import UserError
from envs.recorded import Recorded
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.outer_loop.objectives import PostAdaptationObjective, flatten, unflatten
from maml_rl.algorithm.outer_loop.terms import Term, post_adaptation_surrogate
from maml_rl.algorithm.outer_loop.update import SCHEDULES, OuterUpdate, State, direction_metrics
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.rollout import Params


class Reptile(Recorded):
    """theta + step_size * mean over tasks of (adapted - theta) (Nichol et al. 2018, algorithm 2).

    No outer gradient: the initialization moves towards the adapted parameters. Every rollout gives
    an inner step, the last one too, so that K inner steps of collection are K + 1 steps of Reptile.

    Args:
        step_size: epsilon of the interpolation.
        schedule: of the step size over the run: "constant", or to 0 "linear" or "cosine".
    """

    fisher_share = 0.0
    differentiates = False

    def __init__(self, step_size: float = 0.5, schedule: str = "constant") -> None:
        self.step_size = number("step_size", step_size, above=0)
        self.schedule = SCHEDULES[one_of("schedule", schedule, SCHEDULES)]

    def check(self, inner: InnerLoop, policy: Policy) -> None:
        """Refuse an inner loop with a part that would stay untrained.

        Raises:
            UserError: if the update rule is learned, or not all parameters adapt.
        """
        if inner.learns_update:
            raise UserError(
                "outer=reptile has no outer gradient, so it cannot learn step sizes or transforms "
                "of the inner loop: use inner=sgd, or another outer optimizer."
            )
        learned = [name for name in policy.parts["all"] if name not in policy.fixed]
        if list(inner.adapted_names(policy)) != learned:
            raise UserError(
                "outer=reptile moves only what adapts: leave inner.adapted=null and "
                "policy.context_size=0, or use another outer optimizer."
            )

    def terms(self, state: State) -> Sequence[Term]:
        """Report the surrogate after adaptation, which nothing minimizes here."""
        return [post_adaptation_surrogate]

    def update(
        self, meta: Params, state: State, objective: PostAdaptationObjective, progress: float = 0.0
    ) -> OuterUpdate:
        """Interpolate.

        Raises:
            NonFiniteError: if adapted parameters are not finite.
        """
        before = objective.measure(meta)
        rows = objective.displacements(meta)
        step_size = self.step_size * self.schedule(progress)
        updated = unflatten(flatten(meta) + step_size * rows.mean(0), meta)
        after = objective.measure(updated)
        metrics = {
            "outer/loss": float(before.losses.mean()),
            "outer/loss_after": float(after.losses.mean()),
            "outer/kl": float(after.kl.mean()),
            "outer/accepted": 1.0,
            **direction_metrics("displacement", rows),
        }
        return OuterUpdate(updated, state, metrics)
