"""The common part of all tabular problems: numbered actions, and chance drawn at the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.backends.drawn import DrawnDistribution, SingleEnv
from envs.errors import UserError
from envs.protocol import Array, Step, Tasks, count_tasks, snake_case

OUTLINE: dict[str, Any] = {"edgecolor": "tab:red", "linewidth": 2.5}
"""How pictures show where an episode is."""


class TabularDistribution:
    """Base of distributions whose tasks are tables and whose actions are numbered.

    A subclass sets the spaces and the horizon, and writes `sample`, `describe`, `draw` and `make`.
    """

    observation_space: spaces.Box
    action_space: spaces.Discrete
    horizon: int

    @property
    def name(self) -> str:
        """The class's name in snake case, by which a run and its results are called."""
        return snake_case(type(self).__name__)

    def finite_tasks(self) -> Tasks | None:
        """None: tables of real numbers are many."""
        return None

    def applied(self, action: Any) -> Any:
        """The applied action: numbered actions are applied unchanged."""
        return action

    def single(
        self: DrawnDistribution,
        task: Tasks | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> SingleEnv:
        """Build the Gymnasium environment of one task; arguments as `SingleEnv`'s."""
        return SingleEnv(self, task, render_mode, width, height)


class BatchedTabular:
    """M x B episodes in tables, stepped as arrays; all their chance is drawn when they begin.

    So a step needs no generator, and what happens in a row depends on nothing but its task, its
    generator and its actions. A subclass says what chance an episode has, how it begins and what a
    step does.
    """

    def __init__(self, distribution: TabularDistribution, num_tasks: int, slots: int) -> None:
        self.name, self.horizon = distribution.name, distribution.horizon
        self.num_actions = int(distribution.action_space.n)
        self.shape = (num_tasks, slots)

    def draw_chance(self, rng: np.random.Generator) -> Array:
        """Draw one episode's chance, [T, C]."""
        raise TypeError(f"{type(self).__name__} must define draw_chance(rng).")

    def begin(self) -> Array:
        """Put every row at its start; observations [M, B, O]."""
        raise TypeError(f"{type(self).__name__} must define begin().")

    def outcome(self, actions: Array, chance: Array, time: Array, active: Array) -> Step:
        """Take `actions` [M, B] at steps `time` [M, B], chance [M, B, C]."""
        raise TypeError(
            f"{type(self).__name__} must define outcome(actions, chance, time, active)."
        )

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the task of every task's slots; leaves [M, ...].

        Raises:
            UserError: if the number of tasks is not M.
        """
        if count_tasks(tasks) != self.shape[0]:
            raise UserError(f"expected {self.shape[0]} tasks, not {count_tasks(tasks)}.")
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

    def close(self) -> None:
        """Nothing is held."""
