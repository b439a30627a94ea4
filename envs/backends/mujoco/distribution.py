"""The base class of MuJoCo task distributions: pure functions of state, action and task.

A task distribution on a MuJoCo body defines observation, reward and the end of an episode. From the
same class come `BatchedMujoco` (all tasks and episodes as rows of one `mujoco.batch.Batch`) and
`MujocoTaskEnv` (one Gymnasium environment, for rendering and for other libraries), so that no task
is written twice.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces

from envs.answers import check_shape
from envs.arguments import one_of
from envs.backends.mujoco.batch import BatchedMujoco
from envs.backends.mujoco.fields import State, check_fields, namespace, read
from envs.backends.mujoco.model import check_task_model, load_model, quiet_mujoco
from envs.backends.mujoco.preset import Preset
from envs.backends.mujoco.single import MujocoTaskEnv
from envs.errors import UserError
from envs.protocol import Array, Task, TaskDistribution, Tasks
from envs.trajectories import Trajectories, distance_run

_STARTS = (  # fields of MjData that an episode may begin with
    *("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat", "qfrc_applied", "xfrc_applied"),
    "qacc_warmstart",
)
_XML_EXAMPLE = 'ASSETS / "hopper.xml"'  # from envs import ASSETS
_PRESETS_EXAMPLE = '{"mine": Preset(frame_skip=4, horizon=100)}'


class MujocoTaskDistribution(TaskDistribution):
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

    xml: ClassVar[str | Path | mujoco.MjSpec | None] = None
    presets: ClassVar[Mapping[str, Preset]]
    fields: ClassVar[tuple[str, ...]] = ()
    action_space: spaces.Box
    camera: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        preset: str | None = None,
        horizon: int | None = None,
        action_scale: float | None = None,
        **numbers: Any,
    ) -> None:
        cls = type(self).__name__
        if not self.xml:
            raise UserError(f"{cls} must define xml, such as xml = {_XML_EXAMPLE}.")
        if not self.presets:
            raise UserError(f"{cls} must define presets, such as presets = {_PRESETS_EXAMPLE}.")
        if not all(isinstance(preset, Preset) for preset in self.presets.values()):
            raise UserError(f"{cls}.presets must hold Presets: presets = {_PRESETS_EXAMPLE}.")
        name = next(iter(self.presets)) if preset is None else preset
        chosen = self.presets[one_of("preset", name, self.presets)]
        self.preset_name = name
        self.preset = chosen.override({"horizon": horizon, "action_scale": action_scale, **numbers})
        self.frame_skip, self.horizon = self.preset.frame_skip, self.preset.horizon
        self.action_scale = self.preset.action_scale
        self.model = load_model(self.xml)
        self.dt = float(self.model.opt.timestep) * self.frame_skip  # seconds per control step
        check_fields(cls, self.model, self.fields)
        data = mujoco.MjData(self.model)
        self._start_shapes = {field: getattr(data, field).shape for field in _STARTS}
        self.action_space = self._action_space()
        self.observation_space = self._observation_space()

    # What a subclass writes.

    @abstractmethod
    def observe(self, state: State) -> Any:
        """Observations [..., O]."""

    @abstractmethod
    def reward(self, before: State, action: Any, after: State, task: Task) -> Any:
        """Rewards [...] for `action` [..., A], scaled and clipped as it was applied."""

    def reset(self, rng: np.random.Generator) -> State:
        """Draw one episode's initial qpos [nq] and qvel [nv]; by default the model's, at rest."""
        return {"qpos": self.model.qpos0.copy(), "qvel": np.zeros(self.model.nv)}

    def control(self, state: State, action: Any) -> State:
        """MjData fields that an applied action sets before the physics steps."""
        return {"ctrl": action}

    def terminated(self, state: State, task: Task) -> Any:
        """Episodes that the task ends in `state`, [...] bool; by default none."""
        return np.zeros(state["qpos"].shape[:-1], dtype=bool)

    def info(self, before: State, action: Any, after: State, task: Task) -> dict[str, Any]:
        """Records beside the reward (success, parts), leaves [...]."""
        return {}

    def vary(self, model: mujoco.MjModel, task: Task) -> None:
        """Change `model`, a fresh copy of the pristine one, into the task's; by default not at all.

        Called once for each task (leaves without the leading M), before `mj_setConst`. Every field
        may change except `opt.timestep` and the actuators' `ctrlrange`, which all tasks share.
        """

    def spec(self, task: Task) -> mujoco.MjSpec | None:
        """The `MjSpec` of a task's model; None, the default, takes that of `xml`.

        For changes beyond a number of the compiled model, such as the length of a link. Models must
        have the same number of parts, in the same order. `vary` is given the compiled model.
        """
        return None

    def trajectories(
        self, tasks: Tasks, observations: Array, info: Mapping[str, Array]
    ) -> Trajectories | None:
        """Trajectories for figures: x, summed up of info's "x_velocity" in m/s if it is there."""
        return distance_run(info.get("x_velocity"), self.dt, "x from the start")

    # What follows from it.

    @property
    def varies(self) -> bool:
        """Whether tasks differ in dynamics: whether `vary` or `spec` is defined."""
        base = MujocoTaskDistribution
        return type(self).vary is not base.vary or type(self).spec is not base.spec

    @property
    def resets(self) -> bool:
        """Whether episodes begin elsewhere than at qpos0, at rest: whether `reset` is defined."""
        return type(self).reset is not MujocoTaskDistribution.reset

    def start(self, rng: np.random.Generator) -> State:
        """An initial state from `reset`, with its shapes checked.

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

    def task_model(self, task: Task) -> mujoco.MjModel:
        """A model for one task (leaves without the leading M), which shares no array.

        Raises:
            UserError: if it differs from the shared model in what all tasks share.
        """
        spec: Any = self.spec(task)
        if spec is not None and not isinstance(spec, mujoco.MjSpec):
            raise UserError(
                f"{self.name}.spec(task) must return a mujoco.MjSpec or None, not a "
                f"{type(spec).__name__}."
            )
        model = copy.copy(self.model) if spec is None else load_model(spec)
        if type(self).vary is not MujocoTaskDistribution.vary:
            self._vary(model, task)
        call = f"{self.name}.{'vary(model, task)' if spec is None else 'spec(task)'}"
        check_task_model(call, self.model, model)
        return model

    def _vary(self, model: mujoco.MjModel, task: Task) -> None:
        """Call `vary`, and compute the numbers that depend on the changed ones."""
        vary: Any = self.vary
        returned = vary(model, task)
        if returned is not None:
            raise UserError(
                f"{self.name}.vary(model, task) must change the model and return nothing, not a "
                f"{type(returned).__name__}: to compile a model of the task's own, write "
                f"spec(task), which returns a mujoco.MjSpec."
            )
        with quiet_mujoco():
            mujoco.mj_setConst(model, mujoco.MjData(model))

    def applied(self, action: Any) -> Any:
        """The applied action: clip(action_scale * action) within the action space."""
        xp = namespace(action)
        low, high = xp.asarray(self.action_space.low), xp.asarray(self.action_space.high)
        return xp.maximum(xp.minimum(self.action_scale * action, high), low)

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedMujoco:
        """Build M x B environments as rows of one `mujoco.batch.Batch`."""
        return BatchedMujoco(self, num_tasks, slots_per_task, threads)

    def single(
        self,
        task: Task | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> MujocoTaskEnv:
        """Build the Gymnasium environment of one task; arguments as `MujocoTaskEnv`'s."""
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
        state = read(mujoco.MjData(self.model), self.fields)
        try:
            size = np.shape(self.observe(state))
        except KeyError as error:
            raise UserError(
                f"{self.name}.observe(state) reads {error}, which is not in the state: add it to "
                f"{type(self).__name__}.fields."
            ) from error
        return spaces.Box(-np.inf, np.inf, shape=size, dtype=np.float64)
