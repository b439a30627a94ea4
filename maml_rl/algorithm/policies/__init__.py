"""Policies: one protocol for acting on one step and for a whole rollout, on stacked parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from maml_rl.algorithm.policies.categorical import Categorical, CategoricalMLP
from maml_rl.algorithm.policies.distribution import Distribution
from maml_rl.algorithm.policies.gaussian import DiagonalGaussian, GaussianMLP
from maml_rl.algorithm.rollout import Params, Rollout

__all__ = [
    "Categorical",
    "CategoricalMLP",
    "DiagonalGaussian",
    "Distribution",
    "GaussianMLP",
    "Policy",
]


class Policy(Protocol):
    """M policies of one architecture, run together on stacked parameters."""

    observation_size: int
    action_size: int
    discrete: bool  # whether actions are numbers from 0 to action_size - 1
    widest: int  # units of the widest layer, from which the size of a task group follows

    @property
    def recurrent(self) -> bool:
        """Whether it has a memory: its rollouts are then replayed step after step."""
        ...

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Names of parameters that may adapt, by part; "all" and "head" are among the parts."""
        ...

    @property
    def fixed(self) -> tuple[str, ...]:
        """Names of parameters that the outer loop does not learn."""
        ...

    def initialize(self, generator: torch.Generator) -> Params:
        """Draw one policy's parameters, leaves [*s]."""
        ...

    def statistics(self, params: Params, rollouts: Sequence[Rollout]) -> Params:
        """Parameters that are statistics of observations, brought up to `rollouts`."""
        ...

    def metrics(self, params: Params) -> dict[str, float]:
        """Metrics of one policy's parameters; names begin with "policy/"."""
        ...

    def initial_state(self, num_tasks: int, slots: int) -> Any:
        """State at the start of a rollout, None for policies without memory."""
        ...

    def distribution(
        self, params: Params, observations: Tensor, state: Any = None, first: Tensor | None = None
    ) -> tuple[Distribution, Tensor | None, Any]:
        """Action distribution, values or None, and state for observations [M, T, B, O]."""
        ...
