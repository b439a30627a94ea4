"""Families of tasks that several bodies share, as mixins: directions, headings, velocities, goals.

Each draws its tasks, names them, shows them in pictures and pays for them. To that comes what the
body earns and pays whatever its task (`Body.living`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.backends.mujoco.fields import State, namespace
from envs.backends.mujoco.single import Marker
from envs.protocol import Array, Task, TaskGrid, Tasks
from envs.tasks.bodies import Body, BodyPreset
from envs.trajectories import Trajectories, distance_run


class ForwardBackward(Body):
    """A direction along x, {"direction": [M]}: 1 or -1 with probability 1/2."""

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw directions, [M]."""
        return {"direction": rng.choice([1.0, -1.0], size=num_tasks)}

    def finite_tasks(self) -> Tasks:
        """Forward and backward."""
        return {"direction": np.array([1.0, -1.0])}

    def describe(self, task: Task) -> str:
        """The direction: "forward" or "backward"."""
        return "forward" if task["direction"] > 0 else "backward"

    def markers(self, task: Task) -> list[Marker]:
        """Show the direction as an arrow above the start."""
        return [arrow(np.array([1.5 * task["direction"], 0.0]), self.arrow_height)]

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward d * v_x + living, [...]."""
        return task["direction"] * self.velocity(before, after) + self.living(action, after)


class Headings(Body):
    """A heading in the plane, {"heading": [M, 2]}: a unit vector, uniform on the circle.

    The vector and not its angle is the task: an oracle reads it, and angles jump at a full turn.
    """

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw headings, [M, 2]."""
        return {"heading": uniform_headings(num_tasks, rng)}

    def grid(self, num_tasks: int, limits: tuple[float, float] | None = None) -> TaskGrid:
        """Headings at equal angles between the limits, degrees; None goes all around."""
        low, high = limits or (0.0, 360.0 * (1 - 1 / num_tasks))
        degrees = np.linspace(low, high, num_tasks)
        angle = np.radians(degrees)
        tasks = {"heading": np.stack([np.cos(angle), np.sin(angle)], axis=-1)}
        return TaskGrid(tasks, "heading, degrees", degrees)

    def describe(self, task: Task) -> str:
        """The heading in degrees, counter-clockwise from the x axis."""
        degrees = np.degrees(np.arctan2(task["heading"][1], task["heading"][0]))
        return f"heading {round(float(degrees)) % 360} degrees"

    def markers(self, task: Task) -> list[Marker]:
        """Show the heading as an arrow above the start."""
        return [arrow(1.5 * task["heading"], self.arrow_height)]

    def heading_velocity(self, before: State, after: State, task: Task) -> Any:
        """Mean velocity along the heading over a control step, [...] in m/s."""
        velocity = (self.place(after) - self.place(before)) / self.dt
        return (task["heading"] * velocity).sum(-1)

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward h . v + living, [...]."""
        return self.heading_velocity(before, after, task) + self.living(action, after)

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the velocity along the heading, [...] in m/s."""
        return {"heading_velocity": self.heading_velocity(before, after, task)}

    def trajectories(
        self, tasks: Tasks, observations: Array, info: Mapping[str, Array]
    ) -> Trajectories | None:
        """Distance of episodes along the heading."""
        return distance_run(info.get("heading_velocity"), self.dt, "distance along the heading")


@dataclasses.dataclass(frozen=True)
class VelocityPreset(BodyPreset):
    """A source's target velocities."""

    velocities: tuple[float, float] = (0.0, 2.0)  # targets are uniform between them, m/s


class TargetVelocities(Body):
    """A velocity along x, {"velocity": [M]} in m/s: uniform on the preset's `velocities`."""

    preset: VelocityPreset

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw target velocities, [M] in m/s."""
        return {"velocity": rng.uniform(*self.preset.velocities, size=num_tasks)}

    def grid(self, num_tasks: int, limits: tuple[float, float] | None = None) -> TaskGrid:
        """Velocities at equal distances; None takes the preset's range."""
        values = np.linspace(*(limits or self.preset.velocities), num_tasks)
        return TaskGrid({"velocity": values}, "target velocity, m/s", values)

    def describe(self, task: Task) -> str:
        """The velocity."""
        return f"{float(task['velocity']):.2f} m/s"

    def markers(self, task: Task) -> list[Marker]:
        """Show as an arrow above the start how far it goes in half a second."""
        return [arrow(np.array([0.5 * task["velocity"], 0.0]), self.arrow_height)]

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward -|v_x - v*| + living, [...]."""
        difference = self.velocity(before, after) - task["velocity"]
        return self.living(action, after) - abs(difference)

    def trajectories(
        self, tasks: Tasks, observations: Array, info: Mapping[str, Array]
    ) -> Trajectories | None:
        """Position x, and the position that the target velocity leads to."""
        return distance_run(info.get("x_velocity"), self.dt, "x from the start", tasks["velocity"])


class Goals:
    """A goal in the plane, {"goal": [M, 2]} in m; where goals are drawn is the body's to say."""

    goal_height = 0.0  # of the sphere's centre, m
    goal_size = 0.15  # the sphere's radius, m
    unit = "m"  # of length

    def describe(self, task: Task) -> str:
        """The place of the goal."""
        x, y = (round(float(part), 2) + 0.0 for part in task["goal"])  # + 0: no "-0.00"
        return f"goal ({x:.2f}, {y:.2f})"

    def markers(self, task: Task) -> list[Marker]:
        """Show the goal as a sphere."""
        x, y = (float(part) for part in task["goal"])
        return [Marker((x, y, self.goal_height), size=self.goal_size)]

    def observed_position(self, observations: Array) -> Array | None:
        """Position in the plane, [..., 2] in m; None, the default, where it is not observed."""
        return None

    def trajectories(
        self, tasks: Tasks, observations: Array, info: Mapping[str, Array]
    ) -> Trajectories | None:
        """Paths to the goals, where positions are observed."""
        position = self.observed_position(observations)
        return None if position is None else Trajectories(position, self.unit, tasks["goal"])


class GoalsToReach(Goals, Body):
    """A goal that a body is to reach: reward -|p - g| + living."""

    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Reward -|p - g| + living, [...]."""
        return self.living(action, after) - planar_distance(self.place(after), task["goal"])

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Record the distance to the goal, [...] in m."""
        return {"distance": planar_distance(self.place(after), task["goal"])}


def uniform_headings(num_tasks: int, rng: np.random.Generator) -> Array:
    """Draw unit vectors in the plane, [M, 2], uniform on the circle."""
    angle = rng.uniform(0.0, 2 * np.pi, size=num_tasks)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def uniform_disc(num_tasks: int, radius: float, rng: np.random.Generator) -> Array:
    """Draw points, [M, 2], uniform on a disc around the origin."""
    headings = uniform_headings(num_tasks, rng)
    return radius * np.sqrt(rng.uniform(size=(num_tasks, 1))) * headings


def planar_distance(position: Any, goal: Any) -> Any:
    """Distance |position - goal| of points [..., 2], [...] in m."""
    offset = position - goal
    return namespace(offset).sqrt((offset * offset).sum(-1))


def arrow(vector: Array, height: float) -> Marker:
    """Show a vector [2] in the plane, m, as an arrow that begins above the origin."""
    return Marker((0.0, 0.0, height), to=(float(vector[0]), float(vector[1]), height), size=0.05)
