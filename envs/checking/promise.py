"""A check, its finding, and the episodes that most checks compare others with."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from envs.checking.drawn import drawn_tasks
from envs.episodes import (
    STEPS,
    CheckedEnv,
    Trace,
    compare,
    name_of,
    row_seeds,
    standard_actions,
    traced,
)
from envs.protocol import Array, TaskDistribution, Tasks

EPISODES = (
    *("determinism", "rows", "resets", "tasks differ", "leaks", "active", "copies", "episodes"),
    *("held out", "trajectories", "single", "speed"),
)
"""Checks that run episodes, which mean nothing where episodes cannot run or be repeated."""

OTHER_SEED = 11  # draws two directions, forward or backward, that seed 0 does not
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


class Reference:
    """Two tasks with two episodes each, and their trace, which that of other runs must equal.

    Args:
        distribution: whose episodes they are.
        steps: of an episode, at most.
    """

    def __init__(self, distribution: TaskDistribution, steps: int = STEPS) -> None:
        self.distribution = distribution
        self.tasks, self.seeds = drawn_tasks(distribution, 2), row_seeds(2, 2)
        self.actions = standard_actions(distribution, min(distribution.horizon, steps), 2, 2)

    @cached_property
    def trace(self) -> Trace:
        """The episodes, run in an environment of their own."""
        return self.run()

    def run(self, **changed: Any) -> Trace:
        """Run the episodes in a new environment, with other arguments of `traced`."""
        arguments: dict[str, Any] = {
            "tasks": self.tasks,
            "seeds": self.seeds,
            "actions": self.actions,
        }
        return traced(self.distribution, **arguments | changed)

    def run_beside_another(self) -> Trace:
        """Run the episodes while another environment runs other ones, in turn with it."""
        calls = itertools.count()
        with closing(CheckedEnv(self.distribution, 2, 2)) as other:
            other.set_tasks(drawn_tasks(self.distribution, 2, seed=2))

            def interrupt() -> None:
                call = next(calls)
                if call % 3 == 0:  # short episodes, so that none has ended by itself
                    other.begin(None, self.seeds + 200 + call)
                other.step(self.actions[-1 - call % 3], np.ones((2, 2), dtype=bool))

            return self.run(between=interrupt)

    def other_tasks(self) -> Tasks:
        """Two other tasks."""
        return drawn_tasks(self.distribution, 2, seed=OTHER_SEED)

    def tasks_where(self, same: Array) -> Tasks:
        """The tasks where `same` [M] is true, and others everywhere else."""
        others = self.other_tasks()
        return {name: _where(same, leaf, others[name]) for name, leaf in self.tasks.items()}

    def actions_where(self, same: Array) -> Array:
        """The actions where `same` [M, B] is true, and others everywhere else."""
        others = standard_actions(self.distribution, len(self.actions), 4, 2)[:, 2:]
        return _where(same[None], self.actions, others)

    def compare(
        self,
        trace: Trace,
        claim: str,
        advice: str,
        rows: Array | None = None,
        exact: bool = False,
        implies: Iterable[str] = (),
    ) -> None:
        """Raise the distribution's name, `claim`, the first difference and `advice`, if any."""
        claim = f"{name_of(self.distribution)}{claim}"
        compare(claim, self.trace, trace, advice, rows, exact, implies)


def _where(same: Array, values: Array, others: Array) -> Array:
    """`values` where `same` is true, which has their first axes, and others everywhere else."""
    return np.where(same.reshape(*same.shape, *(1,) * (values.ndim - same.ndim)), values, others)
