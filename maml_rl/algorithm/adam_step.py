"""Adam's step (Kingma and Ba 2015) by torch's function.

`torch.optim.Adam`, the class around it, imports torch's compiler, which takes a second and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

Moments = list[dict[str, Tensor]]
"""Of each leaf "step", the number of steps taken, and "exp_avg" and "exp_avg_sq", [*s] each."""


def no_moments(leaves: Sequence[Tensor]) -> Moments:
    """Moments before the first step."""
    return [
        {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(leaf),
            "exp_avg_sq": torch.zeros_like(leaf),
        }
        for leaf in leaves
    ]


def stored_moments(state: dict[str, Any], leaves: Sequence[Tensor]) -> Moments:
    """Copies of the moments in a state of `torch.optim.Adam`'s layout, at the leaves' devices."""
    return [
        {
            name: value.clone() if name == "step" else value.to(leaf, copy=True)
            for name, value in state["state"][number].items()
        }
        for number, leaf in enumerate(leaves)
    ]


@torch.no_grad()
def step_in_place(
    leaves: Sequence[Tensor], gradients: Sequence[Tensor], moments: Moments, step_size: float
) -> None:
    """Move leaves and moments by one step along the gradients, [*s] each."""
    adam(
        list(leaves),
        list(gradients),
        [row["exp_avg"] for row in moments],
        [row["exp_avg_sq"] for row in moments],
        [],
        [row["step"] for row in moments],
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=step_size,
        weight_decay=0.0,
        eps=1e-8,
        maximize=False,
    )
