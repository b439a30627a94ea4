"""Policy-gradient losses of the inner loop and their estimators: each gives one number per task.

Sums over steps are divided by the number of steps, sum(mask): that is what a step size of 0.1
means. They differ in the Hessian, which an outer loop that differentiates through the inner step
needs (docs/estimators.md). With `algorithm.discounted_visits`, which weighs step t by gamma^t, they
all have the gradient of the discounted return in expectation. Without it, the default as usual in
the field, only `dice` weighs so.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from envs.errors import UserError
from maml_rl.algorithm.advantages import Targets
from maml_rl.algorithm.policies import Distribution
from maml_rl.algorithm.returns import decayed_sum
from maml_rl.algorithm.rollout import Rollout, masked_mean

Loss = Callable[[Distribution, Rollout, Targets], Tensor]
"""loss(distribution, rollout, targets) gives [M]; the distribution is the policies' own there."""


def log_likelihood(distribution: Distribution, rollout: Rollout, targets: Targets) -> Tensor:
    """Loss -mean(log pi(a|o) * A), [M] (Finn et al. 2017, equation 4, as their code has it).

    Its gradient is the policy gradient; its Hessian lacks the terms that come from the sampling
    distribution's dependence on the parameters.
    """
    return -masked_mean(distribution.log_prob(rollout.actions) * targets.advantages, rollout.mask)


def log_ratios(distribution: Distribution, rollout: Rollout) -> Tensor:
    """Log ratio log pi(a|o) - log pi_sampled(a|o), 0 at steps that did not happen, [M, T, B].

    log pi_sampled is stored in the rollout, so that losses made of ratios are functions of the
    parameters alone, and finite differences agree with their derivatives of every order.
    """
    moved = distribution.log_prob(rollout.actions) - rollout.log_probs
    return torch.where(rollout.mask > 0, moved, torch.zeros_like(moved))


def likelihood_ratio(distribution: Distribution, rollout: Rollout, targets: Targets) -> Tensor:
    """Loss -mean(pi(a|o) / pi_sampled(a|o) * A), [M]: LVC (Rothfuss et al. 2019, equation 12).

    It keeps, in expectation, the terms of the Hessian in which one action's probability is
    differentiated twice; those that couple two steps' actions are left out.
    """
    ratio = log_ratios(distribution, rollout).exp()
    return -masked_mean(ratio * targets.advantages, rollout.mask)


def dice(distribution: Distribution, rollout: Rollout, targets: Targets) -> Tensor:
    """DiCE's objective as a loss, [M] (Foerster et al. 2018, equations 7 and 10).

    Derivatives of every order are unbiased, those of second order with much variance.
    """
    terms = dice_terms(log_ratios(distribution, rollout), targets, rollout.first)
    return -masked_mean(terms, rollout.mask)


def loaded_dice(decay: float = 1.0) -> Loss:
    """Make Loaded DiCE's loss, [M] (Farquhar et al. 2019, algorithm 1).

    With `decay` 1 and a GAE lambda of 1 derivatives of every order are unbiased, whatever the
    baseline; a smaller decay forgets earlier actions, for less variance.

    Args:
        decay: lambda, in [0, 1].
    """

    def loss(distribution: Distribution, rollout: Rollout, targets: Targets) -> Tensor:
        ratios = log_ratios(distribution, rollout)
        terms = loaded_dice_terms(ratios, targets, rollout.first, decay)
        return -masked_mean(terms, rollout.mask)

    return loss


def dice_terms(ratios: Tensor, targets: Targets, first: Tensor) -> Tensor:
    """DiCE's terms r_t box(a_0 ... a_t) + (1 - box(a_t)) b_t, [M, T, B].

    box is the exponential of summed log ratios, given as [M, T, B]. Where the policy is the one
    that sampled it is 1, with the derivatives of DiCE's operator; elsewhere it is step-wise
    importance sampling. Rewards and baseline values are discounted to the beginning of the episode.
    """
    trajectory = decayed_sum(ratios, 1.0, first).exp()
    return trajectory * targets.rewards + (1 - ratios.exp()) * targets.values


def loaded_dice_terms(
    ratios: Tensor, targets: Targets, first: Tensor, decay: float = 1.0
) -> Tensor:
    """A_t (box(a_0 ... a_t) - box(a_0 ... a_{t-1})), earlier actions decayed, [M, T, B].

    With log ratios against the sampling policy, decay 1 and a GAE lambda of 1 it is doubly robust
    off-policy evaluation (Tang et al. 2021), up to a term without derivatives.
    """
    through = decayed_sum(ratios, decay, first)
    return targets.advantages * (through.exp() - (through - ratios).exp())


def per_task(loss: Loss, distribution: Distribution, rollout: Rollout, targets: Targets) -> Tensor:
    """Evaluate a loss, [M].

    Raises:
        UserError: if it does not give one number a task.
    """
    losses = loss(distribution, rollout, targets)
    if losses.shape != rollout.rewards.shape[:1]:
        raise UserError(
            f"inner.loss={type(loss).__name__} must give one number a task, of shape "
            f"{list(rollout.rewards.shape[:1])}, not {list(losses.shape)}: write "
            f"masked_mean(terms, rollout.mask), of maml_rl.algorithm.rollout."
        )
    return losses


LOSSES: dict[str, Callable[[float], Loss]] = {
    "log_likelihood": lambda decay: log_likelihood,
    "likelihood_ratio": lambda decay: likelihood_ratio,
    "dice": lambda decay: dice,
    "loaded_dice": loaded_dice,
}
"""Losses by name; a maker is given Loaded DiCE's decay, which the others have no use for."""
