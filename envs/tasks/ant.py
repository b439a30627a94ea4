"""Ant task distributions: forward or backward, a heading, a target velocity, a goal."""

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
from envs.tasks.families import (
    ForwardBackward,
    Goals,
    Headings,
    TargetVelocities,
    planar_distance,
    uniform_disc,
)
from envs.tasks.random_parameters import RandomParameters, RandomParametersPreset


@dataclasses.dataclass(frozen=True)
class AntPreset(Preset):
    """A source's ant: what an action costs, what standing upright earns, when an episode ends."""

    control_cost: float = 0.5  # weight of the squared norm of the applied action
    survival: float = 1.0  # reward a step while the torso's height is within `heights`
    heights: tuple[float, float] = (0.2, 1.0)  # of the torso, m
    survival_on_fall: bool = True  # survival is paid on the step that falls too
    terminates: bool = True  # an episode ends where the height leaves `heights`
    observe_position: bool = False  # observe x and y too


@dataclasses.dataclass(frozen=True)
class AntVelPreset(AntPreset):
    """A source's target velocities."""

    velocities: tuple[float, float] = (0.0, 3.0)  # targets are uniform between them, m/s


@dataclasses.dataclass(frozen=True)
class AntGoalPreset(AntPreset):
    """A source's goals."""

    goal_range: float = 3.0  # the disc's radius, or half the square's side, m
    square: bool = False  # goals are uniform on a square; on a disc otherwise
    observe_position: bool = True


class Ant(MujocoTaskDistribution):
    """Gymnasium's ant body (a free torso, four legs of two motors each, RK4 at 0.01 s).

    Contact forces are neither observed nor charged: MuJoCo 2 and later leave them at zero unless
    asked, and so do the public ports. The sources pay survival on the step that ends an episode
    too; Gymnasium, and its preset, do not.

    Presets: `promp` (the default; learn2learn's reward), `finn2017` (0.02 s a control step as
    rllab's model, x and y observed; this is Gymnasium's body, so levels do not transfer),
    `gymnasium` (Ant-v5's weights and length).
    """

    xml = ASSETS / "ant.xml"
    fields = ("xpos",)
    camera: ClassVar[Mapping[str, Any]] = {"distance": 6.0, "elevation": -35.0}
    presets: ClassVar[Mapping[str, AntPreset]] = {
        "promp": AntPreset(frame_skip=5, horizon=100, action_scale=0.1),
        "finn2017": AntPreset(
            frame_skip=2, horizon=200, control_cost=0.005, survival=0.05, observe_position=True
        ),
        "gymnasium": AntPreset(frame_skip=5, horizon=1000, survival_on_fall=False),
    }
    preset: AntPreset

    def reset(self, rng: np.random.Generator) -> State:
        """Add noise to the pose as Gymnasium's Ant-v5 does, draw for draw."""
        noise = rng.uniform(-0.1, 0.1, size=self.model.nq)
        return {"qpos": self.model.qpos0 + noise, "qvel": 0.1 * rng.standard_normal(self.model.nv)}

    def observe(self, state: State) -> Any:
        """Observation: qpos (x and y only if the preset observes them) and qvel, [..., O]."""
        start = 0 if self.preset.observe_position else 2
        parts = [state["qpos"][..., start:], state["qvel"]]
        return namespace(state["qpos"]).concatenate(parts, -1)

    def velocity(self, before: State, after: State) -> Any:
        """The torso's mean velocity in the plane over a control step, [..., 2] in m/s."""
        return (after["xpos"][..., 1, :2] - before["xpos"][..., 1, :2]) / self.dt

    def healthy(self, state: State) -> Any:
        """Whether the torso's height is within the preset's `heights`, [...] bool."""
        low, high = self.preset.heights
        height = state["qpos"][..., 2]
        return (height >= low) & (height <= high)

    def living(self, action: Any, after: State) -> Any:
        """Reward of surviving less the cost of the action, [...]."""
        cost = self.preset.control_cost * (action * action).sum(-1)
        alive = self.healthy(after) | self.preset.survival_on_fall
        return self.preset.survival * alive - cost

    def terminated(self, state: State, task: Task) -> Any:
        """End where the torso is too low or too high, if the preset says so, [...] bool."""
        return ~self.healthy(state) & self.preset.terminates

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the velocity along x, [...] in m/s."""
        return {"x_velocity": self.velocity(before, after)[..., 0]}


class AntDir(ForwardBackward, Ant):
    """Run forward or backward: reward d * v_x + survival - cost, d = 1 or -1.

    ProMP's own code ends an episode below a height of 0, not 0.2 m; the torso is a sphere of radius
    0.25 m, so that neither is met on the ground.
    """

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward d * v_x + survival - cost, [...]."""
        velocity = self.velocity(before, after)[..., 0]
        return task["direction"] * velocity + self.living(action, after)


