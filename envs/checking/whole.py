"""Promises of whole episodes: their ends, what figures show of them, and their speed."""

from __future__ import annotations

import time
from contextlib import closing

import numpy as np

from envs.checking.drawn import drawn_tasks
from envs.checking.promise import LONGEST, NotApplicableError, Reference
from envs.episodes import (
    CheckedEnv,
    ContractError,
    calling,
    generators,
    name_of,
    row_seeds,
    standard_actions,
    traced,
)
from envs.protocol import TaskDistribution
from envs.trajectories import shown_of

SLOW = 1000  # environment steps per CPU-second below which the speed is called slow


def check_episodes(distribution: TaskDistribution) -> str:
    """Whole episodes run to the horizon; a time-out is not reported as the task's own end."""
    episodes = Reference(distribution, LONGEST)
    steps = len(episodes.actions)
    lengths = np.argwhere(episodes.trace.terminated)[:, 0] + 1
    if len(lengths) == 4 and steps == distribution.horizon > 1 and (lengths == steps).all():
        raise ContractError(
            f"{name_of(distribution)}.make(2, 2).step(actions, active).terminated is true in every "
            f"episode's step {steps}, the horizon: a time-out is the caller's, terminated is for "
            f"the task's own ends."
        )
    if not len(lengths):
        return f"no episode of 4 was ended by its task within {steps} steps"
    return f"{len(lengths)} of 4 episodes were ended by their task, the first in step {lengths[0]}"


def check_trajectories(distribution: TaskDistribution) -> str:
    """Trajectories for figures, where a distribution gives them, have the right shapes."""
    tasks = drawn_tasks(distribution, 3)
    observations, *_, info = traced(distribution, tasks, row_seeds(3, 2))
    call = "trajectories(tasks, observations, info)"
    with calling(distribution, call):
        shown = shown_of(
            distribution,
            tasks,
            observations.swapaxes(0, 1),
            {name: leaf.swapaxes(0, 1) for name, leaf in info.items()},
        )
    if shown is None:
        raise NotApplicableError(
            "figures show nothing of episodes (no method trajectories, or none of its kind here)"
        )
    if not np.isfinite(shown.values[:, 0]).all():
        raise ContractError(
            f"{name_of(distribution)}.{call}.values must be finite, and are not where episodes "
            f"begin."
        )
    return "ways through the plane" if shown.in_plane else f"{shown.label or 'a value'} over time"


def check_speed(distribution: TaskDistribution, seconds: float = 1.0) -> str:
    """Measure environment steps per CPU-second of this process, 64 rows; judges nothing.

    Args:
        distribution: to run.
        seconds: of the processor that the speed is measured over.
    """
    tasks, seeds = drawn_tasks(distribution, 8), row_seeds(8, 8)
    actions = standard_actions(distribution, min(distribution.horizon, 100), 8, 8)
    taken, spent = 0, 0.0
    with closing(CheckedEnv(distribution, 8, 8)) as env:
        env.run(tasks, seeds, actions[:1])
        while spent < seconds:
            begun = time.process_time()
            now, active = env.unchecked, np.ones((8, 8), dtype=bool)
            now.reset(generators(seeds + taken))
            for action in actions:
                taken += int(active.sum())
                active = active & ~now.step(action, active).ended
                if not active.any() or time.process_time() - begun > seconds:
                    break
            spent += max(time.process_time() - begun, 1e-6)
    speed = taken / spent
    slow = ", which is slow" if speed < SLOW else ""
    return f"{float(f'{speed:.2g}'):,.0f} environment steps per CPU-second{slow}"
