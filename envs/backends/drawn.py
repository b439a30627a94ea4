"""The Gymnasium form of distributions that have no physics engine: one row of the batched form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from envs.backends.task_env import TaskEnv
from envs.protocol import Array, TaskDistribution, Tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 100


class DrawnDistribution(TaskDistribution, Protocol):
    """A task distribution that draws its tasks."""

    def draw(self, figure: Figure, task: Tasks, observation: Array, action: int | None) -> None:
        """Draw a task (leaves without the leading M) and where its episode is into `figure`.

        Args:
            figure: empty.
            task: what to draw.
            observation: [O], of now.
            action: the one before it; None at the start.
        """


class SingleEnv(TaskEnv):
    """One task of a distribution as a Gymnasium environment, stepped as its batched form is.

    Episodes are cut off after the distribution's horizon. `reset` draws a new task from the
    environment's generator unless one was fixed, by `task=`, by `set_task` or by
    `reset(options={"task": ...})`; `info["task"]` says which.

    Args:
        distribution: makes the batched form, draws tasks and pictures.
        task: fixes the task (leaves without the leading M); None draws one at every reset.
        render_mode: "rgb_array" or None.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(
        self,
        distribution: DrawnDistribution,
        task: Tasks | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> None:
        super().__init__(distribution, task, render_mode)
        self._size = (width, height)
        self._env = distribution.make(1, 1)
        self._observation: Array = np.empty(0)
        self._action: int | None = None
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; `options={"task": ...}` fixes the task first."""
        self._begin(seed, options)
        self._env.set_tasks({name: np.asarray(leaf)[None] for name, leaf in self._task.items()})
        self._observation = self._env.reset([self.np_random])[0, 0]
        self._action, self._steps = None, 0
        return self._observation.copy(), self._info({})

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take one step with a numbered action."""
        actions = np.reshape(action, (1, 1))
        step = self._env.step(actions, np.ones((1, 1), dtype=bool))
        self._observation, self._action = step.observations[0, 0], int(actions[0, 0])
        self._steps += 1
        return (
            self._observation.copy(),
            float(step.rewards[0, 0]),
            bool(step.terminated[0, 0]),
            bool(step.ended[0, 0] & ~step.terminated[0, 0])
            or self._steps >= self.distribution.horizon,
            self._info({name: leaf[0, 0] for name, leaf in step.info.items()}),
        )

    def render(self) -> Any:
        """Draw the task; an RGB array [height, width, 3], or None where no mode was chosen."""
        if self.render_mode is None:
            return None
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        width, height = (pixels / DOTS_PER_INCH for pixels in self._size)
        figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        self.distribution.draw(figure, self._task, self._observation, self._action)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        """Free the batched form."""
        self._env.close()
