"""Policy-gradient losses of the inner and outer loop: each gives one number per task.

Sums over steps are divided by the number of steps, sum(mask): that is what a step size of 0.1
means.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from maml_rl.advantages import Targets
from maml_rl.policies import DiagonalGaussian
from maml_rl.rollout import Rollout, masked_mean

Loss = Callable[[DiagonalGaussian, Rollout, Targets], Tensor]
"""loss(distribution, rollout, targets) gives [M]; the distribution is the policies' own there."""


def log_likelihood(distribution: DiagonalGaussian, rollout: Rollout, targets: Targets) -> Tensor:
    """Return -mean(log pi(a|o) * A), [M] (Finn et al. 2017, equation 4, as their code has it).

    Its gradient is the policy gradient; its Hessian lacks the terms that come from the sampling
    distribution's dependence on the parameters.
    """
    return -masked_mean(distribution.log_prob(rollout.actions) * targets.advantages, rollout.mask)


def likelihood_ratio(distribution: DiagonalGaussian, rollout: Rollout, targets: Targets) -> Tensor:
    """Return -mean(pi(a|o) / pi_sampled(a|o) * A), [M] (Rothfuss et al. 2019, equation 12).

    The denominators are the rollout's stored numbers, so that the loss is one function of the
    parameters. It keeps, in expectation, the terms of the Hessian that `log_likelihood` drops.
    """
    ratio = (distribution.log_prob(rollout.actions) - rollout.log_probs).exp()
    return -masked_mean(ratio * targets.advantages, rollout.mask)


LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in (log_likelihood, likelihood_ratio)}
