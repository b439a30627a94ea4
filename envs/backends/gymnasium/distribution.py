"""Any Gymnasium environment as a task distribution, by its id and a class that sets tasks."""

from __future__ import annotations

import importlib
import pkgutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation

from envs.arguments import integer_at_least, number
from envs.backends.gymnasium.batch import BatchedGymnasium
from envs.backends.task_env import TaskEnv
from envs.episodes import described, episode_seed
from envs.errors import ArgumentError, UserError
from envs.protocol import Array, Task, TaskDistribution, Tasks, draw_tasks, snake_case, task_at

Env = gymnasium.Env[Any, Any]


class SetTask(Protocol):
    """A source of tasks for one Gymnasium environment: draws tasks, and writes one into it.

    Optional, as a distribution has them: `name`, `finite_tasks()`, `describe(task)`.
    """

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw tasks from `rng`; leaves [M, ...]."""
        ...

    def apply(self, env: Any, task: Task) -> None:
        """Write a task (leaves without the leading M) into the unwrapped environment.

        Called before every reset, on an environment that may have had other tasks.
        """


class GymnasiumTaskDistribution(TaskDistribution):
    """Base of task distributions on a Gymnasium environment.

    A subclass writes `sample` and `apply` (see `SetTask`); `finite_tasks` and `describe` where the
    defaults do not fit; `build` where the environment does not come from `gymnasium.make`.
    Observations are flattened by Gymnasium's own wrapper; actions are a Box or Discrete.

    Args:
        id: as for `gymnasium.make`; "module:Name-v0" imports the module that registers it.
        horizon: steps per episode; None takes the time limit that the id was registered with.
        action_scale: of a Box, applied action = clip(action_scale * action).
        kwargs: keyword arguments of the environment's constructor.
        record: numbers in the environment's info to keep beside the reward ("success", or
            "is_success" as gymnasium-robotics and stable-baselines3 name it).

    Raises:
        UserError: if the environment cannot be built, has no time limit while none is given, or
            has observations or actions that are no flat array.
    """

    def __init__(
        self,
        id: str | None,
        horizon: int | None = None,
        action_scale: float = 1.0,
        kwargs: Mapping[str, Any] | None = None,
        record: Sequence[str] = (),
    ) -> None:
        if id is None:
            raise ArgumentError(
                "id is missing: name a Gymnasium environment, such as id=Pendulum-v1.", "id"
            )
        self.id, self.kwargs = id, dict(kwargs or {})
        self.record = (record,) if isinstance(record, str) else tuple(record)
        self.action_scale = number("action_scale", action_scale, above=0)
        self.horizon = integer_at_least("horizon", self._limit() if horizon is None else horizon)
        env = self.build()
        try:
            self.native_action_space = env.action_space
            self.observation_space = _float_box(env.observation_space, self.id)
            self.action_space = _flat_actions(env.action_space, self.id)
            with _one_sentence(f"{self.name}.sample(1, rng) raised an error"):
                task = task_at(draw_tasks(self, 1, np.random.default_rng(0)), 0)
            with _one_sentence(f"{self.name}.apply(env, task) raised an error"):
                self.apply(env.unwrapped, task)
        finally:
            env.close()

    # What a subclass writes.

    @abstractmethod
    def apply(self, env: Any, task: Task) -> None:
        """Write a task into the unwrapped environment."""

    def build(self, render_mode: str | None = None) -> Env:
        """Build one environment with flat observations and no time limit.

        Raises:
            UserError: if Gymnasium cannot build it.
        """
        with _one_sentence(f"id={self.id} cannot be built"):
            env = gymnasium.make(
                str(self.id),
                max_episode_steps=-1,  # the sampler cuts episodes off after `horizon` steps
                disable_env_checker=True,
                **({} if render_mode is None else {"render_mode": render_mode}),
                **self.kwargs,
            )
            return FlattenObservation(env)

    # What follows from it.

    def applied(self, action: Any) -> Any:
        """Applied action: clip(action_scale * action) within a Box; numbered actions unchanged."""
        if isinstance(self.action_space, spaces.Discrete):
            return action
        low, high = self.action_space.low, self.action_space.high
        return np.clip(self.action_scale * np.asarray(action), low, high)

    def native(self, action: Any) -> Any:
        """One applied action, [A] or a number, in the form of the environment."""
        space = self.native_action_space
        if isinstance(space, spaces.Discrete):
            return space.start + int(action)
        return np.reshape(action, space.shape or ()).astype(space.dtype)

    def begin(self, env: Env, task: Task, seed: int) -> Array:
        """Write a task into an environment and reset it; its first observation, [O].

        Raises:
            UserError: if the task's spaces are not the distribution's.
        """
        self.apply(env.unwrapped, task)
        where = f"{self.name}.apply(env, task) must leave"
        if env.action_space != self.native_action_space:
            raise UserError(
                f"{where} actions of {self.native_action_space}, not {env.action_space}: all tasks "
                f"share one action space."
            )
        observation, _ = env.reset(seed=seed)
        wanted, shape = self.observation_space.shape, np.shape(observation)
        if shape != wanted:
            raise UserError(
                f"{where} observations of shape {wanted}, not {shape}: all tasks share one "
                f"observation space."
            )
        return observation

    @property
    def recorded_names(self) -> list[str]:
        """The names of the numbers of `record` in info; `is_success` becomes success."""
        return ["success" if name == "is_success" else name for name in self.record]

    def recorded(self, info: Mapping[str, Any]) -> list[float]:
        """Read the numbers that `record` names out of one environment's info.

        Raises:
            UserError: if one is missing.
        """
        for name in self.record:
            if name not in info:
                names = ", ".join(sorted(map(str, info))) or "nothing"
                raise ArgumentError(
                    f"record names {name}, which the info of {self.id} lacks; it has {names}.",
                    "record",
                )
        return [float(info[name]) for name in self.record]

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedGymnasium:
        """Build M x B environments in `threads` worker processes; 1 steps them in this one."""
        return BatchedGymnasium(self, num_tasks, slots_per_task, threads)

    def single(
        self, task: Task | None = None, render_mode: str | None = None, **size: Any
    ) -> GymnasiumTaskEnv:
        """Build the Gymnasium environment of one task (leaves without the leading M).

        Args:
            task: fixes the task; None draws one at every reset.
            render_mode: "rgb_array" or None.
            **size: of the picture; not used, since `kwargs` may set it.
        """
        return GymnasiumTaskEnv(self, task, render_mode)

    def _limit(self) -> int:
        """Time limit that the environment's id was registered with."""
        module, _, name = str(self.id).rpartition(":")
        with _one_sentence(f"id={self.id} cannot be found"):
            if module:
                importlib.import_module(module)
            limit = gymnasium.spec(name).max_episode_steps
        if limit is None:
            raise ArgumentError(
                f"{self.id} has no time limit of its own: give horizon=<steps>.", "horizon"
            )
        return limit


