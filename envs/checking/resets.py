"""Promises of resets: an episode follows from its task and its generator alone."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from envs.checking.drawn import drawn_tasks, same_tasks
from envs.checking.global_generators import leaving_global_generators
from envs.episodes import (
    CheckedEnv,
    ContractError,
    compare,
    compared_steps,
    name_of,
    row_seeds,
    standard_actions,
    traced,
)
from envs.protocol import TaskDistribution, take_tasks


def check_determinism(distribution: TaskDistribution) -> str:
    """Equal tasks, generators and actions give equal episodes, in a new environment or a used one.

    Threads make no difference either.
    """
    name, tasks, seeds = name_of(distribution), drawn_tasks(distribution, 2), row_seeds(2, 2)
    actions = standard_actions(distribution, compared_steps(distribution), 2, 2)
    with leaving_global_generators(distribution, "make(...)"):
        first = traced(distribution, tasks, seeds)
        with closing(CheckedEnv(distribution, 2, 2)) as env:
            env.run(tasks, seeds + 100, actions)
            again = env.run(tasks, seeds, actions)
    compare(
        f"{name}.make(2, 2).reset(rngs) does not begin anew: after other episodes",
        first,
        again,
        "draw from the generators that reset is given, and keep nothing of earlier episodes",
        exact=True,
    )
    compare(
        f"{name}.make(2, 2) is not determined by reset's generators: in a second environment",
        first,
        traced(distribution, tasks, seeds),
        "draw from the generators that reset is given, and from nothing else",
        exact=True,
    )
    compare(
        f"{name}.make(2, 2, threads) depends on the threads: with two",
        first,
        traced(distribution, tasks, seeds, threads=2),
        "let no row share state with another",
        exact=True,
    )
    return "equal generators give equal episodes, on one thread or two"


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
