"""Tasks that differ in dynamics: masses, inertias, friction and damping times random factors."""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np

from envs.arguments import number
from envs.backends.mujoco.distribution import MujocoTaskDistribution
from envs.backends.mujoco.preset import Preset
from envs.errors import UserError
from envs.protocol import Array, Task, Tasks

BASES = {
    "body_mass": "base",
    "body_inertia": "base",
    "geom_friction": "base",
    "dof_damping": "damping_base",
}
"""The fields of MjModel that vary, in the order they are drawn, and the preset's base of each."""


@dataclasses.dataclass(frozen=True)
class RandomParametersPreset(Preset):
    """Ranges of parameters: each element times base ** u, u uniform on [-exponent, exponent].

    The numbers are those of rand_param_envs, the environments of ProMP and PEARL.

    Raises:
        UserError: if a base is not above 0, or the exponent is below 0.
    """

    base: float = 1.5  # of masses, inertias and friction
    damping_base: float = 1.3  # of the joints' damping
    exponent: float = 3.0  # the largest |u|

    def __post_init__(self) -> None:
        """Check the numbers."""
        number("base", self.base, above=0)
        number("damping_base", self.damping_base, above=0)
        number("exponent", self.exponent, least=0)


class RandomParameters(MujocoTaskDistribution):
    """Mixed into a body's distribution: tasks are multipliers of the body's own parameters.

    A task has one leaf for each field of MjModel that varies, of the field's shape: mass [nbody],
    inertia [nbody, 3], friction [ngeom, 3] (sliding, torsional, rolling; the floor's geom too) and
    damping [nv]. Multipliers, not their logarithms: a product is exact, so that stored tasks give
    the same models to the bit on every machine. An element that is 0 in the body stays 0; its
    multiplier is 1. In contact, MuJoCo takes the larger friction of the two geoms.
    """

    preset: RandomParametersPreset

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw multipliers; leaves [M, *shape of the field]."""
        return {field: self._multipliers(field, num_tasks, rng) for field in BASES}

    def vary(self, model: mujoco.MjModel, task: Task) -> None:
        """Multiply the parameters of `model` by the task's.

        Raises:
            UserError: naming a field that is missing, unknown, of another shape or not positive.
        """
        if set(task) != set(BASES):
            raise UserError(
                f"a task of {self.name} has the arrays {', '.join(BASES)}, not "
                f"{', '.join(sorted(task)) or 'none'}."
            )
        for field, multipliers in task.items():
            parameters = getattr(model, field)
            _check(f"{field} of a task of {self.name}", multipliers, parameters.shape)
            parameters *= multipliers

    def describe(self, task: Task) -> str:
        """The whole mass and the mean sliding friction, relative to the unchanged body."""
        mass, friction = self.model.body_mass, self.model.geom_friction[:, 0]
        heavier = (mass * task["body_mass"]).sum() / mass.sum()
        rougher = (friction * task["geom_friction"][:, 0]).sum() / friction.sum()
        return f"mass x{heavier:.2f}, friction x{rougher:.2f}"

    def _multipliers(self, field: str, num_tasks: int, rng: np.random.Generator) -> Array:
        """Draw a field's multipliers, [M, *shape of the field]."""
        parameters, limit = getattr(self.model, field), self.preset.exponent
        exponents = rng.uniform(-limit, limit, size=(num_tasks, *parameters.shape))
        factors: Array = getattr(self.preset, BASES[field]) ** exponents
        return np.where(parameters == 0, 1.0, factors)


def _check(name: str, multipliers: Array, shape: tuple[int, ...]) -> None:
    """Check that `multipliers` are positive numbers of a field's shape."""
    if np.shape(multipliers) != shape:
        raise UserError(
            f"{name} must have shape {shape}, one multiplier for each element, not "
            f"{np.shape(multipliers)}."
        )
    if not (np.isfinite(multipliers) & (np.asarray(multipliers) > 0)).all():
        raise UserError(f"{name} must hold finite multipliers above 0 (1 changes nothing).")
