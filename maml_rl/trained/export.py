"""A policy as a program of torch's own, which runs without this project."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from envs.errors import UserError
from envs.protocol import TaskDistribution
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.policies.activations import tanh
from maml_rl.algorithm.rollout import Params
from maml_rl.files import replacing
from maml_rl.sampling.actions import scaling


class MeanAction(nn.Module):
    """One policy's mean action, or the best of numbered ones, as a module of plain operations.

    Normalization of observations, context, action scale and clip are part of it.

    Args:
        network: runs the parameters.
        params: of one policy, leaves [1, *s].
        distribution: gives scale and bounds of actions.
    """

    def __init__(self, network: Policy, params: Params, distribution: TaskDistribution) -> None:
        super().__init__()
        self._network = [_plain(network)]  # in a list: its own parameters are not this policy's
        self._names = {name: name.replace(".", "_") for name in params}
        for name, leaf in params.items():
            self.register_buffer(self._names[name], leaf.detach().clone())
        self._discrete = network.discrete
        if not self._discrete:
            dtype = next(iter(params.values())).dtype
            self._scale, low, high = scaling(distribution)
            self.register_buffer("low", torch.as_tensor(low, dtype=dtype))
            self.register_buffer("high", torch.as_tensor(high, dtype=dtype))

    def forward(self, observations: Tensor) -> Tensor:
        """Actions [N, A], or numbers [N], for observations [N, O]."""
        params = {name: getattr(self, attribute) for name, attribute in self._names.items()}
        chosen, _, _ = self._network[0].distribution(params, observations[None, None])
        best: Tensor = chosen.mode()[0, 0]
        if self._discrete:
            return best
        low, high = self.get_buffer("low"), self.get_buffer("high")
        return torch.maximum(torch.minimum(self._scale * best, high), low)


def _plain(network: Any) -> Any:
    """Network with torch's own tanh in place of numpy's, which cannot be exported."""
    if getattr(network, "activation", None) is not tanh:
        return network
    plain = copy.copy(network)
    plain.activation = torch.tanh
    return plain


def export_policy(
    network: Policy, params: Params, distribution: TaskDistribution, path: Path
) -> Path:
    """Write a policy as a `torch.export` program, which runs without this project.

    `torch.export.load(path).module()` takes observations [N, O] of the parameters' type (float32),
    for any N, and returns actions [N, A] in the form of the environment, or numbers [N].

    Args:
        network: runs the parameters.
        params: of one policy, leaves [1, *s].
        distribution: gives scale and bounds of actions.
        path: of the file; ends in .pt2.

    Raises:
        UserError: if the path ends otherwise, or the policy cannot be exported.
    """
    if path.suffix != ".pt2":
        raise UserError(f"an exported policy's file must end in .pt2, not {path.name!r}.")
    module = MeanAction(network, params, distribution).eval()
    dtype = next(iter(params.values())).dtype
    example = torch.zeros(2, network.observation_size, dtype=dtype)
    try:
        program = torch.export.export(
            module, (example,), dynamic_shapes=({0: torch.export.Dim("N", min=1)},)
        )
    except Exception as error:  # a policy of the user's own may do anything
        raise UserError(
            f"{type(network).__name__} cannot be exported: its distribution(params, observations) "
            f"must be made of torch's operations ({type(error).__name__})."
        ) from error
    with replacing(path) as partial:
        torch.export.save(program, partial)
    return path
