"""M x B Gymnasium environments, stepped in worker processes by Gymnasium's `AsyncVectorEnv`.

Each process holds a block of many environments, so that two processes serve hundreds of them, a
step costs one message per process, and rows whose episode has ended are left alone.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection, resource_tracker
from pathlib import Path
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from envs.episodes import episode_seed
from envs.errors import SimulationError, UserError, cause
from envs.protocol import Array, Step, Tasks, check_count, task_at

if TYPE_CHECKING:
    from envs.backends.gymnasium.distribution import GymnasiumTaskDistribution

PATIENCE = 5.0  # seconds in which the status of a process that ended becomes known


class BatchedGymnasium:
    """M tasks x B slots of a Gymnasium environment, row m * B + b.

    Args:
        distribution: whose environments they are.
        num_tasks: M.
        slots: B.
        threads: worker processes, begun afresh ("spawn"); 1 steps everything in this process.
            Results do not depend on it.

    Raises:
        UserError: if the distribution cannot be sent to another process.
        SimulationError: if a process does not start.
    """

    def __init__(
        self, distribution: GymnasiumTaskDistribution, num_tasks: int, slots: int, threads: int = 1
    ) -> None:
        self.distribution, self.shape = distribution, (num_tasks, slots)
        self._total = num_tasks * slots
        self._size = -(-self._total // min(threads, self._total))  # rows of a block, rounded up
        count = -(-self._total // self._size)
        self._blocks = range(count)
        builders = [
            partial(_Block, distribution, self._size, slots, index, count) for index in self._blocks
        ]
        self._waiting = False  # for an answer, which may never come if this is true afterwards
        self._vector: SyncVectorEnv | AsyncVectorEnv = (
            SyncVectorEnv(builders, autoreset_mode=AutoresetMode.DISABLED)
            if len(builders) == 1
            else self._spawn(builders)
        )

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the task of every task's slots; leaves [M, ...].

        Raises:
            UserError: if the number of tasks is not M.
        """
        check_count(tasks, self.shape[0])
        rows = {name: np.repeat(np.asarray(leaf), self.shape[1], 0) for name, leaf in tasks.items()}
        parts = [{name: self._part(leaf, i) for name, leaf in rows.items()} for i in self._blocks]
        self._call("set_attr", "tasks", parts)

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        """Begin a new episode in every row, seeded from its own generator; [M, B, O].

        Raises:
            SimulationError: naming the worker, task and episode that failed.
            UserError: if a task's spaces are not the distribution's.
        """
        seeds = [episode_seed(rng) for rng in rngs]
        self._call("set_attr", "seeds", [self._part(seeds, i) for i in self._blocks])
        given, info = self._call("reset")
        self._raise_reported(info)
        return self._rows(given["observations"])

    def step(self, actions: Array, active: Array) -> Step:
        """Step the rows where `active` [M, B] is true with `actions`, [M, B, A] or [M, B].

        Raises:
            SimulationError: naming the worker, task and episode that failed.
        """
        applied = self.distribution.applied(actions)
        sent = {"actions": self._padded(applied), "active": self._padded(active)}
        given, _, _, _, info = self._call("step", sent)
        self._raise_reported(info)
        record = self._rows(given["record"])
        return Step(
            observations=self._rows(given["observations"]),
            rewards=self._rows(given["rewards"]),
            terminated=self._rows(given["terminated"]).astype(bool),
            info={name: record[..., i] for i, name in enumerate(self.distribution.recorded_names)},
            truncated=self._rows(given["truncated"]).astype(bool),
        )

    def close(self) -> None:
        """End the processes and close the environments."""
        if isinstance(self._vector, AsyncVectorEnv) and self._waiting:
            self._end(self._vector)
        else:
            self._vector.close()

    def _part(self, rows: Any, block: int) -> Any:
        """Rows of one block."""
        return rows[block * self._size : (block + 1) * self._size]

    def _rows(self, leaf: Array) -> Array:
        """Write a leaf of the blocks, [blocks, size, ...], as [M, B, ...]."""
        rows = leaf.reshape(len(self._blocks) * self._size, *leaf.shape[2:])[: self._total]
        return rows.reshape(*self.shape, *leaf.shape[2:])

    def _padded(self, leaf: Array) -> Array:
        """Write a leaf [M, B, ...] as the blocks take it, [blocks, size, ...]."""
        shape = leaf.shape[2:]
        filled = np.zeros((len(self._blocks) * self._size, *shape), leaf.dtype)
        filled[: self._total] = leaf.reshape(-1, *shape)
        return filled.reshape(len(self._blocks), self._size, *shape)

    def _spawn(self, builders: Sequence[Callable[[], _Block]]) -> AsyncVectorEnv:
        try:
            with _interrupts_blocked():
                return AsyncVectorEnv(
                    builders, context="spawn", autoreset_mode=AutoresetMode.DISABLED
                )
        except (PicklingError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.distribution.name} cannot be sent to worker processes ({cause(error)}): "
                f"define it at the top of a module, or set sampler.threads=1."
            ) from error
        except (EOFError, ConnectionError) as error:
            raise SimulationError(
                f"a worker process of {self.distribution.name} did not start (its message is above)"
            ) from error

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call a method of every block."""
        self._waiting = True
        try:
            answer = getattr(self._vector, method)(*arguments)
        except (EOFError, ConnectionError) as error:
            raise SimulationError(self._lost()) from error
        self._waiting = False
        return answer

    def _raise_reported(self, info: dict[str, Any]) -> None:
        """Raise the error that a block reported."""
        for kind, error in (("user_error", UserError), ("failure", SimulationError)):
            if kind in info:
                self.close()
                raise error(next(sentence for sentence in info[kind] if sentence))

    def _lost(self) -> str:
        """A sentence about the process that ended; the others are ended."""
        assert isinstance(self._vector, AsyncVectorEnv)
        processes = self._vector.processes
        closed = connection.wait([process.sentinel for process in processes], PATIENCE)
        ended = [(i, process) for i, process in enumerate(processes) if process.sentinel in closed]
        sentences = []
        for index, process in ended:
            process.join(PATIENCE)  # what it held is closed a moment before its status is known
            first, last = index * self._size, min((index + 1) * self._size, self._total) - 1
            tasks = " to ".join(dict.fromkeys(str(row // self.shape[1]) for row in (first, last)))
            how = _how_it_ended(process.exitcode)
            sentences.append(f"worker {index + 1} of {len(processes)} (task {tasks}) {how}")
        self._end(self._vector)
        return f"{self.distribution.name}: {', '.join(sentences) or 'a worker stopped answering'}"

    @staticmethod
    def _end(vector: AsyncVectorEnv) -> None:
        """End all processes at once."""
        for process in vector.processes:
            process.kill()
            process.join()
        for pipe in vector.parent_pipes:
            if pipe is not None:
                pipe.close()
        vector.closed = True


def _how_it_ended(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended with exit status {status}"
    memory = ", perhaps because memory ran out" if -status == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-status).name}{memory}"


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let processes begun here ignore Ctrl-C: the parent ends them after its own work.

    A signal mask is inherited. The resource tracker is begun before, since it unblocks the signal.
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Block(gymnasium.Env[Any, Any]):
    """The environments of some rows, as one environment for Gymnasium's vector environments.

    Its observation holds the whole result of a step of its rows. An error in a row is reported in
    info ("user_error" or "failure"), since an exception would end the process and print a
    traceback. Environments are built at the first reset, because `AsyncVectorEnv` builds one more
    block in its own process, only for its spaces.

    Args:
        distribution: whose environments they are.
        size: rows that the spaces have room for; the last block may use fewer.
        slots: B.
        index: which block it is.
        count: of how many.
    """

    def __init__(
        self,
        distribution: GymnasiumTaskDistribution,
        size: int,
        slots: int,
        index: int,
        count: int,
    ) -> None:
        self.distribution = distribution
        self.tasks: Tasks = {}  # of every row; comes through set_attr, as the seeds do
        self.seeds: list[int] = []
        self._size, self._slots, self._index, self._count = size, slots, index, count
        self._envs: list[gymnasium.Env[Any, Any]] = []
        box, actions = distribution.observation_space, distribution.action_space
        self._given = {
            "observations": np.zeros((size, *box.shape), box.dtype),
            "rewards": np.zeros(size),
            "terminated": np.zeros(size, np.int8),
            "truncated": np.zeros(size, np.int8),
            "record": np.zeros((size, len(distribution.record))),
        }
        self.observation_space = spaces.Dict(
            {name: _box(part.shape, part.dtype) for name, part in self._given.items()}
        )
        self.action_space = spaces.Dict(
            actions=_box((size, *(actions.shape or ())), np.dtype(float)),
            active=spaces.MultiBinary(size),
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin an episode in every row, with its own task and seed."""
        return self._given, self._each("reset", self._reset_row, range(len(self.seeds)))

    def step(
        self, action: dict[str, Array]
    ) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """Step the rows that are active."""
        step = partial(self._step_row, action["actions"])
        info = self._each("step", step, np.flatnonzero(action["active"]))
        return self._given, 0.0, False, False, info

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()
        self._envs = []

    def _each(
        self, method: str, call: Callable[[int], None], rows: Iterable[int]
    ) -> dict[str, str]:
        """Call a function for every row; the errors, if there are any."""
        for row in rows:
            try:
                call(row)
            except UserError as error:
                return {"user_error": str(error)}
            except Exception as error:
                return {"failure": f"{self._place(row)}, {method} raised {_with_line(error)}"}
        return {}

    def _place(self, row: int) -> str:
        task, slot = divmod(self._index * self._size + row, self._slots)
        worker = f"worker {self._index + 1} of {self._count}: " if self._count > 1 else ""
        return f"{self.distribution.name}: {worker}task {task}, episode {slot}"

    def _reset_row(self, row: int) -> None:
        if row == len(self._envs):
            self._envs.append(self.distribution.build())
        start = self.distribution.begin(self._envs[row], task_at(self.tasks, row), self.seeds[row])
        self._given["observations"][row] = start

    def _step_row(self, actions: Array, row: int) -> None:
        distribution, given = self.distribution, self._given
        action = distribution.native(actions[row])
        observation, reward, terminated, truncated, info = self._envs[row].step(action)
        given["observations"][row] = observation
        given["rewards"][row] = float(reward)
        given["terminated"][row] = terminated
        given["truncated"][row] = truncated
        given["record"][row] = distribution.recorded(info)


def _box(shape: tuple[int, ...], dtype: np.dtype[Any]) -> spaces.Box:
    """A Box of `shape`: 0 to 1 for whole numbers, unbounded otherwise."""
    low, high = (0, 1) if np.issubdtype(dtype, np.integer) else (-np.inf, np.inf)
    return spaces.Box(low, high, shape, dtype=dtype.type)


def _with_line(error: Exception) -> str:
    """The message of an exception and the place where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{cause(error)} ({Path(last.filename).name}, line {last.lineno})"
