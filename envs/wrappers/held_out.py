"""A distribution that is tested on tasks held out from training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.episodes import compare, row_seeds, traced
from envs.errors import ArgumentError, UserError
from envs.protocol import TaskDistribution, draw_tasks
from envs.wrappers.agreement import check_alike, check_horizon
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
        check_horizon(horizon, check_alike({"train": train, "test": test}))
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