class GymnasiumTasks(GymnasiumTaskDistribution):
    """A Gymnasium environment by its id, and a class that draws tasks and writes them into it.

    Args:
        id: as for `gymnasium.make`; "module:Name-v0" imports the module that registers it.
        set_task: a class with `sample` and `apply` (see `SetTask`), an object of one, its dotted
            path, my_tasks.PendulumGravity, or a dictionary of that, "_target_", and its arguments.
        **options: see `GymnasiumTaskDistribution`.
    """

    def __init__(
        self,
        id: str | None = None,
        set_task: SetTask | type | str | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.set_task = _set_task(set_task)
        self.name = getattr(self.set_task, "name", snake_case(type(self.set_task).__name__))
        super().__init__(id, **options)

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw tasks from `rng`; leaves [M, ...]."""
        return self.set_task.sample(num_tasks, rng)

    def apply(self, env: Any, task: Task) -> None:
        """Write a task (leaves without the leading M) into the unwrapped environment."""
        self.set_task.apply(env, task)

    def finite_tasks(self) -> Tasks | None:
        """All tasks, where `set_task` lists them."""
        method = getattr(self.set_task, "finite_tasks", None)
        return None if method is None else method()

    def describe(self, task: Task) -> str:
        """Name of one task (leaves without the leading M), from `set_task` where it has one."""
        method = getattr(self.set_task, "describe", super().describe)
        return method(task)


def _set_task(given: SetTask | type | str | Mapping[str, Any] | None) -> SetTask:
    """An object with `sample` and `apply`: what was given, or one of the class it names."""
    options: dict[str, Any] = {}
    if isinstance(given, Mapping):  # {_target_: my_tasks.PendulumGravity, low: 5}
        options = {str(key): value for key, value in given.items()}
        given = options.pop("_target_", None)
    source: Any = given
    if given is None:
        raise ArgumentError(
            "set_task is missing: name a class with sample(num_tasks, rng) and "
            "apply(env, task), such as set_task=my_tasks.PendulumGravity.",
            "set_task",
        )
    if isinstance(given, str):
        with _one_sentence(f"set_task={given} cannot be imported"):
            source = pkgutil.resolve_name(given)
    with _one_sentence(f"set_task={given} cannot be built"):
        built = source(**options) if isinstance(source, type) else source
    for method in ("sample(num_tasks, rng)", "apply(env, task)"):
        if not callable(getattr(built, method.partition("(")[0], None)):
            raise ArgumentError(f"set_task={given} must define {method}.", "set_task")
    checked: SetTask = built
    return checked


@contextmanager
def _one_sentence(beginning: str) -> Iterator[None]:
    """Turn an error of a user's code into a UserError that begins with `beginning`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise ArgumentError(f"{beginning} ({described(error)}).", "id", "set_task") from error


def _float_box(space: spaces.Space[Any], id: str | None) -> spaces.Box:
    """Box [O] that flattened observations lie in, of floating-point numbers."""
    if not isinstance(space, spaces.Box):
        raise UserError(f"observations of {id} cannot be flattened into one array: {space}.")
    if np.issubdtype(space.dtype, np.floating):
        return space
    return spaces.Box(space.low.astype(float), space.high.astype(float), dtype=np.float64)


def _flat_actions(space: spaces.Space[Any], id: str | None) -> spaces.Box | spaces.Discrete:
    """Space of a policy's actions: a Box [A], or Discrete(A) counted from 0."""
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return spaces.Box(space.low.ravel(), space.high.ravel(), dtype=space.dtype.type)
    raise UserError(
        f"actions of {id} are {space}, but must be a Discrete space or a Box of floating-point "
        f"numbers: wrap the environment in a gymnasium.ActionWrapper that takes one of these."
    )


class GymnasiumTaskEnv(TaskEnv):
    """One task of a Gymnasium task distribution as a Gymnasium environment.

    Observations are flat; actions are the environment's own (`action_scale` belongs to the batched
    form), flat too, and clipped to the action space.
    """

    def __init__(
        self,
        distribution: GymnasiumTaskDistribution,
        task: Task | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(distribution, task, render_mode)
        self.env = distribution.build(render_mode)
        self.metadata = self.env.metadata

    def _start(self) -> tuple[Array, dict[str, Any]]:
        start = self.distribution.begin(self.env, self._task, episode_seed(self.np_random))
        return start.astype(self.observation_space.dtype), {}

    def _advance(self, action: Any) -> tuple[Array, Any, Any, Any, dict[str, Any]]:
        if isinstance(self.action_space, spaces.Box):
            action = np.clip(action, self.action_space.low, self.action_space.high)
        observation, *rest = self.env.step(self.distribution.native(action))
        return observation.astype(self.observation_space.dtype), *rest

    def render(self) -> Any:
        """Picture of the environment; None where no mode was chosen.

        Raises:
            UserError: if what it draws with is not installed.
        """
        with _one_sentence(f"{self.distribution.name} cannot be drawn"):
            return None if self.render_mode is None else self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
