"""The common part of all tabular problems: numbered actions, and chance drawn at the start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from envs.backends.task_env import TaskEnv
from envs.errors import UserError
from envs.protocol import Array, Step, Task, TaskDistribution, Tasks, check_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 100
OUTLINE: dict[str, Any] = {"edgecolor": "tab:red", "linewidth": 2.5}
"""How pictures show where an episode is."""


class TabularDistribution(TaskDistribution):
    """Base of distributions whose tasks are tables and whose actions are numbered.

    A subclass sets the spaces and the horizon, and writes `sample`, `describe`, `draw` and `make`.
    """

    action_space: spaces.Discrete

    @abstractmethod
    def draw(self, figure: Figure, task: Task, observation: Array, action: int | None) -> None:
        """Draw a task, and where its episode is, into `figure`.

        Args:
            figure: empty.
            task: what to draw.
            observation: [O], of now.
            action: the one before it; None at the start.
        """

    def single(
        self,
        task: Task | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> TabularEnv:
        """Build the Gymnasium environment of one task; arguments as `TabularEnv`'s."""
        return TabularEnv(self, task, render_mode, width, height)


class BatchedTabular(ABC):
    """M x B episodes in tables, stepped as arrays; all their chance is drawn when they begin.

    So a step needs no generator, and what happens in a row depends on nothing but its task, its
    generator and its actions. A subclass says what chance an episode has, how it begins and what a
    step does.
    """

    def __init__(self, distribution: TabularDistribution, num_tasks: int, slots: int) -> None:
        self.name, self.horizon = distribution.name, distribution.horizon
        self.num_actions = int(distribution.action_space.n)
        self.shape = (num_tasks, slots)

    @abstractmethod
    def draw_chance(self, rng: np.random.Generator) -> Array:
        """Draw one episode's chance, [T, C]."""

    @abstractmethod
    def begin(self) -> Array:
        """Put every row at its start; observations [M, B, O]."""

    @abstractmethod
    def outcome(self, actions: Array, chance: Array, time: Array, active: Array) -> Step:
        """Take `actions` [M, B] at steps `time` [M, B], chance [M, B, C]."""

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the task of every task's slots; leaves [M, ...].

        Raises:
            UserError: if the number of tasks is not M.
        """
        check_count(tasks, self.shape[0])
        self._tasks = {name: np.array(leaf) for name, leaf in tasks.items()}

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        """Begin a new episode in every row from its own generator; observations [M, B, O]."""
        chance = np.stack([self.draw_chance(rng) for rng in rngs])
        self._chance = chance.reshape(*self.shape, *chance.shape[1:])
        self._time = np.zeros(self.shape, dtype=np.int64)
        return self.begin()

    def step(self, actions: Array, active: Array) -> Step:
        """Take whole-numbered `actions` [M, B] in the rows where `active` [M, B] is true.

        Raises:
            UserError: if an active row's action is none of its actions, or its episode is over.
        """
        chosen = np.where(active, actions, 0)
        known = np.isin(chosen, np.arange(self.num_actions))
        if not known.all():
            raise UserError(
                f"{self.name} has actions 0 to {self.num_actions - 1}, not {chosen[~known][0]}."
            )
        if (self._time[active] >= self.horizon).any():
            raise UserError(
                f"an episode of {self.name} is over after {self.horizon} steps; reset it first."
            )
        time = np.minimum(self._time, self.horizon - 1)  # of rows that are over: no meaning
        chance = np.take_along_axis(self._chance, time[..., None, None], axis=2)[:, :, 0]
        self._time += active
        return self.outcome(chosen.astype(np.int64), chance, time, active)

    def close(self) -> None:  # noqa: B027
        """Nothing is held."""


class TabularEnv(TaskEnv):
    """One task of a distribution as a Gymnasium environment, with the steps of the batched form.

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
        distribution: TabularDistribution,
        task: Task | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> None:
        super().__init__(distribution, task, render_mode)
        self._size = (width, height)
        self._env = distribution.make(1, 1)
        self._observation: Array = np.empty(0)
        self._action: int | None = None

    def _start(self) -> tuple[Array, dict[str, Any]]:
        self._env.set_tasks({name: np.asarray(leaf)[None] for name, leaf in self._task.items()})
        self._observation = self._env.reset([self.np_random])[0, 0]
        self._action = None
        return self._observation.copy(), {}

    def _advance(self, action: Any) -> tuple[Array, Any, Any, Any, dict[str, Any]]:
        actions = np.reshape(action, (1, 1))
        step = self._env.step(actions, np.ones((1, 1), dtype=bool))
        self._observation, self._action = step.observations[0, 0], int(actions[0, 0])
        return (
            self._observation.copy(),
            step.rewards[0, 0],
            step.terminated[0, 0],
            step.ended[0, 0] & ~step.terminated[0, 0],
            {name: leaf[0, 0] for name, leaf in step.info.items()},
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
