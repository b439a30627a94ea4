"""The promises of every task distribution, as checks: one function each, and the test of all.

A check takes a distribution, returns its finding as a sentence, and raises a `ContractError`, one
sentence, where a promise is broken. `probe` is quick and runs before every training; `check` runs
all of them and goes on after a failure; `TaskDistributionContract` is the same as a test.

Letters: M tasks, B slots (episodes) per task, T steps, O observation size, A action size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from envs.checking.authored import check_names, fresh, leaving_global_generators
from envs.checking.drawn import drawn_tasks
from envs.checking.promise import EPISODES, Check, Finding, NotApplicableError
from envs.checking.resets import check_determinism, check_leaks, check_resets
from envs.checking.single import check_single
from envs.checking.steps import (
    check_active,
    check_copies,
    check_rows,
    check_shapes,
    check_tasks_differ,
)
from envs.checking.tasks import check_held_out, check_sampling, check_spaces, check_tasks
from envs.checking.whole import check_episodes, check_speed, check_trajectories
from envs.episodes import described, name_of, row_seeds, standard_actions, traced
from envs.errors import UserError
from envs.protocol import TaskDistribution


def probe(distribution: TaskDistribution) -> None:
    """Check in milliseconds what would stop a run: three tasks, two episodes each, one step.

    Raises:
        ContractError: naming the distribution, the method and what it must return.
    """
    distribution = fresh(distribution)
    check_spaces(distribution)
    with leaving_global_generators(distribution, "sample(num_tasks, rng)"):
        tasks = drawn_tasks(distribution, 3)
    with leaving_global_generators(distribution, "make(3, 2)"):
        traced(distribution, tasks, row_seeds(3, 2), standard_actions(distribution, 1, 3, 2))


def check(distribution: TaskDistribution) -> Iterator[Finding]:
    """Run every check, also after one has failed; one cause is reported once."""
    sentences: set[str] = set()
    implied: set[str] = set()
    for name, function in CHECKS.items():
        if name in implied:
            why = "put the spaces right first" if "sampling" in implied else SAME
            yield Finding(name, "skipped", why)
            continue
        finding = _found(name, function, distribution)
        sentence = re.sub(r"\d+", "0", finding.sentence)  # whatever the numbers of tasks
        if finding.status == "wrong" and sentence in sentences:
            finding = Finding(name, "skipped", SAME)
        elif finding.status == "wrong":
            implied |= finding.implies | set(CONSEQUENCES.get(name, ()))
        sentences.add(sentence)
        yield finding


def _found(name: str, function: Check, distribution: TaskDistribution) -> Finding:
    try:
        return Finding(name, "ok", function(distribution))
    except NotApplicableError as reason:
        return Finding(name, "skipped", str(reason))
    except UserError as error:
        return Finding(name, "wrong", str(error), getattr(error, "implies", frozenset()))
    except Exception as error:  # an author's code may raise anything
        return Finding(name, "wrong", f"{name_of(distribution)}: {described(error)}.")


CHECKS: dict[str, Check] = {
    "spaces": check_spaces,
    "names": check_names,
    "tasks": check_tasks,
    "sampling": check_sampling,
    "shapes": check_shapes,
    "determinism": check_determinism,
    "rows": check_rows,
    "resets": check_resets,
    "tasks differ": check_tasks_differ,
    "leaks": check_leaks,
    "active": check_active,
    "copies": check_copies,
    "episodes": check_episodes,
    "held out": check_held_out,
    "trajectories": check_trajectories,
    "single": check_single,
    "speed": check_speed,
}
"""Every promise, in the order in which `check` looks at them."""

CONSEQUENCES = {
    "spaces": tuple(CHECKS),
    "tasks": ("tasks differ",),
    "shapes": EPISODES,
    "episodes": ("single",),
}
"""Checks that are not made where one has failed, however it did."""

SAME = "for the same reason as above"


class TaskDistributionContract:
    """The contract as a test: inherit it, say what to build, and pytest does the rest.

    class TestHopperVelocity(TaskDistributionContract):
        def build(self):
            return HopperVelocity()
    """

    def build(self) -> TaskDistribution:
        """Build the distribution to check."""
        raise TypeError(f"{type(self).__name__} must define build().")


def _as_test(function: Check) -> Callable[[TaskDistributionContract], None]:
    def test(self: TaskDistributionContract) -> None:
        with suppress(NotApplicableError):
            function(self.build())

    test.__doc__ = function.__doc__
    return test


for _name, _function in CHECKS.items():
    if _function is not check_speed:  # which judges nothing
        setattr(TaskDistributionContract, f"test_{_name.replace(' ', '_')}", _as_test(_function))
