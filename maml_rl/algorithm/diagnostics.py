"""Numbers that describe adaptations: returns and success of tasks, what inner steps did."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.unstable import INFO as UNSTABLE
from envs.wrappers.trials import EPISODE
from maml_rl.algorithm.adaptation import AdaptationStep, distribution_on
from maml_rl.algorithm.outer_loop.update import mean_cosine
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.parallel import ALONE, Communicator

Values = NDArray[np.float64]


def task_returns(rollouts: Sequence[Rollout]) -> Values:
    """Mean return of each task's episodes, by rollout: [K + 1, M]."""
    return np.stack([rollout.mean_return().numpy() for rollout in rollouts])


def task_success(rollouts: Sequence[Rollout]) -> Values | None:
    """Share of each task's episodes that succeeded, [K + 1, M]; None where none is recorded."""
    rates = [rate for rollout in rollouts if (rate := rollout.success_rate()) is not None]
    return np.stack([rate.numpy() for rate in rates]) if rates else None


def mean_returns(
    rollouts: Sequence[Rollout], prefix: str, ranks: Communicator = ALONE
) -> dict[str, float]:
    """Mean return over tasks before adaptation and after each inner step."""
    returns = ranks.rows(*(rollout.mean_return() for rollout in rollouts))
    return {f"{prefix}return/step_{step}": float(rows.mean()) for step, rows in enumerate(returns)}


def trial_returns(rollout: Rollout, prefix: str, ranks: Communicator = ALONE) -> dict[str, float]:
    """Mean return over tasks and trials of their first and of their last episode.

    Empty where an episode is no part of a trial of several.
    """
    if EPISODE not in rollout.info:
        return {}
    returns = rollout.of_all(ranks).episode_returns()
    if returns.shape[1] == 1:
        return {}
    return {
        f"{prefix}return/first_episode": float(returns[:, 0].mean()),
        f"{prefix}return/last_episode": float(returns[:, -1].mean()),
    }


def success_rates(
    rollouts: Sequence[Rollout], prefix: str, ranks: Communicator = ALONE
) -> dict[str, float]:
    """Mean success rate over tasks before adaptation and after each inner step.

    Empty where the environments record no success.
    """
    rates = [rollout.success_rate() for rollout in rollouts]
    return {
        f"{prefix}success/step_{step}": float(ranks.rows(rate)[0].mean())
        for step, rate in enumerate(rates)
        if rate is not None
    }


def unstable_episodes(
    rollouts: Sequence[Rollout], prefix: str, ranks: Communicator = ALONE
) -> dict[str, float]:
    """Number of episodes that were cut off because their simulation became unstable.

    Empty where the sampler stops the run instead.
    """
    if not any(UNSTABLE in rollout.info for rollout in rollouts):
        return {}
    count = sum(
        float((rollout.info[UNSTABLE] * rollout.mask).sum())
        for rollout in rollouts
        if UNSTABLE in rollout.info
    )
    return {f"{prefix}unstable_episodes": float(ranks.total(int(count)))}


def gradient_rows(gradients: Params) -> Tensor:
    """Gradients of an inner step, one row a task, [M, P]."""
    return torch.cat([leaf.flatten(1) for leaf in gradients.values()], dim=1)


def inner_step_metrics(
    policy: Policy, steps: Sequence[AdaptationStep], ranks: Communicator = ALONE
) -> dict[str, float]:
    """Metrics of the inner steps: movement of the policies, size and agreement of the gradients.

    The cosine is of the first step, where all tasks have the same parameters. Empty without inner
    steps.

    Args:
        policy: runs stacked parameters.
        steps: K + 1, without graphs.
        ranks: those that share the tasks.
    """
    gradients = [gradient_rows(step.gradients) for step in steps if step.gradients is not None]
    if not gradients:
        return {}
    divergences = [step_kl(policy, step, after.params) for step, after in pairwise(steps)]
    gradients, divergences = list(ranks.rows(*gradients)), list(ranks.rows(*divergences))
    cosine = mean_cosine(gradients[0])
    return {
        "inner/grad_norm": float(torch.stack([rows.norm(dim=1) for rows in gradients]).mean()),
        "inner/kl": float(torch.stack(divergences).mean()),
        **({} if cosine is None else {"inner/grad_cosine": cosine}),
    }


@torch.no_grad()
def step_kl(policy: Policy, step: AdaptationStep, after: Params) -> Tensor:
    """Mean of KL(before || after) on the rollout that an inner step used, [M]."""
    assert step.distribution is not None
    return step.distribution.mean_kl(
        distribution_on(policy, after, step.rollout), step.rollout.mask
    )
