"""Small cases in float64 for the tests of the engine."""

from __future__ import annotations

import numpy as np
import torch

from envs import PointNavigation
from maml_rl.advantages import AdvantageEstimator, Targets
from maml_rl.baselines import LinearFeatureBaseline
from maml_rl.inner_loop import InnerLoop, stack
from maml_rl.outer_loop import PostAdaptationObjective
from maml_rl.policies import GaussianMLP
from maml_rl.randomness import Key
from maml_rl.rollout import Params, Rollout
from maml_rl.sampling import Collector


class Case:
    """M point-navigation tasks x B episodes, collected and adapted K times in `dtype`."""

    def __init__(
        self,
        inner: InnerLoop,
        num_tasks: int = 3,
        num_episodes: int = 4,
        horizon: int = 6,
        hidden_sizes: tuple[int, ...] = (5, 4),
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
    ) -> None:
        distribution = PointNavigation(horizon=horizon)
        self.policy = GaussianMLP(2, 2, hidden_sizes)
        drawn = self.policy.initialize(torch.Generator().manual_seed(seed))
        self.policy = self.policy.to(dtype)
        self.inner, self.num_tasks = inner, num_tasks
        self.meta = inner.meta_parameters(
            self.policy, {name: leaf.to(dtype) for name, leaf in drawn.items()}
        )
        self.rollouts: list[Rollout] = []
        self.targets: list[Targets] = []
        collector = Collector(distribution, self.policy, num_tasks, num_episodes)
        estimate = AdvantageEstimator(LinearFeatureBaseline())
        tasks = distribution.sample(num_tasks, np.random.default_rng(seed))
        rows = stack(self.meta, num_tasks)
        params = inner.initial_params(rows)
        for step in range(inner.steps + 1):
            self.rollouts.append(collector.collect(params, tasks, Key(seed, (step,))))
            self.targets.append(estimate(self.rollouts[-1]))
            with torch.no_grad():
                params, *_ = inner.step(
                    self.policy, params, rows, self.rollouts[-1], self.targets[-1]
                )
        self.tasks, self.collector = tasks, collector

    def objective(
        self,
        inner: InnerLoop | None = None,
        tasks_per_group: int | None = None,
        graph_budget: int = 2**30,
    ) -> PostAdaptationObjective:
        """The objective on the collected rollouts, through this case's inner loop or another."""
        return PostAdaptationObjective(
            self.policy,
            inner or self.inner,
            self.rollouts,
            self.targets,
            tasks_per_group=tasks_per_group,
            graph_budget=graph_budget,
        )

    def adapted(self, meta: Params) -> Params:
        """Adapt to the collected rollouts, with the graph; leaves [M, *s]."""
        rows = {name: leaf.expand(self.num_tasks, *leaf.shape) for name, leaf in meta.items()}
        return self.inner.adapt(self.policy, rows, self.rollouts[:-1], self.targets[:-1])
