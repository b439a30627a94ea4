"""2-D navigation: a point that moves to a goal it is not shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from envs.arguments import number
from envs.backends.mujoco.distribution import MujocoTaskDistribution
from envs.backends.mujoco.fields import State, namespace
from envs.backends.mujoco.preset import Preset
from envs.backends.mujoco.single import Marker
from envs.protocol import Array, Task, Tasks
from envs.tasks.families import Goals, planar_distance


@dataclasses.dataclass(frozen=True)
class StartPreset(Preset):
    """A source's point: where it starts and how far it moves.

    Raises:
        UserError: if `reach` is not above 0, or `start_range` below 0.
    """

    reach: float = 0.1  # the most that an action moves in each coordinate
    start_range: float = 0.0  # starts are uniform on [-start_range, start_range] squared

    def __post_init__(self) -> None:
        """Check the numbers."""
        number("reach", self.reach, above=0)
        number("start_range", self.start_range, least=0)


@dataclasses.dataclass(frozen=True)
class PointPreset(StartPreset):
    """A source's 2-D navigation."""

    goal_range: float = 0.5  # goals are uniform on [-goal_range, goal_range] squared
    arrival: float = 0.01  # an episode ends this near the goal in both coordinates; 0: never


@dataclasses.dataclass(frozen=True)
class CornersPreset(StartPreset):
    """A source's navigation to corners."""

    goal_range: float = 2.0  # goals are the corners of [-goal_range, goal_range] squared
    quiet: float = 0.5  # nothing is rewarded where |x| + |y| is below this


@dataclasses.dataclass(frozen=True)
class HalfCirclePreset(StartPreset):
    """A source's navigation to goals on a half circle."""

    goal_radius: float = 1.0  # of the half circle
    arrival: float = 0.2  # distance from the goal up to which a step is rewarded
    sparse: bool = True  # reward nothing farther away; false rewards -distance everywhere


class Point(Goals, MujocoTaskDistribution):
    """A point in the plane: an action is a displacement of at most `reach` in each coordinate."""

    xml = Path(__file__).parent.parent / "assets" / "point.xml"
    camera = {
        "type": int(mujoco.mjtCamera.mjCAMERA_FREE),
        "distance": 2.0,
        "elevation": -90.0,
        "azimuth": 90.0,
    }
    goal_size, unit = 0.03, ""
    preset: StartPreset

    def reset(self, rng: np.random.Generator) -> State:
        """Start at the origin, or anywhere in the preset's square."""
        if self.preset.start_range == 0:
            return super().reset(rng)
        bound = self.preset.start_range
        return {"qpos": rng.uniform(-bound, bound, size=2), "qvel": np.zeros(2)}

    def observe(self, state: State) -> Any:
        """Observation: the position, [..., 2]."""
        return state["qpos"]

    def control(self, state: State, action: Any) -> State:
        """Write the velocity, so that an action is exactly the displacement of the step."""
        return {"qvel": action}

    def distance(self, state: State, task: Task) -> Any:
        """Distance from the goal, [...]."""
        return planar_distance(state["qpos"], task["goal"])

    def observed_position(self, observations: Array) -> Array:
        """The observations, which are positions."""
        return observations

    def _action_space(self) -> spaces.Box:
        bound = np.full(2, self.preset.reach, dtype=np.float32)
        return spaces.Box(-bound, bound, dtype=np.float32)


class PointNavigation(Point):
    """Start at the origin, move by at most 0.1 in each coordinate a step; reward -|p - goal|.

    Presets: `finn2017` (goals uniform on [-0.5, 0.5]^2, the episode ends within 0.01 of the goal,
    the distance not squared as in Finn's code; the paper says squared), `pearl` (goals and starts
    uniform on [-1, 1]^2, as in PEARL's code, 20 steps, no end before them). Policy outputs in
    [-1, 1] are mapped onto the action range.
    """

    presets = {
        "finn2017": PointPreset(frame_skip=1, horizon=100, action_scale=0.1),
        "pearl": PointPreset(
            frame_skip=1,
            horizon=20,
            action_scale=0.1,
            start_range=1.0,
            goal_range=1.0,
            arrival=0.0,
        ),
    }
    preset: PointPreset

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw goals, [M, 2]."""
        bound = self.preset.goal_range
        return {"goal": rng.uniform(-bound, bound, size=(num_tasks, 2))}

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward: minus the distance to the goal after the step, [...]."""
        return -self.distance(after, task)

    def terminated(self, state: State, task: Task) -> Any:
        """End where both coordinates are within `arrival` of the goal, [...] bool."""
        return (abs(state["qpos"] - task["goal"]) < self.preset.arrival).all(-1)


class PointNavigationCorners(Point):
    """Move to one of four corners; a step is rewarded only where its goal is the nearest corner.

    There the reward is the decrease of the distance by the step. Preset `promp`: corners at +-2,
    starts uniform on [-0.2, 0.2]^2, moves of at most 0.2, nothing rewarded where |x| + |y| < 0.5,
    100 steps; outputs in [-10, 10] are mapped onto the action range.
    """

    camera = {**Point.camera, "distance": 6.0}
    presets = {
        "promp": CornersPreset(
            frame_skip=1, horizon=100, action_scale=0.02, reach=0.2, start_range=0.2
        ),
    }
    preset: CornersPreset

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw corners, [M, 2], each with probability 1/4."""
        return {"goal": self._corners()[rng.integers(4, size=num_tasks)]}

    def finite_tasks(self) -> Tasks:
        """The four corners."""
        return {"goal": self._corners()}

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward: the decrease of the distance by the step, where that is rewarded, [...]."""
        position = after["qpos"]
        outside = abs(position).sum(-1) >= self.preset.quiet
        nearest = (position * task["goal"] >= 0).all(-1)  # the goal's quadrant, edges included
        nearer = self.distance(before, task) - self.distance(after, task)
        return namespace(position).where(outside & nearest, nearer, 0.0)

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the distance to the goal, [...]."""
        return {"distance": self.distance(after, task)}

    def _corners(self) -> Array:
        bound = self.preset.goal_range
        return bound * np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])


class PointNavigationHalfCircle(Point):
    """Move to a goal on a half circle; reward 1 - |p - goal| within `arrival` of it, 0 elsewhere.

    Preset `pearl`: the upper half of the unit circle, start at the origin, 20 steps of at most 0.1
    in each coordinate. PEARL's actor and critic are trained on -|p - goal| (`sparse=False`); its
    encoder, and its test tasks, see the sparse reward.
    """

    camera = {**Point.camera, "distance": 3.0}
    presets = {
        "pearl": HalfCirclePreset(frame_skip=1, horizon=20, action_scale=0.1),
    }
    preset: HalfCirclePreset

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw goals, [M, 2], uniform on the half circle."""
        angle = rng.uniform(0.0, np.pi, size=num_tasks)
        return {"goal": self.preset.goal_radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)}

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward: 1 - distance near the goal and 0 elsewhere, or minus the distance, [...]."""
        distance = self.distance(after, task)
        if not self.preset.sparse:
            return -distance
        near = distance <= self.preset.arrival
        return namespace(distance).where(near, 1 - distance, 0.0)

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the distance to the goal and whether it was reached, [...]."""
        distance = self.distance(after, task)
        return {"distance": distance, "success": distance <= self.preset.arrival}

    def markers(self, task: Task) -> list[Marker]:
        """Show the goal, and where it is rewarded."""
        goal = super().markers(task)[0]
        near = dataclasses.replace(goal, size=self.preset.arrival, rgba=(*goal.rgba[:3], 0.3))
        return [goal, near]
