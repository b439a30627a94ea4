"""From a rollout to what a policy-gradient loss needs of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from envs.checks import number
from maml_rl.baselines import Baseline
from maml_rl.returns import continuation, discounted_sum, generalized_advantage, standardize
from maml_rl.rollout import Rollout, masked_mean


class Targets(NamedTuple):
    """What a loss weighs log-probabilities with."""

    advantages: Tensor  # [M, T, B], of the rollout's dtype
    explained_variance: Tensor  # [M], of the returns by the baseline


class AdvantageEstimator:
    """Fits the baseline to each task's rollout and estimates generalized advantages.

    The classic benchmarks are finite-horizon problems: the value after the last step is 0, and time
    is among the baseline's features. `bootstrap_time_out=True` takes the baseline's value there.

    Args:
        baseline: fitted anew to every rollout.
        discount: gamma, in [0, 1].
        gae_lambda: lambda, in [0, 1].
        standardize: scale each task's advantages to mean 0 and standard deviation 1.
        bootstrap_time_out: value of the last state counts where the time limit cut an episode off.
    """

    def __init__(
        self,
        baseline: Baseline,
        discount: float = 0.99,
        gae_lambda: float = 1.0,
        standardize: bool = True,
        bootstrap_time_out: bool = False,
    ) -> None:
        self.baseline = baseline
        self.discount = number("algorithm.discount", discount, least=0, most=1)
        self.gae_lambda = number("algorithm.gae_lambda", gae_lambda, least=0, most=1)
        self.standardize = standardize
        self.bootstrap_time_out = bootstrap_time_out

    @torch.no_grad()
    def __call__(self, rollout: Rollout) -> Targets:
        """Compute the targets of a rollout, each task from its own steps only."""
        rewards = rollout.rewards.double()
        flow = continuation(rollout.discounts, rollout.first, rollout.mask).double()
        returns = discounted_sum(rewards, self.discount, flow)
        weights = self.baseline.fit(rollout, returns)
        values, final = self.baseline.values(weights, rollout)
        next_values = torch.cat([values[:, 1:], final[:, None]], dim=1)
        bootstrap = flow
        if self.bootstrap_time_out:
            bootstrap = continuation(
                rollout.discounts, rollout.first, rollout.mask, final=True
            ).double()
        advantages = generalized_advantage(
            rewards, values, next_values, self.discount, self.gae_lambda, flow, bootstrap
        )
        if self.standardize:
            advantages = standardize(advantages, rollout.mask.double())
        return Targets(
            advantages=advantages.to(rollout.rewards.dtype),
            explained_variance=_explained_variance(values, returns, rollout.mask.double()),
        )


def _explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - mean((returns - values)^2) / Var(returns) per task, [M]."""
    residual = masked_mean((returns - values) ** 2, mask)
    mean = masked_mean(returns, mask)[:, None, None]
    return 1.0 - residual / masked_mean((returns - mean) ** 2, mask).clamp_min(1e-12)
