"""Task distributions: their protocol, batches of tasks, and the stored splits.

Letters: M tasks, B slots (episodes) per task, O observation size, A action size.
"""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.errors import ArgumentError, NoGymnasiumFormError, UserError
from envs.recorded import Recorded

Array = NDArray[Any]
Tasks = dict[str, Array]
"""M tasks as arrays with leading size M, for example {"direction": [M]}."""
Task = dict[str, Array]
"""One task: the leaves of `Tasks` without the leading M."""


class Step(NamedTuple):
    """The result of one control step of every environment; inactive rows have no meaning."""

    observations: Array  # [M, B, O]
    rewards: Array  # [M, B]
    terminated: Array  # [M, B] bool: the task ended the episode (a time-out is not one)
    info: dict[str, Array]  # leaves [M, B]
    truncated: Array | None = None  # [M, B] bool: a time limit of the environment's own cut it off

    @property
    def ended(self) -> Array:
        """Where the episode is over, by the task or by a time limit of its own, [M, B] bool."""
        return self.terminated if self.truncated is None else self.terminated | self.truncated

    def replaced(self, rows: Array, other: Step) -> Step:
        """This step with the `rows` [M, B] of another one; info as this one has it."""
        cut_off = [False if step.truncated is None else step.truncated for step in (other, self)]
        return Step(
            np.where(rows[..., None], other.observations, self.observations),
            np.where(rows, other.rewards, self.rewards),
            np.where(rows, other.terminated, self.terminated),
            {name: np.where(rows, other.info[name], leaf) for name, leaf in self.info.items()},
            np.where(rows, *cut_off),
        )


class BatchedEnv(Protocol):
    """M x B environments that step together."""

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the task of every task's B slots; leaves have leading size M."""

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        """Begin a new episode in every slot, row m * B + b from its own generator; [M, B, O]."""
        ...

    def step(self, actions: Array, active: Array) -> Step:
        """Step the rows where `active` [M, B] is true with `actions` [M, B, A].

        Numbered actions (a Discrete space) are whole numbers [M, B].
        """
        ...

    def close(self) -> None:
        """Free the simulations."""


class TaskDistribution(Recorded, ABC):
    """A distribution over tasks that share one observation and one action space.

    A class of yours inherits from this one, sets the spaces and the horizon, and writes `sample`
    and `make`; everything else has a default. Episodes end by themselves (`Step.terminated`) or are
    cut off by the caller after `horizon` steps.

    `held_out` is a distribution with the same spaces whose tasks `make`'s environments take too:
    test tasks are drawn from it, from this one where it is None. `measure` is "success" where a
    benchmark is reported in it: it picks the best checkpoint, as the return does otherwise.
    """

    observation_space: spaces.Box  # [O]
    action_space: spaces.Box | spaces.Discrete  # [A], or Discrete(A) where actions are numbered
    horizon: int  # steps after which an episode is cut off, T
    action_scale: float = 1.0  # by which `applied` multiplies
    held_out: TaskDistribution | None = None
    measure: str = "return"
    presets: ClassVar[Mapping[str, Any]] = {}
    preset_name: str | None = None  # of the preset that was chosen

    @cached_property
    def name(self) -> str:
        """The class's name in snake case, which is the name of runs and results."""
        return snake_case(type(self).__name__)

    @abstractmethod
    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw tasks from `rng` and from nothing else; leaves [M, ...]."""

    @abstractmethod
    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedEnv:
        """Build M x B environments, stepped on `threads` threads."""

    def single(
        self,
        task: Task | None = None,
        render_mode: str | None = None,
        *,
        width: int = 480,
        height: int = 480,
    ) -> gymnasium.Env[Any, Any]:
        """Build the Gymnasium environment of one task.

        Args:
            task: fixes the task; None draws one at every reset.
            render_mode: "rgb_array" or None.
            width: of the picture, in pixels, where it can be chosen.
            height: of the picture, in pixels.

        Raises:
            NoGymnasiumFormError: by default.
        """
        raise NoGymnasiumFormError(
            f"{self.name} has no Gymnasium form, which pictures and films are made of: its class "
            f"needs a method single(task, render_mode)."
        )

    def finite_tasks(self) -> Tasks | None:
        """All tasks, where they are few (two directions); None where they are many."""
        return None

    def describe(self, task: Task) -> str:
        """Name of a task in plots, tables and file names; by default its numbers."""
        return ", ".join(
            f"{name}={np.asarray(leaf).round(3).tolist()}" for name, leaf in task.items()
        )

    def group_of(self, task: Task) -> str | None:
        """Group of a task in reports, None for none.

        By default each of the finite tasks is a group; the group of any other task is "".
        """
        finite = self.finite_tasks()
        if finite is None:
            return None
        same = [
            (np.reshape(finite[name], (len(finite[name]), -1)) == np.reshape(leaf, -1)).all(axis=1)
            for name, leaf in task.items()
        ]
        return self.describe(task) if np.all(same, axis=0).any() else ""

    def grid(self, num_tasks: int, limits: tuple[float, float] | None = None) -> TaskGrid:
        """Tasks at equal distances of a scalar parameter (a velocity, a heading, a gravity).

        Args:
            num_tasks: M.
            limits: lowest and highest value, in the range that is sampled from or out of it; None
                takes the range of a thousand sampled tasks.

        Raises:
            UserError: if tasks do not differ by one scalar.
        """
        drawn = draw_tasks(self, 1000, np.random.default_rng(0))
        (name, leaf), *others = drawn.items()
        if others or leaf.ndim > 1 or leaf.dtype.kind != "f" or self.finite_tasks() is not None:
            leaves = ", ".join(f"{key} {list(leaf.shape[1:])}" for key, leaf in drawn.items())
            raise UserError(
                f"{self.name} has no grid of tasks: they are told apart by {leaves}, which is "
                f"no continuous scalar; use the stored ones."
            )
        low, high = (leaf.min(), leaf.max()) if limits is None else limits
        values = np.linspace(low, high, num_tasks)
        return TaskGrid({name: values}, name, values)

    def optimal_return(self, tasks: Tasks) -> Array | None:
        """Expected return of a policy that knows its task, [M]; None where it is unknown."""
        return None

    def applied(self, action: Any) -> Any:
        """Applied action of a policy's output, [..., A]; by default the output."""
        return action

    def markers(self, task: Task) -> Sequence[Any]:
        """Marks of a task in pictures, such as its goal."""
        return ()

    def trajectories(
        self, tasks: Tasks, observations: Array, info: Mapping[str, Array]
    ) -> Trajectories | None:
        """Trajectories of episodes for figures; None, the default, for nothing.

        Args:
            tasks: leaves [M, ...].
            observations: [M, T + 1, B, O], the last of them after the last step.
            info: leaves [M, T, B].
        """
        return None


