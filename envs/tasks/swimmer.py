"""Swimmer task distributions: forward or backward, a goal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from envs.backends.mujoco.distribution import MujocoTaskDistribution
from envs.backends.mujoco.fields import State, namespace
from envs.backends.mujoco.model import ASSETS
from envs.backends.mujoco.preset import Preset
from envs.protocol import Array, Task, Tasks
from envs.tasks.families import ForwardBackward, Goals, planar_distance, uniform_disc


@dataclasses.dataclass(frozen=True)
class SwimmerPreset(Preset):
    """The observation and the cost of an action; the weight is Swimmer-v5's."""

    control_cost: float = 1e-4  # weight of the squared norm of the applied action
    observe_position: bool = False  # observe x and y too


@dataclasses.dataclass(frozen=True)
class SwimmerGoalPreset(SwimmerPreset):
    """The distance of goals."""

    goal_radius: float = 2.0  # goals are uniform on a disc of this radius, m
    observe_position: bool = True


class Swimmer(MujocoTaskDistribution):
    """Gymnasium's swimmer body (three links of one metre in a fluid, two motors, RK4 at 0.01 s).

    Presets: `maml_rl` (the default, this project's own: no source publishes these tasks),
    `gymnasium` (Swimmer-v5's actions and length).
    """

    xml = ASSETS / "swimmer.xml"
    camera: ClassVar[Mapping[str, Any]] = {"distance": 8.0, "azimuth": 90.0, "elevation": -60.0}
    presets: ClassVar[Mapping[str, SwimmerPreset]] = {
        "maml_rl": SwimmerPreset(frame_skip=4, horizon=200),
        "gymnasium": SwimmerPreset(frame_skip=4, horizon=1000),
    }
    preset: SwimmerPreset

    def reset(self, rng: np.random.Generator) -> State:
        """Add noise to the pose as Gymnasium's Swimmer-v5 does, draw for draw."""
        return {
            "qpos": self.model.qpos0 + rng.uniform(-0.1, 0.1, size=self.model.nq),
            "qvel": rng.uniform(-0.1, 0.1, size=self.model.nv),
        }

    def observe(self, state: State) -> Any:
        """Observation: qpos (x and y only if the preset observes them) and qvel, [..., O]."""
        start = 0 if self.preset.observe_position else 2
        parts = [state["qpos"][..., start:], state["qvel"]]
        return namespace(state["qpos"]).concatenate(parts, -1)

    def velocity(self, before: State, after: State) -> Any:
        """Mean velocity along x over a control step, [...] in m/s."""
        return (after["qpos"][..., 0] - before["qpos"][..., 0]) / self.dt

    def control_cost(self, action: Any) -> Any:
        """Cost weight * |action|^2, [...]."""
        return self.preset.control_cost * (action * action).sum(-1)


class SwimmerDir(ForwardBackward, Swimmer):
    """Swim forward or backward: reward d * v_x - cost, d = 1 or -1 with probability 1/2."""

    arrow_height = 0.5

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward d * v_x - cost, [...]."""
        return task["direction"] * self.velocity(before, after) - self.control_cost(action)

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the velocity along x, [...] in m/s."""
        return {"x_velocity": self.velocity(before, after)}


class SwimmerGoal(Goals, Swimmer):
    """Swim to a goal, uniform on a disc around the start: reward -|p - g| - cost.

    p is the middle of the straight body, qpos's x and y.
    """

    presets: ClassVar[Mapping[str, SwimmerGoalPreset]] = {
        "maml_rl": SwimmerGoalPreset(frame_skip=4, horizon=200),
        "gymnasium": SwimmerGoalPreset(frame_skip=4, horizon=1000),
    }
    preset: SwimmerGoalPreset

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw goals, [M, 2] in m."""
        return {"goal": uniform_disc(num_tasks, self.preset.goal_radius, rng)}

    def observed_position(self, observations: Array) -> Array | None:
        """Position in the plane, [..., 2] in m; None where it is not observed."""
        return observations[..., :2] if self.preset.observe_position else None

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward -|p - g| - cost, [...]."""
        distance = planar_distance(after["qpos"][..., :2], task["goal"])
        return -distance - self.control_cost(action)

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the distance to the goal, [...] in m."""
        return {"distance": planar_distance(after["qpos"][..., :2], task["goal"])}
