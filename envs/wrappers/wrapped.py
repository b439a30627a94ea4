"""The common part of task distributions around another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from envs.protocol import Array, TaskDistribution


class Wrapped(ABC):
    """Changes what is observed of another distribution's tasks, and leaves the rest to it.

    Args:
        distribution: whose tasks they are.
        low: of the numbers appended to its observations, [F].
        high: of the same.
    """

    def __init__(self, distribution: TaskDistribution, low: Array, high: Array) -> None:
        self.distribution = distribution
        box = distribution.observation_space
        self.observation_space = spaces.Box(
            np.concatenate([box.low, low]).astype(box.low.dtype),
            np.concatenate([box.high, high]).astype(box.low.dtype),
            dtype=box.low.dtype,
        )

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to the distribution itself."""
        if name == "distribution":  # not there yet, while unpickling
            raise AttributeError(name)
        return getattr(self.distribution, name)

    @property
    def held_out(self) -> Self | None:
        """The distribution that test tasks come from, wrapped too; None where it is this one."""
        own = getattr(self.distribution, "held_out", None)
        return None if own is None else self.around(own)

    @abstractmethod
    def around(self, distribution: TaskDistribution) -> Self:
        """The same wrapper around another distribution."""
