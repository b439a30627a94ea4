"""Gaussian policies: a network's mean and a state-independent standard deviation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from envs.checks import UserError, integer_at_least, number, one_of
from maml_rl.policies.activations import tanh
from maml_rl.rollout import Params, masked_mean

ACTIVATIONS = {"tanh": tanh, "relu": torch.relu}


class DiagonalGaussian(NamedTuple):
    """Independent normal distributions of the action dimensions."""

    mean: Tensor  # [M, T, B, A]
    log_std: Tensor  # [M, 1, 1, A]

    def sample(self, noise: Tensor) -> Tensor:
        """Return mean + std * noise for standard normal noise [M, T, B, A]."""
        return self.mean + self.log_std.exp() * noise

    @classmethod
    def over_time(cls, steps: Sequence[DiagonalGaussian]) -> DiagonalGaussian:
        """Join the distributions of T single steps, [M, 1, B, A] each, to one of [M, T, B, A]."""
        return cls(torch.cat([step.mean for step in steps], dim=1), steps[0].log_std)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return log densities, summed over the action dimensions: [M, T, B]."""
        scaled = (actions - self.mean) * (-self.log_std).exp()
        constant = 0.5 * math.log(2 * math.pi) * actions.shape[-1]
        return -0.5 * (scaled * scaled).sum(-1) - self.log_std.sum(-1) - constant

    def kl(self, other: DiagonalGaussian) -> Tensor:
        """Return KL(self || other), summed over the action dimensions: [M, T, B]."""
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
        """Return the mean of KL(self || other) over each task's steps, [M]."""
        return masked_mean(self.kl(other), mask)


class GaussianMLP(nn.Module):
    """A multilayer perceptron's mean and one log standard deviation per action dimension.

    As a module it is one policy; `distribution` runs M policies on stacked parameters, whose names
    are the module's own.

    Args:
        observation_size: O.
        action_size: A.
        hidden_sizes: units of each hidden layer.
        activation: "tanh" or "relu".
        initial_std: standard deviation at the start.
        minimum_std: floor of the standard deviation.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "tanh",
        initial_std: float = 1.0,
        minimum_std: float = 1e-6,
    ) -> None:
        super().__init__()
        if len(hidden_sizes) == 0:
            raise UserError(
                "policy.hidden_sizes is empty; give at least one size, such as [64,64]."
            )
        hidden = [integer_at_least("policy.hidden_sizes", size) for size in hidden_sizes]
        sizes = [observation_size, *hidden, action_size]
        self.observation_size, self.action_size, self.widest = (
            observation_size,
            action_size,
            max(sizes),
        )
        self.activation = ACTIVATIONS[one_of("policy.activation", activation, ACTIVATIONS)]
        self.initial_std = number("policy.initial_std", initial_std, above=0)
        self.minimum_log_std = math.log(number("policy.minimum_std", minimum_std, above=0))
        self.layers = nn.ModuleList(
            nn.Linear(i, o, device="meta") for i, o in itertools.pairwise(sizes)
        ).to_empty(device="cpu")
        self._names = [(f"layers.{i}.weight", f"layers.{i}.bias") for i in range(len(self.layers))]
        self.log_std = nn.Parameter(torch.full((action_size,), math.log(self.initial_std)))

    def initialize(self, generator: torch.Generator) -> Params:
        """Draw an initialization: Glorot-uniform weights, zero biases, `initial_std`."""
        with torch.no_grad():
            for layer in self.layers:
                assert isinstance(layer, nn.Linear)
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)
            self.log_std.fill_(math.log(self.initial_std))
        return {name: leaf.detach().clone() for name, leaf in self.named_parameters()}

    def forward(self, observations: Tensor) -> DiagonalGaussian:
        """Return the action distribution of this one policy for observations [1, T, B, O]."""
        hidden = observations
        for layer in self.layers[:-1]:
            hidden = self.activation(layer(hidden))
        log_std = self.log_std.clamp_min(self.minimum_log_std)
        return DiagonalGaussian(self.layers[-1](hidden), log_std[None, None, None])

    def metrics(self, params: Params) -> dict[str, float]:
        """Return the mean standard deviation of one policy's actions, before scale and clip."""
        return {"policy/std": float(params["log_std"].clamp_min(self.minimum_log_std).exp().mean())}

    def initial_state(self, num_tasks: int, slots: int) -> None:
        """Return the state at the start of a rollout; this policy has none."""

    def distribution(
        self,
        params: Params,
        observations: Tensor,
        state: Any = None,
        first: Tensor | None = None,
    ) -> tuple[DiagonalGaussian, None, None]:
        """Return the action distributions of M policies, no value and no state.

        Args:
            params: stacked parameters, leaves [M, *s].
            observations: [M, T, B, O]; T is 1 when acting.
            state: unused, for policies with memory.
            first: unused, for policies with memory.
        """
        if observations.dim() != 4:
            raise ValueError(f"observations must be [M, T, B, O], not {tuple(observations.shape)}")
        hidden = observations.flatten(1, 2)
        for index, (weight, bias) in enumerate(self._names):
            if index > 0:
                hidden = self.activation(hidden)
            hidden = torch.baddbmm(params[bias][:, None], hidden, params[weight].mT)
        log_std = params["log_std"].clamp_min(self.minimum_log_std)
        return (
            DiagonalGaussian(hidden.unflatten(1, observations.shape[1:3]), log_std[:, None, None]),
            None,
            None,
        )
