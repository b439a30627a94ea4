"""Adam on the surrogate after adaptation (vanilla policy gradient in the outer loop)."""

from __future__ import annotations

import torch

from envs.checks import number
from maml_rl.outer_loop.objectives import (
    PostAdaptationObjective,
    raise_unless_finite,
    unflatten,
)
from maml_rl.outer_loop.update import OuterUpdate, State
from maml_rl.rollout import Params


class Adam:
    """One step of torch's Adam along the meta-gradient.

    Args:
        step_size: Adam's learning rate.
        max_grad_norm: the gradient is scaled down to this norm where it is longer; None leaves it.
    """

    keeps_graphs = False

    def __init__(self, step_size: float = 1e-3, max_grad_norm: float | None = None) -> None:
        self.step_size = number("outer.step_size", step_size, above=0)
        self.max_grad_norm = (
            None if max_grad_norm is None else number("outer.max_grad_norm", max_grad_norm, above=0)
        )

    def update(self, meta: Params, state: State, objective: PostAdaptationObjective) -> OuterUpdate:
        """Take one step; `state` is torch's Adam's own.

        Raises:
            NonFiniteError: if the loss, before or after the step, or the gradient is not finite.
        """
        losses, rows = objective.losses_and_gradients(meta)
        gradient = rows.mean(0)
        norm = float(gradient.norm())
        if self.max_grad_norm is not None and norm > self.max_grad_norm:
            gradient = gradient * (self.max_grad_norm / norm)
        leaves = {name: leaf.clone() for name, leaf in meta.items()}
        optimizer = torch.optim.Adam(list(leaves.values()), lr=self.step_size)
        if state:
            optimizer.load_state_dict(state)
        for leaf, part in zip(leaves.values(), unflatten(gradient, meta).values(), strict=True):
            leaf.grad = part
        optimizer.step()
        updated = {name: leaf.detach() for name, leaf in leaves.items()}
        after, divergence = objective.losses_and_kl(updated)
        raise_unless_finite("outer loss after the step", after[:, None])
        metrics = {
            "outer/loss": float(losses.mean()),
            "outer/loss_after": float(after.mean()),
            "outer/kl": float(divergence.mean()),
            "outer/accepted": 1.0,
            "outer/gradient_norm": norm,
        }
        return OuterUpdate(updated, optimizer.state_dict(), metrics)
