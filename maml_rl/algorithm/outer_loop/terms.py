"""Terms of the outer loss: each is a function of replayed adaptations and gives one number a task.

The outer loss is their sum. The first is a surrogate of the return after adaptation; others are
added by an algorithm (E-MAML's exploration, ProMP's penalty) or by choice (an entropy bonus).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maml_rl.algorithm.adaptation import AdaptationStep
from maml_rl.algorithm.advantages import Targets
from maml_rl.algorithm.inner_loop.losses import likelihood_ratio, log_ratios
from maml_rl.algorithm.policies import Distribution
from maml_rl.algorithm.rollout import Rollout, masked_mean
from maml_rl.parallel import ALONE, Communicator


class Replayed(NamedTuple):
    """Tasks start to stop (G of them) adapted anew, as functions of the meta-parameters."""

    steps: Sequence[AdaptationStep]  # K + 1, each with its distribution, leaves [G, ...]
    references: Sequence[Distribution] | None  # distributions at the iteration's start, None there
    tasks: slice

    @property
    def last(self) -> tuple[Distribution, Rollout, Targets]:
        """The adapted policies on the rollout after the last inner step."""
        return self._data(self.steps[-1])

    @property
    def before(self) -> list[tuple[Distribution, Rollout, Targets]]:
        """The policies before each inner step, K of them."""
        return [self._data(step) for step in self.steps[:-1]]

    @staticmethod
    def _data(step: AdaptationStep) -> tuple[Distribution, Rollout, Targets]:
        assert step.distribution is not None
        return step.distribution, step.rollout, step.targets


Term = Callable[[Replayed], Tensor]
"""term(replayed) gives [G]."""


def post_adaptation_surrogate(replayed: Replayed) -> Tensor:
    """Loss -mean(ratio * advantages) after adaptation, [G] (Finn et al. 2017, equation 4)."""
    return likelihood_ratio(*replayed.last)


def clipped_surrogate(clip: float) -> Term:
    """PPO's surrogate after adaptation (Schulman et al. 2017, equation 7).

    -mean(min(ratio * A, clamp(ratio, 1 - clip, 1 + clip) * A)), [G].
    """

    def term(replayed: Replayed) -> Tensor:
        distribution, rollout, targets = replayed.last
        ratio = log_ratios(distribution, rollout).exp()
        clipped = ratio.clamp(1 - clip, 1 + clip) * targets.advantages
        return -masked_mean(torch.minimum(ratio * targets.advantages, clipped), rollout.mask)

    return term


def inner_kl(replayed: Replayed) -> Tensor:
    """Mean over inner steps of KL(sampling policy || policy before the step), [G].

    ProMP's penalty (Rothfuss et al. 2019, equation 16): the distance of the policies before the
    inner steps from those that collected their rollouts.
    """
    if replayed.references is None or not replayed.before:
        return torch.zeros_like(replayed.steps[-1].rollout.rewards[:, 0, 0])
    return torch.stack(
        [
            reference.mean_kl(distribution, rollout.mask)
            for reference, (distribution, rollout, _) in zip(
                replayed.references, replayed.before, strict=False
            )
        ]
    ).mean(0)


def inner_kl_penalty(coefficient: float) -> Term:
    """ProMP's penalty: coefficient * inner KL, [G]."""
    return lambda replayed: coefficient * inner_kl(replayed)


def entropy_bonus(coefficient: float) -> Term:
    """Bonus -coefficient * mean entropy of the policies after adaptation, [G]."""

    def term(replayed: Replayed) -> Tensor:
        distribution, rollout, _ = replayed.last
        return -coefficient * masked_mean(distribution.entropy(), rollout.mask)

    return term


def exploration(weight: float, credit: Tensor) -> Term:
    """E-MAML's term: the effect of the pre-adaptation episodes on the return after adaptation.

    The return after adaptation is an expectation over the rollouts D that the inner steps learn
    from, so its gradient has the term (return after adaptation) * grad log p(D) (Stadie et al.
    2018, equation 5). Here it is -weight * credit * (log p(D) - log p(D) when collected), [G]: 0 in
    value where the rollouts were collected.

    It completes an inner step on the log-likelihood loss. The other losses have this dependence
    already, in their Hessian.

    Args:
        weight: 1 is the exact term; a smaller weight has less variance.
        credit: of each task's return after adaptation, in the unit of the surrogate, [M]; see
            `exploration_credit`.
    """

    def term(replayed: Replayed) -> Tensor:
        moved = [
            (log_ratios(distribution, rollout) * rollout.mask).sum((1, 2))
            for distribution, rollout, _ in replayed.before
        ]
        return -weight * credit[replayed.tasks] * torch.stack(moved).sum(0)

    return term


def exploration_credit(rollout: Rollout, targets: Targets, ranks: Communicator = ALONE) -> Tensor:
    """Each task's mean return after adaptation, less that of the other tasks, [M].

    Divided by the standard deviation that the task's advantages were divided by, and by the steps
    of an episode, which is the unit of the surrogate. The others' mean is a baseline that does not
    depend on the task's own episodes, so the expectation is unchanged. The other tasks may be those
    of other ranks.
    """
    returns = targets.mean_return
    (of_all,) = ranks.rows(returns)
    mean_of_others = (of_all.sum() - returns) / max(len(of_all) - 1, 1)
    steps = rollout.mask.sum((1, 2)) / (rollout.first * rollout.mask).sum((1, 2))
    return (returns - mean_of_others) / (targets.scale * steps)
