"""One Gymnasium environment, stepped as the engine steps many: episode after episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim, flatten

from envs.episodes import episode_seed
from envs.errors import UserError
from envs.protocol import Array, Step, Task, TaskDistribution, Tasks
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.randomness import Key
from maml_rl.sampling import Collector
from maml_rl.sampling.actions import applied_actions

Env = gymnasium.Env[Any, Any]


class EpisodesInTurn:
    """Collects B episodes of one task, one after another in the one environment there is.

    The engine's `Collector` runs each of them; an episode's random numbers are keyed by its number.

    Args:
        env: of the task; left open.
        distribution: whose spaces, horizon and action scale it has.
        policy: runs the parameters.
        num_episodes: B.

    Raises:
        UserError: if the environment's spaces are not the distribution's.
    """

    num_tasks = 1

    def __init__(
        self, env: Env, distribution: TaskDistribution, policy: Policy, num_episodes: int
    ) -> None:
        self.row = _Row(env, distribution)
        self._policy, self._num_episodes = policy, num_episodes
        self._collector = Collector(_OneTask(self.row, distribution), policy, 1, 1)  # type: ignore[arg-type]

    def collect(self, params: Params, tasks: Tasks, key: Key) -> Rollout:
        """Run the policy (leaves [1, *s]) for B episodes: a rollout of one task."""
        episodes = [
            self._collector.collect(params, tasks, key.child(episode))
            for episode in range(self._num_episodes)
        ]
        return side_by_side(episodes)._replace(
            state=self._policy.initial_state(1, self._num_episodes),
        )


def side_by_side(rollouts: Sequence[Rollout]) -> Rollout:
    """Join the slots of rollouts of the same tasks, B being the sum of theirs."""
    first = rollouts[0]
    leaves = {
        name: torch.cat([getattr(rollout, name) for rollout in rollouts], dim=2)
        for name in first._fields[:7]
    }
    final = torch.cat([rollout.final_observations for rollout in rollouts], dim=1)
    info = {
        name: torch.cat([rollout.info[name] for rollout in rollouts], dim=2) for name in first.info
    }
    return first._replace(**leaves, final_observations=final, info=info)


class _OneTask:
    """As much of a task distribution as a `Collector` uses: it makes the one row."""

    def __init__(self, row: _Row, distribution: TaskDistribution) -> None:
        self.name, self.horizon, self._row = distribution.name, distribution.horizon, row
        self.observation_space, self.action_space = (
            distribution.observation_space,
            distribution.action_space,
        )

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> _Row:
        return self._row


class _Row:
    """An environment as a batch of one task and one slot."""

    def __init__(self, env: Env, distribution: TaskDistribution) -> None:
        _check_spaces(env, distribution)
        self.env, self.distribution = env, distribution
        self.task: Task | None = None  # where the environment's info tells it

    def set_tasks(self, tasks: Tasks) -> None:
        """Do nothing: the environment has its task."""

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        observation, info = self.env.reset(seed=episode_seed(rngs[0]))
        task = info.get("task")
        if self.task is not None and not _same(self.task, task):
            raise UserError(
                "the environment has another task after every reset, and one is adapted to: fix it "
                "with env.unwrapped.set_task(task)."
            )
        self.task = task
        return self._observed(observation)

    def step(self, actions: Array, active: Array) -> Step:
        action = applied_actions(self.distribution, actions[0, 0])
        space = self.env.action_space
        if isinstance(space, spaces.Discrete):
            taken: Any = int(space.start) + int(action)
        else:
            taken = action.reshape(space.shape or ()).astype(space.dtype)
        observation, reward, terminated, truncated, _ = self.env.step(taken)
        return Step(
            self._observed(observation),
            np.array([[float(reward)]]),
            np.array([[bool(terminated)]]),
            {},
            np.array([[bool(truncated)]]),
        )

    def close(self) -> None:
        """Leave the environment open: it is the caller's."""

    def _observed(self, observation: Any) -> Array:
        return np.array(flatten(self.env.observation_space, observation), dtype=float)[None, None]


def _same(task: Tasks, other: Tasks | None) -> bool:
    return (
        other is not None
        and task.keys() == other.keys()
        and all(np.array_equal(task[name], other[name]) for name in task)
    )


def _check_spaces(env: Env, distribution: TaskDistribution) -> None:
    """Compare an environment's spaces with those that the policy was trained on.

    Raises:
        UserError: naming what differs.
    """
    advice = "give one with the run's spaces, such as distribution.single(task)"
    try:
        size = str(flatdim(env.observation_space))
    except (NotImplementedError, ValueError):  # sequences, graphs
        size = "no fixed number of"
    wanted = flatdim(distribution.observation_space)
    if size != str(wanted):
        raise UserError(
            f"the environment observes {size} numbers and the run's {distribution.name} {wanted}: "
            f"{advice}."
        )
    expected, given = distribution.action_space, env.action_space
    if isinstance(expected, spaces.Discrete):
        alike = isinstance(given, spaces.Discrete) and expected.n == given.n
    else:
        alike = isinstance(given, spaces.Box) and all(
            np.array_equal(getattr(expected, end).ravel(), getattr(given, end).ravel())
            for end in ("low", "high")
        )
    if not alike:
        written = [" ".join(str(space).split()) for space in (given, expected)]
        raise UserError(
            f"the environment takes actions {written[0]} and the run's {distribution.name} "
            f"{written[1]}: {advice}."
        )
