"""Promises of steps: shapes, rows that are independent, tasks that differ, arrays that stay."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np
from gymnasium import spaces

from envs.checking.authored import changed_names, fresh, kept_state
from envs.checking.drawn import drawn_tasks, same_tasks
from envs.checking.promise import LONGEST, Reference
from envs.episodes import (
    CheckedEnv,
    ContractError,
    compare,
    name_of,
    row_seeds,
    standard_actions,
    traced,
)
from envs.protocol import (
    Array,
    TaskDistribution,
    Tasks,
    count_tasks,
    some_tasks,
    take_tasks,
    task_at,
)

ROWS = "a row depends on its own task, generator and actions alone"
MIXED = ("resets", "active", "single")
"""Checks that fail too where a row depends on others."""


def check_shapes(distribution: TaskDistribution) -> str:
    """`reset` and `step` return arrays of the right shape and dtype, finite, within the space."""
    for num_tasks, slots in ((3, 2), (1, 1)):
        renewed = fresh(distribution)  # so that the one does not meet what the other kept
        traced(renewed, drawn_tasks(renewed, num_tasks), row_seeds(num_tasks, slots))
    return f"observations {distribution.observation_space.dtype}, finite and in their space"


def check_rows(distribution: TaskDistribution) -> str:
    """Equal rows give equal episodes, wherever they are and whatever is beside them."""
    episodes = Reference(distribution)
    trace = episodes.run(
        tasks=take_tasks(episodes.tasks, np.array([0, 0])),
        seeds=np.full((2, 3), 7),
        actions=np.repeat(np.repeat(episodes.actions[:, :1, :1], 2, axis=1), 3, axis=2),
    )
    compare(
        f"{name_of(distribution)}.make(2, 3) gives rows of equal task, generator and actions "
        f"different episodes: unlike task 0, episode 0",
        trace.each(lambda part: np.broadcast_to(part[:, :1, :1], part.shape)),
        trace,
        ROWS,
        implies=("single",),
    )
    task = np.array([True, False])
    episodes.compare(
        episodes.run(tasks=episodes.tasks_where(task)),
        ".make(2, 2) lets a task depend on the others of the batch: beside another task",
        ROWS,
        rows=task[:, None],
        implies=MIXED,
    )
    row = np.array([[True, False], [False, False]])
    episodes.compare(
        episodes.run(actions=episodes.actions_where(row)),
        ".make(2, 2) lets a row depend on the others' actions or states: beside other actions",
        f"{ROWS}: sum and average over the last axis, as in sum(-1)",
        rows=row,
        implies=MIXED,
    )
    return ROWS


def check_tasks_differ(distribution: TaskDistribution) -> str:
    """Some tasks give other rewards or observations for equal generators and actions."""
    name, before = name_of(distribution), kept_state(distribution)
    tasks = some_tasks(distribution, 8, np.random.default_rng(0))
    count = count_tasks(tasks)
    if all(same_tasks(task_at(tasks, 0), task_at(tasks, index)) for index in range(count)):
        raise ContractError(f"{name}.sample({count}, rng) returned {count} equal tasks.")
    steps = min(distribution.horizon, LONGEST // 4)
    # few, then many: rewards may be sparse
    differing, constant = differing_parts(distribution, tasks, ((min(steps, 5), 4), (steps, 32)))
    if differing:
        return f"tasks differ in {' and '.join(differing)}"
    names = changed_names(before, distribution)
    advice = "let the reward or the dynamics read the task that set_tasks was given"
    if names:
        advice += f", and keep nothing in self ({', '.join(names)})"
    elif constant:
        advice += ", or, where rewards are sparse, let random actions find one"
    raise ContractError(
        f"{name}: {count} tasks gave equal rewards and observations over {steps} steps of the same "
        f"actions; {advice}."
    )


def differing_parts(
    distribution: TaskDistribution, tasks: Tasks, sizes: Sequence[tuple[int, int]]
) -> tuple[list[str], bool]:
    """Parts of a step that differ between tasks, for equal generators and actions.

    Args:
        distribution: whose tasks they are.
        tasks: leaves [M, ...].
        sizes: steps and episodes of each task; the next ones where the ones before show nothing.

    Returns:
        Their names, and whether all rewards of the last trial were one number.
    """
    count = count_tasks(tasks)
    for length, slots in sizes:
        actions = np.repeat(standard_actions(distribution, length, 1, slots), count, axis=1)
        seeds = np.broadcast_to(np.arange(slots), (count, slots))
        trace = traced(distribution, tasks, seeds, actions)
        parts = {"reward": trace.rewards, "observations": trace.observations}  # [T, M, ...]
        differing = [name for name, part in parts.items() if (part != part[:, :1]).any()]
        if differing:
            break
    return differing, bool(np.ptp(trace.rewards) == 0)


def check_active(distribution: TaskDistribution) -> str:
    """Rows that are not active change nothing for those that are, whatever their actions."""
    episodes = Reference(distribution)
    steps = len(episodes.actions)
    stops = np.array([[steps, 1], [2, steps]])
    with np.errstate(invalid="ignore"):
        trace = episodes.run(actions=spoilt(distribution, episodes.actions, stops), stops=stops)
    episodes.compare(
        trace,
        ".make(2, 2).step(actions, active) is wrong where rows have ended: while others are "
        "inactive",
        "step the rows where active is true, and let the others change nothing",
        rows=stops == steps,
    )
    return "ended rows change nothing for the others"


def spoilt(distribution: TaskDistribution, actions: Array, stops: Array) -> Array:
    """Actions [T, M, B, A], NaN where a row has stopped [M, B]; numbered ones stay as they are."""
    if isinstance(distribution.action_space, spaces.Discrete):
        return actions
    ended = stops <= np.arange(len(actions))[:, None, None]
    return np.where(ended[..., None], np.nan, actions).astype(actions.dtype)


def check_copies(distribution: TaskDistribution) -> str:
    """Arrays that were returned are the caller's: never changed later, free to be written into."""
    name, episodes = name_of(distribution), Reference(distribution)
    with closing(CheckedEnv(distribution, 2, 2)) as env:
        returned = env.begin(episodes.tasks, episodes.seeds)
        copied = returned.copy()
        step = env.step(episodes.actions[0], np.ones((2, 2), dtype=bool))
        seen = step.observations.copy()
        env.step(episodes.actions[-1], ~step.ended)
        if not np.array_equal(copied, returned) or not np.array_equal(seen, step.observations):
            raise ContractError(
                f"{name}.make(2, 2).step(actions, active) wrote into observations it had returned "
                f"before: return new arrays."
            )
        trace = env.run(episodes.tasks, episodes.seeds, episodes.actions, scribble=True)
    episodes.compare(
        trace,
        ".make(2, 2) returns its own state as observations: after the caller wrote into them",
        "return copies",
    )
    return "returned arrays are the caller's own"
