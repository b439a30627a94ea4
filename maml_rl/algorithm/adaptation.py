"""The shape of an adaptation: rollouts, and the inner steps taken on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from maml_rl.algorithm.advantages import Targets
from maml_rl.algorithm.policies import Distribution, Policy
from maml_rl.algorithm.rollout import Params, Rollout


class AdaptationStep(NamedTuple):
    """A rollout of every task, and the inner step taken on it.

    An adaptation of K inner steps is a list of K + 1; on the last rollout no step is taken.
    """

    rollout: Rollout
    targets: Targets  # of the rollout
    params: Params  # of the policies that collected it, leaves [M, *s]
    gradients: Params | None = None  # that the step follows, leaves [M, *s] of what adapts
    distribution: Distribution | None = None  # of the policies on their rollout

    def tasks(self, start: int, stop: int) -> AdaptationStep:
        """Data of tasks `start` to `stop` as views, for a new adaptation."""
        params = {name: leaf[start:stop] for name, leaf in self.params.items()}
        return AdaptationStep(
            self.rollout.tasks(start, stop), self.targets.tasks(start, stop), params
        )

    def to(self, device: str) -> AdaptationStep:
        """Move the data to `device`, for a new adaptation."""
        params = {name: leaf.to(device) for name, leaf in self.params.items()}
        return AdaptationStep(self.rollout.to(device), self.targets.to(device), params)


@dataclass(frozen=True)
class Experience:
    """The tasks of one iteration with their adaptation, without graphs."""

    steps: list[AdaptationStep]  # K + 1

    @property
    def rollouts(self) -> list[Rollout]:
        """The rollouts before each inner step and after the last, K + 1."""
        return [step.rollout for step in self.steps]

    @property
    def adapted(self) -> Params:
        """Parameters after the last inner step, leaves [M, *s]."""
        return self.steps[-1].params


def distribution_on(policy: Policy, params: Params, rollout: Rollout) -> Distribution:
    """Action distributions of M policies (leaves [M, *s]) on rollouts, leaves [M, T, B, ...]."""
    distribution, _, _ = policy.distribution(
        params, rollout.observations, rollout.state, rollout.first
    )
    return distribution
