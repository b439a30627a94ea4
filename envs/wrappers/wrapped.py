"""Task distributions around another one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.protocol import (
    Array,
    BatchedEnv,
    Task,
    TaskDistribution,
    TaskGrid,
    Tasks,
    Trajectories,
)


class Wrapped(TaskDistribution):
    """A distribution around another one, which does all that this one does not change.

    Args:
        distribution: whose tasks they are.
    """

    def __init__(self, distribution: TaskDistribution) -> None:
        self.distribution, self.name = distribution, distribution.name
        self.observation_space = distribution.observation_space
        self.action_space = distribution.action_space
        self.horizon, self.action_scale = distribution.horizon, distribution.action_scale
        self.measure = distribution.measure

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw its tasks."""
        return self.distribution.sample(num_tasks, rng)

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedEnv:
        """Build its environments."""
        return self.distribution.make(num_tasks, slots_per_task, threads)

    def single(
        self, task: Task | None = None, render_mode: str | None = None, **options: Any
    ) -> gymnasium.Env[Any, Any]:
        """Build its Gymnasium environment."""
        return self.distribution.single(task, render_mode, **options)

    def finite_tasks(self) -> Tasks | None:
        """All its tasks, where they are few."""
        return self.distribution.finite_tasks()

    def describe(self, task: Task) -> str:
        """Its name of a task."""
        return self.distribution.describe(task)

    def group_of(self, task: Task) -> str | None:
        """Its group of a task."""
        return self.distribution.group_of(task)

    def grid(self, num_tasks: int, limits: tuple[float, float] | None = None) -> TaskGrid:
        """Its grid of tasks."""
        return self.distribution.grid(num_tasks, limits)

    def optimal_return(self, tasks: Tasks) -> Array | None:
        """Its best expected returns."""
        return self.distribution.optimal_return(tasks)

    def applied(self, action: Any) -> Any:
        """The action that it applies."""
        return self.distribution.applied(action)

    def markers(self, task: Task) -> Sequence[Any]:
        """Marks of the wrapped distribution in pictures."""
        return self.distribution.markers(task)

    def trajectories(
        self, tasks: Tasks, observations: Array, info: Mapping[str, Array]
    ) -> Trajectories | None:
        """Trajectories of the wrapped distribution."""
        return self.distribution.trajectories(tasks, observations, info)


class Extended(Wrapped):
    """Appends numbers to what is observed of another distribution's tasks.

    Args:
        distribution: whose tasks they are.
        low: of the numbers appended, [F].
        high: of the same.
    """

    def __init__(self, distribution: TaskDistribution, low: Array, high: Array) -> None:
        super().__init__(distribution)
        box = distribution.observation_space
        self.observation_space = spaces.Box(
            np.concatenate([box.low, low]).astype(box.low.dtype),
            np.concatenate([box.high, high]).astype(box.low.dtype),
            dtype=box.low.dtype,
        )
        if distribution.held_out is not None:
            self.held_out = self.around(distribution.held_out)

    @abstractmethod
    def around(self, distribution: TaskDistribution) -> Self:
        """The same wrapper around another distribution."""
