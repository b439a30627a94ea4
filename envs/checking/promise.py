"""A check and its finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from envs.protocol import TaskDistribution

EPISODES = (
    *("determinism", "rows", "resets", "tasks differ", "leaks", "active", "copies", "episodes"),
    *("held out", "trajectories", "single", "speed"),
)
"""Checks that run episodes, which mean nothing where episodes cannot run or be repeated."""

LONGEST = 1000  # steps of one episode that a check takes, whatever the horizon


class NotApplicableError(Exception):
    """A check that has nothing to check, and why."""


class Check(Protocol):
    """One promise: returns the finding, raises where the promise is broken."""

    def __call__(self, distribution: TaskDistribution, /) -> str:
        """Check `distribution`."""
        ...


@dataclass(frozen=True)
class Finding:
    """The finding of one check."""

    check: str
    status: str  # "ok", "wrong" or "skipped"
    sentence: str
    implies: frozenset[str] = frozenset()  # checks that fail for the same cause
