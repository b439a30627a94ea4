"""The common part of the Gymnasium forms of task distributions: their task."""

from __future__ import annotations

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

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> None:
        """Seed the generator, and take or draw the task of the next episode."""
        super().reset(seed=seed)
        self._steps = 0
        if options and "task" in options:
            self.set_task(options["task"])
        if not self._fixed:
            self._task = task_at(draw_tasks(self.distribution, 1, self.np_random), 0)

    def _timed_out(self) -> bool:
        """Count a step; whether it is the horizon's."""
        self._steps += 1
        return self._steps >= self.distribution.horizon

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Add the task, a copy, to what a step or a reset tells."""
        return {**info, "task": {name: leaf.copy() for name, leaf in self._task.items()}}
