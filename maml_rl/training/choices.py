"""Arguments of the trainer that must fit its other parts."""

from __future__ import annotations

from envs.arguments import integer_at_least, one_of
from envs.episodes import info_names
from envs.errors import ArgumentError
from envs.protocol import TaskDistribution
from maml_rl.algorithm.meta_learner import MetaLearner


def episodes_before(count: int | None, learner: MetaLearner) -> int | None:
    """The checked number of episodes before each inner step.

    Raises:
        UserError: if it is no number, or the learner takes no inner steps.
    """
    if count is None:
        return None
    integer_at_least("num_episodes_before", count)
    if learner.inner.steps == 0:
        raise ArgumentError(
            f"num_episodes_before={count} counts episodes before inner steps, and {learner.name} "
            "takes none in training: leave it out.",
            "num_episodes_before",
        )
    return count


def measure_of(best_by: str | None, distribution: TaskDistribution) -> str:
    """The measure in validation that picks best.pt.

    Raises:
        UserError: if it is unknown, or the environments do not record it.
    """
    if best_by is None:
        return distribution.measure
    measure = one_of("best_by", best_by, ("return", "success"))
    if measure == "success" and "success" not in info_names(distribution):
        raise ArgumentError(
            f"best_by=success: {distribution.name} records no success; write best_by=return.",
            "best_by",
        )
    return measure
