"""Speed of the meta-gradient: task by task, all tasks stacked, in groups, and through learn2learn.

    python -m benchmarks.meta_gradient [tasks] [episodes] [steps]

CPU-seconds of one meta-gradient of half-cheetah-sized rollouts (20 observations, 6 actions, a 64-64
network), one inner step, one torch thread. The ways take turns, so that a busy machine is unkind to
all alike; the median of each, its range over rounds and its ratio to the fastest are printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from maml_rl.algorithm.adaptation import AdaptationStep
from maml_rl.algorithm.advantages import AdvantageEstimator
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.learn2learn import Learn2LearnMAML
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.outer_loop import PostAdaptationObjective
from maml_rl.algorithm.outer_loop.objectives import group_size
from maml_rl.algorithm.policies import GaussianMLP
from maml_rl.algorithm.rollout import Params, Rollout

ROUNDS = 7


def drawn_rollout(
    policy: GaussianMLP, params: Params, shape: tuple[int, int, int], seed: int
) -> Rollout:
    """Draw observations and rewards [M, T, B, ...], and actions from the policy."""
    generator = torch.Generator().manual_seed(seed)
    observations = torch.randn(*shape, policy.observation_size, generator=generator)
    stacked = {name: leaf.expand(shape[0], *leaf.shape) for name, leaf in params.items()}
    distribution, _, _ = policy.distribution(stacked, observations)
    actions = distribution.sample(torch.randn(*shape, policy.action_size, generator=generator))
    ones = torch.ones(shape)
    first = torch.zeros(shape)
    first[:, 0] = 1
    return Rollout(
        observations=observations,
        actions=actions,
        rewards=torch.randn(shape, generator=generator),
        discounts=ones,
        first=first,
        mask=ones,
        log_probs=distribution.log_prob(actions),
        final_observations=observations[:, -1],
        state=None,
        info={},
    )


def ways(
    policy: GaussianMLP, steps: list[AdaptationStep], meta: Params
) -> dict[str, Callable[[], torch.Tensor]]:
    """A function for each way, which gives the meta-gradient's rows [M, P]."""
    num_tasks = len(steps[0].rollout.rewards)
    chosen = group_size(policy, *steps[0].rollout.rewards.shape)

    def way(inner: InnerLoop, size: int) -> Callable[[], torch.Tensor]:
        return lambda: PostAdaptationObjective(
            policy, inner, steps, fisher_share=0.0, tasks_per_group=size
        ).losses_and_gradients(meta)[1]

    return {
        "task by task": way(InnerLoop(), 1),
        f"all {num_tasks} stacked": way(InnerLoop(), num_tasks),
        f"groups of {chosen} (the engine's choice)": way(InnerLoop(), chosen),
        "learn2learn's MAML, task by task": way(Learn2LearnMAML(), 1),
    }


def main() -> None:
    """Time the ways in turn and print a Markdown table."""
    torch.set_num_threads(1)
    given = [int(argument) for argument in sys.argv[1:]]
    num_tasks, episodes, steps = (given + [40, 20, 100][len(given) :])[:3]
    policy = GaussianMLP(20, 6)
    meta = policy.initialize(torch.Generator().manual_seed(0))
    shape = (num_tasks, steps, episodes)
    rollouts = [drawn_rollout(policy, meta, shape, seed) for seed in (1, 2)]
    estimate = AdvantageEstimator(LinearFeatureBaseline())
    adaptation = [AdaptationStep(rollout, estimate(rollout), {}) for rollout in rollouts]
    compared = ways(policy, adaptation, meta)
    rows = {name: call() for name, call in compared.items()}  # warms up, and must agree
    reference = rows["task by task"]
    for name, gradient in rows.items():
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-5, msg=name)
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    for _ in range(ROUNDS):
        for name, call in compared.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    fastest = min(medians.values())
    print(f"{num_tasks} tasks x {episodes} episodes x {steps} steps, {ROUNDS} rounds\n")
    print("| | CPU-seconds | to the fastest |\n| --- | --- | --- |")
    for name, values in seconds.items():
        spread = f"{medians[name]:.2f} [{min(values):.2f}, {max(values):.2f}]"
        print(f"| {name} | {spread} | {medians[name] / fastest:.2f} |")


if __name__ == "__main__":
    main()