class AntHeading(Headings, Ant):
    """Run along a heading h, uniform on the circle: reward h . v + survival - cost.

    Presets: `promp` (the default) and `gymnasium` as for every ant, `pearl` (outputs in [-1, 1],
    200 steps). A task is the unit vector {"heading": [M, 2]}.
    """

    presets: ClassVar[Mapping[str, AntPreset]] = {
        "promp": Ant.presets["promp"],
        "pearl": AntPreset(frame_skip=5, horizon=200),
        "gymnasium": Ant.presets["gymnasium"],
    }

    def heading_velocity(self, before: State, after: State, task: Task) -> Any:
        """Velocity along the heading, [...] in m/s."""
        return (task["heading"] * self.velocity(before, after)).sum(-1)

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward h . v + survival - cost, [...]."""
        return self.heading_velocity(before, after, task) + self.living(action, after)

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the velocity along the heading, [...] in m/s."""
        return {"heading_velocity": self.heading_velocity(before, after, task)}


class AntVel(TargetVelocities, Ant):
    """Run at a target velocity v*, uniform on `velocities`: reward -|v_x - v*| + survival - cost.

    Presets: `finn2017` (the default; survival is its 1 + 0.05), `gymnasium` (Ant-v5's weights).
    """

    presets: ClassVar[Mapping[str, AntVelPreset]] = {
        "finn2017": AntVelPreset(
            frame_skip=2,
            horizon=200,
            control_cost=0.005,
            survival=1.0 + 0.05,
            observe_position=True,
        ),
        "gymnasium": AntVelPreset(frame_skip=5, horizon=1000, survival_on_fall=False),
    }
    preset: AntVelPreset

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward -|v_x - v*| + survival - cost, [...]."""
        difference = self.velocity(before, after)[..., 0] - task["velocity"]
        return self.living(action, after) - abs(difference)


class AntGoal(Goals, Ant):
    """Walk to a goal in the plane: reward -|p - g|_1 + survival - cost (L1, as in the sources).

    Presets: `promp` (the default; PEARL's and VariBAD's task too: a disc, no survival, no end),
    `finn2017` (a square; survival is its 4 + 0.05; a fall ends the episode), `gymnasium` (Ant-v5's
    weights).
    """

    camera: ClassVar[Mapping[str, Any]] = {"distance": 8.0, "elevation": -45.0}
    goal_height = goal_size = 0.2
    presets: ClassVar[Mapping[str, AntGoalPreset]] = {
        "promp": AntGoalPreset(
            frame_skip=5,
            horizon=100,
            action_scale=0.1,
            control_cost=0.1,
            survival=0.0,
            terminates=False,
        ),
        "finn2017": AntGoalPreset(
            frame_skip=2, horizon=200, control_cost=0.005, survival=4.0 + 0.05, square=True
        ),
        "gymnasium": AntGoalPreset(frame_skip=5, horizon=1000, survival_on_fall=False),
    }
    preset: AntGoalPreset

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw goals, [M, 2] in m: on a disc, or on a square."""
        bound = self.preset.goal_range
        if self.preset.square:
            return {"goal": rng.uniform(-bound, bound, size=(num_tasks, 2))}
        return {"goal": uniform_disc(num_tasks, bound, rng)}

    def observed_position(self, observations: Array) -> Array | None:
        """Position in the plane, [..., 2] in m; None where it is not observed."""
        return observations[..., :2] if self.preset.observe_position else None

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward -|p - g|_1 + survival - cost, [...]."""
        distance = abs(after["xpos"][..., 1, :2] - task["goal"]).sum(-1)
        return self.living(action, after) - distance

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the (straight) distance to the goal, [...] in m."""
        return {"distance": planar_distance(after["xpos"][..., 1, :2], task["goal"])}


@dataclasses.dataclass(frozen=True)
class AntRandParamsPreset(AntPreset, RandomParametersPreset):
    """An ant with how far its parameters vary."""


class AntRandParams(RandomParameters, Ant):
    """Run forward with unknown masses, inertias, friction and damping: v_x + survival - cost.

    Preset `maml_rl`: this project's own, as no source has the task: ProMP's ant with the parameters
    of its walker2d and hopper.
    """

    presets: ClassVar[Mapping[str, AntRandParamsPreset]] = {
        "maml_rl": AntRandParamsPreset(frame_skip=5, horizon=200, action_scale=0.1),
    }
    preset: AntRandParamsPreset

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward v_x + survival - cost, [...]."""
        return self.velocity(before, after)[..., 0] + self.living(action, after)
