"""What figures show of episodes: a way through the plane, or a distance over time."""

from __future__ import annotations

import dataclasses

import numpy as np

from envs.task_distribution import Array


@dataclasses.dataclass(frozen=True)
class Trajectories:
    """Where M tasks' B episodes were, at their start and after each of T steps.

    What is after the end of an episode holds no meaning.
    """

    values: Array  # [M, T + 1, B, 2] in the plane; [M, T + 1, B] over time
    unit: str  # of the values; "" for none
    targets: Array | None = None  # [M, 2] goals; [M, T + 1] what to follow; None: nothing to show
    label: str = ""  # of the values over time
    dt: float = 1.0  # seconds per step

    @property
    def in_plane(self) -> bool:
        """Whether these are ways through the plane."""
        return self.values.ndim == 4


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
