"""Keyed randomness: every random number has an address, and no stream is shared.

A result therefore does not depend on the number of threads or on the order of computation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """The purpose of random numbers; an address begins with it, or ends with it and indices."""

    INITIALIZATION = 0
    TRAINING = 1
    VALIDATION = 2
    TEST = 3
    VALIDATION_TASKS = 4
    TEST_TASKS = 5
    BOOTSTRAP = 6
    TASKS = 7
    RESETS = 8
    ACTIONS = 9


@dataclass(frozen=True)
class Key:
    """An address of random numbers: a seed and a path of whole numbers.

    A run's addresses are (seed; phase, iteration, adaptation step, purpose, task, slot).
    """

    seed: int
    path: tuple[int, ...] = ()

    def child(self, *path: int) -> Key:
        """Address `path` below this one."""
        return Key(self.seed, self.path + path)

    def generator(self, *path: int) -> np.random.Generator:
        """Generator at the address `path` below this one; the same at every call."""
        address = tuple(int(part) for part in self.path + path)
        sequence = np.random.SeedSequence(self.seed, spawn_key=address)
        return np.random.Generator(np.random.PCG64(sequence))


class RowGenerators(Sequence[np.random.Generator]):
    """One generator per row m * B + b, at (task m, slot b) below `key`; made when asked for.

    Args:
        key: address.
        num_tasks: M.
        slots: B.
        numbers: of the M tasks, where they are some of more; None numbers them from 0.
    """

    def __init__(
        self, key: Key, num_tasks: int, slots: int, numbers: Sequence[int] | None = None
    ) -> None:
        self._key, self._num_tasks, self._slots = key, num_tasks, slots
        self._numbers = range(num_tasks) if numbers is None else numbers

    def __len__(self) -> int:
        return self._num_tasks * self._slots

    def __getitem__(self, row: int) -> np.random.Generator:  # type: ignore[override]
        if not 0 <= row < len(self):
            raise IndexError(row)
        task, slot = divmod(row, self._slots)
        return self._key.generator(self._numbers[task], slot)

    def __iter__(self) -> Iterator[np.random.Generator]:
        return (self[row] for row in range(len(self)))
