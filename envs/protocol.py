"""Task distributions: what they promise, what a batch of tasks is, and the stored splits.

Letters: M tasks, B slots (episodes) per task, O observation size, A action size.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.errors import UserError

Array = NDArray[Any]
Tasks = dict[str, Array]
"""M tasks as arrays with leading size M, for example {"direction": [M]}."""


class Step(NamedTuple):
    """What one control step of every environment gave; inactive rows hold no meaning."""

    observations: Array  # [M, B, O]
    rewards: Array  # [M, B]
    terminated: Array  # [M, B] bool: the task ended the episode (a time-out is not one)
    info: dict[str, Array]  # leaves [M, B]
    truncated: Array | None = None  # [M, B] bool: a time limit of the environment's own cut it off

    @property
    def ended(self) -> Array:
        """Where the episode is over, by the task or by a time limit of its own, [M, B] bool."""
        return self.terminated if self.truncated is None else self.terminated | self.truncated


class BatchedEnv(Protocol):
    """M x B environments that step together."""

    def set_tasks(self, tasks: Tasks) -> None:
        """Give every task's B slots their task; leaves have leading size M."""

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


@runtime_checkable
class TaskDistribution(Protocol):
    """A distribution over tasks that share one observation and one action space.

    `sample` draws M tasks from the generator it is given and from nothing else. `make` returns
    M x B environments whose episodes end by themselves (`Step.terminated`) or are cut off by the
    caller after `horizon` steps.

    Optional: `held_out`, a distribution with the same spaces whose tasks `make`'s environments
    take too: test tasks are drawn from it instead. `trajectories(tasks, observations, info)`, what
    figures show of episodes (`envs.trajectories.Trajectories`), None for nothing: tasks' leaves
    [M, ...], observations [M, T + 1, B, O] with those after the last step, info's leaves [M, T, B].
    """

    @property
    def name(self) -> str:
        """By which runs and results are called."""
        ...

    @property
    def observation_space(self) -> spaces.Box:
        """Box of shape [O]."""
        ...

    @property
    def action_space(self) -> spaces.Box | spaces.Discrete:
        """Box of shape [A], or Discrete(A) where actions are numbered."""
        ...

    @property
    def horizon(self) -> int:
        """Steps after which an episode is cut off (T)."""
        ...

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw tasks; leaves [M, ...]."""
        ...

    def finite_tasks(self) -> Tasks | None:
        """All tasks there are, where they are few (two directions); None where they are many."""
        ...

    def describe(self, task: Tasks) -> str:
        """Name one task (leaves without the leading M) in plots, tables and file names."""
        ...

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedEnv:
        """Build M x B environments, stepped on `threads` threads."""
        ...


class Splits(NamedTuple):
    """The stored tasks that a run is validated and tested on."""

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


def held_out(distribution: TaskDistribution) -> TaskDistribution:
    """Return the distribution that test tasks come from: `held_out`, or the distribution itself."""
    own: TaskDistribution | None = getattr(distribution, "held_out", None)
    return distribution if own is None else own


def task_at(tasks: Tasks, index: int) -> Tasks:
    """Return one task, leaves without the leading M."""
    return {name: leaf[index] for name, leaf in tasks.items()}


def check_shape(name: str, method: str, values: Any, shape: tuple[int, ...]) -> None:
    """Compare the shape of what a distribution's method returned with what it must be.

    Raises:
        UserError: naming the distribution, the method and the expected shape.
    """
    found: tuple[int, ...] = np.shape(values)
    if found != tuple(shape):
        raise UserError(
            f"{name}.{method} must return an array of shape {tuple(shape)}, not {found}; index "
            f"from the end ([..., 0], sum(-1)), so that one formula holds for any leading shape."
        )


def check_info(name: str, method: str, info: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Check that what a step records beside the reward is numbers, one for each episode.

    Raises:
        UserError: naming the leaf of another kind or shape.
    """
    for key, leaf in info.items():
        call = f"{method}[{key!r}]"
        check_shape(name, call, leaf, shape)
        kind = np.asarray(leaf).dtype
        if kind.kind not in "biuf":
            raise UserError(f"{name}.{call} must be numbers or bool, not {_kind(kind)}.")


def _kind(dtype: np.dtype[Any]) -> str:
    return {"U": "text", "S": "text", "O": "objects"}.get(dtype.kind, str(dtype))


def check_success(name: str, values: Array, happened: Array) -> None:
    """Check that recorded success is 0 or 1, which rates are made of.

    Args:
        name: of the distribution.
        values: [M, T, B], or [M, B] of one step.
        happened: of the same shape, where a step was taken.

    Raises:
        UserError: naming the first other value.
    """
    wrong = np.asarray(happened & (values != 0) & (values != 1))  # NaN is neither
    if wrong.any():
        raise UserError(
            f'{name}: info["success"] must be 0 or 1 (or bool), not {values[wrong][0]:g}.'
        )


def take_tasks(tasks: Tasks, index: Array | slice) -> Tasks:
    """Return the tasks at `index`, as copies."""
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
    """Return a fixed set of tasks for validation or test.

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


class TaskGrid(NamedTuple):
    """Tasks in the order of a scalar parameter."""

    tasks: Tasks  # leaves [M, ...]
    parameter: str  # its name, with its unit where it is known
    values: Array  # [M], rising


def task_grid(
    distribution: TaskDistribution, num_tasks: int, limits: tuple[float, float] | None = None
) -> TaskGrid:
    """Return tasks at equal distances of a scalar parameter (a velocity, a heading, a gravity).

    Args:
        distribution: whose tasks have one scalar leaf, or that has `grid(num_tasks, limits)`.
        num_tasks: M.
        limits: lowest and highest value, in the range that is sampled from or out of it; None takes
            the range of a thousand sampled tasks.

    Raises:
        UserError: if its tasks are not told apart by a scalar.
    """
    own: Callable[..., TaskGrid] | None = getattr(distribution, "grid", None)
    if own is not None:
        return own(num_tasks, limits)
    drawn = draw_tasks(distribution, 1000, np.random.default_rng(0))
    shapes = {name: leaf.shape[1:] for name, leaf in drawn.items()}
    (name, leaf), *others = drawn.items()
    if others or leaf.ndim > 1 or leaf.dtype.kind != "f" or distribution.finite_tasks() is not None:
        told = ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items())
        raise UserError(
            f"{distribution.name} has no grid of tasks: they are told apart by {told}, which is "
            f"no continuous scalar; use the stored ones."
        )
    low, high = (leaf.min(), leaf.max()) if limits is None else limits
    values = np.linspace(low, high, num_tasks)
    return TaskGrid({name: values}, name, values)


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
    task: Tasks | None = None,
    render_mode: str | None = None,
    **arguments: Any,
) -> gymnasium.Env[Any, Any]:
    """Build the environment for `gymnasium.make("envs:maml_rl/...")`.

    Args:
        distribution: the class, as "module:name".
        task: fixes the task; leaves without the leading M. None draws one at every reset.
        render_mode: "rgb_array" or None.
        **arguments: `width` and `height` of the picture; the rest is the distribution's own
            (preset, horizon, action_scale, ...).
    """
    size = {key: arguments.pop(key) for key in ("width", "height") if key in arguments}
    built = pkgutil.resolve_name(distribution)(**arguments)
    env: gymnasium.Env[Any, Any] = built.single(task, render_mode, **size)
    return env
