"""The collection loop: all tasks and episodes in lockstep, all policies in one forward pass."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy

import numpy as np
import torch
from gymnasium.spaces.utils import flatdim
from torch import Tensor

from envs.answers import check_info, check_shape, check_success
from envs.arguments import integer_at_least, one_of
from envs.episodes import described
from envs.errors import SimulationError, UserError
from envs.protocol import Array, Step, TaskDistribution, Tasks
from envs.recorded import Recorded
from envs.unstable import ending_unstable_episodes
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.errors import NonFiniteError
from maml_rl.randomness import Key, Purpose, RowGenerators


class Sampler(Recorded):
    """Settings of the stepping of environments.

    Args:
        threads: of the physics; None takes every core this process may use.
        on_unstable: effect of a simulation that becomes unstable: "stop" the run, or "end_episode",
            which cuts the episode off with a reward of 0, counts it, and goes on.
    """

    def __init__(self, threads: int | None = None, on_unstable: str = "stop") -> None:
        cores = len(os.sched_getaffinity(0))
        self.threads = cores if threads is None else integer_at_least("threads", threads)
        self.on_unstable = one_of("on_unstable", on_unstable, ("stop", "end_episode"))

    def divided(self, count: int) -> Sampler:
        """Sampler of each of `count` processes that share the threads."""
        other = copy(self)
        other.threads = max(1, self.threads // count)
        return other

    def collector(
        self,
        distribution: TaskDistribution,
        policy: Policy,
        num_tasks: int,
        num_episodes: int,
        numbers: Sequence[int] | None = None,
    ) -> Collector:
        """Build the collection loop for M tasks x B episodes; see `Collector` for their numbers."""
        return Collector(
            distribution,
            policy,
            num_tasks,
            num_episodes,
            self.threads,
            self.on_unstable == "end_episode",
            numbers,
        )


class Collector:
    """Collects one rollout per task: M tasks x B episodes of at most T steps.

    The policies run once a step for all M * B environments on stacked parameters; only episodes
    that are still running are stepped. Random numbers are keyed by task and slot.

    Args:
        distribution: makes the environments.
        policy: runs the stacked parameters.
        num_tasks: M.
        num_episodes: B.
        threads: of the physics; results do not depend on it.
        ending: whether an unstable simulation ends its episode alone, or stops the run.
        numbers: of the M tasks, where they are a rank's share of more: random numbers are keyed by
            them; None numbers them from 0.
    """

    def __init__(
        self,
        distribution: TaskDistribution,
        policy: Policy,
        num_tasks: int,
        num_episodes: int,
        threads: int = 1,
        ending: bool = False,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self.policy, self._ending = policy, ending
        self.numbers = range(num_tasks) if numbers is None else numbers
        self.num_tasks, self.num_episodes = num_tasks, num_episodes
        self.horizon, self._name = distribution.horizon, distribution.name
        self._observation_size = flatdim(distribution.observation_space)
        self._env = distribution.make(num_tasks, num_episodes, threads)

    def close(self) -> None:
        """Free the environments."""
        self._env.close()

    def collect(self, params: Params, tasks: Tasks, key: Key) -> Rollout:
        """Run every task's policy for one batch of episodes.

        Args:
            params: each task's parameters, leaves [M, *s].
            tasks: leaves [M, ...].
            key: address of the random numbers; the same key and parameters give the same rollout.

        Raises:
            NonFiniteError: naming the task whose action, observation or reward is not finite.
        """
        with authors_code(self._name, "set_tasks(tasks)"):
            self._env.set_tasks(tasks)
        address = key.child(Purpose.RESETS)
        rows = RowGenerators(address, self.num_tasks, self.num_episodes, self.numbers)
        dtype = next(iter(params.values())).dtype
        record = _Record(self.num_tasks, self.horizon, self.num_episodes, dtype)
        # what the record's type cannot hold becomes infinite, and is found by the checks
        with (
            torch.inference_mode(),
            np.errstate(over="ignore"),
            ending_unstable_episodes(self._ending),
        ):
            with authors_code(self._name, "reset(rngs)"):
                start = self._env.reset(rows)
            wanted = (self.num_tasks, self.num_episodes, self._observation_size)
            check_shape(self._name, "make(...).reset(rngs)", start, wanted)
            try:
                final = self._run(params, start, self._noise(key, dtype), record)
            except NonFiniteError as error:
                raise NonFiniteError(f"{self._name}: {error}") from error
        return self._rollout(record, final)

    def _noise(self, key: Key, dtype: torch.dtype) -> Tensor:
        """Draw every action's standard normal noise, each task's from its own key: [M, T, B, A]."""
        shape = (self.horizon, self.num_episodes, self.policy.action_size)
        float_type = np.float64 if dtype == torch.float64 else np.float32
        noise = np.empty((self.num_tasks, *shape), dtype=float_type)
        for task, rows in zip(self.numbers, noise, strict=True):
            key.generator(Purpose.ACTIONS, task).standard_normal(out=rows, dtype=float_type)
        return torch.from_numpy(noise)

    def _run(self, params: Params, start: Array, noise: Tensor, record: _Record) -> Tensor:
        """Step the environments until every episode has ended; return the last observations."""
        state = self.policy.initial_state(self.num_tasks, self.num_episodes)
        active = ran = np.ones((self.num_tasks, self.num_episodes), dtype=bool)
        first = torch.ones(self.num_tasks, 1, self.num_episodes, dtype=noise.dtype)
        observations, distributions = start, []
        for t in range(self.horizon):
            current = torch.as_tensor(observations, dtype=noise.dtype)
            distribution, _, state = self.policy.distribution(
                params, current[:, None], state, first
            )
            actions = distribution.sample(noise[:, t : t + 1])[:, 0]
            if not np.isfinite(actions.numpy()).all():  # the observation may be to blame
                _raise_unless_finite("observation", current.numpy(), ran, max(t - 1, 0))
                _raise_unless_finite("action", actions.numpy(), active, t)
            step = self._step(actions.numpy(), active)
            record.add(t, observations, actions.numpy(), step, active)
            distributions.append(distribution)
            ended = ~active[..., None]  # ended episodes keep their last observation
            np.copyto(step.observations, observations, where=ended, casting="unsafe")
            observations = step.observations
            ran, active = active, active & ~step.ended
            if not active.any():
                break
            if t == 0:
                first = torch.zeros_like(first)
        joined = type(distribution).over_time(distributions)
        record.set_log_probs(joined.log_prob(record["actions"][:, : t + 1]))
        final = torch.as_tensor(observations, dtype=noise.dtype)
        _raise_unless_finite("observation", final.numpy(), np.ones_like(active), t)
        record.check()
        success = record.info.get("success")
        if success is not None:
            check_success(self._name, success.numpy(), record["mask"].numpy() > 0)
        record.set_last_observations(t + 1, final)
        return final

    def _step(self, actions: Array, active: Array) -> Step:
        """Step the environments, and check the shapes of what comes back."""
        with authors_code(self._name, "step(actions, active)"):
            step = self._env.step(actions, active)
        call, shape = "make(...).step(actions, active)", active.shape
        wanted = (*shape, self._observation_size)
        check_shape(self._name, f"{call}.observations", step.observations, wanted)
        check_shape(self._name, f"{call}.rewards", step.rewards, shape)
        check_shape(self._name, f"{call}.terminated", step.terminated, shape)
        check_info(self._name, f"{call}.info", step.info, shape)
        return step

    def _rollout(self, record: _Record, final: Tensor) -> Rollout:
        first = torch.zeros_like(record["mask"])
        first[:, 0] = 1
        state = self.policy.initial_state(self.num_tasks, self.num_episodes)
        return Rollout(
            observations=record["observations"],
            actions=record["actions"],
            rewards=record["rewards"],
            discounts=1 - record["ended"],
            first=first,
            mask=record["mask"],
            log_probs=record["log_probs"],
            final_observations=final.clone(),
            state=state,
            info=record.info,
        )


@contextmanager
def authors_code(name: str, call: str) -> Iterator[None]:
    """Turn an error of a distribution's code during a run into one sentence."""
    try:
        yield
    except (UserError, SimulationError, NonFiniteError):
        raise
    except Exception as error:
        raise SimulationError(f"{name}.{call} raised {described(error)}") from error


