"""Walker2d task distributions, and their common part with hopper: a body that must not fall."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from envs.backends.mujoco.distribution import MujocoTaskDistribution
from envs.backends.mujoco.fields import State, namespace
from envs.backends.mujoco.model import ASSETS
from envs.backends.mujoco.preset import Preset
from envs.protocol import Task
from envs.tasks.families import TargetVelocities
from envs.tasks.random_parameters import RandomParameters, RandomParametersPreset


@dataclasses.dataclass(frozen=True)
class UprightPreset(Preset):
    """A source's walker2d or hopper: cost of actions, reward of standing, limits of a fall."""

    control_cost: float = 0.001  # weight of the squared norm of the applied action
    survival: float = 1.0  # reward of a step that leaves the body upright
    survival_on_fall: bool = False  # the step that falls earns it too
    terminates: bool = True  # a fall ends the episode
    heights: tuple[float, float] = (0.8, 2.0)  # of an upright torso, m
    angles: tuple[float, float] = (-1.0, 1.0)  # of an upright torso, rad


@dataclasses.dataclass(frozen=True)
class UprightVelPreset(UprightPreset):
    """The same with the range of target velocities."""

    velocities: tuple[float, float] = (0.0, 2.0)  # targets are uniform between them, m/s


@dataclasses.dataclass(frozen=True)
class UprightRandParamsPreset(UprightPreset, RandomParametersPreset):
    """The same with how far the body's parameters vary."""


class Upright(MujocoTaskDistribution):
    """Gymnasium's planar bodies that must not fall: qpos is x, height, angle, joints."""

    camera: ClassVar[Mapping[str, Any]] = {"distance": 4.0, "azimuth": 90.0, "elevation": -15.0}
    preset: UprightPreset

    def reset(self, rng: np.random.Generator) -> State:
        """Add noise to pose and velocity as Gymnasium's v5 does, draw for draw."""
        pose = rng.uniform(-0.005, 0.005, size=self.model.nq)
        return {
            "qpos": self.model.qpos0 + pose,
            "qvel": rng.uniform(-0.005, 0.005, size=self.model.nv),
        }

    def observe(self, state: State) -> Any:
        """Observation: qpos without x, and qvel clipped at 10, [..., O]."""
        xp = namespace(state["qpos"])
        return xp.concatenate([state["qpos"][..., 1:], xp.clip(state["qvel"], -10.0, 10.0)], -1)

    def velocity(self, before: State, after: State) -> Any:
        """The torso's mean velocity over a control step, [...] in m/s."""
        return (after["qpos"][..., 0] - before["qpos"][..., 0]) / self.dt

    def healthy(self, state: State) -> Any:
        """Whether the torso's height and angle are inside the preset's ranges, [...] bool."""
        height, angle = state["qpos"][..., 1], state["qpos"][..., 2]
        (lowest, highest), (least, most) = self.preset.heights, self.preset.angles
        return (lowest < height) & (height < highest) & (least < angle) & (angle < most)

    def living(self, action: Any, after: State) -> Any:
        """Reward of surviving less the cost of the action, [...]."""
        survives = self.healthy(after) | self.preset.survival_on_fall
        cost = self.preset.control_cost * (action * action).sum(-1)
        return self.preset.survival * survives - cost

    def terminated(self, state: State, task: Task) -> Any:
        """End where the body has fallen, if the preset says so, [...] bool."""
        return ~self.healthy(state) & self.preset.terminates

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the velocity, [...] in m/s."""
        return {"x_velocity": self.velocity(before, after)}


class UprightVel(TargetVelocities, Upright):
    """Move at a target velocity v*, uniform on `velocities`: -|v_x - v*| + survival - cost."""

    preset: UprightVelPreset

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward -|v_x - v*| + survival - cost, [...]."""
        error = abs(self.velocity(before, after) - task["velocity"])
        return self.living(action, after) - error


class UprightRandParams(RandomParameters, Upright):
    """Move forward with unknown masses, inertias, friction and damping: v_x + survival - cost."""

    preset: UprightRandParamsPreset

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward v_x + survival - cost, [...]."""
        return self.velocity(before, after) + self.living(action, after)


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
    presets: ClassVar[Mapping[str, UprightVelPreset]] = {
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
    presets: ClassVar[Mapping[str, UprightRandParamsPreset]] = {
        "promp": UprightRandParamsPreset(
            frame_skip=5, horizon=200, action_scale=0.1, survival_on_fall=True
        ),
        "pearl": UprightRandParamsPreset(frame_skip=5, horizon=200, survival_on_fall=True),
    }
