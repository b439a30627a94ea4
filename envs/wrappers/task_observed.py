"""A task distribution whose observations hold the task, for training an oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.protocol import Array, BatchedEnv, Step, Task, TaskDistribution, Tasks, Trajectories
from envs.wrappers.wrapped import Extended


class TaskObserved(Extended):
    """Appends each task's numbers (direction, goal, ...) to its observations.

    A policy that sees the task needs no adaptation. It is the oracle with which adaptation is
    compared (Finn et al. 2017, section 5.2).

    Args:
        distribution: whose tasks they are.
    """

    def __init__(self, distribution: TaskDistribution) -> None:
        size = _features(distribution.sample(1, np.random.default_rng(0))).shape[1]
        unbounded = np.full(size, np.inf)
        super().__init__(distribution, -unbounded, unbounded)

    def around(self, distribution: TaskDistribution) -> Self:
        """Show another distribution's tasks."""
        return type(self)(distribution)

    def single(
        self, task: Task | None = None, render_mode: str | None = None, **options: Any
    ) -> gymnasium.Env[Any, Any]:
        """Build the Gymnasium environment of one task."""
        env = super().single(task, render_mode, **options)
        return _TaskObservedEnv(env, self.observation_space)

    def trajectories(
        self, tasks: Tasks, observations: Array, info: Mapping[str, Array]
    ) -> Trajectories | None:
        """Trajectories as the wrapped distribution shows them; the same arguments."""
        size = self.distribution.observation_space.shape[0]
        return super().trajectories(tasks, observations[..., :size], info)

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedEnv:
        """Build M x B environments, stepped on `threads` threads."""
        return _BatchedTaskObserved(
            super().make(num_tasks, slots_per_task, threads), slots_per_task
        )


class _TaskObservedEnv(gymnasium.Wrapper[Array, Array, Array, Array]):
    """One environment that appends its task, read from info, to its observations."""

    def __init__(self, env: gymnasium.Env[Array, Array], observation_space: spaces.Box) -> None:
        super().__init__(env)
        self.observation_space = observation_space

    def reset(self, **options: Any) -> tuple[Array, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        return self._with_task(observation, info), info

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._with_task(observation, info), reward, terminated, truncated, info

    @staticmethod
    def _with_task(observation: Array, info: dict[str, Any]) -> Array:
        task = {name: np.asarray(leaf)[None] for name, leaf in info["task"].items()}
        return np.concatenate([observation, _features(task)[0]])


class _BatchedTaskObserved:
    """M x B environments that append their tasks to their observations."""

    def __init__(self, env: BatchedEnv, slots: int) -> None:
        self._env, self._slots = env, slots

    def set_tasks(self, tasks: Tasks) -> None:
        self._env.set_tasks(tasks)
        features = _features(tasks)[:, None]
        self._tasks = np.broadcast_to(features, (len(features), self._slots, features.shape[-1]))

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        return np.concatenate([self._env.reset(rngs), self._tasks], axis=-1)

    def step(self, actions: Array, active: Array) -> Step:
        step = self._env.step(actions, active)
        return step._replace(observations=np.concatenate([step.observations, self._tasks], axis=-1))

    def close(self) -> None:
        self._env.close()


def _features(tasks: Tasks) -> Array:
    """Write tasks as rows of numbers, [M, F], leaves in the order of their names."""
    return np.concatenate(
        [np.reshape(tasks[name], (len(tasks[name]), -1)) for name in sorted(tasks)], axis=1
    )
