"""Humanoid task distribution: walk along a heading."""

from __future__ import annotations

import dataclasses
from typing import Any

from envs.backends.mujoco.fields import State
from envs.backends.mujoco.model import ASSETS
from envs.protocol import Task
from envs.tasks.bodies import FallingBody, FallingPreset, joint_state
from envs.tasks.families import Headings


@dataclasses.dataclass(frozen=True)
class HumanoidPreset(FallingPreset):
    """A source's humanoid; the weights are those of Gymnasium's Humanoid-v5."""

    forward_weight: float = 1.25  # of the velocity along the heading
    control_cost: float = 0.1
    survival: float = 5.0
    heights: tuple[float, float] = (1.0, 2.0)  # of the torso, m, the limits excluded


class HumanoidDir(Headings, FallingBody):
    """Walk along a heading h, uniform on the circle: reward weight * h . v + survival - cost.

    v is the velocity of the whole body's centre of mass. Gymnasium's body (17 motors within 0.4,
    RK4 at 0.003 s); contact forces are neither observed nor charged. Survival is not earned on the
    step that ends an episode, as in Gymnasium. A task is the unit vector {"heading": [M, 2]}.

    Presets: `promp` (the default: outputs in [-10, 10] are mapped onto the action range), `pearl`
    (outputs in [-1, 1]), `gymnasium` (Humanoid-v5's actions and length).
    """

    xml = ASSETS / "humanoid.xml"
    fields = ("subtree_com", "cinert", "cvel", "qfrc_actuator")
    camera = {"distance": 5.0, "azimuth": 120.0, "elevation": -20.0}
    presets = {
        "promp": HumanoidPreset(frame_skip=5, horizon=200, action_scale=0.04),
        "pearl": HumanoidPreset(frame_skip=5, horizon=200, action_scale=0.4),
        "gymnasium": HumanoidPreset(frame_skip=5, horizon=1000),
    }
    noise = (0.01, 0.01)
    preset: HumanoidPreset

    def observe(self, state: State) -> Any:
        """Observations of Humanoid-v5 without contact forces, [..., 270].

        That is qpos without x and y, qvel, the bodies' inertias and velocities (the world's left
        out), and the motors' forces on the hinges.
        """
        inertias, velocities = state["cinert"][..., 1:, :], state["cvel"][..., 1:, :]
        flat = (part.reshape(*part.shape[:-2], -1) for part in (inertias, velocities))
        return joint_state(state, 2, *flat, state["qfrc_actuator"][..., 6:])

    def place(self, state: State) -> Any:
        """The whole body's centre of mass in the plane, [..., 2] in m."""
        return state["subtree_com"][..., 1, :2]  # of the torso and all that hangs on it

    def healthy(self, state: State) -> Any:
        """Whether the torso's height is within the preset's `heights`, [...] bool."""
        low, high = self.preset.heights
        height = state["qpos"][..., 2]
        return (low < height) & (height < high)

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward weight * h . v + survival - cost, [...]."""
        forward = self.preset.forward_weight * self.heading_velocity(before, after, task)
        return forward + self.survival(after) - self.control_cost(action)
