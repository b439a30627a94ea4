"""One task of a MuJoCo distribution as a Gymnasium environment, and its pictures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from gymnasium import spaces

from envs.backends.mujoco.fields import State, compute, on_demand, read
from envs.backends.mujoco.model import FULL, check_stable, memory_error, quiet_mujoco
from envs.backends.task_env import TaskEnv
from envs.protocol import Array, Task

if TYPE_CHECKING:
    from envs.backends.mujoco.distribution import MujocoTaskDistribution

_TRAVEL = (int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_SLIDE))


@dataclasses.dataclass(frozen=True)
class Marker:
    """Something drawn into a picture to show a task: a goal, a heading."""

    position: tuple[float, float, float]  # m, in the world
    to: tuple[float, float, float] | None = None  # an arrow's tip; None draws a sphere
    size: float = 0.1  # radius of the sphere or of the arrow's shaft, m
    rgba: tuple[float, float, float, float] = (0.1, 0.7, 0.2, 1.0)


class MujocoTaskEnv(TaskEnv):
    """One task of a MuJoCo task distribution as a Gymnasium environment.

    Its action space is the body's own (`action_scale` belongs to the batched form and to exported
    policies).
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        distribution: MujocoTaskDistribution,
        task: Task | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> None:
        super().__init__(distribution, task, render_mode)
        self.action_space: spaces.Box = distribution.action_space
        self.model, self.data = distribution.model, mujoco.MjData(distribution.model)
        self._size = (width, height)
        self._renderer: Any = None

    def _start(self) -> tuple[Array, dict[str, Any]]:
        if self.distribution.varies:
            self.close()  # the renderer draws the task's model
            self.model = self.distribution.task_model(self._task)
            self.data = mujoco.MjData(self.model)
        mujoco.mj_resetData(self.model, self.data)
        if self.distribution.resets:
            for field, value in self.distribution.start(self.np_random).items():
                getattr(self.data, field)[:] = value
        with quiet_mujoco():
            mujoco.mj_forward(self.model, self.data)
        self._check_memory()
        return self.distribution.observe(self._state()), {}

    def _advance(self, action: Array) -> tuple[Array, Any, Any, Any, dict[str, Any]]:
        distribution, before = self.distribution, self._state()
        applied = np.clip(action, self.action_space.low, self.action_space.high)
        for field, value in distribution.control(before, applied).items():
            getattr(self.data, field)[:] = value
        with quiet_mujoco():
            mujoco.mj_step(self.model, self.data, nstep=distribution.frame_skip)
        check_stable(self.data)
        self._check_memory()
        after = self._state()
        return (
            distribution.observe(after),
            distribution.reward(before, applied, after, self._task),
            distribution.terminated(after, self._task),
            False,
            distribution.info(before, applied, after, self._task),
        )

    def render(self) -> Any:
        """Draw the body; an RGB array [height, width, 3], or None where no mode was chosen."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            width, height = self._size
            screen = self.model.vis.global_
            screen.offwidth, screen.offheight = (
                max(screen.offwidth, width),
                max(screen.offheight, height),
            )
            self._renderer = mujoco.Renderer(self.model, height, width)
            # a shadow map shades a large floor in patches that come and go as a body moves
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._renderer.update_scene(self.data, self._camera())
        for marker in self.distribution.markers(self._task):
            _draw(marker, self._renderer.scene)
        return self._renderer.render().copy()

    def _camera(self) -> mujoco.MjvCamera:
        """Follow the first body where it can travel; the distribution's `camera` comes first.

        An arm's base stays where it is: its first link only turns, and a camera on it would rock.
        """
        camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(self.model, camera)
        joints = self.model.jnt_type[self.model.jnt_bodyid == 1]
        if np.isin(joints, _TRAVEL).any():
            camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, 1
        for name, value in self.distribution.camera.items():
            setattr(camera, name, value)
        return camera

    def close(self) -> None:
        """Close the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _state(self) -> State:
        compute(on_demand(self.distribution.fields), self.model, self.data)
        return read(self.data, self.distribution.fields)

    def _check_memory(self) -> None:
        if any(self.data.warning[kind].number for kind in FULL):
            raise memory_error("the simulation", self.model)


def _draw(marker: Marker, scene: mujoco.MjvScene) -> None:
    """Add a marker to a scene."""
    geom = scene.geoms[scene.ngeom]
    scene.ngeom += 1
    shape = mujoco.mjtGeom.mjGEOM_SPHERE if marker.to is None else mujoco.mjtGeom.mjGEOM_ARROW
    mujoco.mjv_initGeom(
        geom,
        shape,
        np.full(3, marker.size),
        np.array(marker.position, dtype=np.float64),
        np.eye(3).ravel(),
        np.array(marker.rgba, dtype=np.float32),
    )
    if marker.to is not None:
        start, end = np.array(marker.position), np.array(marker.to)
        mujoco.mjv_connector(geom, shape, marker.size, start, end)
