"""Small cases in float64 for the tests of the engine, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from envs import PointNavigation, TaskDistribution
from maml_rl.algorithm.adaptation import AdaptationStep
from maml_rl.algorithm.advantages import AdvantageEstimator, Targets
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.loop import InnerLoop, stack
from maml_rl.algorithm.outer_loop import PostAdaptationObjective
from maml_rl.algorithm.outer_loop.objectives import flatten, unflatten
from maml_rl.algorithm.outer_loop.terms import Term, post_adaptation_surrogate
from maml_rl.algorithm.policies import GaussianMLP
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.randomness import Key
from maml_rl.sampling import Collector


class Case:
    """M tasks x B episodes, collected and adapted K times in `dtype`.

    Tasks are of point navigation where no distribution is given. `meta` is what is learned, `fixed`
    the policy's parameters that are not. `num_episodes_before` is B before inner steps, where it is
    another number than after them.
    """

    def __init__(
        self,
        inner: InnerLoop,
        num_tasks: int = 3,
        num_episodes: int = 4,
        horizon: int = 6,
        hidden_sizes: tuple[int, ...] = (5, 4),
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        distribution: TaskDistribution | None = None,
        num_episodes_before: int | None = None,
        **policy: Any,
    ) -> None:
        distribution = distribution or PointNavigation(horizon=horizon)
        sizes = (distribution.observation_space.shape, distribution.action_space.shape)
        self.policy = GaussianMLP(sizes[0][0], sizes[1][0], hidden_sizes, **policy)
        drawn = self.policy.initialize(torch.Generator().manual_seed(seed))
        self.policy = self.policy.to(dtype)
        self.inner, self.num_tasks = inner, num_tasks
        whole = inner.meta_parameters(
            self.policy, {name: leaf.to(dtype) for name, leaf in drawn.items()}
        )
        self.meta = {name: leaf for name, leaf in whole.items() if name not in self.policy.fixed}
        self.fixed = {name: whole[name] for name in self.policy.fixed}
        self.steps: list[AdaptationStep] = []
        before = num_episodes_before or num_episodes
        collectors = [
            Collector(distribution, self.policy, num_tasks, count)
            for count in [before] * inner.steps + [num_episodes]
        ]
        estimate = AdvantageEstimator(LinearFeatureBaseline())
        tasks = distribution.sample(num_tasks, np.random.default_rng(seed))
        rows = stack(whole, num_tasks)
        params = inner.initial_params(rows)
        for step, collector in enumerate(collectors):
            rollout = collector.collect(params, tasks, Key(seed, (step,)))
            targets = estimate(rollout)
            self.steps.append(AdaptationStep(rollout, targets, params))
            with torch.no_grad():
                params, *_ = inner.step(self.policy, params, rows, rollout, targets)
        self.tasks, self.collector = tasks, collectors[-1]

    @property
    def rollouts(self) -> list[Rollout]:
        """The collected rollouts, K + 1."""
        return [step.rollout for step in self.steps]

    @property
    def targets(self) -> list[Targets]:
        """Their targets."""
        return [step.targets for step in self.steps]

    def objective(
        self,
        inner: InnerLoop | None = None,
        tasks_per_group: int | None = None,
        graph_budget: int = 2**30,
        terms: Sequence[Term] = (post_adaptation_surrogate,),
        fisher_share: float = 1.0,
    ) -> PostAdaptationObjective:
        """The objective on the collected rollouts, through this case's inner loop or another."""
        return PostAdaptationObjective(
            self.policy,
            inner or self.inner,
            self.steps,
            fisher_share,
            tasks_per_group=tasks_per_group,
            graph_budget=graph_budget,
            terms=terms,
            fixed=self.fixed,
        )

    def adapted(self, meta: Params) -> Params:
        """Adapt to the collected rollouts, with the graph; leaves [M, *s]."""
        rows = {
            name: leaf.expand(self.num_tasks, *leaf.shape)
            for name, leaf in (meta | self.fixed).items()
        }
        return self.inner.adapt(self.policy, rows, self.steps[:-1])

    def moved(self, size: float, seed: int = 0) -> Params:
        """The meta-parameters with normal noise of standard deviation `size` added."""
        start = flatten(self.meta)
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(seed))
        return unflatten(start + size * noise.to(start.dtype), self.meta)


class Plain(nn.Module):
    """The same policy from torch's own parts, for one task, under the same parameter names."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        weights = [leaf for name, leaf in params.items() if name.endswith("weight")]
        self.layers = nn.ModuleList(
            nn.Linear(leaf.shape[1], leaf.shape[0], dtype=leaf.dtype) for leaf in weights
        )
        if "context" in params:
            self.context = nn.Parameter(torch.empty_like(params["context"]))
        self.log_std = nn.Parameter(torch.empty_like(params["log_std"]))
        self.load_state_dict({name: leaf.clone() for name, leaf in params.items()})

    def features(self, observations: Tensor) -> Tensor:
        """The last hidden layer [T, B, H] of observations [T, B, O]."""
        if hasattr(self, "context"):
            context = self.context.expand(*observations.shape[:-1], -1)
            observations = torch.cat([observations, context], dim=-1)
        for layer in self.layers[:-1]:
            observations = torch.tanh(layer(observations))
        return observations

    def normal(self, mean: Tensor) -> Independent:
        """The distribution of actions around means [T, B, A]."""
        return Independent(Normal(mean, self.log_std.exp().expand_as(mean)), 1)

    def forward(self, observations: Tensor) -> Independent:
        return self.normal(self.layers[-1](self.features(observations)))


def relative(one: Tensor, other: Tensor) -> float:
    """The largest difference, in units of the largest number of `other`."""
    return float((one - other).abs().max() / other.abs().max())


def directions(size: int, count: int = 3) -> list[Tensor]:
    """Random directions [P] to try derivatives in."""
    generators = (torch.Generator().manual_seed(seed) for seed in range(count))
    return [torch.randn(size, generator=each, dtype=torch.float64) for each in generators]


def slope(function: Callable[[Params], Tensor], at: Params, direction: Tensor) -> Tensor:
    """The derivative of a function of parameters along a direction [P], by central differences."""
    start, epsilon = flatten(at), 1e-5
    ahead = function(unflatten(start + epsilon * direction, at))
    return (ahead - function(unflatten(start - epsilon * direction, at))) / (2 * epsilon)
