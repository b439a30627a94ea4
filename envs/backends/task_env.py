"""The common part of the Gymnasium forms of task distributions: their task."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium
import numpy as np

from envs.protocol import Array, Task, Tasks, draw_tasks, task_at


class TaskEnv(gymnasium.Env[Array, Any]):
    """One task of a distribution as a Gymnasium environment.

    Episodes are cut off after the distribution's horizon. `reset` draws a new task from the
    environment's generator unless one was fixed, by `task=`, by `set_task` or by
    `reset(options={"task": ...})`. `info["task"]` holds it.

    Args:
        distribution: whose task it is.
        task: fixes the task (leaves without the leading M); None draws one at every reset.
        render_mode: "rgb_array" or None.
    """

    def __init__(
        self, distribution: Any, task: Task | None = None, render_mode: str | None = None
    ) -> None:
        self.distribution = distribution
        self.observation_space = distribution.observation_space
        self.action_space = distribution.action_space
        self.render_mode = render_mode
        self._task: Tasks = {}
        self._fixed = False
        self._steps = 0
        if task is not None:
            self.set_task(task)

    def set_task(self, task: Task) -> None:
        """Fix the task that the next episodes have; leaves without the leading M."""
        self._task = {name: np.array(leaf) for name, leaf in task.items()}
        self._fixed = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; `options={"task": ...}` fixes the task first."""
        super().reset(seed=seed)
        self._steps = 0
        if options and "task" in options:
            self.set_task(options["task"])
        if not self._fixed:
            self._task = task_at(draw_tasks(self.distribution, 1, self.np_random), 0)
        observation, info = self._start()
        return observation, self._with_task(info)

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take one step with an action [A] of `action_space`, or a numbered one."""
        observation, reward, terminated, truncated, info = self._advance(action)
        self._steps += 1
        truncated = bool(truncated) or self._steps >= self.distribution.horizon
        return observation, float(reward), bool(terminated), truncated, self._with_task(info)

    @abstractmethod
    def _start(self) -> tuple[Array, dict[str, Any]]:
        """Begin an episode of the task: its first observation, and info."""

    @abstractmethod
    def _advance(self, action: Any) -> tuple[Array, Any, Any, Any, dict[str, Any]]:
        """Take one step, as Gymnasium's `step`; the horizon is not its affair."""

    def _with_task(self, info: dict[str, Any]) -> dict[str, Any]:
        """Add the task, a copy, to info."""
        return {**info, "task": {name: leaf.copy() for name, leaf in self._task.items()}}
