"""Balanced draws of tasks: what an iteration trains on covers the distribution evenly.

Independent draws leave gaps and repeats: of four directions drawn, all may be forward. Equal counts
of few tasks, or one draw from each stratum of a range, leave that noise out of the meta-gradient;
every single task still has the distribution's own probabilities.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from envs.protocol import Array, TaskDistribution, Tasks, draw_tasks, take_tasks


class StratifiedGenerator(np.random.Generator):
    """A generator whose uniform draws for M tasks are stratified: a Latin hypercube.

    Of numbers [M, ...] that `uniform` or `random` draw at once, each column has one number in each
    of M equal parts of its range, in random order (McKay et al. 1979). All else is drawn as ever.

    Args:
        rng: whose random numbers are used.
        num_tasks: M.
    """

    def __init__(self, rng: np.random.Generator, num_tasks: int) -> None:
        super().__init__(rng.bit_generator)
        self._num_tasks = num_tasks

    def random(self, size: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Numbers in [0, 1), stratified where their leading size is M."""
        shape = (size,) if isinstance(size, int | np.integer) else tuple(size or ())
        numbers = super().random(size, *args, **kwargs)
        if not shape or shape[0] != self._num_tasks:
            return numbers
        columns = np.reshape(numbers, (shape[0], math.prod(shape[1:])))
        ranks = super().permuted(np.tile(np.arange(shape[0])[:, None], columns.shape[1]), axis=0)
        return ((ranks + columns) / shape[0]).reshape(shape)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Numbers in [low, high), stratified where their leading size is M."""
        return low + (np.asarray(high) - low) * self.random(size)


def draw_balanced_tasks(
    distribution: TaskDistribution, count: int, rng: np.random.Generator
) -> Tasks:
    """Draw tasks that cover the distribution evenly, leaves [M, ...].

    Finite sets come in equal counts, what is left over drawn without repeats; of others, uniform
    draws are stratified, see `StratifiedGenerator`.

    Args:
        distribution: of the tasks.
        count: M.
        rng: of the draw.

    Raises:
        UserError: as `draw_tasks`.
    """
    finite = distribution.finite_tasks()
    if finite is None:
        return draw_tasks(distribution, count, StratifiedGenerator(rng, count))
    tasks = {name: np.asarray(leaf) for name, leaf in finite.items()}
    size = len(next(iter(tasks.values())))
    rest: Array = rng.choice(size, count % size, replace=False)
    return take_tasks(tasks, np.concatenate([np.arange(count - count % size) % size, rest]))
