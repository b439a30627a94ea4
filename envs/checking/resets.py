"""Promises of resets: an episode follows from its task and its generator alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

import numpy as np

from envs.checking.authored import changed_names, kept_state
from envs.checking.drawn import drawn_tasks, same_tasks
from envs.checking.global_generators import leaving_global_generators
from envs.checking.promise import EPISODES
from envs.episodes import (
    CheckedEnv,
    ContractError,
    Trace,
    compare,
    compared_steps,
    name_of,
    row_seeds,
    standard_actions,
    traced,
)
from envs.protocol import Array, TaskDistribution, Tasks, take_tasks

BEGINS_ANEW = (
    "make(2, 2).reset(rngs) does not begin anew: after other episodes",
    "draw from the generators that reset is given, and keep nothing of earlier episodes",
)
GENERATORS_ALONE = (
    "make(2, 2) is not determined by reset's generators: in a second environment",
    "draw from the generators that reset is given, and from nothing else",
)
APART = (
    "make(2, 2) shares something with other environments: while one more runs",
    "let an environment keep its own state",
)


def check_determinism(distribution: TaskDistribution) -> str:
    """Equal tasks, generators and actions give equal episodes, whatever else is run.

    In a used environment, in a second one, beside another one, and on two threads.
    """
    name, tasks, seeds = name_of(distribution), drawn_tasks(distribution, 2), row_seeds(2, 2)
    before = kept_state(distribution)
    actions = standard_actions(distribution, compared_steps(distribution), 2, 2)
    with leaving_global_generators(distribution, "make(...)", EPISODES):
        first = traced(distribution, tasks, seeds)
        with closing(CheckedEnv(distribution, 2, 2)) as env:
            env.run(tasks, seeds + 100, actions)
            again = env.run(tasks, seeds, actions)
    second = partial(traced, distribution, tasks, seeds)
    beside = partial(traced_beside_another, distribution, tasks, seeds, actions)
    for run, when, claim, advice in (
        (lambda: again, "after other episodes", *BEGINS_ANEW),
        (second, "in a second environment", *GENERATORS_ALONE),
        (beside, "beside another environment", *APART),
    ):
        trace = run()
        with naming_kept_state(distribution, before, first, trace, when):
            compare(f"{name}.{claim}", first, trace, advice, exact=True, implies=EPISODES)
    compare(
        f"{name}.make(2, 2, threads) depends on the threads: with two",
        first,
        traced(distribution, tasks, seeds, threads=2),
        "let no row share state with another",
        exact=True,
    )
    return "equal generators give equal episodes, on one thread or two"


def traced_beside_another(
    distribution: TaskDistribution, tasks: Tasks, seeds: Array, actions: Array
) -> Trace:
    """Episodes of one environment while another runs other episodes, in turn with it."""
    with (
        closing(CheckedEnv(distribution, 2, 2)) as env,
        closing(CheckedEnv(distribution, 2, 2)) as other,
    ):
        calls = itertools.count()
        other.set_tasks(take_tasks(drawn_tasks(distribution, 4), slice(2, 4)))

        def interrupt() -> None:
            call = next(calls)
            if call % 3 == 0:  # short episodes, so that none has ended by itself
                other.begin(None, seeds + 200 + call)
            other.step(actions[-1 - call % 3], np.ones((2, 2), dtype=bool))

        return env.run(tasks, seeds, actions, between=interrupt)


@contextmanager
def naming_kept_state(
    distribution: TaskDistribution, before: dict[str, bytes], first: Trace, second: Trace, when: str
) -> Iterator[None]:
    """Add the changed attributes to the error, where episodes that must be equal are not."""
    try:
        yield
    except ContractError:
        names = changed_names(before, distribution)
        if not names:
            raise
        compare(
            f"{name_of(distribution)} keeps {' and '.join(names)} between calls, and episodes "
            f"change with that: {when}",
            first,
            second,
            "a distribution serves many environments at once, so compute from the arguments alone "
            "and keep nothing in self",
            exact=True,
            implies=EPISODES,
        )


def check_resets(distribution: TaskDistribution) -> str:
    """Every slot's episode follows from its own generator, and from no other slot's."""
    name, tasks, seeds = name_of(distribution), drawn_tasks(distribution, 2), row_seeds(2, 2)
    first, moved = traced(distribution, tasks, seeds), False
    for parity in (0, 1):
        others = np.arange(4).reshape(2, 2) % 2 == parity
        trace = traced(distribution, tasks, np.where(others, seeds + 50, seeds))
        compare(
            f"{name}.make(2, 2).reset(rngs): slots share their episodes' beginning: with other "
            f"generators for other slots",
            first,
            trace,
            "begin row m * B + b from rngs[m * B + b] alone",
            rows=~others,
            implies=("single",),
        )
        moved = moved or not np.array_equal(first.observations[0], trace.observations[0])
    return (
        "every slot begins from its own generator"
        if moved
        else "every episode begins in the same state"
    )


def check_leaks(distribution: TaskDistribution) -> str:
    """Nothing of a task is left when `set_tasks` gives others, and its arrays are left alone."""
    name, tasks = name_of(distribution), drawn_tasks(distribution, 4)
    before, after = take_tasks(tasks, slice(0, 2)), take_tasks(tasks, slice(2, 4))
    given = take_tasks(after, slice(None))
    seeds, actions = (
        row_seeds(2, 2),
        standard_actions(distribution, compared_steps(distribution), 2, 2),
    )
    with closing(CheckedEnv(distribution, 2, 2)) as env:
        env.run(before, seeds, actions)
        env.set_tasks(given)
        if not same_tasks(given, after):
            raise ContractError(f"{name}.make(2, 2).set_tasks(tasks) changed the arrays of tasks.")
        for key, leaf in given.items():
            leaf[...] = before[key]  # the caller may write into its own arrays
        trace = env.run(None, seeds, actions)
    compare(
        f"{name}.make(2, 2).set_tasks(tasks) leaves something of the earlier tasks, or keeps the "
        f"caller's arrays: after other tasks",
        traced(distribution, after, seeds),
        trace,
        "replace everything of the earlier tasks by copies",
    )
    return "set_tasks leaves nothing of the earlier tasks"
