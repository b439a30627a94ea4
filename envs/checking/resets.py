"""Promises of resets: an episode follows from its task and its generator alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from envs.checking.authored import changed_names, kept_state, leaving_global_generators
from envs.checking.drawn import same_tasks
from envs.checking.promise import EPISODES, Reference
from envs.episodes import CheckedEnv, ContractError, Trace, name_of
from envs.protocol import TaskDistribution, take_tasks


def check_determinism(distribution: TaskDistribution) -> str:
    """Equal tasks, generators and actions give equal episodes, whatever else is run.

    In a used environment, in a second one, beside another one, and on two threads.
    """
    episodes = Reference(distribution)
    before = kept_state(distribution)
    for trace, when, claim, advice in _repetitions(episodes):
        names = changed_names(before, distribution)
        if names:
            claim = (
                f" keeps {' and '.join(names)} between calls, and episodes change with that: {when}"
            )
            advice = (
                "a distribution serves many environments at once, so compute from the arguments "
                "alone and keep nothing in self"
            )
        episodes.compare(trace, claim, advice, exact=True, implies=EPISODES)
    episodes.compare(
        episodes.run(threads=2),
        ".make(2, 2, threads) depends on the threads: with two",
        "let no row share state with another",
        exact=True,
    )
    return "equal generators give equal episodes, on one thread or two"


def _repetitions(episodes: Reference) -> Iterator[tuple[Trace, str, str, str]]:
    """Traces that must equal the reference's: when they were run, the claim and the advice."""
    distribution = episodes.distribution
    with leaving_global_generators(distribution, "make(...)", EPISODES):
        _ = episodes.trace
        with closing(CheckedEnv(distribution, 2, 2)) as env:
            env.run(episodes.tasks, episodes.seeds + 100, episodes.actions)
            again = env.run(episodes.tasks, episodes.seeds, episodes.actions)
    yield (
        again,
        "after other episodes",
        ".make(2, 2).reset(rngs) does not begin anew: after other episodes",
        "draw from the generators that reset is given, and keep nothing of earlier episodes",
    )
    yield (
        episodes.run(),
        "in a second environment",
        ".make(2, 2) is not determined by reset's generators: in a second environment",
        "draw from the generators that reset is given, and from nothing else",
    )
    yield (
        episodes.run_beside_another(),
        "beside another environment",
        ".make(2, 2) shares something with other environments: while one more runs",
        "let an environment keep its own state",
    )


def check_resets(distribution: TaskDistribution) -> str:
    """Every slot's episode follows from its own generator, and from no other slot's."""
    episodes, moved = Reference(distribution), False
    for parity in (0, 1):
        others = np.arange(4).reshape(2, 2) % 2 == parity
        trace = episodes.run(seeds=np.where(others, episodes.seeds + 50, episodes.seeds))
        episodes.compare(
            trace,
            ".make(2, 2).reset(rngs): slots share their episodes' beginning: with other generators "
            "for other slots",
            "begin row m * B + b from rngs[m * B + b] alone",
            rows=~others,
            implies=("single",),
        )
        moved |= not np.array_equal(episodes.trace.observations[0], trace.observations[0])
    if not moved:
        return "every episode begins in the same state"
    return "every slot begins from its own generator"


def check_leaks(distribution: TaskDistribution) -> str:
    """Nothing of a task is left when `set_tasks` gives others, and its arrays are left alone."""
    name, episodes = name_of(distribution), Reference(distribution)
    given, others = take_tasks(episodes.tasks, slice(None)), episodes.other_tasks()
    with closing(CheckedEnv(distribution, 2, 2)) as env:
        env.run(others, episodes.seeds, episodes.actions)
        env.set_tasks(given)
        if not same_tasks(given, episodes.tasks):
            raise ContractError(f"{name}.make(2, 2).set_tasks(tasks) changed the arrays of tasks.")
        for key, leaf in given.items():
            leaf[...] = others[key]  # the caller may write into its own arrays
        trace = env.run(None, episodes.seeds, episodes.actions)
    episodes.compare(
        trace,
        ".make(2, 2).set_tasks(tasks) leaves something of the earlier tasks, or keeps the caller's "
        "arrays: after other tasks",
        "replace everything of the earlier tasks by copies",
    )
    return "set_tasks leaves nothing of the earlier tasks"
