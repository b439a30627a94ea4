"""Tasks whose episodes differ in length, in closed form."""

import numpy as np
from gymnasium import spaces

from envs import Step, TaskDistribution


class Corridor(TaskDistribution):
    """Task m's episodes end after `length` steps of `pay` each; observed: steps so far, and 1."""

    name, horizon = "corridor", 6
    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(-1.0, 1.0, (2,))

    def sample(self, num_tasks, rng):
        return {"length": rng.integers(2, 7, num_tasks), "pay": rng.normal(size=num_tasks)}

    def describe(self, task):
        return f"length {task['length']}"

    def make(self, num_tasks, slots_per_task, threads=1):
        return BatchedCorridor((num_tasks, slots_per_task))


class BatchedCorridor:
    """M x B corridors."""

    def __init__(self, shape):
        self.shape = shape

    def set_tasks(self, tasks):
        self.length, self.pay = (tasks[name][:, None] for name in ("length", "pay"))

    def _seen(self):
        return np.stack([self.elapsed, np.ones(self.shape)], -1)

    def reset(self, rngs):
        self.elapsed = np.zeros(self.shape)
        return self._seen()

    def step(self, actions, active):
        self.elapsed = self.elapsed + active
        reward = self.pay + 0.1 * np.clip(actions, -1, 1).sum(-1)
        return Step(self._seen(), reward, self.elapsed >= self.length, {})

    def close(self):
        pass
