"""Gaussian policies: a network's mean and a state-independent standard deviation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.arguments import number
from envs.errors import ArgumentError
from maml_rl.algorithm.policies.mlp import MLP
from maml_rl.algorithm.rollout import Params, masked_mean


class DiagonalGaussian(NamedTuple):
    """Independent normal distributions of the action dimensions."""

    mean: Tensor  # [M, T, B, A]
    log_std: Tensor  # [M, 1, 1, A]

    def sample(self, noise: Tensor) -> Tensor:
        """Actions mean + std * noise for standard normal noise [M, T, B, A]."""
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        """The mean, [M, T, B, A]."""
        return self.mean

    @classmethod
    def over_time(cls, steps: Sequence[DiagonalGaussian]) -> DiagonalGaussian:
        """Join the distributions of T single steps, [M, 1, B, A] each, to one of [M, T, B, A]."""
        return cls(torch.cat([step.mean for step in steps], dim=1), steps[0].log_std)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log densities, summed over the action dimensions: [M, T, B]."""
        scaled = (actions - self.mean) * (-self.log_std).exp()
        constant = 0.5 * math.log(2 * math.pi) * actions.shape[-1]
        return -0.5 * (scaled * scaled).sum(-1) - self.log_std.sum(-1) - constant

    def entropy(self) -> Tensor:
        """Differential entropy, summed over the action dimensions: [M, T, B]."""
        per_dimension = self.log_std + 0.5 * math.log(2 * math.pi * math.e)
        return per_dimension.sum(-1).expand(self.mean.shape[:-1])

    def kl(self, other: DiagonalGaussian) -> Tensor:
        """KL(self || other), summed over the action dimensions: [M, T, B]."""
        ratio = (2.0 * (self.log_std - other.log_std)).exp()
        distance = ((self.mean - other.mean) * (-other.log_std).exp()) ** 2
        return (0.5 * (ratio + distance - 1.0) + other.log_std - self.log_std).sum(-1)

    def mean_kl_curvature(self, tangent: DiagonalGaussian, mask: Tensor) -> DiagonalGaussian:
        """Multiply a tangent by the Hessian of `mean_kl(., mask)` in mean and log_std, at self.

        That Hessian is the Fisher information: 1 / std^2 for the mean, 2 for log_std, each step
        weighed by mask / sum(mask) of its task.
        """
        weight = (mask / mask.sum((1, 2), keepdim=True))[..., None]
        total = weight.sum((1, 2), keepdim=True)
        return DiagonalGaussian(
            weight * tangent.mean * (-2.0 * self.log_std).exp(), 2.0 * total * tangent.log_std
        )

    def mean_kl(self, other: DiagonalGaussian, mask: Tensor) -> Tensor:
        """Mean of KL(self || other) over each task's steps, [M]."""
        return masked_mean(self.kl(other), mask)


class GaussianMLP(MLP):
    """A multilayer perceptron's mean and one log standard deviation per action dimension.

    As a module it is one policy; `distribution` runs M policies on stacked parameters, whose names
    are the module's own.

    Arguments beside these two are those of `MLP`; only with a memory may there be no hidden layer.

    Args:
        initial_std: standard deviation at the start.
        minimum_std: floor of the standard deviation.
    """

    discrete = False

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "tanh",
        initial_std: float = 1.0,
        minimum_std: float = 1e-6,
        context_size: int = 0,
        normalize_observations: bool = False,
        memory_size: int = 0,
        layer_normalization: bool = False,
        initialization: str = "glorot",
        output_gain: float = 1.0,
    ) -> None:
        if len(hidden_sizes) == 0 and memory_size == 0:
            raise ArgumentError(
                "hidden_sizes is empty; give at least one size, such as [64,64].", "hidden_sizes"
            )
        super().__init__(
            observation_size,
            action_size,
            hidden_sizes,
            activation,
            context_size,
            normalize_observations,
            memory_size=memory_size,
            layer_normalization=layer_normalization,
            initialization=initialization,
            output_gain=output_gain,
        )
        self.initial_std = number("initial_std", initial_std, above=0)
        self.minimum_log_std = math.log(number("minimum_std", minimum_std, above=0))
        self.log_std = nn.Parameter(torch.full((action_size,), math.log(self.initial_std)))

    def initialize(self, generator: torch.Generator) -> Params:
        """Draw an initialization: weights, zero biases, `initial_std`."""
        with torch.no_grad():
            self.log_std.fill_(math.log(self.initial_std))
        return super().initialize(generator)

    def from_outputs(self, params: Params, outputs: Tensor) -> DiagonalGaussian:
        """Distributions with the outputs as means."""
        log_std = params["log_std"].clamp_min(self.minimum_log_std)
        return DiagonalGaussian(outputs, log_std[:, None, None])

    def metrics(self, params: Params) -> dict[str, float]:
        """Mean standard deviation of one policy's actions, before scale and clip."""
        return {"policy/std": float(params["log_std"].clamp_min(self.minimum_log_std).exp().mean())}
