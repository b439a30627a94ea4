"""Advantages: from a rollout to the targets of a policy-gradient loss."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from envs.arguments import number
from envs.errors import ArgumentError
from maml_rl.algorithm.baselines import Baseline, Bootstrap, raise_unless_finite
from maml_rl.algorithm.returns import (
    continuation,
    discounted_sum,
    generalized_advantage,
    standardize,
    step_in_episode,
)
from maml_rl.algorithm.rollout import Rollout, masked_mean


class Targets(NamedTuple):
    """Weights of log-probabilities in losses, in the rollout's dtype.

    Advantages, rewards and values are in one unit: divided by `scale`, with the mean that
    standardizing takes from the advantages added to the values. `mean_return` and `scale` are in
    the unit of the rewards that the estimator was given: those that the environments gave, or,
    with algorithm.normalize_returns, those divided by the running standard deviation of returns.
    """

    advantages: Tensor  # [M, T, B]
    rewards: Tensor  # [M, T, B] discounted to the beginning of the episode, values at time-outs in
    values: Tensor  # [M, T, B] of the baseline, discounted to the beginning of the episode
    scale: Tensor  # [M] what the advantages were divided by
    mean_return: Tensor  # [M] mean discounted return of an episode, not divided by `scale`
    explained_variance: Tensor  # [M] of what the baseline is fitted to, float64

    def tasks(self, start: int, stop: int) -> Targets:
        """Targets of tasks `start` to `stop`, as views."""
        return Targets(*(leaf[start:stop] for leaf in self))

    def to(self, device: torch.device | str) -> Targets:
        """Move every tensor to `device`."""
        return Targets(*(leaf.to(device) for leaf in self))


class AdvantageEstimator:
    """Fits the baseline to each task's rollout and estimates generalized advantages.

    The classic benchmarks are finite-horizon problems: the value after the last step is 0, and time
    is among the baseline's features. With `bootstrap_time_out=True` the time limit only cuts a
    problem without end: the baseline's value stands in for what follows it, in the advantages and
    in the returns that the baseline itself is fitted to (see `Baseline.fit`).

    Args:
        baseline: fitted anew to every rollout, or to what given values leave of its returns; None
            for the given values alone.
        discount: gamma, in [0, 1].
        gae_lambda: lambda, in [0, 1].
        standardize: scale each task's advantages to mean 0 and standard deviation 1.
        bootstrap_time_out: value of the last state counts where the time limit cut an episode off;
            for a discount below 1.
        held_out_baseline: score each episode by a baseline fitted to other episodes of its task
            (the odd ones by the even ones, and the reverse), so that it does not see its own noise;
            of a single episode the values are then 0.
        discounted_visits: weigh step t of an episode by gamma^t, as the gradient of the discounted
            return has it; the field leaves that out.
    """

    def __init__(
        self,
        baseline: Baseline | None,
        discount: float = 0.99,
        gae_lambda: float = 1.0,
        standardize: bool = True,
        bootstrap_time_out: bool = False,
        held_out_baseline: bool = False,
        discounted_visits: bool = False,
    ) -> None:
        self.baseline = baseline
        self.discount = number("discount", discount, least=0, most=1)
        self.gae_lambda = number("gae_lambda", gae_lambda, least=0, most=1)
        self.standardize = standardize
        if bootstrap_time_out and self.discount == 1:
            raise ArgumentError(
                "bootstrap_time_out=true values a problem without end, whose return is finite for "
                "a discount below 1: write discount=0.99.",
                *("bootstrap_time_out", "discount"),
            )
        self.bootstrap_time_out = bootstrap_time_out
        self.held_out_baseline = held_out_baseline
        self.discounted_visits = discounted_visits

    @torch.no_grad()
    def __call__(self, rollout: Rollout, given: Tensor | None = None) -> Targets:
        """Compute the targets of a rollout, each task from its own steps only.

        Args:
            rollout: of M tasks.
            given: values [M, T, B] in float64, which the baseline is fitted to the rest of.

        Raises:
            NonFiniteError: naming the task whose returns are not finite.
        """
        rewards, mask = rollout.rewards.double(), rollout.mask.double()
        flow, ends = self._flow(rollout), self._time_outs(rollout)
        bootstrap = partial(self._bootstrapped, ends, flow) if self.bootstrap_time_out else None
        returns = self.returns(rollout)
        if given is None:
            values, final = self._values(rollout, returns, bootstrap)
        else:
            values, final = self._values(rollout, returns - given, bootstrap)
            values = values + given
        following = torch.cat([values, final[:, None]], dim=1)
        next_values = following[:, 1:]
        advantages = generalized_advantage(
            rewards, values, next_values, self.discount, self.gae_lambda, flow, flow + ends
        )
        fitted = returns if bootstrap is None else returns + bootstrap(following[..., None])[..., 0]
        mean, scale = torch.zeros_like(rewards[:, :1, :1]), torch.ones_like(rewards[:, :1, :1])
        if self.standardize:
            advantages, mean, scale = standardize(advantages, mask)
        cut_off = self.discount * ends * next_values  # what a time-out stands for
        weights = self.discount ** step_in_episode(rollout.first)
        starts = rollout.first.double() * mask
        weighed = {
            "advantages": advantages * weights if self.discounted_visits else advantages,
            "rewards": (rewards + cut_off) * weights / scale,
            "values": (values + mean) * weights / scale,
            "scale": scale.flatten(),
            "mean_return": (returns * starts).sum((1, 2)) / starts.sum((1, 2)),
        }
        return Targets(
            **{name: leaf.to(rollout.rewards.dtype) for name, leaf in weighed.items()},
            explained_variance=_explained_variance(values, fitted, mask),
        )

    def returns(self, rollout: Rollout) -> Tensor:
        """Discounted returns to go, [M, T, B] in float64."""
        return discounted_sum(rollout.rewards.double(), self.discount, self._flow(rollout))

    @staticmethod
    def _flow(rollout: Rollout) -> Tensor:
        return continuation(rollout.discounts, rollout.first, rollout.mask).double()

    def _time_outs(self, rollout: Rollout) -> Tensor:
        """Steps after which a time limit cut off an episode that was not over, [M, T, B]."""
        if not self.bootstrap_time_out:
            return torch.zeros_like(rollout.rewards, dtype=torch.float64)
        through = continuation(rollout.discounts, rollout.first, rollout.mask, final=True)
        return through.double() - self._flow(rollout)

    def _bootstrapped(self, ends: Tensor, flow: Tensor, following: Tensor) -> Tensor:
        """Discount values [M, T + 1, B, F] at time-outs to the steps before: see `Bootstrap`."""
        terms = self.discount * ends[..., None] * following[:, 1:]
        wide = flow[..., None].expand_as(terms).flatten(2)
        return discounted_sum(terms.flatten(2), self.discount, wide).view_as(terms)

    def _values(
        self, rollout: Rollout, returns: Tensor, bootstrap: Bootstrap | None
    ) -> tuple[Tensor, Tensor]:
        """The baseline's values [M, T, B] and those after the last step [M, B], float64."""
        baseline = self.baseline
        alone = self.held_out_baseline and returns.shape[2] == 1  # no other episode to fit to
        if baseline is None or alone:
            raise_unless_finite("a return of task {} is not finite", returns)
            return torch.zeros_like(returns), torch.zeros_like(returns[:, 0])

        def fitted(mask: Tensor) -> tuple[Tensor, Tensor]:
            weights = baseline.fit(rollout._replace(mask=mask), returns, bootstrap)
            return baseline.values(weights, rollout)

        if not self.held_out_baseline:
            return fitted(rollout.mask)
        odd = torch.arange(returns.shape[2], device=returns.device) % 2 == 1
        halves = [fitted(rollout.mask * half) for half in (odd, ~odd)]
        values, final = (
            torch.where(odd, by_even, by_odd) for by_odd, by_even in zip(*halves, strict=True)
        )
        return values, final


def _explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - mean((returns - values)^2) / Var(returns) per task, [M]."""
    residual = masked_mean((returns - values) ** 2, mask)
    mean = masked_mean(returns, mask)[:, None, None]
    return 1.0 - residual / masked_mean((returns - mean) ** 2, mask).clamp_min(1e-12)
