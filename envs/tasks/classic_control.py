"""Gymnasium's classic control as task distributions: examples of `GymnasiumTaskDistribution`."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.arguments import pair
from envs.backends.gymnasium.distribution import GymnasiumTaskDistribution
from envs.errors import ArgumentError
from envs.protocol import Task, Tasks


class CartPole(GymnasiumTaskDistribution):
    """CartPole-v1, whose pole has a random length and mass (Gymnasium's own: 1 m and 0.1 kg).

    Args:
        pole_length: range of lengths, m.
        pole_mass: range of masses, kg.
        horizon: steps per episode; None takes Gymnasium's 500.
    """

    def __init__(
        self,
        pole_length: tuple[float, float] = (0.5, 2.0),
        pole_mass: tuple[float, float] = (0.05, 0.5),
        horizon: int | None = None,
    ) -> None:
        self.pole_length = _positive("pole_length", pole_length)
        self.pole_mass = _positive("pole_mass", pole_mass)
        super().__init__("CartPole-v1", horizon)

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw lengths [M] in m and masses [M] in kg, each uniform on its range."""
        return {
            "pole_length": rng.uniform(*self.pole_length, size=num_tasks),
            "pole_mass": rng.uniform(*self.pole_mass, size=num_tasks),
        }

    def apply(self, env: Any, task: Task) -> None:
        """Write the pole's length and mass, and what Gymnasium computes of them beforehand."""
        env.length = 0.5 * float(task["pole_length"])  # Gymnasium's is from the pivot to the centre
        env.masspole = float(task["pole_mass"])
        env.total_mass = env.masspole + env.masscart
        env.polemass_length = env.masspole * env.length


class Pendulum(GymnasiumTaskDistribution):
    """Pendulum-v1 (1 m, 1 kg) under a random gravity (Gymnasium's own: 10 m/s^2).

    Args:
        gravity: range of gravities, m/s^2.
        horizon: steps per episode; None takes Gymnasium's 200.
        action_scale: applied torque = clip(action_scale * action), N m.
    """

    def __init__(
        self,
        gravity: tuple[float, float] = (5.0, 15.0),
        horizon: int | None = None,
        action_scale: float = 2.0,
    ) -> None:
        self.gravity = pair("gravity", gravity)
        super().__init__("Pendulum-v1", horizon, action_scale)

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw gravities, [M] in m/s^2."""
        return {"gravity": rng.uniform(*self.gravity, size=num_tasks)}

    def apply(self, env: Any, task: Task) -> None:
        """Write the gravity."""
        env.g = float(task["gravity"])


def _positive(name: str, value: object) -> tuple[float, float]:
    """A range of positive numbers.

    Raises:
        UserError: if it is no range, or begins at 0 or below.
    """
    low, high = pair(name, value)
    if low <= 0:
        raise ArgumentError(f"{name} must be a range of numbers above 0, not {value!r}.", name)
    return low, high
