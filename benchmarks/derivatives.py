"""Estimates of the return's derivatives in tabular problems, and the exact ones.

The inner losses of the library, and forms of them for another policy than the one that sampled
(Tang et al. 2021), give estimates of gradient, Hessian and MAML's one-step meta-gradient.
`benchmarks.estimators` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.tabular import (
    TabularMDP,
    action_values,
    exact_gradient,
    exact_hessian,
    exact_meta_gradient,
    hessian,
    random_mdp,
    sample,
    table_params,
    table_policy,
    values,
    visits,
)
from maml_rl.algorithm.advantages import AdvantageEstimator, Targets
from maml_rl.algorithm.baselines import Baseline, Bootstrap, LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.losses import (
    Loss,
    dice_terms,
    likelihood_ratio,
    loaded_dice_terms,
    log_likelihood,
)
from maml_rl.algorithm.policies import Distribution
from maml_rl.algorithm.returns import step_in_episode
from maml_rl.algorithm.rollout import Rollout, masked_mean

STEP_SIZE = 10.0  # of the inner step, in the unit of the return: Liu et al. 2022
CRITIC_NOISE = 1.0  # standard deviation of the critic's error, in |V| / S


class TableBaseline:
    """Values known beforehand: a critic that is not fitted to the rollout it serves."""

    def __init__(self, table: Tensor) -> None:
        self.table = table  # [T, S], or [M, T, S] for M tasks of their own

    def fit(self, rollout: Rollout, returns: Tensor, bootstrap: Bootstrap | None = None) -> Tensor:
        """No weights, [M, 0]."""
        return returns.new_zeros(len(returns), 0)

    def values(self, weights: Tensor, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Look the values up, [M, T, B]; after the last step there is nothing, [M, B]."""
        state, time = rollout.observations.argmax(-1), step_in_episode(rollout.first).long()
        task = torch.arange(len(state))[:, None, None]
        table = self.table.expand(len(state), -1, -1)
        return table[task, time, state], torch.zeros_like(rollout.rewards[:, 0])


def stepwise_importance_sampling(
    distribution: Distribution, rollout: Rollout, targets: Targets
) -> Tensor:
    """DiCE's loss against the policy that sampled, [M] (Tang et al. 2021, section 3.1)."""
    log_ratios = distribution.log_prob(rollout.actions) - rollout.log_probs
    return -masked_mean(dice_terms(log_ratios, targets, rollout.first), rollout.mask)


def doubly_robust(distribution: Distribution, rollout: Rollout, targets: Targets) -> Tensor:
    """Loaded DiCE's loss against the policy that sampled, [M] (Tang et al., equation 3).

    Advantages must be Monte-Carlo returns less values: then each reward's weight telescopes to the
    product of all ratios up to its own, and the advantages need no ratios of their own.
    """
    log_ratios = distribution.log_prob(rollout.actions) - rollout.log_probs
    return -masked_mean(loaded_dice_terms(log_ratios, targets, rollout.first), rollout.mask)


@dataclass(frozen=True)
class Estimator:
    """A loss and the critic its targets are made with."""

    name: str
    loss: Loss
    critic: str  # "none", "noisy", "exact" or "fitted"


class Derivatives(NamedTuple):
    """Derivatives of the return in the flattened table of logits, R estimates of them."""

    gradient: Tensor  # [R, S * A]
    hessian: Tensor  # [R, S * A, S * A]

    def averaged(self, count: int) -> Derivatives:
        """Average every `count` estimates."""
        return Derivatives(*(leaf.unflatten(0, (-1, count)).mean(1) for leaf in self))


class Problem:
    """A problem, the policy to differentiate at, the one that sampled, and the exact answers.

    Args:
        mdp: the problem.
        logits: of the policy whose return is differentiated, [S, A].
        behaviour: logits of the policy that samples, [S, A].
        noise: the critic's error in each state, in |V| / S: [S].
    """

    def __init__(self, mdp: TabularMDP, logits: Tensor, behaviour: Tensor, noise: Tensor) -> None:
        self.mdp, self.logits, self.behaviour, self.noise = mdp, logits, behaviour, noise
        self.gradient = exact_gradient(mdp, logits).flatten()
        self.hessian = exact_hessian(mdp, logits)
        self.meta_gradient = exact_meta_gradient(mdp, logits, STEP_SIZE).flatten()
        adapted = logits + STEP_SIZE * self.gradient.view(logits.shape)
        self.adapted_gradient = exact_gradient(mdp, adapted).flatten()

    @classmethod
    def random(cls, seed: int, off_policy: float) -> Problem:
        """Draw a problem: a uniform policy samples, the target mixes in a deterministic one."""
        rng = np.random.default_rng(seed)
        mdp = random_mdp(rng)
        shape = (mdp.num_states, mdp.num_actions)
        greedy = torch.zeros(shape, dtype=torch.float64)
        greedy[torch.arange(shape[0]), torch.from_numpy(rng.integers(shape[1], size=shape[0]))] = 1
        uniform = torch.full(shape, 1 / shape[1], dtype=torch.float64)
        logits = ((1 - off_policy) * uniform + off_policy * greedy).log()
        noise = torch.from_numpy(CRITIC_NOISE * rng.normal(size=shape[0]))
        return cls(mdp, logits, uniform.log(), noise)

    def critic(self, kind: str, logits: Tensor) -> Baseline:
        """A critic of policies [..., S, A]."""
        if kind == "fitted":
            return LinearFeatureBaseline()
        return TableBaseline(self.table(kind, logits))

    def table(self, kind: str, logits: Tensor) -> Tensor:
        """A critic's values [..., T, S]: zeros, exact, or with a fixed error per state."""
        exact = values(self.mdp, logits)
        if kind == "none":
            return torch.zeros_like(exact)
        scale = exact[..., :1, :].norm(dim=-1, keepdim=True) / self.mdp.num_states
        return exact + scale * self.noise * {"exact": 0.0, "noisy": 1.0}[kind]

    def targets(self, rollout: Rollout, critic: Baseline) -> Targets:
        """The library's targets, as the derivatives of the discounted return want them."""
        estimate = AdvantageEstimator(
            critic, self.mdp.discount, 1.0, standardize=False, discounted_visits=True
        )
        return estimate(rollout)

    def limit(self, estimator: Estimator) -> Tensor | None:
        """Mean Hessian of an unlimited batch where it has a closed form.

        Both forms that have one see each step alone: the Hessian of
        sum_t gamma^t sum_s d_t(s) sum_a w(a|s) A_t(s, a), where w is the target policy, or the
        sampling policy times the target's logarithm.
        """
        if estimator.critic == "fitted":
            return None
        exact = values(self.mdp, self.behaviour)
        following = torch.cat([exact[1:], torch.zeros_like(exact[:1])])
        advantages = action_values(self.mdp, following)
        advantages = advantages - self.table(estimator.critic, self.behaviour)[..., None]
        powers = self.mdp.discount ** torch.arange(self.mdp.horizon, dtype=torch.float64)
        weights = powers[:, None, None] * visits(self.mdp, self.behaviour)[..., None] * advantages
        if estimator.loss is likelihood_ratio:
            return hessian(lambda table: (weights * table.softmax(-1)).sum(), self.logits)
        if estimator.loss is log_likelihood:
            weights = weights * self.behaviour.softmax(-1)
            return hessian(lambda table: (weights * table.log_softmax(-1)).sum(), self.logits)
        return None

    def meta(self, hessians: Tensor) -> Tensor:
        """Meta-gradients [R, S * A] of exact gradients and Hessians [R, S * A, S * A]."""
        outer = self.adapted_gradient
        return outer + STEP_SIZE * (hessians @ outer[:, None])[..., 0]


