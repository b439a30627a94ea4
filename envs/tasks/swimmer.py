"""Swimmer task distributions: forward or backward, a goal."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from envs.backends.mujoco.fields import State
from envs.backends.mujoco.model import ASSETS
from envs.protocol import Array, Tasks
from envs.tasks.bodies import Body, BodyPreset, joint_state
from envs.tasks.families import ForwardBackward, GoalsToReach, uniform_disc


@dataclasses.dataclass(frozen=True)
class SwimmerPreset(BodyPreset):
    """The observation and the cost of an action; the weight is Swimmer-v5's."""

    control_cost: float = 1e-4
    observe_position: bool = False  # observe x and y too


@dataclasses.dataclass(frozen=True)
class SwimmerGoalPreset(SwimmerPreset):
    """The distance of goals."""

    goal_radius: float = 2.0  # goals are uniform on a disc of this radius, m
    observe_position: bool = True


class Swimmer(Body):
    """Gymnasium's swimmer body (three links of one metre in a fluid, two motors, RK4 at 0.01 s).

    Presets: `maml_rl` (the default, this project's own: no source publishes these tasks),
    `gymnasium` (Swimmer-v5's actions and length).
    """

    xml = ASSETS / "swimmer.xml"
    camera = {"distance": 8.0, "azimuth": 90.0, "elevation": -60.0}
    presets = {
        "maml_rl": SwimmerPreset(frame_skip=4, horizon=200),
        "gymnasium": SwimmerPreset(frame_skip=4, horizon=1000),
    }
    preset: SwimmerPreset

    def observe(self, state: State) -> Any:
        """Observation: qpos (x and y only if the preset observes them) and qvel, [..., O]."""
        return joint_state(state, 0 if self.preset.observe_position else 2)


class SwimmerDir(ForwardBackward, Swimmer):
    """Swim forward or backward: reward d * v_x - cost, d = 1 or -1 with probability 1/2."""

    arrow_height = 0.5


class SwimmerGoal(GoalsToReach, Swimmer):
    """Swim to a goal, uniform on a disc around the start: reward -|p - g| - cost.

    p is the middle of the straight body, qpos's x and y.
    """

    presets = {
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
