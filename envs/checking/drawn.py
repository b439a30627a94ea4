"""Tasks for the checks, and the sizes of a distribution in words."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim

from envs.episodes import ContractError, calling, name_of
from envs.protocol import TaskDistribution, Tasks, count_tasks, draw_tasks


def spaces_in_words(distribution: TaskDistribution) -> str:
    """Sizes of the observations and of the actions."""
    acted = distribution.action_space
    numbered = " numbered" if isinstance(acted, spaces.Discrete) else ""
    observed = flatdim(distribution.observation_space)
    return f"{observed} observations, {flatdim(acted)}{numbered} actions"


def parameters(distribution: TaskDistribution) -> str:
    """The parts of a task: names, shapes and the range seen in 200 samples."""
    finite = distribution.finite_tasks()
    tasks = drawn_tasks(distribution, 200) if finite is None else finite
    ranges = []
    for name, leaf in tasks.items():
        values = np.asarray(leaf)
        size = f" {list(values.shape[1:])}" if values.ndim > 1 else ""
        low, high = (f"{float(end):.3g}" for end in (values.min(), values.max()))
        ranges.append(f"{name}{size} from {low} to {high}")
    few = "" if finite is None else f" ({count_tasks(finite)} tasks)"
    return "; ".join(ranges) + few


def drawn_tasks(distribution: TaskDistribution, count: int, seed: int = 0) -> Tasks:
    """Draw tasks and check their leading size."""
    with calling(distribution, f"sample({count}, rng)"):
        tasks = draw_tasks(distribution, count, np.random.default_rng(seed))
    check_leaves(distribution, f"sample({count}, rng)", tasks)
    return tasks


def check_leaves(distribution: TaskDistribution, method: str, tasks: Tasks) -> None:
    """Check that tasks are finite numbers."""
    name = name_of(distribution)
    count_tasks(tasks)
    for key, leaf in tasks.items():
        if leaf.dtype.kind not in "biuf":
            raise ContractError(
                f"{name}.{method} must return arrays of numbers, but {key!r} is {leaf.dtype}."
            )
        if not np.isfinite(leaf).all():
            raise ContractError(f"{name}.{method} must return finite numbers, {key!r} is not.")


def check_alike(distribution: TaskDistribution, method: str, tasks: Tasks, drawn: Tasks) -> None:
    """Compare names and shapes with those of drawn tasks."""
    shapes = [{key: np.shape(leaf)[1:] for key, leaf in some.items()} for some in (tasks, drawn)]
    if shapes[0] != shapes[1]:
        raise ContractError(
            f"{name_of(distribution)}.{method} must return tasks like sample's, with arrays "
            f"{shapes[1]} for each task, not {shapes[0]}."
        )


def same_tasks(first: Tasks, second: Tasks) -> bool:
    """Whether two batches of tasks are equal, name by name."""
    return first.keys() == second.keys() and all(
        np.array_equal(leaf, second[name]) for name, leaf in first.items()
    )
