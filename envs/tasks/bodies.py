"""Gymnasium's bodies: initial states, velocities, cost of actions, reward of standing."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Any

import numpy as np

from envs.backends.mujoco.distribution import MujocoTaskDistribution
from envs.backends.mujoco.fields import State, namespace
from envs.backends.mujoco.preset import Preset
from envs.protocol import Task


@dataclasses.dataclass(frozen=True)
class BodyPreset(Preset):
    """A source's body."""

    control_cost: float = 0.0  # weight of the squared norm of the applied action


@dataclasses.dataclass(frozen=True)
class FallingPreset(BodyPreset):
    """A source's body that may fall: reward of standing, definition of a fall."""

    survival: float = 1.0  # reward of a step that leaves the body healthy
    survival_on_fall: bool = False  # the step that falls earns it too
    terminates: bool = True  # a fall ends the episode
    heights: tuple[float, float] = (-np.inf, np.inf)  # of a healthy torso, m


class Body(MujocoTaskDistribution):
    """One of Gymnasium's bodies; by default it moves forward: reward v_x + living."""

    noise = (0.1, 0.1)  # at the start, of pose and velocity
    arrow_height = 1.2  # of the arrow that shows a direction or a velocity in pictures, m
    normal_velocity = False  # the velocity's noise is normal; uniform otherwise
    preset: BodyPreset

    def reset(self, rng: np.random.Generator) -> State:
        """Add noise to pose and velocity as Gymnasium's v5 does, draw for draw."""
        (pose, speed), size = self.noise, self.model.nv
        qpos = self.model.qpos0 + rng.uniform(-pose, pose, size=self.model.nq)
        if self.normal_velocity:
            return {"qpos": qpos, "qvel": speed * rng.standard_normal(size)}
        return {"qpos": qpos, "qvel": rng.uniform(-speed, speed, size=size)}

    def place(self, state: State) -> Any:
        """The body's first two coordinates, x and y of those that move in the plane, [..., 2]."""
        return state["qpos"][..., :2]

    def velocity(self, before: State, after: State) -> Any:
        """Mean velocity along x over a control step, [...] in m/s."""
        return (self.place(after)[..., 0] - self.place(before)[..., 0]) / self.dt

    def control_cost(self, action: Any) -> Any:
        """Cost weight * |action|^2, [...]."""
        return self.preset.control_cost * (action * action).sum(-1)

    def living(self, action: Any, after: State) -> Any:
        """Reward of a step whatever the task: minus the cost of the action, [...]."""
        return -self.control_cost(action)

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward v_x + living, [...]."""
        return self.velocity(before, after) + self.living(action, after)

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the velocity along x, [...] in m/s."""
        return {"x_velocity": self.velocity(before, after)}


class FallingBody(Body):
    """A body that earns for being healthy, and whose episode a fall may end."""

    preset: FallingPreset

    @abstractmethod
    def healthy(self, state: State) -> Any:
        """Whether the body has not fallen, [...] bool."""

    def survival(self, after: State) -> Any:
        """Reward of surviving the step, [...]."""
        return self.preset.survival * (self.healthy(after) | self.preset.survival_on_fall)

    def living(self, action: Any, after: State) -> Any:
        """Reward of surviving less the cost of the action, [...]."""
        return self.survival(after) - self.control_cost(action)

    def terminated(self, state: State, task: Task) -> Any:
        """End where the body has fallen, if the preset says so, [...] bool."""
        return ~self.healthy(state) & self.preset.terminates


def joint_state(state: State, start: int, *others: Any) -> Any:
    """Observation: qpos from its number `start` on, qvel, and others [..., N], in one [..., O]."""
    parts = [state["qpos"][..., start:], state["qvel"], *others]
    return namespace(state["qpos"]).concatenate(parts, -1)
