"""Categorical policies: a network's logits over a finite set of actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maml_rl.algorithm.policies.mlp import MLP
from maml_rl.algorithm.rollout import Params, masked_mean


class Categorical(NamedTuple):
    """A distribution over A actions, numbered from 0."""

    logits: Tensor  # [M, T, B, A]

    def sample(self, noise: Tensor) -> Tensor:
        """Actions [M, T, B] from standard normal noise [M, T, B, A].

        The Gumbel-max trick: a standard normal's distribution function makes it uniform.
        """
        gumbel = -torch.log(-torch.special.log_ndtr(noise))
        return (self.logits + gumbel).argmax(-1)

    def mode(self) -> Tensor:
        """Action of the largest logit, [M, T, B]."""
        return self.logits.argmax(-1)

    @classmethod
    def over_time(cls, steps: Sequence[Categorical]) -> Categorical:
        """Join the distributions of T single steps, [M, 1, B, A] each, to one of [M, T, B, A]."""
        return cls(torch.cat([step.logits for step in steps], dim=1))

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log probabilities of actions [M, T, B], whole numbers of any dtype: [M, T, B]."""
        return self.logits.log_softmax(-1).gather(-1, actions.long()[..., None])[..., 0]

    def entropy(self) -> Tensor:
        """Entropy in nats, [M, T, B]."""
        logs = self.logits.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)

    def kl(self, other: Categorical) -> Tensor:
        """KL(self || other), [M, T, B]."""
        logs = self.logits.log_softmax(-1)
        return (logs.exp() * (logs - other.logits.log_softmax(-1))).sum(-1)

    def mean_kl_curvature(self, tangent: Categorical, mask: Tensor) -> Categorical:
        """Multiply a tangent by the Hessian of `mean_kl(., mask)` in the logits, at self.

        That Hessian is the Fisher information diag(p) - p p', each step weighed by mask / sum(mask)
        of its task.
        """
        weight = (mask / mask.sum((1, 2), keepdim=True))[..., None]
        probabilities = self.logits.softmax(-1)
        weighed = probabilities * tangent.logits
        return Categorical(weight * (weighed - probabilities * weighed.sum(-1, keepdim=True)))

    def mean_kl(self, other: Categorical, mask: Tensor) -> Tensor:
        """Mean of KL(self || other) over each task's steps, [M]."""
        return masked_mean(self.kl(other), mask)


class CategoricalMLP(MLP):
    """A multilayer perceptron's logits over `action_size` actions.

    Without hidden layers and bias, on one-hot observations, it is a table of logits.

    Arguments are those of `MLP`, with A the number of actions.
    """

    discrete = True

    def from_outputs(self, params: Params, outputs: Tensor) -> Categorical:
        """Distributions with the outputs as logits."""
        return Categorical(outputs)

    def metrics(self, params: Params) -> dict[str, float]:
        """No metrics: the exploration of a categorical policy depends on the observation."""
        return {}
