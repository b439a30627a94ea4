"""Half-cheetah task distributions: direction (forward or backward) and target velocity."""

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
from envs.tasks.families import ForwardBackward, TargetVelocities
from envs.tasks.random_parameters import RandomParameters, RandomParametersPreset


@dataclasses.dataclass(frozen=True)
class HalfCheetahPreset(Preset):
    """A source's half-cheetah: what it observes, what an action costs, how fast it is to run."""

    torso_position: bool = True  # append the torso's world position to the observation
    control_cost: float = 0.05  # weight of the squared norm of the applied action


@dataclasses.dataclass(frozen=True)
class HalfCheetahVelPreset(HalfCheetahPreset):
    """A source's target velocities."""

    velocities: tuple[float, float] = (0.0, 2.0)  # targets are uniform between them, m/s


class HalfCheetah(MujocoTaskDistribution):
    """Gymnasium's half-cheetah body (nine joints, six motors, 0.01 s a physics step).

    Presets: `deleu` (pytorch-maml-rl, the default), `finn2017` (frame skip 1 as rllab's model; this
    is Gymnasium's body, so levels do not transfer), `promp` (no torso position; velocities to 3).
    """

    xml = ASSETS / "half_cheetah.xml"
    fields = ("xpos",)
    camera: ClassVar[Mapping[str, Any]] = {"distance": 4.0, "azimuth": 90.0, "elevation": -15.0}
    presets: ClassVar[Mapping[str, HalfCheetahPreset]] = {
        "deleu": HalfCheetahPreset(frame_skip=5, horizon=100, action_scale=0.1),
        "finn2017": HalfCheetahPreset(frame_skip=1, horizon=200, action_scale=1.0),
        "promp": HalfCheetahPreset(
            frame_skip=5, horizon=100, action_scale=0.1, torso_position=False
        ),
    }
    preset: HalfCheetahPreset

    def reset(self, rng: np.random.Generator) -> State:
        """Add noise to the pose as Gymnasium's HalfCheetah-v5 does, draw for draw."""
        noise = rng.uniform(-0.1, 0.1, size=self.model.nq)
        return {
            "qpos": self.model.qpos0 + noise,
            "qvel": 0.1 * rng.standard_normal(self.model.nv),
        }

    def observe(self, state: State) -> Any:
        """Observation: qpos without x, qvel, and the preset's torso position if any, [..., O]."""
        parts = [state["qpos"][..., 1:], state["qvel"]]
        if self.preset.torso_position:
            parts.append(state["xpos"][..., 1, :])  # body 1 is the torso
        return namespace(state["qpos"]).concatenate(parts, -1)

    def velocity(self, before: State, after: State) -> Any:
        """The torso's mean velocity over a control step, [...] in m/s."""
        return (after["qpos"][..., 0] - before["qpos"][..., 0]) / self.dt

    def control_cost(self, action: Any) -> Any:
        """Cost weight * |action|^2, [...]."""
        return self.preset.control_cost * (action * action).sum(-1)

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the velocity, [...] in m/s."""
        return {"x_velocity": self.velocity(before, after)}


class HalfCheetahDir(ForwardBackward, HalfCheetah):
    """Run forward or backward: reward d * v_x - cost, d = 1 or -1 with probability 1/2."""

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward d * v_x - cost, [...]."""
        return task["direction"] * self.velocity(before, after) - self.control_cost(action)


class HalfCheetahVel(TargetVelocities, HalfCheetah):
    """Run at a target velocity v*, uniform on `velocities`: reward -|v_x - v*| - cost."""

    presets: ClassVar[Mapping[str, HalfCheetahVelPreset]] = {
        name: HalfCheetahVelPreset(**dataclasses.asdict(preset), velocities=(0.0, fastest))
        for (name, preset), fastest in zip(
            HalfCheetah.presets.items(), (2.0, 2.0, 3.0), strict=True
        )
    }
    preset: HalfCheetahVelPreset

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward -|v_x - v*| - cost, [...]."""
        return -abs(self.velocity(before, after) - task["velocity"]) - self.control_cost(action)


@dataclasses.dataclass(frozen=True)
class HalfCheetahRandParamsPreset(HalfCheetahPreset, RandomParametersPreset):
    """A half-cheetah with how far its parameters vary."""


class HalfCheetahRandParams(RandomParameters, HalfCheetah):
    """Run forward with unknown masses, inertias, friction and damping: reward v_x - cost.

    Preset `maml_rl`: this project's own, as no source has the task: ProMP's half-cheetah with the
    parameters of its walker2d and hopper.
    """

    presets: ClassVar[Mapping[str, HalfCheetahRandParamsPreset]] = {
        "maml_rl": HalfCheetahRandParamsPreset(
            frame_skip=5, horizon=200, action_scale=0.1, torso_position=False
        ),
    }
    preset: HalfCheetahRandParamsPreset

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward v_x - cost, [...]."""
        return self.velocity(before, after) - self.control_cost(action)
