"""All tasks and episodes of a MuJoCo distribution as rows of one `mujoco.batch.Batch`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import mujoco
import mujoco.batch
import numpy as np
from mujoco.batch import Batch

from envs.answers import check_info, check_shape
from envs.backends.mujoco.fields import State, compute, on_demand
from envs.backends.mujoco.model import CAUSES, FULL, UNSTABLE, memory_error, quiet_mujoco
from envs.errors import SimulationError, UserError
from envs.protocol import Array, Step, Tasks, check_count, task_at
from envs.unstable import ADVICE, cut_off, ending_unstable

if TYPE_CHECKING:
    from envs.backends.mujoco.distribution import MujocoTaskDistribution


class BatchedMujoco:
    """M tasks x B slots of one body, stepped in lockstep on a thread pool; row m * B + b.

    Results are bit-identical to serial `mj_step` at any number of threads.
    """

    def __init__(
        self, distribution: MujocoTaskDistribution, num_tasks: int, slots: int, threads: int = 1
    ) -> None:
        self.distribution = distribution
        self.shape = (num_tasks, slots)
        threads = min(threads, num_tasks * slots)
        self._functions = on_demand(distribution.fields)
        self._batch = Batch(
            distribution.model, num_tasks * slots, threads, persistent=bool(self._functions)
        )
        self._views = {
            field: self._batch.bind(field)
            for field in ("qpos", "qvel", "ctrl", *distribution.fields)
        }  # bound before the first reset: a field bound later is empty until the next call
        self._models = [distribution.model] * num_tasks
        if self._functions:  # what is computed on demand is written into arrays of this object
            self._scratch = mujoco.MjData(distribution.model)
            for field in self._functions:
                self._views[field] = self._views[field].copy()
        self._task: Tasks = {}
        self._state: State = {}

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the task of every task's slots; leaves [M, ...].

        Raises:
            UserError: if the number of tasks is not M.
        """
        check_count(tasks, self.shape[0])
        self._task = {
            name: np.broadcast_to(np.array(leaf)[:, None], (*self.shape, *leaf.shape[1:]))
            for name, leaf in tasks.items()  # copies: the caller may write into theirs later
        }
        if self.distribution.varies:
            self._set_models(tasks)

    def _set_models(self, tasks: Tasks) -> None:
        """Let every row run on its task's model."""
        distribution = self.distribution
        self._models = [
            distribution.task_model(task_at(tasks, index)) for index in range(self.shape[0])
        ]
        try:
            self._batch.set_models([model for model in self._models for _ in range(self.shape[1])])
        except mujoco.FatalError as error:
            raise UserError(
                f"{distribution.name}.spec(task) gave models that cannot be stepped together: "
                f"{error}."
            ) from error

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        """Begin a new episode in every row from its own generator; observations [M, B, O]."""
        batch = self._batch
        batch.reset(stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        if self.distribution.resets:
            self._write_starts([self.distribution.start(rng) for rng in rngs])
        with self._calling():
            batch.forward()
        self._compute(np.arange(len(rngs)))
        self._state = self._read()
        return self._observed(self._state)

    def _write_starts(self, starts: Sequence[State]) -> None:
        """Write the initial states of the rows; fields without a value keep their default."""
        for field in dict.fromkeys(name for start in starts for name in start):
            rows = [row for row, start in enumerate(starts) if field in start]
            self._batch.bind(field)[rows] = [starts[row][field] for row in rows]

    def step(self, actions: Array, active: Array) -> Step:
        """Apply `actions` [M, B, A] for one control step in the rows where `active` [M, B] is true.

        Raises:
            SimulationError: naming task and slot, if MuJoCo found a simulation unstable (it resets
                such a row silently).
        """
        distribution, before = self.distribution, self._state
        applied = distribution.applied(actions)
        rows = None if active.all() else active.ravel()
        for field, value in distribution.control(before, applied).items():
            view = self._views[field] if field in self._views else self._batch.bind(field)
            running = active.reshape(-1, *(1,) * (view.ndim - 1))
            np.copyto(view, value.reshape(view.shape), where=running)
        with self._calling():
            self._batch.step(ids=rows, nstep=distribution.frame_skip)
        self._compute(np.flatnonzero(active))
        unstable = self._unstable(active)
        after = self._state = self._read()
        if unstable is not None:  # MuJoCo has put these rows back to the model's start
            for field, values in after.items():
                values[unstable] = before[field][unstable]
        step = Step(
            observations=self._observed(after),
            rewards=distribution.reward(before, applied, after, self._task),
            terminated=distribution.terminated(after, self._task),
            info=distribution.info(before, applied, after, self._task),
        )
        name = distribution.name
        check_shape(name, "reward(before, action, after, task)", step.rewards, self.shape)
        check_shape(name, "terminated(state, task)", step.terminated, self.shape)
        check_info(name, "info(before, action, after, task)", step.info, self.shape)
        return cut_off(step, unstable) if ending_unstable() else step

    def _observed(self, state: State) -> Array:
        observations = self.distribution.observe(state)
        wanted = (*self.shape, *self.distribution.observation_space.shape)
        check_shape(self.distribution.name, "observe(state)", observations, wanted)
        return observations.copy()  # it may be the state itself

    def close(self) -> None:
        """Free the simulations."""
        del self._batch, self._views

    def _read(self) -> State:
        """Copy qpos, qvel and the distribution's fields, [M, B, ...]."""
        state = {}
        for name in ("qpos", "qvel", *self.distribution.fields):
            copy = self._views[name].copy()
            state[name] = copy.reshape(*self.shape, *copy.shape[1:])
        return state

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Call MuJoCo without its warnings in the terminal; full memory is an error.

        Raises:
            UserError: if contacts or constraints did not fit.
            SimulationError: if MuJoCo gave up.
        """
        try:
            with quiet_mujoco():
                yield
        except mujoco.batch.SimulationError as error:
            raise SimulationError(f"{self._row(error.ids[0])}: {error}") from error
        if self._batch.warning.any():
            full = self._batch.warning[:, FULL, 1].any(axis=1)
            if full.any():
                row = int(full.argmax())
                raise memory_error(self._row(row), self._models[row // self.shape[1]])

    def _row(self, row: int) -> str:
        task, slot = divmod(int(row), self.shape[1])
        return f"the simulation of task {task}, episode {slot}"

    def _compute(self, rows: Array) -> None:
        """Compute the fields that MuJoCo computes on demand, in `rows`."""
        if not self._functions:
            return
        for row in rows:
            self._batch.get_data(int(row), self._scratch)
            compute(self._functions, self._models[row // self.shape[1]], self._scratch)
            for field in self._functions:
                self._views[field][row] = getattr(self._scratch, field)

    def _unstable(self, active: Array) -> Array | None:
        """Rows that became unstable in this step, [M, B]; None where there are none.

        Raises:
            SimulationError: naming the first, unless their episodes are to end.
        """
        if not self._batch.warning.any():
            return None
        numbers = self._batch.warning[:, UNSTABLE, 1]
        unstable = numbers.any(axis=1).reshape(self.shape) & active
        if not unstable.any():
            return None
        if not ending_unstable():
            raise SimulationError(
                f"{self._row(int(np.flatnonzero(unstable)[0]))} became unstable {CAUSES}; {ADVICE}"
            )
        return np.asarray(unstable)
