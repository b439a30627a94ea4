"""Terms of the outer loss: each is a function of replayed adaptations and gives one number a task.

The outer loss is their sum. The first is a surrogate of the return after adaptation; others are
added by an algorithm (E-MAML's exploration, ProMP's penalty) or by choice (an entropy bonus).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maml_rl.algorithm.advantages import Targets
from maml_rl.algorithm.inner_loop.losses import likelihood_ratio, log_ratios
from maml_rl.algorithm.policies import Distribution
from maml_rl.algorithm.rollout import Rollout, masked_mean


class Replayed(NamedTuple):
    """Tasks start to stop (G of them) adapted anew, as functions of the meta-parameters.

    Lists hold an entry per rollout: those before each inner step, and last the one after them.
    """

    distributions: Sequence[Distribution]  # of the policies on their rollouts, leaves [G, ...]
    rollouts: Sequence[Rollout]
    targets: Sequence[Targets]
    references: Sequence[Distribution] | None  # the same at the iteration's start, None there
    tasks: slice


Term = Callable[[Replayed], Tensor]
"""term(replayed) gives [G]."""


def post_adaptation_surrogate(replayed: Replayed) -> Tensor:
    """Loss -mean(ratio * advantages) after adaptation, [G] (Finn et al. 2017, equation 4)."""
    return likelihood_ratio(replayed.distributions[-1], replayed.rollouts[-1], replayed.targets[-1])


def clipped_surrogate(clip: float) -> Term:
    """Make PPO's surrogate after adaptation (Schulman et al. 2017, equation 7).

    -mean(min(ratio * A, clamp(ratio, 1 - clip, 1 + clip) * A)), [G].
    """

    def term(replayed: Replayed) -> Tensor:
        rollout, advantages = replayed.rollouts[-1], replayed.targets[-1].advantages
        ratio = log_ratios(replayed.distributions[-1], rollout).exp()
        clipped = ratio.clamp(1 - clip, 1 + clip)
        return -masked_mean(torch.minimum(ratio * advantages, clipped * advantages), rollout.mask)

    return term


def inner_kl(replayed: Replayed) -> Tensor:
    """Mean over inner steps of KL(sampling policy || policy before the step), [G].

    ProMP's penalty (Rothfuss et al. 2019, equation 16): how far the policies that the inner steps
    start from have moved from those that collected their rollouts.
    """
    if replayed.references is None or len(replayed.rollouts) == 1:
        return torch.zeros_like(replayed.rollouts[-1].rewards[:, 0, 0])
    before_steps = zip(
        replayed.references[:-1], replayed.distributions[:-1], replayed.rollouts[:-1], strict=True
    )
    return torch.stack(
        [reference.mean_kl(policy, rollout.mask) for reference, policy, rollout in before_steps]
    ).mean(0)


def inner_kl_penalty(coefficient: float) -> Term:
    """Make ProMP's penalty: coefficient * inner KL, [G]."""
    return lambda replayed: coefficient * inner_kl(replayed)


def entropy_bonus(coefficient: float) -> Term:
    """Make -coefficient * mean entropy of the policies after adaptation, [G]."""

    def term(replayed: Replayed) -> Tensor:
        entropy = replayed.distributions[-1].entropy()
        return -coefficient * masked_mean(entropy, replayed.rollouts[-1].mask)

    return term


def exploration(weight: float, credit: Tensor) -> Term:
    """Make E-MAML's term: what the choice of the pre-adaptation episodes does for the return after.

    The return after adaptation is an expectation over the rollouts D that the inner steps learn
    from, so its gradient has the term (return after adaptation) * grad log p(D) (Stadie et al.
    2018, equation 5). Here it is -weight * credit * (log p(D) - log p(D) when collected), [G]: 0 in
    value where the rollouts were collected.

    It completes an inner step on the log-likelihood loss; the other losses carry the dependence
    already, in the Hessian they are differentiated with.

    Args:
        weight: 1 is the exact term; a smaller weight has less variance.
        credit: how good each task's return after adaptation was, in the unit of the surrogate, [M];
            see `exploration_credit`.
    """

    def term(replayed: Replayed) -> Tensor:
        before_steps = zip(replayed.distributions[:-1], replayed.rollouts[:-1], strict=True)
        moved = [
            (log_ratios(policy, rollout) * rollout.mask).sum((1, 2))
            for policy, rollout in before_steps
        ]
        return -weight * credit[replayed.tasks] * torch.stack(moved).sum(0)

    return term


def exploration_credit(rollout: Rollout, targets: Targets) -> Tensor:
    """Each task's mean return after adaptation, less that of the other tasks, [M].

    Divided by the standard deviation that the task's advantages were divided by, and by the steps
    of an episode, which is the unit of the surrogate. The others' mean is a baseline that does not
    depend on the task's own episodes, so the expectation is unchanged.
    """
    returns, count = targets.mean_return, len(targets.mean_return)
    mean_of_others = (returns.sum() - returns) / max(count - 1, 1)
    steps = rollout.mask.sum((1, 2)) / (rollout.first * rollout.mask).sum((1, 2))
    return (returns - mean_of_others) / (targets.scale * steps)
