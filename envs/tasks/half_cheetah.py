"""Half-cheetah task distributions: direction (forward or backward) and target velocity."""

from __future__ import annotations

import dataclasses
from typing import Any

from envs.backends.mujoco.fields import State
from envs.backends.mujoco.model import ASSETS
from envs.tasks.bodies import Body, BodyPreset, joint_state
from envs.tasks.families import ForwardBackward, TargetVelocities, VelocityPreset
from envs.tasks.random_parameters import RandomParameters, RandomParametersPreset


@dataclasses.dataclass(frozen=True)
class HalfCheetahPreset(BodyPreset):
    """A source's half-cheetah: what it observes, what an action costs, how fast it is to run."""

    torso_position: bool = True  # append the torso's world position to the observation
    control_cost: float = 0.05  # weight of the squared norm of the applied action


@dataclasses.dataclass(frozen=True)
class HalfCheetahVelPreset(HalfCheetahPreset, VelocityPreset):
    """A half-cheetah with target velocities."""


class HalfCheetah(Body):
    """Gymnasium's half-cheetah body (nine joints, six motors, 0.01 s a physics step).

    Presets: `deleu` (pytorch-maml-rl, the default), `finn2017` (frame skip 1 as rllab's model; this
    is Gymnasium's body, so levels do not transfer), `promp` (no torso position; velocities to 3).
    """

    xml = ASSETS / "half_cheetah.xml"
    fields = ("xpos",)
    normal_velocity = True
    camera = {"distance": 4.0, "azimuth": 90.0, "elevation": -15.0}
    presets = {
        "deleu": HalfCheetahPreset(frame_skip=5, horizon=100, action_scale=0.1),
        "finn2017": HalfCheetahPreset(frame_skip=1, horizon=200, action_scale=1.0),
        "promp": HalfCheetahPreset(
            frame_skip=5, horizon=100, action_scale=0.1, torso_position=False
        ),
    }
    preset: HalfCheetahPreset

    def observe(self, state: State) -> Any:
        """Observation: qpos without x, qvel, and the preset's torso position if any, [..., O]."""
        torso = [state["xpos"][..., 1, :]] if self.preset.torso_position else []  # is body 1
        return joint_state(state, 1, *torso)


class HalfCheetahDir(ForwardBackward, HalfCheetah):
    """Run forward or backward: reward d * v_x - cost, d = 1 or -1 with probability 1/2."""


class HalfCheetahVel(TargetVelocities, HalfCheetah):
    """Run at a target velocity v*, uniform on `velocities`: reward -|v_x - v*| - cost."""

    presets = {
        name: HalfCheetahVelPreset(**dataclasses.asdict(preset), velocities=(0.0, fastest))
        for (name, preset), fastest in zip(
            HalfCheetah.presets.items(), (2.0, 2.0, 3.0), strict=True
        )
    }
    preset: HalfCheetahVelPreset


@dataclasses.dataclass(frozen=True)
class HalfCheetahRandParamsPreset(HalfCheetahPreset, RandomParametersPreset):
    """A half-cheetah with how far its parameters vary."""


class HalfCheetahRandParams(RandomParameters, HalfCheetah):
    """Run forward with unknown masses, inertias, friction and damping: reward v_x - cost.

    Preset `maml_rl`: this project's own, as no source has the task: ProMP's half-cheetah with the
    parameters of its walker2d and hopper.
    """

    presets = {
        "maml_rl": HalfCheetahRandParamsPreset(
            frame_skip=5, horizon=200, action_scale=0.1, torso_position=False
        ),
    }
    preset: HalfCheetahRandParamsPreset