def differentiate(problem: Problem, loss: Loss, rollout: Rollout, targets: Targets) -> Derivatives:
    """Differentiate minus T times a loss twice in the logits: M estimates."""
    shape = problem.logits.shape
    logits = problem.logits.expand(len(rollout.rewards), -1, -1).clone().requires_grad_()
    distribution = table_policy(problem.mdp).distribution(
        table_params(logits), rollout.observations
    )[0]
    total = -problem.mdp.horizon * loss(distribution, rollout, targets).sum()
    (gradient,) = torch.autograd.grad(total, logits, create_graph=True)
    rows = torch.zeros(len(logits), *shape, *shape, dtype=torch.float64)
    for state in rollout.observations.sum((0, 1, 2)).nonzero().flatten().tolist():
        for action in range(shape[1]):
            entry = gradient[:, state, action].sum()
            rows[:, state, action] = torch.autograd.grad(entry, logits, retain_graph=True)[0]
    return Derivatives(gradient.detach().flatten(1), rows.flatten(3).flatten(1, 2))


def estimate(
    problem: Problem, estimator: Estimator, chunk: int, total: int, seed: int
) -> Derivatives:
    """Estimate from chunks of trajectories, the same ones for every estimator of one seed."""
    generator = torch.Generator().manual_seed(seed)
    critic = problem.critic(estimator.critic, problem.behaviour)
    group = min(
        max(1, 512 // chunk), total // chunk
    )  # tasks at a time, so that intermediates stay in the cache
    estimates = []
    for _ in range(total // (chunk * group)):
        policies = problem.behaviour.expand(group, -1, -1)
        rollout = sample(problem.mdp, policies, chunk, generator)
        targets = problem.targets(rollout, critic)
        estimates.append(differentiate(problem, estimator.loss, rollout, targets))
    return Derivatives(*(torch.cat(leaves) for leaves in zip(*estimates, strict=True)))


def sampled_gradient(problem: Problem, adapted: Tensor, size: int, seed: int) -> Tensor:
    """Estimate the gradient at adapted policies [R, S, A] from a batch of their own, [R, S * A]."""
    generator = torch.Generator().manual_seed(seed)
    rollout = sample(problem.mdp, adapted, size, generator)
    targets = problem.targets(rollout, problem.critic("noisy", adapted))
    logits = adapted.clone().requires_grad_()
    policy = table_policy(problem.mdp)
    distribution = policy.distribution(table_params(logits), rollout.observations)[0]
    total = -problem.mdp.horizon * likelihood_ratio(distribution, rollout, targets).sum()
    return torch.autograd.grad(total, logits)[0].flatten(1)


def score(estimates: Tensor, truth: Tensor) -> dict[str, float]:
    """Compare R estimates [R, P] with the truth [P].

    The squared bias is |mean error|^2 / |truth|^2, less what the noise of a mean over R adds to it
    on average; the spread is the root of the mean squared distance from the mean, over |truth|.
    """
    count, size = len(estimates), truth.norm()
    mean = estimates.mean(0)
    variance = ((estimates - mean) ** 2).sum() / max(count - 1, 1)
    error = ((mean - truth) ** 2).sum() - variance / count
    centred = estimates - estimates.mean(-1, keepdim=True)
    return {
        "bias_squared": float(error / size**2),
        "spread": float(variance.sqrt() / size),
        "cosine": float(cosines(estimates, truth).mean()),
        "correlation": float(cosines(centred, truth - truth.mean()).mean()),
    }


def cosines(estimates: Tensor, truth: Tensor) -> Tensor:
    """Cosine of each row of [R, P] with [P]; 0 for a row of zeros."""
    return torch.nn.functional.cosine_similarity(estimates, truth[None], dim=-1)
