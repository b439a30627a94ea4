"""The common part of the policies: a multilayer perceptron on stacked parameters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from envs.arguments import integer_at_least, number, one_of
from envs.recorded import Recorded
from maml_rl.algorithm.moments import CLIP, EPSILON, merged, no_rows
from maml_rl.algorithm.policies.activations import activation_named
from maml_rl.algorithm.policies.recurrent import GatedUnit, gated_unit
from maml_rl.algorithm.rollout import Params, Rollout

LAYER_EPSILON = 1e-5  # torch.nn.LayerNorm's
NO_LAYERS = ("context", "log_std")  # parameters of neither head nor body
INITIALIZATIONS = {"glorot": nn.init.xavier_uniform_, "orthogonal": nn.init.orthogonal_}


class MLP(Recorded, nn.Module):
    """A network from observations to the parameters of an action distribution.

    As a module it is one policy; `outputs` runs M policies on stacked parameters, under the
    module's names. The outer loop does not learn the parameters in `fixed`: the context, which
    begins every adaptation at 0 (Zintgraf et al. 2019), and the statistics that normalize
    observations. With a memory, a gated recurrent unit reads the observations and the layers read
    its state (Duan et al. 2016, RL^2).

    Args:
        observation_size: O.
        action_size: A.
        hidden_sizes: units of each hidden layer; there may be none.
        activation: "tanh", "relu", "elu", "gelu", "silu", "softplus", or a function's dotted path.
        context_size: values appended to every observation, parameters of the policy; 0 for none.
        normalize_observations: by running mean and variance, frozen within an iteration.
        bias: of the layers.
        memory_size: units of the recurrent unit; 0 for none.
        layer_normalization: normalize the outputs of hidden layers before the activation, with a
            learned gain and bias (Ba et al. 2016).
        initialization: of the weights, "glorot" (uniform) or "orthogonal" (Saxe et al. 2014), with
            gain 1.
        output_gain: factor of the last layer's weights at the start; a small one begins with equal
            actions everywhere.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "tanh",
        context_size: int = 0,
        normalize_observations: bool = False,
        bias: bool = True,
        memory_size: int = 0,
        layer_normalization: bool = False,
        initialization: str = "glorot",
        output_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.initialization = one_of("initialization", initialization, INITIALIZATIONS)
        self.output_gain = number("output_gain", output_gain, above=0)
        self.memory_size = integer_at_least("memory_size", memory_size, 0)
        self._features = self.memory_size or observation_size
        hidden = [integer_at_least("hidden_sizes", size) for size in hidden_sizes]
        context_size = integer_at_least("context_size", context_size, 0)
        sizes = [self._features + context_size, *hidden, action_size]
        self.observation_size, self.action_size = observation_size, action_size
        self.widest = max(*sizes, 3 * self.memory_size)
        self.activation = activation_named(activation)
        self.normalize_observations = normalize_observations
        self.layers = nn.ModuleList(_linear(i, o, bias) for i, o in itertools.pairwise(sizes))
        if layer_normalization:
            self.norms = nn.ModuleList(nn.LayerNorm(size) for size in hidden)
        if self.memory_size > 0:
            self.memory = GatedUnit(observation_size, self.memory_size)
        if context_size > 0:
            self.context = nn.Parameter(torch.zeros(context_size))
        if normalize_observations:
            for name, leaf in no_rows("observation", (observation_size,)).items():
                self.register_buffer(name, leaf)
        self._has_context, self._has_bias = context_size > 0, bias
        self._has_norms = layer_normalization

    @property
    def fixed(self) -> tuple[str, ...]:
        """Names of the parameters that the outer loop does not learn."""
        context = ("context",) if self._has_context else ()
        return (*context, *(name for name, _ in self.named_buffers()))

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Names of the parameters that may adapt: all, those of the head, the body, the context."""
        names = tuple(name for name, _ in self.named_parameters())
        head = f"layers.{len(self.layers) - 1}."
        return {
            "all": names,
            "head": tuple(name for name in names if name.startswith(head)),
            "body": tuple(name for name in names if not name.startswith((head, *NO_LAYERS))),
            **({"context": ("context",)} if self._has_context else {}),
        }

    def initialize(self, generator: torch.Generator) -> Params:
        """Draw an initialization: weights as `initialization` says, zero biases and context."""
        draw = INITIALIZATIONS[self.initialization]
        with torch.no_grad():
            for layer in self.layers:
                assert isinstance(layer, nn.Linear)
                draw(layer.weight, generator=generator)
                if self._has_bias:
                    nn.init.zeros_(layer.bias)
            last = self.layers[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(self.output_gain)
        if self._has_norms:
            for norm in self.norms:
                assert isinstance(norm, nn.LayerNorm)
                norm.reset_parameters()
        if self.memory_size > 0:
            self.memory.initialize(generator)
        named = itertools.chain(self.named_parameters(), self.named_buffers())
        return {name: leaf.detach().clone() for name, leaf in named}

    @property
    def recurrent(self) -> bool:
        """Whether there is a memory."""
        return self.memory_size > 0

    def initial_state(self, num_tasks: int, slots: int) -> Tensor | None:
        """Memory at the start of a rollout, zeros [M, B, H]; None without one."""
        return torch.zeros(num_tasks, slots, self.memory_size) if self.recurrent else None

    def statistics(self, params: Params, rollouts: Sequence[Rollout]) -> Params:
        """Statistics of observations with those of `rollouts` merged in, leaves [*s].

        Mean and variance over all steps that happened, of all tasks together (Chan et al. 1979).
        """
        if not self.normalize_observations:
            return {}
        for rollout in rollouts:
            rows = rollout.observations[rollout.mask > 0].double()
            params = params | merged(params, "observation", rows)
        return {name: params[name] for name in no_rows("observation")}

    def outputs(self, params: Params, observations: Tensor) -> Tensor:
        """Outputs [M, T, B, A] of networks without memory for [M, T, B, O]."""
        return self.through_layers(params, self._rows(params, observations))

    def _rows(self, params: Params, observations: Tensor) -> Tensor:
        """Observations [M, T, B, O], normalized if the policy normalizes."""
        if observations.dim() != 4:
            raise ValueError(f"observations must be [M, T, B, O], not {tuple(observations.shape)}")
        rows = self._normalized(params, observations.flatten(1, 2))
        return rows.unflatten(1, observations.shape[1:3])

    def through_layers(self, params: Params, features: Tensor) -> Tensor:
        """The layers' outputs [M, T, B, A] for inputs [M, T, B, F].

        A network of another shape overrides this: `features` are the normalized observations, or
        the memory, and `params` its own parameters by name, leaves [M, *s].
        """
        hidden = features.flatten(1, 2)
        for index in range(len(self.layers)):
            if index > 0:
                hidden = self._activated(params, index - 1, hidden)
            weight, offset = self._layer(params, index)
            if weight.shape[-2] == 1:  # one number read: such products round by the group's size
                weight, hidden = pad(weight, (0, 0, 0, 1)), pad(hidden, (0, 1))
            if weight.shape[-1] == 1:
                weight = pad(weight, (0, 1))
                hidden = torch.bmm(hidden, weight)[..., :1] + (0 if offset is None else offset)
            elif offset is None:
                hidden = torch.bmm(hidden, weight)
            else:
                hidden = torch.baddbmm(offset, hidden, weight)
        return hidden.unflatten(1, features.shape[1:3])

    def _activated(self, params: Params, index: int, hidden: Tensor) -> Tensor:
        """Activation of a hidden layer's outputs [M, N, H], normalized if the policy does so."""
        if self._has_norms:
            gain, bias = (params[f"norms.{index}.{name}"][:, None] for name in ("weight", "bias"))
            centered = hidden - hidden.mean(-1, keepdim=True)
            variance = centered.square().mean(-1, keepdim=True)
            hidden = centered * (variance + LAYER_EPSILON).rsqrt() * gain + bias
        return self.activation(hidden)

    def _layer(self, params: Params, index: int) -> tuple[Tensor, Tensor | None]:
        """A layer's weight [M, I, H] and its bias, [M, 1, H] or None.

        The context is the same for all rows, so its share of the first layer is part of the offset.
        """
        weight = params[f"layers.{index}.weight"].mT
        offset = params[f"layers.{index}.bias"][:, None] if self._has_bias else None
        if index == 0 and self._has_context:
            share = params["context"][:, None] @ weight[:, self._features :]
            offset = share if offset is None else offset + share
            weight = weight[:, : self._features]
        return weight, offset

    def _normalized(self, params: Params, rows: Tensor) -> Tensor:
        """Observations [M, N, O], normalized if the policy does so."""
        if not self.normalize_observations:
            return rows
        mean = params["observation_mean"][:, None].to(rows.dtype)
        scale = (params["observation_variance"][:, None] + EPSILON).rsqrt().to(rows.dtype)
        seen = params["observation_count"][:, None, None] > 0
        limit = torch.where(seen, CLIP, torch.inf).to(rows.dtype)
        return ((rows - mean) * scale).clamp(-limit, limit)

    def from_outputs(self, params: Params, outputs: Tensor) -> Any:
        """Action distributions that the networks' outputs [M, T, B, A] stand for."""
        raise TypeError(f"{type(self).__name__} must define from_outputs(params, outputs).")

    def distribution(
        self,
        params: Params,
        observations: Tensor,
        state: Any = None,
        first: Tensor | None = None,
    ) -> tuple[Any, None, Tensor | None]:
        """Action distributions of M policies, no value, and the memory after them.

        Args:
            params: stacked parameters, leaves [M, *s].
            observations: [M, T, B, O]; T is 1 when acting.
            state: the memory of the steps before, [M, B, H]; None for an empty one.
            first: [M, T, B], 1 where the memory is emptied before the step.
        """
        if not self.recurrent:
            return self.from_outputs(params, self.outputs(params, observations)), None, None
        rows = self._rows(params, observations)
        remembered, state = gated_unit(params, rows, state, first)
        return self.from_outputs(params, self.through_layers(params, remembered)), None, state

    def forward(self, observations: Tensor) -> Any:
        """Action distribution of this one policy, the module, for [1, T, B, O]."""
        named = itertools.chain(self.named_parameters(), self.named_buffers())
        params = {name: leaf[None] for name, leaf in named}
        rows = self._rows(params, observations)
        if self.recurrent:
            rows, _ = gated_unit(params, rows, None, None)
        if self._has_context:
            rows = torch.cat([rows, self.context.expand(*rows.shape[:3], -1)], dim=-1)
        for index, layer in enumerate(self.layers[:-1]):
            rows = layer(rows)
            rows = self.activation(self.norms[index](rows) if self._has_norms else rows)
        return self.from_outputs(params, self.layers[-1](rows))


def _linear(inputs: int, outputs: int, bias: bool) -> nn.Linear:
    """A layer whose numbers are not drawn yet.

    `Module.to_empty` does the same, and imports sympy for it, which takes half a second.
    """
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta")
    for name, leaf in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(torch.empty(leaf.shape)))
    return layer
