"""A task distribution whose episodes are trials: several episodes of one task, in turn.

Learners with memory train on trials (Duan et al. 2016, RL^2, section 2.2; Wang et al. 2016).
Letters: M tasks, B slots (trials) per task, E episodes per trial, T steps, O observation size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim
from gymnasium.utils import seeding

from envs.arguments import integer_at_least
from envs.protocol import Array, BatchedEnv, Step, Task, TaskDistribution, Tasks, take_tasks
from envs.wrappers.wrapped import Extended

EPISODE = "episode"
"""What a trial's info calls the number of the episode in which a step was taken, from 0."""


class Trials(Extended):
    """Joins E episodes of a task to a trial, and observes what a memory needs to learn from them.

    Appended to every observation are the action before it, as it was applied (one number for each
    numbered action, 1 at the one taken; bounded ones in units of their bound), the reward before
    it, and 1 at an episode's first step. Action and reward are 0 only at the first step of a trial.
    At the first step of a later episode they are those of the last step before it.

    A trial ends with its last episode: `terminated` if the task ended that episode, `truncated` if
    it was cut off and earlier episodes were shorter than the horizon. Info holds `episode`, the
    number of the episode that the step was taken in.

    Args:
        distribution: whose tasks they are.
        episodes: E.
    """

    def __init__(self, distribution: TaskDistribution, episodes: int = 2) -> None:
        self.episodes = integer_at_least("episodes", episodes)
        unbounded = np.full(flatdim(distribution.action_space) + 1, np.inf)
        super().__init__(distribution, np.append(-unbounded, 0), np.append(unbounded, 1))
        self.horizon = self.episodes * distribution.horizon

    def around(self, distribution: TaskDistribution) -> Self:
        """Join as many episodes of another distribution's tasks."""
        return type(self)(distribution, self.episodes)

    def trajectories(self, tasks: Tasks, observations: Array, info: Mapping[str, Array]) -> None:
        """None: figures show single episodes."""

    def single(
        self, task: Task | None = None, render_mode: str | None = None, **options: Any
    ) -> gymnasium.Env[Any, Any]:
        """Build the Gymnasium environment of one task."""
        return _TrialEnv(self, super().single(task, render_mode, **options))

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedEnv:
        """Build M x B environments, stepped on `threads` threads."""
        return _BatchedTrials(self, num_tasks, slots_per_task, threads)

    def remembered(self, applied: Array) -> Array:
        """The observed form of applied actions [..., A] or [...]: numbers [..., A]."""
        space = self.distribution.action_space
        if isinstance(space, spaces.Discrete):
            return np.eye(int(space.n))[np.asarray(applied, dtype=np.int64)]
        bound = np.maximum(np.abs(space.low), np.abs(space.high))
        return np.asarray(applied / np.where(np.isfinite(bound) & (bound > 0), bound, 1))

    def extended(self, observations: Array, actions: Array, rewards: Array, begins: Array) -> Array:
        """Append `actions` [..., A], `rewards`, `begins` [...] to observations [..., O]."""
        parts = [observations, actions, rewards[..., None], begins[..., None]]
        return np.concatenate(parts, axis=-1).astype(self.observation_space.dtype)


def _seeds(rng: np.random.Generator, episodes: int) -> Array:
    """Draw a trial's seeds, one for each episode, [E]."""
    return rng.integers(2**31, size=episodes)


class _TrialEnv(gymnasium.Wrapper[Array, Any, Array, Any]):
    """Trials of one environment; the task may change between them, never within."""

    def __init__(self, trials: Trials, env: gymnasium.Env[Array, Any]) -> None:
        super().__init__(env)
        self.observation_space = trials.observation_space
        self._trials = trials
        self._rng = np.random.default_rng()
        self._drawn = False  # whether a task is drawn for every trial
        self._number = self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin a trial; `options={"task": ...}` fixes the task first."""
        if seed is not None:
            self._rng = seeding.np_random(seed)[0]
        if self._drawn:
            self.env.unwrapped._fixed = False  # type: ignore[attr-defined]
        self._seeds = _seeds(self._rng, self._trials.episodes)
        self._number = self._steps = 0
        observation, info = self.env.reset(seed=int(self._seeds[0]), options=options)
        self._drawn = not getattr(self.env.unwrapped, "_fixed", True)
        self._task = info["task"]
        return self._seen(observation, None, 0.0, begins=True), info

    def step(self, action: Any) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        """Take a step; the next episode begins where one is over."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        info = {**info, EPISODE: self._number}
        over = terminated or truncated or self._steps >= self._trials.distribution.horizon
        last = self._number == self._trials.episodes - 1
        if over and not last:
            self._number, self._steps = self._number + 1, 0
            seed = int(self._seeds[self._number])
            observation, _ = self.env.reset(seed=seed, options={"task": self._task})
        seen = self._seen(observation, action, float(reward), begins=over and not last)
        ended = over and last
        return seen, reward, terminated and last, ended and not terminated, info

    def _seen(self, observation: Array, action: Any, reward: float, begins: bool) -> Array:
        if action is None:
            before = np.zeros(flatdim(self._trials.distribution.action_space))
        else:
            before = self._trials.remembered(np.asarray(action))
        return self._trials.extended(
            np.asarray(observation), before, np.asarray(reward), np.asarray(begins)
        )


