"""MuJoCo task distributions: one class of pure functions, a batched back end, a Gymnasium form.

A task distribution on a MuJoCo body says what is observed, what is rewarded and when an episode
ends. From the same class come `BatchedMujoco` (all tasks and episodes as rows of one
`mujoco.batch.Batch`) and `MujocoTaskEnv` (one Gymnasium environment, for rendering and for other
libraries), so that no task is written twice.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import gymnasium.envs.mujoco
import mujoco
import numpy as np
from gymnasium import spaces
from mujoco.batch import MODEL_FIELDS, Batch

from envs.arguments import flag, integer_at_least, number, one_of, pair
from envs.backends.task_env import TaskEnv
from envs.errors import SimulationError, UserError
from envs.protocol import Array, Step, Tasks, check_shape, count_tasks, snake_case, task_at
from envs.trajectories import Trajectories, distance_run

ASSETS = Path(gymnasium.envs.mujoco.__file__).parent / "assets"
"""The folder of Gymnasium's own MJCF files."""

State = dict[str, Any]
"""Fields of MjData by name, "qpos" and "qvel" among them, each a copy of shape [..., size]."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """What papers leave vague, given a source's name. Body-specific presets extend it."""

    frame_skip: int
    horizon: int
    action_scale: float = 1.0

    def override(self, values: Mapping[str, Any]) -> Preset:
        """Return this preset with some of its numbers replaced; None keeps a number.

        Raises:
            UserError: naming the number that is unknown, or whose value is of another kind.
        """
        given = {name: value for name, value in values.items() if value is not None}
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in given:
            if name not in known:
                raise UserError(f"env.{name} is unknown; there is {', '.join(sorted(known))}.")
        return dataclasses.replace(
            self, **{name: _like(name, value, known[name]) for name, value in given.items()}
        )


def _like(name: str, value: Any, default: Any) -> Any:
    """Check that `value` is of the kind of a preset's number, and return it as that."""
    if isinstance(default, bool):
        return flag(f"env.{name}", value)
    if isinstance(default, int):
        return integer_at_least(f"env.{name}", value)
    if isinstance(default, tuple):
        return pair(f"env.{name}", value)
    return number(f"env.{name}", value, above=0 if name == "action_scale" else None)


@dataclasses.dataclass(frozen=True)
class Marker:
    """Something drawn into a picture to show a task: a goal, a heading."""

    position: tuple[float, float, float]  # m, in the world
    to: tuple[float, float, float] | None = None  # an arrow's tip; None draws a sphere
    size: float = 0.1  # radius of the sphere or of the arrow's shaft, m
    rgba: tuple[float, float, float, float] = (0.1, 0.7, 0.2, 1.0)


_STARTS = (  # fields of MjData that an episode may begin with
    *("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat", "qfrc_applied", "xfrc_applied"),
    "qacc_warmstart",
)
_PRESETS_EXAMPLE = '{"mine": Preset(frame_skip=4, horizon=100)}'


def namespace(array: Any) -> ModuleType:
    """Return the module `array` belongs to, numpy or torch, so that one formula serves both."""
    if isinstance(array, np.ndarray | np.generic):
        return np
    import torch

    return torch


@contextmanager
def quiet_mujoco() -> Iterator[None]:
    """Keep MuJoCo's warnings out of the terminal and MUJOCO_LOG.TXT out of people's folders.

    They are about deprecated MJCF, or about instability, which is raised as an error. A handler set
    by the caller is lost: MuJoCo offers no way to read it.
    """
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)


def load_model(xml: str | Path | mujoco.MjSpec) -> mujoco.MjModel:
    """Compile an MJCF file, or an MjSpec, with constraint islands off.

    That is 5 % faster and was bit-identical on half-cheetah, ant, walker2d, hopper, swimmer and
    humanoid.

    Raises:
        UserError: if the file is missing or is not valid MJCF.
    """
    if not isinstance(xml, mujoco.MjSpec) and not Path(xml).is_file():
        raise UserError(f"there is no MJCF file {xml}.")
    what = f"the MjSpec {xml.modelname!r}" if isinstance(xml, mujoco.MjSpec) else str(xml)
    with quiet_mujoco():
        try:
            if isinstance(xml, mujoco.MjSpec):
                model = xml.copy().compile()
            else:
                model = mujoco.MjModel.from_xml_path(str(xml))
        except ValueError as error:
            raise UserError(f"MuJoCo cannot compile {what}: {error}") from error
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    return model


