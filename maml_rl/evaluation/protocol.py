"""Evaluating adaptation: returns before and after each inner step, on stored tasks.

Learners with memory take no steps: they are followed through a trial as long as the episodes that
the others adapt on, and compared where both have seen the same number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
from gymnasium.spaces.utils import flatdim
from numpy.typing import NDArray

from envs.protocol import TaskDistribution, Tasks, count_tasks, task_at
from envs.wrappers.trials import Trials
from maml_rl.algorithm.diagnostics import task_returns, task_success
from maml_rl.algorithm.inner_loop.loop import stack
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.evaluation.result import before
from maml_rl.evaluation.statistics import Strata, Values
from maml_rl.randomness import Key
from maml_rl.sampling import Sampler

MOST_GROUPS = 6  # columns of the table of returns


class Course(NamedTuple):
    """The experience of M tasks' learners before some of their episodes, [N, M] each."""

    returns: Values  # of those episodes
    env_steps: Values  # of the task, seen before them
    cumulative: Values  # sum of the returns of the episodes seen before them


class Evaluation(NamedTuple):
    """Returns of M tasks after 0 ... K inner steps, or as many episodes of a trial."""

    tasks: Tasks  # leaves [M, ...]
    returns: Values  # [K + 1, M], mean over each task's episodes
    groups: dict[str, NDArray[np.bool_]]  # tasks by label, [M]: each of a finite set of tasks
    success: Values | None = None  # [K + 1, M], share of a task's episodes; None: not told
    rollouts: Sequence[Rollout] = ()  # K + 1, each of M tasks
    course: Course | None = None  # N = K + 1, of the same episodes
    within: Course | None = None  # of every episode of a trial, of learners with memory
    strata: Strata | None = None  # label of each task's stratum, [M]


def evaluate(
    learner: MetaLearner,
    meta: Params,  # leaves [*s]
    distribution: TaskDistribution,
    tasks: Tasks,  # leaves [M, ...]
    steps: int,  # K
    num_episodes: int,  # of each task, before each step and after the last
    sampler: Sampler,
    key: Key,
    later_scale: float | Sequence[float] = 1.0,
    source: TaskDistribution | None = None,
    num_trials: int = 1,
) -> Evaluation:
    """Adapt to every task for `steps` inner steps, `num_episodes` episodes before and after each.

    The learner's own inner loop is used, whatever number of steps it was trained with; steps beyond
    that number are scaled by `later_scale` (Finn et al. 2017 halve them). A learner with memory,
    whose distribution is of trials, is followed through `num_trials` trials of each task. `source`
    is where the tasks come from and are grouped by, if that is not `distribution`, whose
    environments they run in.
    """
    source, within = source or distribution, None
    if isinstance(distribution, Trials):
        rollouts, within = _followed(
            learner, meta, distribution, tasks, steps, num_episodes, num_trials, sampler, key
        )
        course = Course(*(values[::num_episodes] for values in within))
    else:
        with closing(
            sampler.collector(distribution, learner.policy, count_tasks(tasks), num_episodes)
        ) as collector:
            rollouts = learner.collect(collector, meta, tasks, steps, key, later_scale).rollouts
        course = course_of(rollouts)
    groups, strata = task_groups(source, tasks), task_strata(source, tasks)
    success = task_success(rollouts)
    return Evaluation(tasks, course.returns, groups, success, rollouts, course, within, strata)


def course_of(rollouts: Sequence[Rollout]) -> Course:
    """Returns of rollouts, with the environment steps and returns of the earlier ones."""
    returns = task_returns(rollouts)
    episodes = np.stack([(rollout.begins() > 0).sum((1, 2)).numpy() for rollout in rollouts])
    steps = np.stack([(rollout.mask > 0).sum((1, 2)).numpy() for rollout in rollouts])
    return Course(returns, before(steps), before(returns * episodes))


def _followed(
    learner: MetaLearner,
    meta: Params,
    trials: Trials,
    tasks: Tasks,
    steps: int,
    num_episodes: int,
    num_trials: int,
    sampler: Sampler,
    key: Key,
) -> tuple[list[Rollout], Course]:
    """Trials of steps * num_episodes + 1 episodes of a learner with memory.

    Gradient learners see as many episodes of a task for `steps` inner steps, and one after them;
    "after step k" is the episode that follows k * num_episodes others. The memory is carried on,
    whatever number of episodes it was trained on.

    Returns:
        The episodes after each step, K + 1 rollouts; the course of all episodes.
    """
    long = Trials(trials.distribution, steps * num_episodes + 1)
    num_tasks = count_tasks(tasks)
    params = learner.inner.initial_params(stack(meta, num_tasks))
    with closing(sampler.collector(long, learner.policy, num_tasks, num_trials)) as collector:
        rollout = collector.collect(params, tasks, key.child(0))
    size, horizon = flatdim(trials.distribution.observation_space), trials.distribution.horizon
    after_steps = range(0, long.episodes, num_episodes)
    rollouts = [rollout.episode(number, horizon, size) for number in after_steps]
    return rollouts, course_of_trials(rollout)


def course_of_trials(rollout: Rollout) -> Course:
    """Returns of each episode of trials, with steps and returns of the earlier ones, N = E."""
    returns, lengths = (
        values.mean(dim=2).numpy().T
        for values in (rollout.episode_returns(), rollout.episode_lengths())
    )
    return Course(returns, before(lengths), before(returns))


def task_strata(distribution: TaskDistribution, tasks: Tasks) -> list[str] | None:
    """Label of each task's stratum, the distribution's `group_of(task)`; None where it has none."""
    labels = [distribution.group_of(task_at(tasks, index)) for index in range(count_tasks(tasks))]
    strata = [label for label in labels if label is not None]
    return strata if len(strata) == len(labels) else None


def task_groups(distribution: TaskDistribution, tasks: Tasks) -> dict[str, NDArray[np.bool_]]:
    """Members of each stratum by its label, [M]; empty where there are too many for a table.

    They are in the order of the finite tasks, if there are any, or of their labels. Strata without
    any of `tasks` are left out.
    """
    labels = task_strata(distribution, tasks)
    if labels is None:
        return {}
    finite = distribution.finite_tasks()
    ordered = sorted(labels) if finite is None else task_strata(distribution, finite) or []
    names = list(dict.fromkeys(ordered))
    if len(names) > MOST_GROUPS:
        return {}
    members = {name: np.array(labels) == name for name in names}
    return {name: inside for name, inside in members.items() if inside.any()}
