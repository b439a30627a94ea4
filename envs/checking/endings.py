"""Promises of endings: a time-out is the caller's, the rest the task's own."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from envs.checking.drawn import drawn_tasks
from envs.checking.promise import LONGEST
from envs.episodes import CheckedEnv, ContractError, name_of, row_seeds, standard_actions
from envs.protocol import TaskDistribution


def check_episodes(distribution: TaskDistribution) -> str:
    """Whole episodes run to the horizon; a time-out is not reported as the task's own end."""
    name, tasks = name_of(distribution), drawn_tasks(distribution, 2)
    steps = min(distribution.horizon, LONGEST)
    with closing(CheckedEnv(distribution, 2, 2)) as env:
        trace = env.run(tasks, row_seeds(2, 2), standard_actions(distribution, steps, 2, 2))
    ended = np.argwhere(trace.terminated)
    lengths = ended[:, 0] + 1
    if len(ended) == 4 and steps == distribution.horizon > 1 and (lengths == steps).all():
        raise ContractError(
            f"{name}.make(2, 2).step(actions, active).terminated is true in every episode's step "
            f"{steps}, the horizon: a time-out is the caller's, terminated is for the task's own "
            f"ends."
        )
    if not len(ended):
        return f"no episode of 4 was ended by its task within {steps} steps"
    return f"{len(ended)} of 4 episodes were ended by their task, the first in step {min(lengths)}"
