"""The ranks of a run, as everything that trains sees them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from torch import Tensor


class Communicator(Protocol):
    """The ranks of a run; each owns every size-th task of an iteration, from its own number on.

    All ranks call the same methods in the same order. An exception that leaves `sharing_errors` on
    one rank is raised on all of them, by the call in which they wait.
    """

    rank: int  # number of this one, from 0
    size: int  # N
    neighbours: int  # ranks on this machine, this one too

    def mine(self, total: int) -> range:
        """Numbers of this rank's tasks among `total`: rank, rank + N, rank + 2 N ..."""
        ...

    def rows(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """Rows [M, ...] of all tasks in task order, from each rank's own rows [m, ...]."""
        ...

    def total(self, count: int) -> int:
        """Sum of the ranks' counts."""
        ...

    def largest(self, number: int) -> int:
        """Largest of the ranks' numbers, which are not negative."""
        ...

    def broadcast(self, value: Any = None) -> Any:
        """Rank 0's value; what other ranks give is not used."""
        ...

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def sharing_errors(self) -> AbstractContextManager[None]:
        """Raise on all ranks what one of them raises within, the first rank's where several do."""
        ...


class Alone:
    """The only rank, which owns all tasks."""

    rank, size, neighbours = 0, 1, 1

    def mine(self, total: int) -> range:
        """All tasks."""
        return range(total)

    def rows(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """The rows that are given."""
        return leaves

    def total(self, count: int) -> int:
        """The count that is given."""
        return count

    def largest(self, number: int) -> int:
        """The number that is given."""
        return number

    def broadcast(self, value: Any = None) -> Any:
        """The value that is given."""
        return value

    def barrier(self) -> None:
        """Go on."""

    def sharing_errors(self) -> AbstractContextManager[None]:
        """Let errors pass."""
        return nullcontext()


ALONE = Alone()
"""Where no other ranks are given."""


def is_known(error: BaseException) -> bool:
    """Whether an error is of a kind of this project, whose message is a sentence."""
    return type(error).__module__.startswith(("maml_rl.", "envs."))


def was_shared(error: BaseException | None) -> bool:
    """Whether all ranks have raised an error, or the one that caused it."""
    while error is not None:
        if getattr(error, "shared", False):
            return True
        error = error.__cause__
    return False