class MujocoTaskDistribution:
    """Base of task distributions on one MuJoCo body.

    A subclass names its `xml` (a path, or an MjSpec), its `presets` (the first is the default) and
    the `fields` of MjData it reads beside qpos and qvel, and writes `sample`, `observe` and
    `reward`; `reset`, `control`, `terminated`, `vary`, `info`, `markers` and `trajectories` where
    the defaults do not fit. These are pure functions of their arguments, for any leading shape, in
    numpy or torch.

    Args:
        preset: name of one of `presets`; None takes the first.
        horizon: control steps per episode; None takes the preset's.
        action_scale: applied action = clip(action_scale * action); None takes the preset's.
        **numbers: any other number of the preset by its name; None takes the preset's.
    """

    xml: ClassVar[str | Path | mujoco.MjSpec]
    presets: ClassVar[Mapping[str, Preset]]
    fields: ClassVar[tuple[str, ...]] = ()
    camera: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        preset: str | None = None,
        horizon: int | None = None,
        action_scale: float | None = None,
        **numbers: Any,
    ) -> None:
        own = type(self).__name__
        for attribute, example in (("xml", '"hopper.xml"'), ("presets", _PRESETS_EXAMPLE)):
            if not getattr(self, attribute, None):
                raise UserError(f"{own} must define {attribute}, such as {attribute} = {example}.")
        if not all(isinstance(one, Preset) for one in self.presets.values()):
            raise UserError(f"{own}.presets must hold Presets: presets = {_PRESETS_EXAMPLE}.")
        name = next(iter(self.presets)) if preset is None else preset
        chosen = self.presets[one_of("env.preset", name, self.presets)]
        self.preset_name = name
        self.preset = chosen.override({"horizon": horizon, "action_scale": action_scale, **numbers})
        self.frame_skip, self.horizon = self.preset.frame_skip, self.preset.horizon
        self.action_scale = self.preset.action_scale
        self.model = load_model(self.xml)
        self.dt = float(self.model.opt.timestep) * self.frame_skip  # seconds per control step
        data = mujoco.MjData(self.model)
        for field in self.fields:
            if not hasattr(data, field):
                raise UserError(f"{own}.fields names {field}, which is no field of MjData.")
        self._start_shapes = {field: getattr(data, field).shape for field in _STARTS}
        self.action_space = self._action_space()
        self.observation_space = self._observation_space()

    @property
    def name(self) -> str:
        """The class's name in snake case, by which a run and its results are called."""
        return snake_case(type(self).__name__)

    # What a subclass writes.

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw tasks from `rng`; leaves [M, ...]."""
        raise TypeError(f"{type(self).__name__} must define sample(num_tasks, rng).")

    def observe(self, state: State) -> Any:
        """Return observations [..., O]."""
        raise TypeError(f"{type(self).__name__} must define observe(state).")

    def reward(self, before: State, action: Any, after: State, task: Tasks) -> Any:
        """Return rewards [...] for `action` [..., A], scaled and clipped as it was applied."""
        raise TypeError(f"{type(self).__name__} must define reward(before, action, after, task).")

    def finite_tasks(self) -> Tasks | None:
        """All tasks there are, where they are few; None otherwise."""
        return None

    def describe(self, task: Tasks) -> str:
        """Name one task (leaves without the leading M) in plots, tables and file names."""
        return ", ".join(
            f"{name}={np.asarray(leaf).round(3).tolist()}" for name, leaf in task.items()
        )

    def reset(self, rng: np.random.Generator) -> State:
        """Draw one episode's initial qpos [nq] and qvel [nv]; by default the model's, at rest."""
        return {"qpos": self.model.qpos0.copy(), "qvel": np.zeros(self.model.nv)}

    def control(self, state: State, action: Any) -> State:
        """Return the MjData fields an applied action writes before the physics steps."""
        return {"ctrl": action}

    def terminated(self, state: State, task: Tasks) -> Any:
        """Return which episodes the task ends in `state`, [...] bool; by default none."""
        return np.zeros(state["qpos"].shape[:-1], dtype=bool)

    def info(self, before: State, action: Any, after: State, task: Tasks) -> dict[str, Any]:
        """Return what is worth recording beside the reward (success, parts), leaves [...]."""
        return {}

    def vary(self, model: mujoco.MjModel, task: Tasks) -> None:
        """Change `model`, a fresh copy of the pristine one, into the task's; by default not at all.

        Called once for each task (leaves without the leading M), before `mj_setConst`.
        """

    def markers(self, task: Tasks) -> Sequence[Marker]:
        """Return what pictures of a task show beside the body, such as its goal."""
        return ()

    def trajectories(
        self, tasks: Tasks, observations: Array, info: Mapping[str, Array]
    ) -> Trajectories | None:
        """Return what figures show of episodes, None for nothing; by default x where it is told.

        Args:
            tasks: leaves [M, ...].
            observations: [M, T + 1, B, O], the last of them after the last step.
            info: leaves [M, T, B]; "x_velocity" in m/s sums up to x.
        """
        return distance_run(info.get("x_velocity"), self.dt, "x from the start")

    # What follows from it.

    @property
    def varies(self) -> bool:
        """Whether tasks differ in dynamics: whether `vary` is defined."""
        return type(self).vary is not MujocoTaskDistribution.vary

    @property
    def resets(self) -> bool:
        """Whether episodes begin elsewhere than at qpos0, at rest: whether `reset` is defined."""
        return type(self).reset is not MujocoTaskDistribution.reset

    def start(self, rng: np.random.Generator) -> State:
        """Return what `reset` draws, its shapes checked.

        Raises:
            UserError: naming the field that is unknown or of another shape.
        """
        drawn = self.reset(rng)
        call = f"{self.name}.reset(rng)"
        if not isinstance(drawn, Mapping):
            raise UserError(f'{call} must return {{"qpos": ..., "qvel": ...}}, not {drawn!r}.')
        for field, value in drawn.items():
            if field not in self._start_shapes:
                known = ", ".join(self._start_shapes)
                raise UserError(f"{call} returned {field!r}, but a start is made of {known}.")
            check_shape(self.name, f"reset(rng)[{field!r}]", value, self._start_shapes[field])
        return drawn

    def task_model(self, task: Tasks) -> mujoco.MjModel:
        """Return a task's own model (leaves without the leading M), which shares no array."""
        model = copy.copy(self.model)
        self.vary(model, task)
        with quiet_mujoco():
            mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def applied(self, action: Any) -> Any:
        """Return clip(action_scale * action) within the action space."""
        xp = namespace(action)
        low, high = xp.asarray(self.action_space.low), xp.asarray(self.action_space.high)
        return xp.maximum(xp.minimum(self.action_scale * action, high), low)

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedMujoco:
        """Build M x B environments as rows of one `mujoco.batch.Batch`."""
        return BatchedMujoco(self, num_tasks, slots_per_task, threads)

    def single(
        self,
        task: Tasks | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> MujocoTaskEnv:
        """Build the Gymnasium environment of one task (leaves without the leading M).

        Args:
            task: fixes the task; None draws one at every reset.
            render_mode: "rgb_array" or None.
            width: of the picture, in pixels.
            height: of the picture, in pixels.
        """
        return MujocoTaskEnv(self, task, render_mode, width, height)

    def _action_space(self) -> spaces.Box:
        for index in np.flatnonzero(self.model.actuator_ctrllimited == 0):
            raise UserError(
                f"actuator {self.model.actuator(int(index)).name or index} of {self.xml} has no "
                f"ctrlrange; give it one, the action space is made of them."
            )
        low, high = self.model.actuator_ctrlrange.astype(np.float32).T
        return spaces.Box(low, high, dtype=np.float32)

    def _observation_space(self) -> spaces.Box:
        state = _read(mujoco.MjData(self.model), self.fields)
        try:
            size = np.shape(self.observe(state))
        except KeyError as error:
            raise UserError(
                f"{self.name}.observe(state) reads {error}, which is not in the state: add it to "
                f"{type(self).__name__}.fields."
            ) from error
        return spaces.Box(-np.inf, np.inf, shape=size, dtype=np.float64)


def _read(data: mujoco.MjData, fields: tuple[str, ...]) -> State:
    """Copy qpos, qvel and `fields` out of an MjData."""
    return {name: getattr(data, name).copy() for name in ("qpos", "qvel", *fields)}


UNSTABLE = [
    int(mujoco.mjtWarning.mjWARN_BADQPOS),
    int(mujoco.mjtWarning.mjWARN_BADQVEL),
    int(mujoco.mjtWarning.mjWARN_BADQACC),
    int(mujoco.mjtWarning.mjWARN_BADCTRL),
]
CAUSES = "(a NaN action, a model that `vary` made impossible, or physics that diverged)"


def _model_field(model: mujoco.MjModel, field: str) -> Array:
    """Return a field of a model by the name it has for `Batch.expand`."""
    owner = model.opt if field.startswith("opt.") else model
    return np.asarray(getattr(owner, field.removeprefix("opt.")))


def _model_fields(model: mujoco.MjModel) -> dict[str, bytes]:
    """Return the content of every field that tasks may have values of their own of, if any."""
    names = (name for name in MODEL_FIELDS if not name.startswith(("name", "text", "key", "plug")))
    kinds = {True: mujoco.MjOption, False: mujoco.MjModel}
    known = [
        name
        for name in sorted(names)
        if hasattr(kinds[name.startswith("opt.")], name.removeprefix("opt."))
    ]
    content = {name: _model_field(model, name).tobytes() for name in known}
    return {name: bits for name, bits in content.items() if bits}


class BatchedMujoco:
    """M tasks x B slots of one body, stepped in lockstep on a thread pool; row m * B + b.

    Results are bit-identical to serial `mj_step` at any number of threads.
    """

    def __init__(
        self, distribution: MujocoTaskDistribution, num_tasks: int, slots: int, threads: int = 1
    ) -> None:
        self.distribution = distribution
        self.shape = (num_tasks, slots)
        threads = min(threads, num_tasks * slots)
        self._batch = Batch(distribution.model, num_tasks * slots, nthread=threads)
        self._views = {
            field: self._batch.bind(field)
            for field in ("qpos", "qvel", "ctrl", *distribution.fields)
        }  # bound before the first reset: a field bound later is empty until the next call
        self._shared = _model_fields(distribution.model) if distribution.varies else {}
        self._varied: set[str] = set()  # fields of the model that tasks have their own values of
        self._task: Tasks = {}
        self._state: State = {}

    def set_tasks(self, tasks: Tasks) -> None:
        """Give task m's slots their task; leaves [M, ...].

        Raises:
            UserError: if the number of tasks is not M.
        """
        if count_tasks(tasks) != self.shape[0]:
            raise UserError(f"expected {self.shape[0]} tasks, not {count_tasks(tasks)}.")
        self._task = {
            name: np.broadcast_to(np.array(leaf)[:, None], (*self.shape, *leaf.shape[1:]))
            for name, leaf in tasks.items()  # copies: the caller may write into theirs later
        }
        if self.distribution.varies:
            self._set_models(tasks)

    def _set_models(self, tasks: Tasks) -> None:
        """Give every row its task's model.

        Only fields in which some task differs from the shared model are stored per row.
        """
        distribution = self.distribution
        each = [task_at(tasks, index) for index in range(self.shape[0])]
        models = [distribution.task_model(task) for task in each]
        for field, shared in self._shared.items():
            values = [_model_field(model, field) for model in models]
            if field in self._varied or any(own.tobytes() != shared for own in values):
                self._varied.add(field)
                self._batch.expand(field)[:] = np.repeat(values, self.shape[1], axis=0)

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        """Begin a new episode in every row from its own generator; observations [M, B, O]."""
        batch = self._batch
        batch.reset(stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        if self.distribution.resets:
            starts = [self.distribution.start(rng) for rng in rngs]
            for field in starts[0]:
                batch.bind(field)[:] = [start[field] for start in starts]
        with quiet_mujoco():
            batch.forward()
        self._state = self._read()
        return self._observed(self._state)

    def step(self, actions: Array, active: Array) -> Step:
        """Apply `actions` [M, B, A] for one control step in the rows where `active` [M, B] is true.

        Raises:
            SimulationError: naming task and slot, if MuJoCo found a simulation unstable (it resets
                such a row silently).
        """
        distribution, before = self.distribution, self._state
        applied = distribution.applied(actions)
        rows = None if active.all() else active.ravel()
        for field, value in distribution.control(before, applied).items():
            view = self._views[field] if field in self._views else self._batch.bind(field)
            running = active.reshape(-1, *(1,) * (view.ndim - 1))
            np.copyto(view, value.reshape(view.shape), where=running)
        with quiet_mujoco():
            self._batch.step(ids=rows, nstep=distribution.frame_skip)
        self._raise_if_unstable()
        after = self._state = self._read()
        step = Step(
            observations=self._observed(after),
            rewards=distribution.reward(before, applied, after, self._task),
            terminated=distribution.terminated(after, self._task),
            info=distribution.info(before, applied, after, self._task),
        )
        name = distribution.name
        check_shape(name, "reward(before, action, after, task)", step.rewards, self.shape)
        check_shape(name, "terminated(state, task)", step.terminated, self.shape)
        for key, leaf in step.info.items():
            check_shape(name, f"info(before, action, after, task)[{key!r}]", leaf, self.shape)
        return step

    def _observed(self, state: State) -> Array:
        observations = self.distribution.observe(state)
        wanted = (*self.shape, *self.distribution.observation_space.shape)
        check_shape(self.distribution.name, "observe(state)", observations, wanted)
        return observations.copy()  # it may be the state itself

    def close(self) -> None:
        """Free the simulations."""
        del self._batch, self._views

    def _read(self) -> State:
        """Copy qpos, qvel and the distribution's fields, [M, B, ...]."""
        state = {}
        for name in ("qpos", "qvel", *self.distribution.fields):
            copy = self._views[name].copy()
            state[name] = copy.reshape(*self.shape, *copy.shape[1:])
        return state

    def _raise_if_unstable(self) -> None:
        if not self._batch.warning.any():
            return
        unstable = self._batch.warning[:, UNSTABLE, 1].any(axis=1)
        if unstable.any():
            task, slot = divmod(int(np.flatnonzero(unstable)[0]), self.shape[1])
            raise SimulationError(
                f"the simulation of task {task}, episode {slot} became unstable {CAUSES}"
            )


class MujocoTaskEnv(TaskEnv):
    """One task of a MuJoCo task distribution as a Gymnasium environment.

    Its action space is the body's own (`action_scale` belongs to the batched form and to exported
    policies). Episodes are cut off after the distribution's horizon. `reset` draws a new task from
    the environment's generator unless one was fixed, by `task=`, by `set_task` or by
    `reset(options={"task": ...})`; `info["task"]` says which.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        distribution: MujocoTaskDistribution,
        task: Tasks | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> None:
        super().__init__(distribution, task, render_mode)
        self.action_space: spaces.Box = distribution.action_space
        self.model, self.data = distribution.model, mujoco.MjData(distribution.model)
        self._size = (width, height)
        self._renderer: Any = None
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; `options={"task": ...}` fixes the task first."""
        self._begin(seed, options)
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
        self._steps = 0
        return self.distribution.observe(self._state()), self._info({})

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Apply `action` [A] of the native action space for one control step."""
        distribution, before = self.distribution, self._state()
        applied = np.clip(action, self.action_space.low, self.action_space.high)
        for field, value in distribution.control(before, applied).items():
            getattr(self.data, field)[:] = value
        with quiet_mujoco():
            mujoco.mj_step(self.model, self.data, nstep=distribution.frame_skip)
        if any(self.data.warning[kind].number for kind in UNSTABLE):
            raise SimulationError(f"the simulation became unstable {CAUSES}")
        after = self._state()
        self._steps += 1
        return (
            distribution.observe(after),
            float(distribution.reward(before, applied, after, self._task)),
            bool(distribution.terminated(after, self._task)),
            self._steps >= distribution.horizon,
            self._info(distribution.info(before, applied, after, self._task)),
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
        """Follow the first body, unless the distribution's `camera` says otherwise."""
        camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(self.model, camera)
        if self.model.nbody > 1:
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
        return _read(self.data, self.distribution.fields)


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
