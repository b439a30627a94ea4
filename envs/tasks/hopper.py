"""Hopper task distributions: a target velocity, and random parameters."""

from __future__ import annotations

from typing import Any

from envs.backends.mujoco.fields import State
from envs.backends.mujoco.model import ASSETS
from envs.tasks.walker2d import (
    Upright,
    UprightRandParams,
    UprightRandParamsPreset,
    UprightVel,
    UprightVelPreset,
)

STANDING: dict[str, Any] = {"heights": (0.7, float("inf")), "angles": (-0.2, 0.2)}
"""What Gymnasium's hopper and rand_param_envs' call upright: height in m, angle in rad."""


class Hopper(Upright):
    """Gymnasium's hopper body (a torso and one leg, three motors, RK4 at 0.002 s)."""

    xml = ASSETS / "hopper.xml"

    def healthy(self, state: State) -> Any:
        """Whether the body is upright and its angles and velocities are below 100, [...] bool."""
        angles, velocities = abs(state["qpos"][..., 2:]), abs(state["qvel"])
        sane = (angles < 100).all(-1) & (velocities < 100).all(-1)
        return super().healthy(state) & sane


class HopperVel(UprightVel, Hopper):
    """Hop at a target velocity.

    Presets: `maml_rl` (this project's own, as no source has the task) and `gymnasium` (Hopper-v5's
    costs and conditions, its velocity term replaced; 1000 steps).
    """

    presets = {
        "maml_rl": UprightVelPreset(frame_skip=4, horizon=200, action_scale=0.1, **STANDING),
        "gymnasium": UprightVelPreset(frame_skip=4, horizon=1000, **STANDING),
    }


class HopperRandParams(UprightRandParams, Hopper):
    """Hop with unknown masses, inertias, friction and damping.

    Presets: `promp` and `pearl`: the hopper of rand_param_envs, with either action scale.
    """

    presets = {
        "promp": UprightRandParamsPreset(
            frame_skip=4, horizon=200, action_scale=0.1, survival_on_fall=True, **STANDING
        ),
        "pearl": UprightRandParamsPreset(
            frame_skip=4, horizon=200, survival_on_fall=True, **STANDING
        ),
    }
