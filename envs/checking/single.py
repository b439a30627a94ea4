"""The promise of the Gymnasium form: one task, and the batched form's episodes."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import gymnasium
import numpy as np

from envs.checking.promise import LONGEST, NotApplicableError, Reference
from envs.episodes import ContractError, calling, compare, name_of, standard_actions
from envs.errors import NoGymnasiumFormError
from envs.protocol import Task, TaskDistribution, task_at


def check_single(distribution: TaskDistribution) -> str:
    """The Gymnasium form gives the batched form's episodes, and is cut off at the horizon."""
    episodes = Reference(distribution)
    _single(distribution, task_at(episodes.tasks, 0)).close()  # is there one?
    for task, slot in np.ndindex(2, 2):
        with closing(_single(distribution, task_at(episodes.tasks, task))) as env:
            _check_single_spaces(distribution, env)
            _follow(episodes, env, task, slot)
    with closing(_single(distribution, task_at(episodes.tasks, 0))) as env:
        _check_time_out(distribution, env)
    return "the Gymnasium environment gives the batched form's episodes"


def _single(distribution: TaskDistribution, task: Task) -> gymnasium.Env[Any, Any]:
    """Build the Gymnasium environment of a task.

    Raises:
        NotApplicableError: if the distribution has none, or wraps one that has none.
    """
    try:
        with calling(distribution, "single(task)"):
            return distribution.single(task)
    except NoGymnasiumFormError as reason:
        raise NotApplicableError(str(reason)) from reason


def _check_single_spaces(distribution: TaskDistribution, env: gymnasium.Env[Any, Any]) -> None:
    for space in ("observation_space", "action_space"):
        expected, given = getattr(distribution, space), getattr(env, space)
        if expected != given:
            raise ContractError(
                f"{name_of(distribution)}.single(task).{space} must be the distribution's, "
                f"{expected}, for every task, not {given}."
            )


def _follow(episodes: Reference, env: gymnasium.Env[Any, Any], task: int, slot: int) -> None:
    """Drive the single environment with one row's actions; raise where the two differ."""
    distribution = episodes.distribution
    batched = episodes.trace.each(lambda part: part[:, task : task + 1, slot : slot + 1])
    single = batched.each(np.zeros_like)
    with calling(distribution, "single(task).reset(seed=...)"):
        single.observations[0, 0, 0] = env.reset(seed=int(episodes.seeds[task, slot]))[0]
    for t, action in enumerate(episodes.actions[:, task, slot]):
        with calling(distribution, "single(task).step(action)"):
            observation, reward, terminated, truncated, _ = env.step(distribution.applied(action))
            single.observations[t + 1], single.rewards[t] = observation, reward
            single.terminated[t] = terminated
            single.truncated[t] = truncated and t + 1 < distribution.horizon
        if single.terminated[t] or single.truncated[t]:
            break
    compare(
        f"{name_of(distribution)}.single(task) is not the environment that make builds: for equal "
        f"task, generator and actions",
        batched,
        single,
        "compute both from the same functions, right for any leading shape ([..., 0], sum(-1))",
    )


def _check_time_out(distribution: TaskDistribution, env: gymnasium.Env[Any, Any]) -> None:
    """Run one episode of the single environment to its end."""
    name = name_of(distribution)
    steps = min(distribution.horizon, LONGEST)
    env.reset(seed=0)
    for t, action in enumerate(standard_actions(distribution, steps, 1, 1)[:, 0, 0], start=1):
        _, _, terminated, truncated, _ = env.step(distribution.applied(action))
        if terminated:
            return
        if t == distribution.horizon and not truncated:
            raise ContractError(
                f"{name}.single(task).step(action) must say truncated in step {t}, the horizon."
            )
        if truncated:
            return