class _Record:
    """Arrays [M, T, B, ...] that a collection fills step by step."""

    def __init__(self, num_tasks: int, horizon: int, slots: int, dtype: torch.dtype) -> None:
        self._shape = (num_tasks, horizon, slots)
        self._dtype = np.float64 if dtype == torch.float64 else np.float32
        self._arrays: dict[str, Array] = {}

    def add(self, t: int, observations: Array, actions: Array, step: Step, active: Array) -> None:
        """Store step t of the episodes that ran."""
        self._array("observations", observations.shape[2:])[:, t] = observations
        self._array("actions", actions.shape[2:])[:, t] = actions
        self._array("rewards")[:, t] = np.where(active, step.rewards, 0)
        self._array("mask")[:, t] = active
        self._array("ended")[:, t] = active & step.terminated
        for name, value in step.info.items():
            self._array(f"info/{name}")[:, t] = np.where(active, value, 0)

    def check(self) -> None:
        """Raise a NonFiniteError that names the first reward or observation that is not finite."""
        rewards, seen = self._arrays["rewards"], self._arrays["observations"]
        if np.isfinite(rewards).all() and np.isfinite(seen).all():
            return
        mask = self._arrays["mask"] > 0
        for t in range(self._shape[1]):
            _raise_unless_finite("reward", rewards[:, t], mask[:, t], t)
            ran = max(t - 1, 0)  # the step that gave what is seen at t
            _raise_unless_finite("observation", seen[:, t], mask[:, ran], ran)

    def set_last_observations(self, t: int, final: Tensor) -> None:
        """Store what episodes that all ended before step t saw last: a time-out may be valued."""
        if t < self._shape[1]:
            self._arrays["observations"][:, t] = final.numpy()

    def set_log_probs(self, log_probs: Tensor) -> None:
        """Store the log densities of the steps taken, [M, steps, B]; 0 after them."""
        self._array("log_probs")[:, : log_probs.shape[1]] = log_probs.numpy()

    def _array(self, name: str, tail: tuple[int, ...] = ()) -> Array:
        if name not in self._arrays:
            self._arrays[name] = np.zeros((*self._shape, *tail), dtype=self._dtype)
        return self._arrays[name]

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self._arrays[name])

    @property
    def info(self) -> dict[str, Tensor]:
        """Records of the environments beside rewards, leaves [M, T, B]."""
        names = (name for name in self._arrays if name.startswith("info/"))
        return {name.removeprefix("info/"): self[name] for name in names}


def _raise_unless_finite(quantity: str, values: Array, active: Array, t: int) -> None:
    if np.isfinite(values).all():
        return
    finite = np.isfinite(values).reshape(*active.shape, -1).all(-1)
    wrong = np.argwhere(active & ~finite)
    if len(wrong):
        task, slot = wrong[0]
        raise NonFiniteError(
            f"the {quantity} of task {task}, episode {slot}, step {t} is not finite"
        )
