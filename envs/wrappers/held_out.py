"""A distribution that is tested on tasks held out from training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.episodes import compare, row_seeds, traced
from envs.errors import UserError
from envs.protocol import (
    BatchedEnv,
    TaskDistribution,
    Tasks,
    draw_tasks,
)
from envs.wrappers.agreement import check_alike, check_horizon


class HeldOut:
    """A distribution to train on, tested on tasks of another that training never meets.

    Everything is `train`'s but its name, and that test tasks are `test`'s (`held_out`). The two
    share their spaces, horizon and the leaves of their tasks: best one class, with another range to
    sample from.

    Args:
        train: the distribution of training and validation tasks.
        test: the distribution of test tasks.
        horizon: steps per episode, which must be both's own; None takes theirs.
    """

    def __init__(
        self, train: TaskDistribution, test: TaskDistribution, horizon: int | None = None
    ) -> None:
        self.train, self.held_out = train, test
        check_horizon(horizon, check_alike({"env.train": train, "env.test": test}))
        own, other = (_leaf_shapes(distribution) for distribution in (train, test))
        if own != other:
            raise UserError(
                f"env.test has tasks of {_listed(other)} and env.train of {_listed(own)}, but what "
                f"steps the one's tasks must take the other's: choose one class for both."
            )
        _check_same_steps(train, test)

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to the distribution that is trained on."""
        if name == "train":  # not there yet, while unpickling
            raise AttributeError(name)
        return getattr(self.train, name)

    @property
    def name(self) -> str:
        """The name of what is trained on, and that test tasks are others."""
        return f"{self.train.name}_held_out"

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw training tasks; leaves [M, ...]."""
        return self.train.sample(num_tasks, rng)

    def finite_tasks(self) -> Tasks | None:
        """All training tasks there are, where they are few; None otherwise."""
        return self.train.finite_tasks()

    def describe(self, task: Tasks) -> str:
        """Name of one task by the distribution of training tasks."""
        return self.train.describe(task)

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedEnv:
        """Build M x B environments, stepped on `threads` threads."""
        return self.train.make(num_tasks, slots_per_task, threads)


def _check_same_steps(train: TaskDistribution, test: TaskDistribution) -> None:
    """Check that the two give test tasks the same episodes, step for step.

    Raises:
        UserError: naming the first difference.
    """
    tasks = draw_tasks(test, 2, np.random.default_rng(0))
    seeds = row_seeds(2, 1)
    compare(
        "env.train and env.test do not differ in the range of their tasks alone: of a test task "
        "stepped by env.train",
        traced(test, tasks, seeds),
        traced(train, tasks, seeds),
        "test tasks run in env.train's environments, so give both one class and equal numbers but "
        "those that tasks are drawn by",
    )


def _leaf_shapes(distribution: TaskDistribution) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one task's leaves."""
    drawn = distribution.sample(1, np.random.default_rng(0))
    return {name: np.shape(drawn[name])[1:] for name in sorted(drawn)}


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
