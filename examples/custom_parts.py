"""Custom parts, by `_target_`: an inner loss, a policy, a value function, an activation.

    python examples/custom_parts.py <run folder>

trains with them. The same from the command line, in the folder of this file:

    python <repository>/train.py env=point_navigation policy._target_=custom_parts.SkipPolicy
"""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maml_rl.algorithm.advantages import Targets
from maml_rl.algorithm.baselines import Bootstrap
from maml_rl.algorithm.inner_loop.losses import likelihood_ratio
from maml_rl.algorithm.policies import Distribution, GaussianMLP
from maml_rl.algorithm.rollout import Params, Rollout, masked_mean
from maml_rl.commands.train import train_command


class EntropyBonus:
    """An inner loss: the likelihood ratio, less `coefficient` times the policy's mean entropy."""

    def __init__(self, coefficient: float = 0.01) -> None:
        self.coefficient = coefficient

    def __call__(self, distribution: Distribution, rollout: Rollout, targets: Targets) -> Tensor:
        """One number a task, [M]."""
        entropy = masked_mean(distribution.entropy(), rollout.mask)
        return likelihood_ratio(distribution, rollout, targets) - self.coefficient * entropy


class SkipPolicy(GaussianMLP):
    """A policy: the layers' output, and a linear map of the observation added to it."""

    def __init__(self, observation_size: int, action_size: int, **options: Any) -> None:
        super().__init__(observation_size, action_size, **options)
        self.skip = nn.Parameter(torch.zeros(action_size, observation_size))

    def initialize(self, generator: torch.Generator) -> Params:
        """Draw the layers; the map begins at 0."""
        return super().initialize(generator) | {"skip": torch.zeros_like(self.skip)}

    def through_layers(self, params: Params, features: Tensor) -> Tensor:
        """Means [M, T, B, A] for observations [M, T, B, O]; `skip` is [M, A, O]."""
        added = torch.bmm(features.flatten(1, 2), params["skip"].mT)
        return super().through_layers(params, features) + added.unflatten(1, features.shape[1:3])


class MeanByTime:
    """A value function: at every step, the mean return to go of the task's other steps like it."""

    def fit(self, rollout: Rollout, returns: Tensor, bootstrap: Bootstrap | None = None) -> Tensor:
        """Each task's means by time step, [M, T]."""
        if bootstrap is not None:
            raise ValueError("values by time have no fixed point: leave bootstrap_time_out=false")
        mask = rollout.mask.double()
        return (mask * returns).sum(2) / mask.sum(2).clamp_min(1)

    def values(self, weights: Tensor, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Values [M, T, B], and none after the last step [M, B]."""
        values = weights[..., None].expand(rollout.rewards.shape)
        return values, torch.zeros_like(values[:, 0])


def main(run: str, *overrides: str) -> int:
    """Train MAML with these parts on point navigation."""
    parts: Sequence[str] = (
        "inner.loss={_target_:custom_parts.EntropyBonus,coefficient:0.02}",
        "policy._target_=custom_parts.SkipPolicy",
        "policy.activation=torch.atan",
        "baseline._target_=custom_parts.MeanByTime",
        "~baseline.ridge",
    )
    names = ("env=point_navigation", "algorithm.name=custom_parts", f"hydra.run.dir={run}")
    return train_command([*names, *parts, *overrides])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/custom_parts.py <run folder> [option=value ...]")
    sys.exit(main(*sys.argv[1:]))
