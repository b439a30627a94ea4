"""Promises of pictures: what figures show of episodes."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from envs.checking.drawn import drawn_tasks
from envs.checking.promise import NotApplicableError
from envs.episodes import (
    CheckedEnv,
    ContractError,
    calling,
    compared_steps,
    name_of,
    row_seeds,
    standard_actions,
)
from envs.protocol import TaskDistribution
from envs.trajectories import shown_of


def check_trajectories(distribution: TaskDistribution) -> str:
    """Trajectories for figures, where a distribution gives them, have the right shapes."""
    tasks, steps = drawn_tasks(distribution, 3), compared_steps(distribution)
    seeds, actions = row_seeds(3, 2), standard_actions(distribution, steps, 3, 2)
    with closing(CheckedEnv(distribution, 3, 2)) as env:
        observations, infos = [env.begin(tasks, seeds)], []
        active = np.ones((3, 2), dtype=bool)
        for action in actions:
            step = env.step(action, active)
            observations.append(np.where(active[..., None], step.observations, observations[-1]))
            infos.append({name: np.where(active, leaf, 0) for name, leaf in step.info.items()})
            active = active & ~step.ended
    info = {
        name: np.stack([info_of_step[name] for info_of_step in infos], axis=1) for name in infos[0]
    }
    with calling(distribution, "trajectories(tasks, observations, info)"):
        shown = shown_of(distribution, tasks, np.stack(observations, axis=1), info)
    if shown is None:
        raise NotApplicableError(
            "figures show nothing of episodes (no method trajectories, or none of its kind here)"
        )
    if not np.isfinite(shown.values[:, 0]).all():
        raise ContractError(
            f"{name_of(distribution)}.trajectories(tasks, observations, info).values must be "
            f"finite, and are not where episodes begin."
        )
    return "ways through the plane" if shown.in_plane else f"{shown.label or 'a value'} over time"
