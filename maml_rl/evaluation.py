"""Evaluating adaptation: returns before and after each inner step, on tasks kept for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.task_distribution import TaskDistribution, Tasks, count_tasks, task_at
from maml_rl.adapted import task_returns, task_success
from maml_rl.meta_learner import MetaLearner
from maml_rl.randomness import Key, Purpose
from maml_rl.rollout import Params, Rollout
from maml_rl.sampling import Sampler
from maml_rl.statistics import Values, bootstrap_interval

MOST_GROUPS = 6  # columns of the table of returns


class Evaluation(NamedTuple):
    """Returns of M tasks after 0 ... K inner steps."""

    tasks: Tasks  # leaves [M, ...]
    returns: Values  # [K + 1, M], mean over each task's episodes
    groups: dict[str, NDArray[np.bool_]]  # tasks by label, [M]: each of a finite set of tasks
    success: Values | None = None  # [K + 1, M], share of a task's episodes; None: not told
    rollouts: Sequence[Rollout] = ()  # K + 1, each of M tasks


def evaluate(
    learner: MetaLearner,
    meta: Params,
    distribution: TaskDistribution,
    tasks: Tasks,
    steps: int,
    num_episodes: int,
    sampler: Sampler,
    key: Key,
    later_scale: float | Sequence[float] = 1.0,
    source: TaskDistribution | None = None,
) -> Evaluation:
    """Adapt to every task for `steps` inner steps, `num_episodes` episodes before and after each.

    The learner's own inner loop is used, whatever number of steps it was trained with; steps beyond
    that number are scaled by `later_scale` (Finn et al. 2017 halve them). `source` is where the
    tasks come from and are grouped by, if that is not `distribution`, whose environments they run
    in.
    """
    num_tasks = count_tasks(tasks)
    with closing(
        sampler.collector(distribution, learner.policy, num_tasks, num_episodes)
    ) as collector:
        rollouts = learner.collect(collector, meta, tasks, steps, key, later_scale).rollouts
    groups = task_groups(source or distribution, tasks)
    return Evaluation(tasks, task_returns(rollouts), groups, task_success(rollouts), rollouts)


def task_groups(distribution: TaskDistribution, tasks: Tasks) -> dict[str, NDArray[np.bool_]]:
    """Group tasks by what the distribution's `group_of(task)` says, or by which of few they are.

    Empty where there is neither, or where there are too many for a table. Groups that none of
    `tasks` belongs to are left out.
    """
    group_of: Callable[[Tasks], str] | None = getattr(distribution, "group_of", None)
    if group_of is not None:
        labels = [group_of(task_at(tasks, index)) for index in range(count_tasks(tasks))]
        named = {label: np.array([own == label for own in labels]) for label in sorted({*labels})}
        return named if len(named) <= MOST_GROUPS else {}
    finite = distribution.finite_tasks()
    if finite is None or count_tasks(finite) > MOST_GROUPS:
        return {}
    groups = {}
    for index in range(count_tasks(finite)):
        task = {name: leaf[index] for name, leaf in finite.items()}
        same = [
            (tasks[name].reshape(len(tasks[name]), -1) == value.reshape(1, -1)).all(axis=1)
            for name, value in task.items()
        ]
        members = np.all(same, axis=0)
        if members.any():
            groups[distribution.describe(task)] = members
    return groups


def adaptation_curve(returns: Values, key: Key, what: str = "return") -> list[dict[str, Any]]:
    """Summarise returns [K + 1, M] as one object per inner step, with 95 % intervals over tasks.

    The same resamples serve every step, so that intervals of different steps are comparable.
    """
    return [
        {
            "step": step,
            f"{what}_mean": float(values.mean()),
            f"{what}_ci95": list(bootstrap_interval(values, key.generator(Purpose.BOOTSTRAP))),
            "per_task": values.tolist(),
        }
        for step, values in enumerate(returns)
    ]


def gain(returns: Values, key: Key) -> dict[str, Any]:
    """Summarise what the first inner step gains, per task, with its 95 % interval."""
    gains = returns[1] - returns[0]
    interval = bootstrap_interval(gains, key.generator(Purpose.BOOTSTRAP))
    return {"mean": float(gains.mean()), "ci95": list(interval)}


def summary(evaluation: Evaluation, key: Key) -> dict[str, Any]:
    """Return the statistics that evaluation.json holds."""
    success = evaluation.success
    return {
        "curve": adaptation_curve(evaluation.returns, key),
        **({} if success is None else {"success": adaptation_curve(success, key, "success")}),
        "gain_of_first_step": gain(evaluation.returns, key),
        "groups": {
            label: adaptation_curve(evaluation.returns[:, members], key)
            for label, members in evaluation.groups.items()
        },
    }