class _BatchedTrials:
    """M x B trials on environments of M x B episodes, each of which holds one number of episode.

    An environment begins one episode for all rows at once, and a row enters it when it comes to
    that episode. The number of environments is the number of episodes between the slowest row and
    the fastest: one where episodes have one length. No environment needs to reset single rows.
    """

    def __init__(self, trials: Trials, num_tasks: int, slots: int, threads: int) -> None:
        self._trials, self.shape, self._threads = trials, (num_tasks, slots), threads
        self._free: list[BatchedEnv] = [self._made()]
        self._holding: dict[int, tuple[BatchedEnv, Array]] = {}  # and its first observations
        self._tasks: Tasks | None = None

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the task of every task's B slots; leaves have leading size M."""
        self._tasks = take_tasks(tasks, slice(None))
        self._release(self._trials.episodes)
        for env in self._free:
            env.set_tasks(self._tasks)

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        """Begin a trial in every slot, row m * B + b from its own generator; [M, B, O]."""
        drawn = [_seeds(rng, self._trials.episodes) for rng in rngs]
        self._seeds = np.reshape(drawn, (*self.shape, -1))
        self._release(self._trials.episodes)
        self._number, self._time, self._total = np.zeros((3, *self.shape), dtype=np.int64)
        self._over = np.zeros(self.shape, dtype=bool)
        nothing = np.zeros(self.shape)
        before = np.zeros((*self.shape, flatdim(self._trials.distribution.action_space)))
        return self._trials.extended(self._start(0), before, nothing, nothing + 1)

    def step(self, actions: Array, active: Array) -> Step:
        """Step the rows where `active` [M, B] is true; where an episode is over, begin another."""
        step = self._stepped(actions, active)
        step.info[EPISODE] = self._number.copy()
        self._time += active
        self._total += active
        over = active & (step.ended | (self._time >= self._trials.distribution.horizon))
        last = over & (self._number == self._trials.episodes - 1)
        begins = over & ~last
        self._number += begins
        self._time[begins] = 0
        self._over |= last
        self._release(self._number[~self._over].min(initial=self._trials.episodes - 1))
        self._enter(begins, step.observations)
        return Step(
            self._trials.extended(
                step.observations, self._before(actions, active), step.rewards, begins
            ),
            step.rewards,
            last & step.terminated,
            step.info,
            last & ~step.terminated & (self._total < self._trials.horizon),
        )

    def close(self) -> None:
        """Free the simulations."""
        self._release(self._trials.episodes)
        for env in self._free:
            env.close()

    def _made(self) -> BatchedEnv:
        return self._trials.distribution.make(*self.shape, self._threads)

    def _start(self, number: int) -> Array:
        """The first observations of an episode, [M, B, O], begun for all rows at once."""
        if number not in self._holding:
            if not self._free:
                self._free.append(self._made())
                if self._tasks is not None:
                    self._free[-1].set_tasks(self._tasks)
            env = self._free.pop()
            seeds = self._seeds[..., number].ravel()
            start = env.reset([seeding.np_random(int(seed))[0] for seed in seeds])
            self._holding[number] = env, start.copy()
        return self._holding[number][1]

    def _release(self, lowest: int) -> None:
        """Free the environments of episodes before `lowest`, which no row needs again."""
        for number in [number for number in self._holding if number < lowest]:
            self._free.append(self._holding.pop(number)[0])

    def _stepped(self, actions: Array, active: Array) -> Step:
        """Step every active row in the environment of its episode; one joined step."""
        joined: Step | None = None
        numbers = np.unique(self._number[active])
        for number in numbers if len(numbers) else list(self._holding)[:1]:
            rows = active & (self._number == number)
            step = self._holding[number][0].step(actions, rows)
            joined = step if joined is None else joined.replaced(rows, step)
        assert joined is not None
        return joined._replace(observations=joined.observations.copy(), info=dict(joined.info))

    def _enter(self, begins: Array, observations: Array) -> None:
        """Write the first observations of the episodes that some rows begin."""
        for number in np.unique(self._number[begins]):
            rows = begins & (self._number == number)
            np.copyto(observations, self._start(int(number)), where=rows[..., None])

    def _before(self, actions: Array, active: Array) -> Array:
        """The observed form of the actions taken, 0 for other rows: [M, B, A]."""
        wide = active.reshape(*active.shape, *(1,) * (actions.ndim - 2))
        taken = np.where(wide, actions, 0)
        return self._trials.remembered(self._trials.applied(taken))
