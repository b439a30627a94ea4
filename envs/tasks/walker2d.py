"""Walker2d task distributions, and their common part with hopper: a body that must not fall."""

from __future__ import annotations

import dataclasses
from typing import Any

from envs.backends.mujoco.fields import State, namespace
from envs.backends.mujoco.model import ASSETS
from envs.tasks.bodies import FallingBody, FallingPreset
from envs.tasks.families import TargetVelocities, VelocityPreset
from envs.tasks.random_parameters import RandomParameters, RandomParametersPreset


@dataclasses.dataclass(frozen=True)
class UprightPreset(FallingPreset):
    """A source's walker2d or hopper: cost of actions, reward of standing, limits of a fall."""

    control_cost: float = 0.001
    heights: tuple[float, float] = (0.8, 2.0)  # of an upright torso, m
    angles: tuple[float, float] = (-1.0, 1.0)  # of an upright torso, rad


@dataclasses.dataclass(frozen=True)
class UprightVelPreset(UprightPreset, VelocityPreset):
    """The same with the range of target velocities."""


@dataclasses.dataclass(frozen=True)
class UprightRandParamsPreset(UprightPreset, RandomParametersPreset):
    """The same with how far the body's parameters vary."""


class Upright(FallingBody):
    """Gymnasium's planar bodies that must not fall: qpos is x, height, angle, joints."""

    camera = {"distance": 4.0, "azimuth": 90.0, "elevation": -15.0}
    noise = (0.005, 0.005)
    preset: UprightPreset

    def observe(self, state: State) -> Any:
        """Observation: qpos without x, and qvel clipped at 10, [..., O]."""
        xp = namespace(state["qpos"])
        return xp.concatenate([state["qpos"][..., 1:], xp.clip(state["qvel"], -10.0, 10.0)], -1)

    def healthy(self, state: State) -> Any:
        """Whether the torso's height and angle are inside the preset's ranges, [...] bool."""
        height, angle = state["qpos"][..., 1], state["qpos"][..., 2]
        (lowest, highest), (least, most) = self.preset.heights, self.preset.angles
        return (lowest < height) & (height < highest) & (least < angle) & (angle < most)


class UprightVel(TargetVelocities, Upright):
    """Move at a target velocity v*, uniform on `velocities`: -|v_x - v*| + survival - cost."""

    preset: UprightVelPreset


class UprightRandParams(RandomParameters, Upright):
    """Move forward with unknown masses, inertias, friction and damping: v_x + survival - cost."""

    preset: UprightRandParamsPreset


WALKER2D = ASSETS / "walker2d_v5.xml"
"""Gymnasium's body (a torso and two legs, six motors, RK4 at 0.002 s), both feet with friction 1.9.

The sources used an older file, in which the right foot's friction is 0.9.
"""


class Walker2dVel(UprightVel):
    """Walk at a target velocity.

    Presets: `promp` (velocities to 10 m/s, and 15 for surviving a step, so that falling early never
    pays), `gymnasium` (Walker2d-v5's costs and conditions, its velocity term replaced).
    """

    xml = WALKER2D
    presets = {
        "promp": UprightVelPreset(
            frame_skip=8,
            horizon=200,
            action_scale=0.1,
            survival=15.0,
            survival_on_fall=True,
            velocities=(0.0, 10.0),
        ),
        "gymnasium": UprightVelPreset(frame_skip=4, horizon=1000),
    }


class Walker2dRandParams(UprightRandParams):
    """Walk with unknown masses, inertias, friction and damping.

    Presets: `promp` and `pearl`: the walker of rand_param_envs, with either action scale.
    """

    xml = WALKER2D
    presets = {
        "promp": UprightRandParamsPreset(
            frame_skip=5, horizon=200, action_scale=0.1, survival_on_fall=True
        ),
        "pearl": UprightRandParamsPreset(frame_skip=5, horizon=200, survival_on_fall=True),
    }
