"""Returns and advantages: one function per equation, on tensors [M, T, B]."""

from __future__ import annotations

import torch
from torch import Tensor


def _check(**arrays: Tensor) -> None:
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 3 for shape in shapes.values()):
        raise ValueError(f"expected tensors of one shape [M, T, B], not {shapes}")


def continuation(discounts: Tensor, first: Tensor, mask: Tensor, final: bool = False) -> Tensor:
    """The share of step t + 1 that flows into step t, [M, T, B].

    It is 0 where the task terminated, where the next step begins an episode or did not happen, and
    after the last step. With `final` the last step of a slot keeps its discount, so that a value
    can stand in for the steps that a time limit cut off.
    """
    _check(discounts=discounts, first=first, mask=mask)
    happened = (mask > 0).to(discounts.dtype)
    follows = torch.zeros_like(discounts)
    follows[:, :-1] = (1 - first[:, 1:]) * happened[:, 1:]
    if final:
        follows[:, :-1] += happened[:, :-1] * (1 - happened[:, 1:])
        follows[:, -1] = 1.0
    return discounts * follows


def discounted_sum(terms: Tensor, discount: Tensor | float, flow: Tensor) -> Tensor:
    """Sum G_t = x_t + discount * flow_t * G_{t+1}, backwards from G_T = 0: [M, T, B].

    With rewards as terms it is the return to go; with temporal differences and discount * lambda,
    the generalized advantage. `flow` is `continuation(...)`.
    """
    _check(terms=terms, flow=flow)
    sums, carry = [], torch.zeros_like(terms[:, 0])
    for term, through in zip(terms.unbind(1)[::-1], flow.unbind(1)[::-1], strict=True):
        carry = term + discount * through * carry
        sums.append(carry)
    return torch.stack(sums[::-1], dim=1)


def step_in_episode(first: Tensor) -> Tensor:
    """Count steps since each episode's beginning, [M, T, B]: 0 where `first` is 1."""
    time = torch.arange(first.shape[1], device=first.device, dtype=torch.float64)[:, None]
    began = torch.where(first > 0, time, torch.zeros_like(time))
    return time - began.cummax(dim=1).values


def decayed_sum(terms: Tensor, decay: float, first: Tensor) -> Tensor:
    """Sum S_t = x_t + decay * S_{t-1}, forwards from each episode's beginning: [M, T, B].

    One product per task with the matrix of decays; the contributions of earlier episodes of a slot
    are subtracted.
    """
    _check(terms=terms, first=first)
    time = torch.arange(terms.shape[1], device=terms.device)
    lag = (time[:, None] - time).to(terms.dtype)
    weights = torch.where(lag >= 0, decay ** lag.clamp_min(0), torch.zeros_like(lag))
    columns = terms if terms.shape[2] > 1 else torch.nn.functional.pad(terms, (0, 1))
    sums = torch.bmm(weights.expand(len(terms), *weights.shape), columns)[..., : terms.shape[2]]
    since = step_in_episode(first).to(terms.dtype)
    before = time[:, None] - since.long() - 1  # the last step of the slot's previous episode
    if not (before >= 0).any():
        return sums
    earlier = sums.gather(1, before.clamp_min(0)) * decay ** (since + 1)
    return sums - torch.where(before >= 0, earlier, torch.zeros_like(earlier))


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


def standardize(
    values: Tensor, mask: Tensor, epsilon: float = 1e-8
) -> tuple[Tensor, Tensor, Tensor]:
    """Subtract each task's mean and divide by its standard deviation, over masked steps.

    Returns:
        The standardized values [M, T, B], the means and the divisors, [M, 1, 1] each.
    """
    _check(values=values, mask=mask)
    total = mask.sum((1, 2), keepdim=True)
    mean = (mask * values).sum((1, 2), keepdim=True) / total
    variance = (mask * (values - mean) ** 2).sum((1, 2), keepdim=True) / total
    scale = variance.sqrt() + epsilon
    return (values - mean) / scale, mean, scale
