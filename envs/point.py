"""2-D navigation: a point that moves to a goal it is not shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import mujoco
import numpy as np

from envs.mujoco import MujocoTaskDistribution, Preset, State, namespace
from envs.task_distribution import Tasks


@dataclasses.dataclass(frozen=True)
class PointPreset(Preset):
    """A source's 2-D navigation."""

    goal_range: float = 0.5  # goals are uniform on [-goal_range, goal_range] squared
    arrival: float = 0.01  # an episode ends within this of the goal in both coordinates


class PointNavigation(MujocoTaskDistribution):
    """Start at the origin, move by at most 0.1 in each coordinate a step; reward -|p - goal|.

    Preset `finn2017`: goals uniform on [-0.5, 0.5]^2, the episode ends within 0.01 of the goal, the
    distance not squared (as Finn's code; the paper says squared), policy outputs [-1, 1] are mapped
    onto the action range.
    """

    xml = Path(__file__).parent / "assets" / "point.xml"
    camera: ClassVar[Mapping[str, Any]] = {
        "type": int(mujoco.mjtCamera.mjCAMERA_FREE),
        "distance": 2.0,
        "elevation": -90.0,
        "azimuth": 90.0,
    }
    presets: ClassVar[Mapping[str, PointPreset]] = {
        "finn2017": PointPreset(frame_skip=1, horizon=100, action_scale=0.1),
    }
    preset: PointPreset

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw goals, [M, 2]."""
        bound = self.preset.goal_range
        return {"goal": rng.uniform(-bound, bound, size=(num_tasks, 2))}

    def observe(self, state: State) -> Any:
        """Return the position, [..., 2]."""
        return state["qpos"]

    def control(self, state: State, action: Any) -> State:
        """Write the velocity, so that an action is exactly the displacement of the step."""
        return {"qvel": action}

    def reward(self, before: State, action: Any, after: State, task: Tasks) -> Any:
        """Return minus the distance to the goal after the step, [...]."""
        x, y = _offset(after, task)
        return -namespace(x).sqrt(x * x + y * y)

    def terminated(self, state: State, task: Tasks) -> Any:
        """End where both coordinates are within `arrival` of the goal, [...] bool."""
        x, y = _offset(state, task)
        return (abs(x) < self.preset.arrival) & (abs(y) < self.preset.arrival)


def _offset(state: State, task: Tasks) -> tuple[Any, Any]:
    """Return the two coordinates of the position less the goal, [...] each."""
    difference = state["qpos"] - task["goal"]
    return difference[..., 0], difference[..., 1]
