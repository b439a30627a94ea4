"""A meta-learner: a policy, an inner loop that adapts it, an outer loop that trains its start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from envs.checks import UserError
from envs.task_distribution import Tasks
from maml_rl.advantages import AdvantageEstimator, Targets
from maml_rl.baselines import Baseline
from maml_rl.inner_loop import InnerLoop, stack
from maml_rl.learn2learn_inner import Learn2LearnMAML
from maml_rl.outer_loop import OuterOptimizer, OuterUpdate, PostAdaptationObjective
from maml_rl.outer_loop.objectives import raise_unless_finite
from maml_rl.outer_loop.update import State
from maml_rl.policies import Policy
from maml_rl.randomness import Key, Purpose
from maml_rl.rollout import Params, Rollout
from maml_rl.sampling import Collector


class Experience(NamedTuple):
    """What the tasks of one iteration gave."""

    rollouts: list[Rollout]  # K + 1: before each inner step, and after the last
    targets: list[Targets]  # of each rollout
    adapted: Params  # parameters after the last inner step, leaves [M, *s]
    grad_norms: list[Tensor]  # [M] each, of the inner steps' gradients


class MetaLearner:
    """MAML and its relatives (Finn et al. 2017, algorithm 3).

    Args:
        policy: runs stacked parameters.
        baseline: fitted to every rollout.
        inner: adapts.
        outer: updates the meta-parameters.
        name: by which runs and results are called.
        discount: gamma.
        gae_lambda: lambda of the generalized advantages.
        standardize_advantages: per task and rollout.
        bootstrap_time_out: see `AdvantageEstimator`.
        device: where the outer loop computes; collection and its inner steps stay on the CPU.
    """

    def __init__(
        self,
        policy: Policy,
        baseline: Baseline,
        inner: InnerLoop,
        outer: OuterOptimizer,
        name: str = "maml",
        discount: float = 0.99,
        gae_lambda: float = 1.0,
        standardize_advantages: bool = True,
        bootstrap_time_out: bool = False,
        device: str = "cpu",
    ) -> None:
        if isinstance(inner, Learn2LearnMAML) and inner.first_order and outer.keeps_graphs:
            raise UserError(
                "inner.first_order=true through learn2learn has no Fisher products: use "
                "outer=adam, or inner=sgd or inner=meta_sgd with outer=trpo."
            )
        self.policy, self.inner, self.outer, self.name = policy, inner, outer, name
        self.device = device
        self.advantages = AdvantageEstimator(
            baseline, discount, gae_lambda, standardize_advantages, bootstrap_time_out
        )

    def initialize(self, seed: int) -> Params:
        """Draw the meta-parameters, leaves [*s], on the CPU."""
        numbers = Key(seed).generator(Purpose.INITIALIZATION)
        generator = torch.Generator().manual_seed(int(numbers.integers(2**63)))
        return self.inner.meta_parameters(self.policy.initialize(generator))

    @torch.no_grad()
    def collect(
        self,
        collector: Collector,
        meta: Params,
        tasks: Tasks,
        steps: int,
        key: Key,
        later_scale: float = 1.0,
    ) -> Experience:
        """Collect and adapt in turn, `steps` times, and collect once more; no graph is kept.

        Steps beyond the inner loop's own number are scaled by `later_scale`.
        """
        rows = stack(meta, collector.num_tasks)
        params = self.inner.initial_params(rows)
        rollouts, targets, norms = [], [], []
        for step in range(steps + 1):
            rollouts.append(collector.collect(params, tasks, key.child(step)))
            targets.append(self.advantages(rollouts[-1]))
            if step < steps:
                scale = 1.0 if step < self.inner.steps else later_scale
                params, grads = self.inner.step(
                    self.policy, params, rows, rollouts[-1], targets[-1], scale
                )
                rows_of_grads = torch.cat([leaf.flatten(1) for leaf in grads.values()], dim=1)
                raise_unless_finite("inner gradient", rows_of_grads)
                norms.append(rows_of_grads.norm(dim=1))
        return Experience(rollouts, targets, params, norms)

    def diagnostics(self, meta: Params, experience: Experience) -> dict[str, float]:
        """Return what tells whether training is healthy: inner gradients, baseline, exploration."""
        return {
            "inner/grad_norm": float(torch.stack(experience.grad_norms).mean()),
            "baseline/explained_variance": float(experience.targets[0].explained_variance.mean()),
            **self.policy.metrics(self.inner.initial_params(meta)),
        }

    def outer_step(self, meta: Params, state: State, experience: Experience) -> OuterUpdate:
        """Replay the adaptation with its graph and update the meta-parameters."""
        objective = PostAdaptationObjective(
            self.policy,
            self.inner,
            [rollout.to(self.device) for rollout in experience.rollouts],
            [Targets(*(leaf.to(self.device) for leaf in t)) for t in experience.targets],
            keep_graphs=self.outer.keeps_graphs,
        )
        on_device = {name: leaf.to(self.device) for name, leaf in meta.items()}
        update = self.outer.update(on_device, state, objective)
        back = {name: leaf.to("cpu") for name, leaf in update.meta.items()}
        return OuterUpdate(back, update.state, update.metrics)


def mean_returns(rollouts: Sequence[Rollout], prefix: str) -> dict[str, float]:
    """Return the mean return over tasks before adaptation and after each inner step."""
    return {
        f"{prefix}return/step_{step}": float(rollout.mean_return().mean())
        for step, rollout in enumerate(rollouts)
    }
