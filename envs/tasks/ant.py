"""Ant task distributions: forward or backward, a heading, a target velocity, a goal."""

from __future__ import annotations

import dataclasses
from typing import Any

import mujoco
import numpy as np

from envs.backends.mujoco.fields import State
from envs.backends.mujoco.model import ASSETS
from envs.protocol import Array, Task, Tasks
from envs.tasks.bodies import FallingBody, FallingPreset, joint_state
from envs.tasks.families import (
    ForwardBackward,
    GoalsToReach,
    Headings,
    TargetVelocities,
    VelocityPreset,
    uniform_disc,
)
from envs.tasks.random_parameters import RandomParameters, RandomParametersPreset


@dataclasses.dataclass(frozen=True)
class AntPreset(FallingPreset):
    """A source's ant: what an action costs, what standing upright earns, when an episode ends."""

    control_cost: float = 0.5
    heights: tuple[float, float] = (0.2, 1.0)  # of the torso, m
    survival_on_fall: bool = True
    observe_position: bool = False  # observe x and y too
    euler: bool = False  # Euler's method at the same step instead of RK4: other physics, cheaper


@dataclasses.dataclass(frozen=True)
class AntVelPreset(AntPreset, VelocityPreset):
    """A source's target velocities."""

    velocities: tuple[float, float] = (0.0, 3.0)  # targets are uniform between them, m/s


@dataclasses.dataclass(frozen=True)
class AntGoalPreset(AntPreset):
    """A source's goals."""

    goal_range: float = 3.0  # the disc's radius, or half the square's side, m
    square: bool = False  # goals are uniform on a square; on a disc otherwise
    observe_position: bool = True


class Ant(FallingBody):
    """Gymnasium's ant body (a free torso, four legs of two motors each, RK4 at 0.01 s).

    Contact forces are neither observed nor charged: MuJoCo 2 and later leave them at zero unless
    asked, and so do the public ports. The sources pay survival on the step that ends an episode
    too; Gymnasium, and its preset, do not.

    Presets: `promp` (the default; learn2learn's reward), `finn2017` (0.02 s a control step as
    rllab's model, x and y observed; this is Gymnasium's body, so levels do not transfer),
    `gymnasium` (Ant-v5's weights and length), `euler` (promp with Euler's method instead of RK4:
    a step costs a third, and the physics differ).
    """

    xml = ASSETS / "ant.xml"
    fields = ("xpos",)
    normal_velocity = True
    camera = {"distance": 6.0, "elevation": -35.0}
    presets = {
        "promp": AntPreset(frame_skip=5, horizon=100, action_scale=0.1),
        "finn2017": AntPreset(
            frame_skip=2, horizon=200, control_cost=0.005, survival=0.05, observe_position=True
        ),
        "gymnasium": AntPreset(frame_skip=5, horizon=1000, survival_on_fall=False),
        "euler": AntPreset(frame_skip=5, horizon=100, action_scale=0.1, euler=True),
    }
    preset: AntPreset

    def __init__(
        self,
        preset: str | None = None,
        horizon: int | None = None,
        action_scale: float | None = None,
        **numbers: Any,
    ) -> None:
        super().__init__(preset, horizon, action_scale, **numbers)
        if self.preset.euler:
            self.model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER

    def observe(self, state: State) -> Any:
        """Observation: qpos (x and y only if the preset observes them) and qvel, [..., O]."""
        return joint_state(state, 0 if self.preset.observe_position else 2)

    def place(self, state: State) -> Any:
        """The torso's x and y, [..., 2] in m."""
        return state["xpos"][..., 1, :2]

    def healthy(self, state: State) -> Any:
        """Whether the torso's height is within the preset's `heights`, [...] bool."""
        low, high = self.preset.heights
        height = state["qpos"][..., 2]
        return (height >= low) & (height <= high)


class AntDir(ForwardBackward, Ant):
    """Run forward or backward: reward d * v_x + survival - cost, d = 1 or -1.

    ProMP's own code ends an episode below a height of 0, not 0.2 m; the torso is a sphere of radius
    0.25 m, so that neither is met on the ground.
    """


class AntHeading(Headings, Ant):
    """Run along a heading h, uniform on the circle: reward h . v + survival - cost.

    Presets: `promp` (the default) and `gymnasium` as for every ant, `pearl` (outputs in [-1, 1],
    200 steps). A task is the unit vector {"heading": [M, 2]}.
    """

    presets = {
        "promp": Ant.presets["promp"],
        "pearl": AntPreset(frame_skip=5, horizon=200),
        "gymnasium": Ant.presets["gymnasium"],
    }


class AntVel(TargetVelocities, Ant):
    """Run at a target velocity v*, uniform on `velocities`: reward -|v_x - v*| + survival - cost.

    Presets: `finn2017` (the default; survival is its 1 + 0.05), `gymnasium` (Ant-v5's weights).
    """

    presets = {
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


PROMP_GOAL = AntGoalPreset(
    frame_skip=5,
    horizon=100,
    action_scale=0.1,
    control_cost=0.1,
    survival=0.0,
    terminates=False,
)
"""ProMP's, PEARL's and VariBAD's ant."""


class AntGoal(GoalsToReach, Ant):
    """Walk to a goal in the plane: reward -|p - g|_1 + survival - cost (L1, as in the sources).

    Presets: `promp` (the default; PEARL's and VariBAD's task too: a disc, no survival, no end),
    `euler` (the same with Euler's method),
    `finn2017` (a square; survival is its 4 + 0.05; a fall ends the episode), `gymnasium` (Ant-v5's
    weights).
    """

    camera = {"distance": 8.0, "elevation": -45.0}
    goal_height = goal_size = 0.2
    presets = {
        "promp": PROMP_GOAL,
        "finn2017": AntGoalPreset(
            frame_skip=2, horizon=200, control_cost=0.005, survival=4.0 + 0.05, square=True
        ),
        "gymnasium": AntGoalPreset(frame_skip=5, horizon=1000, survival_on_fall=False),
        "euler": dataclasses.replace(PROMP_GOAL, euler=True),
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
        distance = abs(self.place(after) - task["goal"]).sum(-1)
        return self.living(action, after) - distance


@dataclasses.dataclass(frozen=True)
class AntRandParamsPreset(AntPreset, RandomParametersPreset):
    """An ant with how far its parameters vary."""


class AntRandParams(RandomParameters, Ant):
    """Run forward with unknown masses, inertias, friction and damping: v_x + survival - cost.

    Preset `maml_rl`: this project's own, as no source has the task: ProMP's ant with the parameters
    of its walker2d and hopper.
    """

    presets = {
        "maml_rl": AntRandParamsPreset(frame_skip=5, horizon=200, action_scale=0.1),
    }
    preset: AntRandParamsPreset
