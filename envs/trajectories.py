"""Trajectories for figures: a path through the plane, or a distance over time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.answers import check_shape
from envs.errors import UserError
from envs.protocol import Array, TaskDistribution, Tasks, Trajectories


def shown_of(
    distribution: TaskDistribution, tasks: Tasks, observations: Array, info: Mapping[str, Array]
) -> Trajectories | None:
    """Trajectories from a distribution's `trajectories`, their kind and shapes checked.

    Args:
        distribution: whose episodes they are.
        tasks: leaves [M, ...].
        observations: [M, T + 1, B, O].
        info: leaves [M, T, B].

    Raises:
        UserError: naming what has another kind or shape than `Trajectories` says.
    """
    shown = distribution.trajectories(tasks, observations, info)
    call = "trajectories(tasks, observations, info)"
    if shown is None:
        return None
    if not isinstance(shown, Trajectories):
        raise UserError(
            f"{distribution.name}.{call} must return envs.Trajectories or None, not "
            f"{type(shown).__name__}."
        )
    num_tasks, moments, slots = observations.shape[:3]
    plane = (2,) if shown.in_plane else ()
    check_shape(
        distribution.name, f"{call}.values", shown.values, (num_tasks, moments, slots, *plane)
    )
    if shown.targets is not None:
        wanted = (num_tasks, *(plane or (moments,)))
        check_shape(distribution.name, f"{call}.targets", shown.targets, wanted)
    return shown


def distance_run(
    velocities: Array | None, dt: float, label: str, target: Array | None = None
) -> Trajectories | None:
    """Sum up mean velocities over steps as distances from the start.

    Args:
        velocities: [M, T, B] in m/s; None, where they are not recorded, gives None.
        dt: seconds per step.
        label: of the distance.
        target: velocities to keep, [M] in m/s.
    """
    if velocities is None:
        return None
    tasks, steps, slots = velocities.shape
    run = np.zeros((tasks, steps + 1, slots))
    np.cumsum(velocities * dt, axis=1, dtype=np.float64, out=run[:, 1:])
    wanted = None if target is None else target[:, None] * (dt * np.arange(steps + 1))
    return Trajectories(run, "m", wanted, label, dt)
