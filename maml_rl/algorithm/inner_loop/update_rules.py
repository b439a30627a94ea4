"""Update rules: from gradients to the parameters after an inner step.

A rule is a function of its arguments. Its learned parameters are meta-parameters, under names that
begin with "update/".
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from envs.arguments import one_of
from envs.recorded import Recorded
from maml_rl.algorithm.rollout import Params

LEARNED = "update/"


class UpdateRule(Protocol):
    """Turns stacked parameters and their gradients into adapted parameters."""

    def learned(self, params: Params, step_size: float) -> Params:
        """Initial values of the learned parameters, under names that begin with "update/"."""
        ...

    def __call__(self, meta: Params, params: Params, grads: Params, step_size: float) -> Params:
        """Parameters after one step; those without a gradient do not change."""
        ...


class SGD(Recorded):
    """p - step_size * g: plain gradient descent (Finn et al. 2017, equation 1)."""

    def learned(self, params: Params, step_size: float) -> Params:
        """Learn nothing."""
        return {}

    def __call__(self, meta: Params, params: Params, grads: Params, step_size: float) -> Params:
        """Parameters p - step_size * g."""
        return params | {name: params[name] - step_size * grad for name, grad in grads.items()}


class MetaSGD(Recorded):
    """p - a * g with learned step sizes a (Li et al. 2017, equation 3).

    All start at the inner loop's `step_size`.

    Args:
        positive: learn the logarithms of the step sizes, which keeps them positive; otherwise they
            are raw numbers, as in learn2learn.
        per: "parameter" for a step size for every weight, "tensor" for one per weight matrix, bias
            vector or log_std.
    """

    def __init__(self, positive: bool = False, per: str = "parameter") -> None:
        self.positive = positive
        self.per = one_of("per", per, ("parameter", "tensor"))

    def learned(self, params: Params, step_size: float) -> Params:
        """Learn rates, "update/<name>", or their logarithms, "update/log/<name>"."""
        start = math.log(step_size) if self.positive else step_size
        shapes = {
            name: leaf if self.per == "parameter" else leaf.new_empty((1,) * leaf.dim())
            for name, leaf in params.items()
        }
        return {self._leaf(name): torch.full_like(leaf, start) for name, leaf in shapes.items()}

    def _leaf(self, name: str) -> str:
        return LEARNED + ("log/" if self.positive else "") + name

    def rate(self, meta: Params, name: str) -> Tensor:
        """Step sizes of one parameter, [M, *s] or [M, 1, ...]."""
        learned = meta[self._leaf(name)]
        return learned.exp() if self.positive else learned

    def __call__(self, meta: Params, params: Params, grads: Params, step_size: float) -> Params:
        """Parameters p - a * g."""
        return params | {
            name: params[name] - self.rate(meta, name) * grad for name, grad in grads.items()
        }
