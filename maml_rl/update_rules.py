"""Update rules: how an inner step turns gradients into parameters.

A rule is a function of what it is given; what it learns is in the meta-parameters, under names
that begin with "update/".
"""

from __future__ import annotations

from typing import Protocol

import torch

from maml_rl.rollout import Params

LEARNED = "update/"


class UpdateRule(Protocol):
    """Turns stacked parameters and their gradients into adapted parameters."""

    def learned(self, params: Params, step_size: float) -> Params:
        """Return the initial values of what the rule learns, names beginning with "update/"."""
        ...

    def __call__(self, meta: Params, params: Params, grads: Params, step_size: float) -> Params:
        """Return the parameters after one step; those without a gradient stay as they are."""
        ...


class SGD:
    """p - step_size * g: plain gradient descent (Finn et al. 2017, equation 1)."""

    def learned(self, params: Params, step_size: float) -> Params:
        """Learn nothing."""
        return {}

    def __call__(self, meta: Params, params: Params, grads: Params, step_size: float) -> Params:
        """Return p - step_size * g."""
        return params | {name: params[name] - step_size * grad for name, grad in grads.items()}


class MetaSGD:
    """p - a * g with a learned step size a for every parameter (Li et al. 2017, equation 3).

    The rates start at the inner loop's `step_size` and are raw numbers, as in learn2learn: nothing
    keeps them positive.
    """

    def learned(self, params: Params, step_size: float) -> Params:
        """Learn one rate per parameter, named "update/<parameter>"."""
        return {LEARNED + name: torch.full_like(leaf, step_size) for name, leaf in params.items()}

    def __call__(self, meta: Params, params: Params, grads: Params, step_size: float) -> Params:
        """Return p - a * g."""
        return params | {
            name: params[name] - meta[LEARNED + name] * grad for name, grad in grads.items()
        }
