"""Returns and advantages: one function per equation, on tensors [M, T, B]."""

from __future__ import annotations

import torch
from torch import Tensor


def _check(**arrays: Tensor) -> None:
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 3 for shape in shapes.values()):
        raise ValueError(f"expected tensors of one shape [M, T, B], not {shapes}")


def continuation(discounts: Tensor, first: Tensor, mask: Tensor, final: bool = False) -> Tensor:
    """Return what of step t + 1 flows into step t, [M, T, B].

    It is 0 where the task terminated, where the next step begins an episode or did not happen, and
    after the last step: there unless `final`, which keeps the last step's discount so that a value
    can stand in for the steps cut off by the time limit.
    """
    _check(discounts=discounts, first=first, mask=mask)
    follows = torch.zeros_like(discounts)
    follows[:, :-1] = (1 - first[:, 1:]) * (mask[:, 1:] > 0)
    if final:
        follows[:, -1] = 1.0
    return discounts * follows


def discounted_sum(terms: Tensor, discount: Tensor | float, flow: Tensor) -> Tensor:
    """Return G_t = x_t + discount * flow_t * G_{t+1}, backwards from G_T = 0: [M, T, B].

    With rewards as terms it is the return to go; with temporal differences and discount * lambda,
    the generalized advantage. `flow` is `continuation(...)`.
    """
    _check(terms=terms, flow=flow)
    sums, carry = [], torch.zeros_like(terms[:, 0])
    for term, through in zip(terms.unbind(1)[::-1], flow.unbind(1)[::-1], strict=True):
        carry = term + discount * through * carry
        sums.append(carry)
    return torch.stack(sums[::-1], dim=1)


def generalized_advantage(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    discount: Tensor | float,
    gae_lambda: Tensor | float,
    flow: Tensor,
    bootstrap: Tensor,
) -> Tensor:
    """Generalized advantage estimation (Schulman et al. 2016, equation 16): [M, T, B].

    delta_t = r_t + discount * bootstrap_t * V_{t+1} - V_t and
    A_t = delta_t + discount * lambda * flow_t * A_{t+1}.

    Args:
        rewards: r_t, [M, T, B].
        values: V_t, [M, T, B].
        next_values: V_{t+1}, [M, T, B].
        discount: in [0, 1].
        gae_lambda: in [0, 1].
        flow: where A_{t+1} belongs to the same episode, [M, T, B].
        bootstrap: where V_{t+1} counts, [M, T, B]: `flow`, and the last step at a time-out where
            that is bootstrapped.
    """
    _check(rewards=rewards, values=values, next_values=next_values, bootstrap=bootstrap)
    deltas = rewards + discount * bootstrap * next_values - values
    return discounted_sum(deltas, discount * gae_lambda, flow)


def standardize(values: Tensor, mask: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Subtract each task's mean and divide by its standard deviation, over masked steps."""
    _check(values=values, mask=mask)
    total = mask.sum((1, 2), keepdim=True)
    mean = (mask * values).sum((1, 2), keepdim=True) / total
    variance = (mask * (values - mean) ** 2).sum((1, 2), keepdim=True) / total
    return (values - mean) / (variance.sqrt() + epsilon)