@dataclasses.dataclass(frozen=True)
class Trajectories:
    """Where M tasks' B episodes were, at their start and after each of T steps.

    Values after the end of an episode have no meaning.
    """

    values: Array  # [M, T + 1, B, 2] in the plane; [M, T + 1, B] over time
    unit: str  # of the values; "" for none
    targets: Array | None = None  # [M, 2] goals; [M, T + 1] what to follow; None: nothing to show
    label: str = ""  # of the values over time
    dt: float = 1.0  # seconds per step

    @property
    def in_plane(self) -> bool:
        """Whether these are paths through the plane."""
        return self.values.ndim == 4


class TaskGrid(NamedTuple):
    """Tasks in the order of a scalar parameter."""

    tasks: Tasks  # leaves [M, ...]
    parameter: str  # its name, with its unit where it is known
    values: Array  # [M], rising


def check_distribution(label: str, built: Any) -> None:
    """Refuse an object that is no task distribution.

    Args:
        label: the name that the user knows, such as env._target_=my_tasks.Mine.
        built: the object.

    Raises:
        UserError: naming the base class to inherit from.
    """
    if not isinstance(built, TaskDistribution):
        kind = type(built).__name__
        raise ArgumentError(
            f"{label} must be a task distribution, not {'None' if built is None else f'a {kind}'}: "
            f"inherit from the base class, class {'Mine' if built is None else kind}"
            f"(envs.TaskDistribution), and write sample and make; all else has a default.",
            label,
        )


def check_complete(constructor: Any) -> None:
    """Refuse a class that lacks a method which its base class leaves to it.

    Raises:
        UserError: naming the methods and their arguments.
    """
    missing = []
    for method in sorted(getattr(constructor, "__abstractmethods__", ())):
        arguments = list(inspect.signature(getattr(constructor, method)).parameters)[1:]
        missing.append(f"{method}({', '.join(arguments)})")
    if missing:
        raise UserError(f"{constructor.__name__} must define {' and '.join(missing)}.")


class Splits(NamedTuple):
    """The stored tasks for validation and test."""

    validation: Tasks
    test: Tasks


