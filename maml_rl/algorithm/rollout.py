"""The data of one collection.

Letters, fixed everywhere: M tasks, B slots (episodes) per task, T time steps, O observation size,
A action size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from envs.wrappers.trials import EPISODE
from maml_rl.parallel import Communicator

Params = dict[str, Tensor]
"""Parameters by name: leaves [*s] for one policy, [M, *s] stacked per task."""


class Rollout(NamedTuple):
    """Episodes of M tasks' policies in B slots each, for T time steps."""

    observations: Tensor  # [M, T, B, O]
    actions: Tensor  # [M, T, B, A] as sampled, before scale and clip; discrete: [M, T, B]
    rewards: Tensor  # [M, T, B]
    discounts: Tensor  # [M, T, B] 0 where the task terminated, else 1
    first: Tensor  # [M, T, B] 1 on the first step of an episode
    mask: Tensor  # [M, T, B] 1 on steps that happened (any weight >= 0 is legal)
    log_probs: Tensor  # [M, T, B] under the policy that sampled
    final_observations: Tensor  # [M, B, O]
    state: Tensor | None  # [M, B, H] remembered at the start by policies with memory, else None
    info: dict[str, Tensor]  # leaves [M, T, B]

    def tasks(self, start: int, stop: int) -> Rollout:
        """Rollout of tasks `start` to `stop`, as views."""
        return self._map(lambda leaf: leaf[start:stop])

    def to(self, device: torch.device | str) -> Rollout:
        """Move every tensor to `device`."""
        return self._map(lambda leaf: leaf.to(device))

    def of_all(self, ranks: Communicator) -> Rollout:
        """Rollout of all ranks' tasks, in task order; the state at the start is left out."""
        if ranks.size == 1:
            return self
        names = sorted(self.info)
        leaves = [*self[:8], *(self.info[name] for name in names)]
        whole = ranks.rows(*leaves)
        fields = dict(zip(self._fields[:8], whole[:8], strict=True))
        info = dict(zip(names, whole[8:], strict=True))
        return self._replace(**fields, state=None, info=info)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Rollout:
        leaves = {name: function(getattr(self, name)) for name in self._fields[:8]}
        info = {name: function(leaf) for name, leaf in self.info.items()}
        state = None if self.state is None else function(self.state)
        return self._replace(**leaves, state=state, info=info)

    def begins(self) -> Tensor:
        """Mask of every episode's first step, [M, T, B]; episodes within a trial count too."""
        begins = self.first > 0
        if EPISODE in self.info:
            numbers = self.info[EPISODE]
            begins[:, 1:] |= numbers[:, 1:] > numbers[:, :-1]
        return begins * self.mask

    def episode_returns(self) -> Tensor:
        """Every episode's undiscounted return, [M, E, B]; E is 1 but for trials.

        Episodes that a trial did not reach are 0.
        """
        return self._by_episode(self.rewards * self.mask)

    def episode_lengths(self) -> Tensor:
        """Number of steps of every episode, [M, E, B]; 0 where a trial did not reach it."""
        return self._by_episode((self.mask > 0).to(self.mask.dtype))

    def _by_episode(self, values: Tensor) -> Tensor:
        """Sum values [M, T, B] over the steps of each episode of a slot, [M, E, B] in float64."""
        numbers = self.info.get(EPISODE, torch.zeros_like(values)).long()
        sums = torch.zeros(len(values), int(numbers.max()) + 1, values.shape[2]).double()
        return sums.scatter_add_(1, numbers, values.double())

    def mean_return(self) -> Tensor:
        """Mean undiscounted return over a task's episodes, [M]; episodes may differ in length."""
        episodes = self.begins().sum((1, 2))
        return (self.rewards * self.mask).double().sum((1, 2)) / episodes

    def success_rate(self) -> Tensor | None:
        """Share of a task's episodes with a step of success, [M]; None where none is recorded."""
        if "success" not in self.info:
            return None
        succeeded = self._by_episode(self.info["success"] * self.mask) > 0
        return succeeded.double().sum((1, 2)) / (self.begins() > 0).sum((1, 2))

    def episode(self, number: int, horizon: int, observation_size: int) -> Rollout:
        """One episode of every trial as a rollout, [M, T, B], T the horizon.

        Args:
            number: of the episode, from 0; every trial has reached it.
            horizon: the most steps of an episode.
            observation_size: numbers that an episode's own observations have; what a trial appends
                to them is left out. The observation after the episode's last step is not known; the
                one before that step stands for it.
        """
        within = (self.info[EPISODE] == number) & (self.mask > 0)
        start = within.to(torch.uint8).argmax(dim=1, keepdim=True)  # the first of the largest
        index = start + torch.arange(horizon)[:, None]
        index = index.clamp_max(self.mask.shape[1] - 1)

        def cut(leaf: Tensor) -> Tensor:
            wide = index.reshape(*index.shape, *(1,) * (leaf.dim() - 3))
            return leaf.gather(1, wide.expand(*index.shape, *leaf.shape[3:]))

        happened = cut(within).cumprod(dim=1)
        happened[:, 1:] *= index[:, 1:] != index[:, :-1]  # where the clamp repeats the last step
        seen = cut(self.observations[..., :observation_size])
        last = (happened.sum(dim=1, keepdim=True) - 1)[..., None]
        leaves = {name: cut(getattr(self, name)) for name in self._fields[1:7]}
        first = torch.zeros_like(leaves["mask"])
        first[:, 0] = 1
        return self._replace(
            **leaves | {"first": first, "mask": leaves["mask"] * happened},
            observations=seen,
            final_observations=seen.gather(1, last.expand(-1, -1, -1, observation_size))[:, 0],
            state=None,
            info={name: cut(leaf) for name, leaf in self.info.items() if name != EPISODE},
        )

    def num_steps(self) -> int:
        """Count the environment steps that happened, over all tasks and slots."""
        return int((self.mask > 0).sum())


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean sum(mask * values) / sum(mask) over each task's steps: [M, T, B] to [M]."""
    return (mask * values).sum((1, 2)) / mask.sum((1, 2))
