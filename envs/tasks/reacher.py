"""Reacher task distribution: bring an arm's fingertip to a goal it is not shown."""

from __future__ import annotations

import dataclasses
from typing import Any

import mujoco
import numpy as np

from envs.backends.mujoco.fields import State, namespace
from envs.backends.mujoco.model import ASSETS, quiet_mujoco
from envs.protocol import Array, Tasks
from envs.tasks.bodies import BodyPreset
from envs.tasks.families import GoalsToReach, uniform_disc

FINGERTIP = 3  # the body: world, upper arm, forearm, fingertip
HEIGHT = 0.01  # of the arm above the ground, m


def _arm() -> mujoco.MjSpec:
    """Read Gymnasium's reacher without its target: the goal is the task's and no body's."""
    with quiet_mujoco():
        spec = mujoco.MjSpec.from_file(str(ASSETS / "reacher.xml"))
    spec.delete(spec.body("target"))
    return spec


@dataclasses.dataclass(frozen=True)
class ReacherPreset(BodyPreset):
    """The cost of an action and the place of goals; the numbers are Reacher-v5's."""

    control_cost: float = 1.0
    goal_radius: float = 0.2  # goals are uniform on a disc of this radius, m


class ReacherGoal(GoalsToReach):
    """Bring the fingertip f to a goal g, uniform on a disc: reward -|f - g| - cost.

    Gymnasium's arm (two links of 0.1 m, two motors, RK4 at 0.01 s). Unlike in Reacher-v5 the goal
    is not observed.

    Presets: `maml_rl` (the default, this project's own: policy outputs in [-10, 10] are mapped onto
    the action range, so that exploring costs little), `gymnasium` (Reacher-v5's actions).
    """

    xml = _arm()
    fields = ("xpos",)
    goal_height, goal_size = HEIGHT, 0.012
    camera = {
        "type": int(mujoco.mjtCamera.mjCAMERA_FREE),
        "lookat": (0.0, 0.0, 0.0),
        "distance": 0.9,
        "elevation": -90.0,
        "azimuth": 90.0,
    }
    presets = {
        "maml_rl": ReacherPreset(frame_skip=2, horizon=50, action_scale=0.1),
        "gymnasium": ReacherPreset(frame_skip=2, horizon=50),
    }
    noise = (0.1, 0.005)
    preset: ReacherPreset

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw goals, [M, 2] in m."""
        return {"goal": uniform_disc(num_tasks, self.preset.goal_radius, rng)}

    def place(self, state: State) -> Any:
        """The fingertip's position in the plane, [..., 2] in m."""
        return state["xpos"][..., FINGERTIP, :2]

    def observe(self, state: State) -> Any:
        """Observation: the joints' cosines, sines and velocities, and the fingertip, [..., 8]."""
        xp, angles = namespace(state["qpos"]), state["qpos"]
        parts = [xp.cos(angles), xp.sin(angles), state["qvel"], self.place(state)]
        return xp.concatenate(parts, -1)

    def observed_position(self, observations: Array) -> Array:
        """The fingertip's position in the plane, [..., 2] in m."""
        return observations[..., 6:8]
