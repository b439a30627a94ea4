"""Promises of spaces and tasks: what is there, what is drawn, and from which generator."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from envs.checking.authored import leaving_global_generators
from envs.checking.drawn import (
    check_alike,
    check_leaves,
    drawn_tasks,
    parameters,
    same_tasks,
    spaces_in_words,
)
from envs.checking.promise import NotApplicableError
from envs.episodes import ContractError, calling, name_of, row_seeds, traced
from envs.protocol import (
    Task,
    TaskDistribution,
    Tasks,
    check_distribution,
    count_tasks,
    held_out,
    take_tasks,
    task_at,
)


def check_spaces(distribution: TaskDistribution) -> str:
    """Name, spaces, horizon and methods are there and of the right kind."""
    name = name_of(distribution)
    check_distribution(name, distribution)
    for method in ("sample", "finite_tasks", "describe", "make"):
        if not callable(getattr(distribution, method, None)):
            raise ContractError(f"{name} has no method {method}.")
    for attribute in ("name", "observation_space", "action_space", "horizon"):
        if not hasattr(distribution, attribute):
            raise ContractError(f"{name} has no attribute {attribute}.")
    if not isinstance(distribution.name, str) or not distribution.name:
        raise ContractError(f"{name}.name must be a string, not {distribution.name!r}.")
    horizon: Any = distribution.horizon
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise ContractError(f"{name}.horizon must be a whole number of at least 1, not {horizon}.")
    observed, acted = distribution.observation_space, distribution.action_space
    if not _is_flat(observed):
        raise ContractError(
            f"{name}.observation_space must be a gymnasium.spaces.Box of shape (O,), not "
            f"{observed}."
        )
    discrete = isinstance(acted, spaces.Discrete) and acted.start == 0
    if not discrete and not _is_flat(acted):
        raise ContractError(
            f"{name}.action_space must be a gymnasium.spaces.Box of shape (A,), or Discrete(A) "
            f"with numbers from 0, not {acted}."
        )
    return f"{spaces_in_words(distribution)}, horizon {horizon}"


def check_tasks(distribution: TaskDistribution) -> str:
    """`sample`, `finite_tasks` and `describe` agree on names and shapes, for any M."""
    name, drawn = name_of(distribution), drawn_tasks(distribution, 5)
    check_leaves(distribution, "sample(5, rng)", drawn)
    check_alike(distribution, "sample(1, rng)", drawn_tasks(distribution, 1), drawn)
    finite = distribution.finite_tasks()
    if finite is not None:
        finite = {key: np.asarray(leaf) for key, leaf in finite.items()}
        check_leaves(distribution, "finite_tasks()", finite)
        check_alike(distribution, "finite_tasks()", finite, drawn)
        for index in range(5):
            if not _is_among(task_at(drawn, index), finite):
                raise ContractError(
                    f"{name}.sample(5, rng) drew {_short(task_at(drawn, index))}, which is not "
                    f"among {name}.finite_tasks()."
                )
    for index in range(5):
        with calling(distribution, "describe(task)"):
            described = distribution.describe(task_at(drawn, index))
        if not isinstance(described, str) or not described:
            raise ContractError(f"{name}.describe(task) must return a string, not {described!r}.")
    return parameters(distribution)


def check_sampling(distribution: TaskDistribution) -> str:
    """`sample` draws from the generator it is given, and from nothing else."""
    name = name_of(distribution)
    with leaving_global_generators(distribution, "sample(num_tasks, rng)"):
        first = drawn_tasks(distribution, 32, seed=1)
        copied = take_tasks(first, slice(None))
        second, other = (
            take_tasks(drawn_tasks(distribution, 32, seed), slice(None)) for seed in (1, 2)
        )
    if not same_tasks(copied, second):
        raise ContractError(
            f"{name}.sample(num_tasks, rng) drew other tasks from an equal generator: draw from "
            f"rng alone."
        )
    if not same_tasks(copied, first):
        raise ContractError(
            f"{name}.sample(num_tasks, rng) changed the arrays it had returned before: return new "
            f"ones."
        )
    finite = distribution.finite_tasks()
    if same_tasks(copied, other) and (finite is None or count_tasks(finite) > 1):
        raise ContractError(
            f"{name}.sample(num_tasks, rng) draws the same tasks from every generator: draw from "
            f"rng.",
            implies=("tasks differ",),
        )
    return "equal generators give equal tasks, others give others"


def check_held_out(distribution: TaskDistribution) -> str:
    """Held-out tasks, where there are any, fit the same environments."""
    name, other = name_of(distribution), held_out(distribution)
    if other is distribution:
        raise NotApplicableError("there are no held-out tasks: test tasks are drawn like others")
    for space in ("observation_space", "action_space"):
        expected, given = getattr(distribution, space), getattr(other, space, None)
        if expected != given:
            raise ContractError(
                f"{name}.held_out.{space} must be {name}'s, {expected}, not {given}."
            )
    tasks = drawn_tasks(other, 2)
    check_alike(distribution, "held_out.sample(2, rng)", tasks, drawn_tasks(distribution, 2))
    traced(distribution, tasks, row_seeds(2, 2))
    return "held-out tasks fit the same environments"


def _is_flat(space: Any) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0


def _is_among(task: Task, tasks: Tasks) -> bool:
    return any(same_tasks(task, task_at(tasks, index)) for index in range(count_tasks(tasks)))


def _short(task: Task) -> str:
    return ", ".join(f"{name}={np.asarray(leaf).tolist()}" for name, leaf in task.items())