def count_tasks(tasks: Tasks) -> int:
    """Count the tasks of a batch (M).

    Raises:
        UserError: if leaves differ in leading size.
    """
    sizes = {name: len(leaf) for name, leaf in tasks.items()}
    if not sizes or len(set(sizes.values())) != 1:
        raise UserError(f"a batch of tasks needs arrays of one leading size, not {sizes}.")
    return next(iter(sizes.values()))


def check_count(tasks: Tasks, num_tasks: int) -> None:
    """Check that environments of M tasks are given M.

    Raises:
        UserError: if they are not.
    """
    if count_tasks(tasks) != num_tasks:
        raise UserError(f"expected {num_tasks} tasks, not {count_tasks(tasks)}.")


def held_out(distribution: TaskDistribution) -> TaskDistribution:
    """Distribution that test tasks come from: `held_out`, or the distribution itself."""
    return distribution if distribution.held_out is None else distribution.held_out


def task_at(tasks: Tasks, index: int) -> Task:
    """One task."""
    return {name: leaf[index] for name, leaf in tasks.items()}


def take_tasks(tasks: Tasks, index: Array | slice) -> Tasks:
    """Tasks at `index`, as copies."""
    return {name: leaf[index].copy() for name, leaf in tasks.items()}


def draw_tasks(distribution: TaskDistribution, count: int, rng: np.random.Generator) -> Tasks:
    """Draw `count` tasks and check their leading size.

    Raises:
        UserError: naming the distribution where an array has another leading size.
    """
    drawn = distribution.sample(count, rng)
    if not isinstance(drawn, Mapping) or not drawn:
        raise UserError(
            f"{distribution.name}.sample({count}, rng) must return a dictionary of arrays of "
            f"leading size {count}, not {drawn!r}."
        )
    tasks = {name: np.asarray(leaf) for name, leaf in drawn.items()}
    for name, leaf in tasks.items():
        if np.shape(leaf)[:1] != (count,):
            raise UserError(
                f"{distribution.name}.sample({count}, rng) must return arrays of leading size "
                f"{count}, but {name!r} has shape {np.shape(leaf)}."
            )
    return tasks


def stored_tasks(distribution: TaskDistribution, count: int, rng: np.random.Generator) -> Tasks:
    """A fixed set of tasks for validation or test.

    Finite sets are repeated in equal counts (in turn: forward, backward, forward, ...); others are
    drawn from `rng`, a stream that training never uses.

    Raises:
        UserError: if `count` is no multiple of the number of finite tasks.
    """
    finite = distribution.finite_tasks()
    if finite is None:
        return draw_tasks(distribution, count, rng)
    finite = {name: np.asarray(leaf) for name, leaf in finite.items()}
    size = count_tasks(finite)
    if count % size:
        raise UserError(
            f"{distribution.name} has {size} tasks, evaluated in equal counts: "
            f"ask for a multiple of {size} tasks, not {count}."
        )
    return take_tasks(finite, np.arange(count) % size)


def some_tasks(distribution: TaskDistribution, most: int, rng: np.random.Generator) -> Tasks:
    """The first `most` of finite tasks, each once; so many drawn from `rng` otherwise."""
    finite = distribution.finite_tasks()
    if finite is None:
        return draw_tasks(distribution, most, rng)
    return {name: np.array(leaf[:most]) for name, leaf in finite.items()}


def tasks_to_json(tasks: Tasks) -> dict[str, list[Any]]:
    """Write tasks as lists, exactly (JSON keeps a float64 to the bit)."""
    return {name: np.asarray(leaf).tolist() for name, leaf in tasks.items()}


def tasks_from_json(data: Mapping[str, Sequence[Any]]) -> Tasks:
    """Read what `tasks_to_json` wrote."""
    return {name: np.asarray(leaf) for name, leaf in data.items()}


def snake_case(name: str) -> str:
    """Write a class's name in snake case: HalfCheetahDir as half_cheetah_dir, MDP as mdp."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def make_env(
    distribution: str,
    task: Task | None = None,
    render_mode: str | None = None,
    **arguments: Any,
) -> gymnasium.Env[Any, Any]:
    """Build the environment for `gymnasium.make("envs:maml_rl/...")`.

    Args:
        distribution: the class, as "module:name".
        task: fixes the task; None draws one at every reset.
        render_mode: "rgb_array" or None.
        **arguments: `width` and `height` of the picture; the rest is the distribution's own
            (preset, horizon, action_scale, ...).
    """
    size = {key: arguments.pop(key) for key in ("width", "height") if key in arguments}
    built = pkgutil.resolve_name(distribution)(**arguments)
    env: gymnasium.Env[Any, Any] = built.single(task, render_mode, **size)
    return env
