"""A probe with a known answer: one step, reward d * clip(a, -1, 1), the sign d is the task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from envs import Step, Task, TaskDistribution, Tasks


class SignBandit(TaskDistribution):
    """A policy that knows d earns 1; one that does not earns 0."""

    name = "sign_bandit"
    horizon = 1
    observation_space = spaces.Box(0.0, 1.0, (1,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        return {"sign": rng.choice([-1.0, 1.0], size=num_tasks)}

    def finite_tasks(self) -> Tasks:
        return {"sign": np.array([1.0, -1.0])}

    def describe(self, task: Task) -> str:
        return "plus" if task["sign"] > 0 else "minus"

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedBandit:
        return BatchedBandit(num_tasks, slots_per_task)


class BatchedBandit:
    """M x B bandits."""

    def __init__(self, num_tasks: int, slots: int) -> None:
        self.shape = (num_tasks, slots)

    def set_tasks(self, tasks: Tasks) -> None:
        self.sign = tasks["sign"][:, None]

    def reset(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        return np.ones((*self.shape, 1))

    def step(self, actions: np.ndarray, active: np.ndarray) -> Step:
        rewards = self.sign * np.clip(actions[..., 0], -1, 1)
        return Step(np.ones((*self.shape, 1)), rewards, np.ones(self.shape, dtype=bool), {})

    def close(self) -> None:
        pass
