"""Running means and variances, by name among the parameters: `<name>_mean` and so on."""

from __future__ import annotations

import torch
from torch import Tensor

from maml_rl.algorithm.rollout import Params

PARTS = ("mean", "variance", "count")
CLIP = 10.0  # normalized rows beyond this many standard deviations are cut
EPSILON = 1e-8  # of a variance


def no_rows(name: str, shape: tuple[int, ...] = ()) -> Params:
    """Moments before the first rows, leaves [*s] in float64: mean 0, variance 1, count 0."""
    start = (torch.zeros(shape), torch.ones(shape), torch.tensor(0.0))
    return {f"{name}_{part}": leaf.double() for part, leaf in zip(PARTS, start, strict=True)}


def merged(statistics: Params, name: str, rows: Tensor) -> Params:
    """Moments with rows [N, *s] merged in, leaves [*s]; none where a row has no numbers."""
    if 0 in rows.shape[1:]:
        return {}
    mean, variance, count = (statistics[f"{name}_{part}"] for part in PARTS)
    later = merge_moments(mean, variance, count, rows)
    return {f"{name}_{part}": leaf for part, leaf in zip(PARTS, later, strict=True)}


def mean_and_deviation(statistics: Params, name: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, [*s]."""
    return statistics[f"{name}_mean"], (statistics[f"{name}_variance"] + EPSILON).sqrt()


def normalized(statistics: Params, name: str, rows: Tensor) -> Tensor:
    """Rows [..., *s] less their mean, in standard deviations, cut at `CLIP`."""
    mean, deviation = mean_and_deviation(statistics, name)
    return ((rows - mean) / deviation).clamp(-CLIP, CLIP)


def merge_moments(
    mean: Tensor, variance: Tensor, count: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Merge rows [N, *s] into a mean [*s], a variance [*s] and a count [] (Chan et al. 1979)."""
    added = torch.tensor(len(rows), dtype=count.dtype)
    total = count + added
    shift = rows.mean(0) - mean
    squares = variance * count + rows.var(0, correction=0) * added
    return (
        mean + shift * added / total,
        (squares + shift**2 * count * added / total) / total,
        total,
    )
