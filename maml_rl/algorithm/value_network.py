"""A learned value function: small networks, fitted anew to each task's rollout."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from envs.arguments import integer_at_least, number
from envs.errors import ArgumentError
from envs.recorded import Recorded
from maml_rl.algorithm.adam_step import no_moments, step_in_place
from maml_rl.algorithm.baselines import Bootstrap, least_squares
from maml_rl.algorithm.policies.activations import tanh
from maml_rl.algorithm.returns import standardize, step_in_episode
from maml_rl.algorithm.rollout import Rollout, masked_mean

Layers = list[tuple[Tensor, Tensor]]
"""Weights [M, I, H] and biases [M, 1, H] of the hidden layers."""


class ValueNetwork(Recorded):
    """A multilayer perceptron per task, from observation and time within the episode to the value.

    The hidden layers are fitted by `steps` of Adam on the squared error of the task's own returns,
    from the same initialization each time: nothing is carried from one rollout to the next. The
    last layer is then solved exactly on the outputs of the hidden layers, as in
    `LinearFeatureBaseline`. So `bootstrap` has its exact fixed point here too.

    Args:
        hidden_sizes: units of each hidden layer, tanh.
        steps: of Adam, each on the whole rollout.
        step_size: Adam's learning rate.
        ridge: weight of the penalty on the last layer's weights.
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (32, 32),
        steps: int = 40,
        step_size: float = 1e-2,
        ridge: float = 1e-3,
    ) -> None:
        self.hidden_sizes = [integer_at_least("hidden_sizes", n) for n in hidden_sizes]
        if not self.hidden_sizes:
            raise ArgumentError(
                "hidden_sizes is empty: give at least one size, as in [32].", "hidden_sizes"
            )
        self.steps = integer_at_least("steps", steps, 0)
        self.step_size = number("step_size", step_size, above=0)
        self.ridge = number("ridge", ridge, above=0)

    def fit(self, rollout: Rollout, returns: Tensor, bootstrap: Bootstrap | None = None) -> Tensor:
        """Fit a network per task; see `Baseline.fit`.

        Returns:
            Everything that `values` needs in one row a task, [M, P] in float64.

        Raises:
            NonFiniteError: naming the task whose returns are not finite.
        """
        inputs, mask = _inputs(rollout), rollout.mask.double()
        center, rate = _moments(inputs[:, :-1], mask)
        if bootstrap is not None:
            rate[:, -1] = 0.0  # time: what goes on after the time limit has no end to count to
        rows = (inputs - center[:, None, None]) * rate[:, None, None]
        layers, goal = self._initial(rows), returns.double()
        if bootstrap is not None:
            features = _features(layers, rows)
            first = self._last_layer(features, mask, goal, bootstrap)
            goal = goal + bootstrap(features @ first[:, None, :, None])[..., 0]
        layers = self._trained(layers, rows[:, :-1], standardize(goal, mask)[0], mask)
        last = self._last_layer(_features(layers, rows), mask, returns.double(), bootstrap)
        hidden = [leaf.flatten(1).double() for layer in layers for leaf in layer]
        return torch.cat([center, rate, *hidden, last], dim=1)

    def values(self, weights: Tensor, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Predict values [M, T, B] and the value after the last step [M, B], float64."""
        inputs = _inputs(rollout)
        sizes = [inputs.shape[-1], *self.hidden_sizes]
        shapes = [shape for i, o in itertools.pairwise(sizes) for shape in ((i, o), (1, o))]
        widths = [sizes[0], sizes[0], *(i * o for i, o in shapes), sizes[-1] + 1]
        center, rate, *hidden, last = weights.split(widths, dim=1)
        leaves = [leaf.unflatten(1, shape) for leaf, shape in zip(hidden, shapes, strict=True)]
        rows = (inputs - center[:, None, None]) * rate[:, None, None]
        features = _features(list(zip(leaves[::2], leaves[1::2], strict=True)), rows)
        values = (features @ last[:, None, :, None])[..., 0]
        return values[:, :-1], values[:, -1]

    def _last_layer(
        self, features: Tensor, mask: Tensor, returns: Tensor, bootstrap: Bootstrap | None
    ) -> Tensor:
        """Solve the last layer's weights [M, H + 1] on features [M, T + 1, B, H + 1]."""
        present = features[:, :-1].contiguous()
        return least_squares(present, features[:, -1], mask, returns, self.ridge, bootstrap)

    def _initial(self, rows: Tensor) -> Layers:
        """Draw Glorot-uniform hidden layers, the same for every task and call; zero biases."""
        generator, layers = torch.Generator().manual_seed(0), []
        for i, o in itertools.pairwise([rows.shape[-1], *self.hidden_sizes]):
            weight = torch.nn.init.xavier_uniform_(torch.empty(i, o), generator=generator)
            weight = weight.to(rows.device).expand(len(rows), i, o).clone()
            layers.append((weight, weight.new_zeros(len(rows), 1, o)))
        return layers

    def _trained(self, layers: Layers, rows: Tensor, goal: Tensor, mask: Tensor) -> Layers:
        """Take Adam's steps on the mean squared error of each task, in single precision."""
        rows, goal, mask = rows.float(), goal.float(), mask.float()
        last = rows.new_zeros(len(rows), self.hidden_sizes[-1] + 1)
        leaves = [*itertools.chain.from_iterable(layers), last]
        moments = no_moments(leaves)
        for leaf in leaves:
            leaf.requires_grad_()
        for _ in range(self.steps):
            with torch.enable_grad():
                error = (_features(layers, rows) @ last[:, None, :, None])[..., 0] - goal
                gradients = torch.autograd.grad(masked_mean(error**2, mask).sum(), leaves)
            step_in_place(leaves, gradients, moments, self.step_size)
        return [(weight.detach(), bias.detach()) for weight, bias in layers]


def _inputs(rollout: Rollout) -> Tensor:
    """Observations and steps within the episode, with those after the last: [M, T + 1, B, I]."""
    time = step_in_episode(rollout.first)
    time = torch.cat([time, time[:, -1:] + 1], dim=1)
    seen = torch.cat([rollout.observations, rollout.final_observations[:, None]], dim=1)
    return torch.cat([seen.double(), time[..., None]], dim=-1)


def _moments(inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each task's inputs [M, T, B, I], and one over their standard deviation: [M, I]."""
    weight = (mask / mask.sum((1, 2), keepdim=True))[..., None]
    mean = (weight * inputs).sum((1, 2))
    variance = (weight * (inputs - mean[:, None, None]) ** 2).sum((1, 2))
    return mean, torch.where(variance > 1e-12, variance, torch.ones_like(variance)).rsqrt()


def _features(layers: Layers, rows: Tensor) -> Tensor:
    """Outputs of the hidden layers for rows [M, N, B, I], and a constant 1: [M, N, B, H + 1]."""
    hidden = rows.clamp(-10.0, 10.0).flatten(1, 2)
    for weight, bias in layers:
        hidden = tanh(torch.baddbmm(bias.to(hidden.dtype), hidden, weight.to(hidden.dtype)))
    constant = torch.ones_like(hidden[..., :1])
    return torch.cat([hidden, constant], dim=-1).unflatten(1, rows.shape[1:3])
