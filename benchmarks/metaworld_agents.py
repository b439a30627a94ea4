"""Trained runs as agents of metaworld.evaluation: `MetaLearningAgent` of N environments."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces.utils import flatdim
from torch import Tensor

from envs.protocol import Array
from envs.wrappers.trials import Trials
from maml_rl.algorithm.inner_loop.loop import stack
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.randomness import Key, Purpose
from maml_rl.sampling.actions import applied_actions
from maml_rl.trained.loading import Trained

if TYPE_CHECKING:
    from metaworld.evaluation import Timestep

LATER_SCALE = 0.5  # of the steps beyond the number trained with, as in `Trained.adapt`


class AdaptingAgent:
    """A trained run as a metaworld.evaluation.MetaLearningAgent, on N environments side by side.

    Args:
        trained: the run, which adapts by inner steps.
        num_envs: N, each with a task and a policy of its own.
        seed: of the noise of the actions that it adapts to.
    """

    params: Params  # of the N policies, leaves [N, *s]

    def __init__(self, trained: Trained, num_envs: int, seed: int = 0) -> None:
        self.trained, self.num_envs = trained, num_envs
        self._noise = Key(seed, (Purpose.TEST,)).generator(Purpose.ACTIONS)
        self.init()

    def init(self) -> None:
        """Go back to the initialization."""
        meta = stack(self.trained.meta, self.num_envs)
        self.params = self.trained.learner.inner.initial_params(meta)
        self._earlier: list[Rollout] = []
        self._timesteps: list[Timestep] = []

    def reset(self, env_mask: Array) -> None:
        """Do nothing where episodes begin: the policies have no memory."""

    def adapt_action(self, observations: Array) -> tuple[Array, dict[str, Array]]:
        """Draw an action for each observation [N, O].

        Returns:
            The applied actions [N, A], and what was sampled: "actions" [N, A], "log_probs" [N].
        """
        with torch.inference_mode():
            distribution = self._distribution(observations)
            shape = (self.num_envs, 1, 1, self.trained.learner.policy.action_size)
            drawn = distribution.sample(self._tensor(self._noise.standard_normal(shape)))
            log_probs = distribution.log_prob(drawn)
        actions = drawn[:, 0, 0].numpy()
        sampled = {"actions": actions, "log_probs": log_probs[:, 0, 0].numpy()}
        return self._applied(actions), sampled

    def step(self, timestep: Timestep) -> None:
        """Record a step of all environments."""
        self._timesteps.append(timestep)

    def adapt(self) -> None:
        """Take an inner step on the episodes since the last one."""
        rollout, meta = self.rollout(), self.trained.meta
        adapted = self.trained.learner.adapt(meta, self.params, rollout, self._earlier, LATER_SCALE)
        self.params = adapted[1]
        self._earlier.append(rollout)
        self._timesteps = []

    def eval_action(self, observations: Array) -> Array:
        """The applied mean action for each observation [N, O], [N, A]."""
        with torch.inference_mode():
            return self._applied(self._distribution(observations).mode()[:, 0, 0].numpy())

    def rollout(self) -> Rollout:
        """The recorded steps as a rollout of N tasks; an environment's episodes are its slots.

        Meta-World does not hand over what is seen after an episode's last step; what was seen
        before that step stands for it.
        """
        steps = self._timesteps
        ended = np.array([step.terminated | step.truncated for step in steps])
        length = int(ended[:, 0].argmax()) + 1
        regular = np.arange(1, len(steps) + 1) % length == 0
        assert (ended == regular[:, None]).all(), "Meta-World's environments end episodes together"

        def slots(values: Sequence[Array]) -> Tensor:
            rows = np.stack(values)  # [B * T, N, ...]
            rows = rows.reshape(-1, length, *rows.shape[1:])
            return self._tensor(np.moveaxis(rows, (2, 1), (0, 1)))

        observations = slots([step.observation for step in steps])
        mask = torch.ones(observations.shape[:3], dtype=observations.dtype)
        first = torch.zeros_like(mask)
        first[:, 0] = 1
        return Rollout(
            observations=observations,
            actions=slots([step.aux_policy_outputs["actions"] for step in steps]),
            rewards=slots([step.reward for step in steps]),
            discounts=1 - slots([step.terminated for step in steps]),
            first=first,
            mask=mask,
            log_probs=slots([step.aux_policy_outputs["log_probs"] for step in steps]),
            final_observations=observations[:, -1].clone(),
            state=None,
            info={},
        )

    def _applied(self, actions: Array) -> Array:
        return applied_actions(self.trained.distribution, actions)

    def _distribution(self, observations: Array) -> Any:
        rows = self._tensor(observations)[:, None, None]
        return self.trained.learner.policy.distribution(self.params, rows)[0]

    def _tensor(self, values: Array) -> Tensor:
        dtype = next(iter(self.params.values())).dtype
        return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)


class _Memory(NamedTuple):
    """What a trial has come to in N environments."""

    state: Any  # of the policy, [N, 1, H]
    action: Array  # before the next step, as it is observed, [N, A]
    reward: Array  # before the next step, [N]
    begins: Array  # whether the next step is an episode's first, [N]


class RememberingAgent(AdaptingAgent):
    """A run with memory, such as RL²: a trial goes on through all episodes that it adapts to.

    Each later episode is the one after those: the memory then is restored where an episode begins.
    The environments show the reward of the last step (`reward_observed`), since Meta-World hands it
    over only during adaptation.
    """

    def init(self) -> None:
        """Begin a trial."""
        super().init()
        policy, zeros = self.trained.learner.policy, np.zeros(self.num_envs)
        state = policy.initial_state(self.num_envs, 1)
        nothing = np.zeros((self.num_envs, policy.action_size))
        self._memory = self._adapted = _Memory(state, nothing, zeros, zeros == 0)

    def reset(self, env_mask: Array) -> None:
        """Restore the memory after adaptation where an episode of evaluation begins."""
        rows = np.flatnonzero(env_mask)
        self._memory = deepcopy(self._memory)
        for leaf, adapted in zip(self._memory, self._adapted, strict=True):
            leaf[rows] = adapted[rows]

    def step(self, timestep: Timestep) -> None:
        """Keep the reward, and whether an episode begins."""
        ended = timestep.terminated | timestep.truncated
        self._memory = self._memory._replace(reward=timestep.reward, begins=ended)

    def adapt(self) -> None:
        """Keep the memory, to which episodes of evaluation go back."""
        self._adapted = self._memory

    def _applied(self, actions: Array) -> Array:
        applied = super()._applied(actions)
        self._memory = self._memory._replace(
            action=self._trials.remembered(applied), begins=np.zeros(self.num_envs, dtype=bool)
        )
        return applied

    def _distribution(self, observations: Array) -> Any:
        state, action, reward, begins = self._memory
        size = flatdim(self._trials.distribution.observation_space)
        seen = np.where(begins, reward, observations[:, -2])
        extended = self._trials.extended(observations[:, :size], action, seen, begins)
        rows, policy = self._tensor(extended)[:, None, None], self.trained.learner.policy
        distribution, _, state = policy.distribution(self.params, rows, state)
        self._memory = self._memory._replace(state=state)
        return distribution

    @property
    def _trials(self) -> Trials:
        assert isinstance(self.trained.distribution, Trials)
        return self.trained.distribution
