"""A distribution that is tested on tasks held out from training; what combined ones must share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.arguments import integer_at_least
from envs.episodes import compare, row_seeds, traced
from envs.errors import ArgumentError, UserError
from envs.protocol import TaskDistribution, check_distribution, draw_tasks
from envs.wrappers.wrapped import Wrapped


class HeldOut(Wrapped):
    """A distribution to train on, tested on tasks of another that training never meets.

    Only the name and the test tasks (`held_out`, from `test`) differ from `train`. The two share
    spaces, horizon and the leaves of their tasks; usually they are one class with two ranges.

    Args:
        train: the distribution of training and validation tasks.
        test: the distribution of test tasks.
        horizon: steps per episode, equal to that of both; None takes theirs.
    """

    def __init__(
        self, train: TaskDistribution, test: TaskDistribution, horizon: int | None = None
    ) -> None:
        shared_horizon({"train": train, "test": test}, horizon)
        super().__init__(train)
        self.train, self.held_out, self.name = train, test, f"{train.name}_held_out"
        shapes, other = (_leaf_shapes(distribution) for distribution in (train, test))
        if shapes != other:
            raise ArgumentError(
                f"test has tasks of {_listed(other)} and train of {_listed(shapes)}, but what "
                f"steps the one's tasks must take the other's: choose one class for both.",
                "test",
            )
        _check_same_steps(train, test)


def shared_horizon(named: Mapping[str, TaskDistribution], given: int | None) -> int:
    """The horizon of distributions that are made into one, which must have equal spaces too.

    Args:
        named: the distributions, by the arguments that they were given as.
        given: the horizon that was asked for; None takes theirs.

    Raises:
        UserError: naming one that is no distribution, two that differ, and in what, or a horizon
            that is not theirs.
    """
    for key, member in named.items():
        check_distribution(key, member)
    (first, reference), *rest = named.items()
    for part in ("observation_space", "action_space", "horizon"):
        for key, member in rest:
            if getattr(member, part) != getattr(reference, part):
                raise ArgumentError(
                    f"{first} and {key} must have the same {part}, but {reference.name} has "
                    f"{getattr(reference, part)} and {member.name} has {getattr(member, part)}: "
                    f"choose distributions on one body, with one preset.",
                    first,
                )
    if given is not None and integer_at_least("horizon", given) != reference.horizon:
        raise ArgumentError(
            f"horizon={given} must be the horizon of the distributions combined, which is "
            f"{reference.horizon}: give it to each of them.",
            "horizon",
        )
    return reference.horizon


def _check_same_steps(train: TaskDistribution, test: TaskDistribution) -> None:
    """Check that the two give test tasks the same episodes, step for step.

    Raises:
        UserError: naming the first difference.
    """
    tasks = draw_tasks(test, 2, np.random.default_rng(0))
    seeds = row_seeds(2, 1)
    try:
        compare(
            "train and test do not differ in the range of their tasks alone: of a test task "
            "stepped by train",
            traced(test, tasks, seeds),
            traced(train, tasks, seeds),
            "test tasks run in train's environments, so give both one class and equal numbers but "
            "those that tasks are drawn by",
        )
    except UserError as error:
        raise ArgumentError(str(error), "train") from error


def _leaf_shapes(distribution: TaskDistribution) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one task's leaves."""
    drawn = distribution.sample(1, np.random.default_rng(0))
    return {name: np.shape(drawn[name])[1:] for name in sorted(drawn)}


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
