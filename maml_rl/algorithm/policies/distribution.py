"""The engine's protocol of an action distribution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor


class Distribution(Protocol):
    """The action distributions of M policies on T x B observations: a named tuple of tensors.

    Every tensor has leading size M. `other` and `tangent` are distributions of the same kind.
    """

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the parameters."""
        ...

    @classmethod
    def over_time(cls, steps: Sequence[Any]) -> Any:
        """Join the distributions of T single steps to one."""
        ...

    def sample(self, noise: Tensor) -> Tensor:
        """Actions for standard normal noise [M, T, B, A]."""
        ...

    def mode(self) -> Tensor:
        """The most probable actions."""
        ...

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log densities or probabilities, [M, T, B]."""
        ...

    def entropy(self) -> Tensor:
        """Entropies in nats, [M, T, B]."""
        ...

    def mean_kl(self, other: Any, mask: Tensor) -> Tensor:
        """Mean of KL(self || other) over each task's steps, [M]."""
        ...

    def mean_kl_curvature(self, tangent: Any, mask: Tensor) -> Any:
        """Multiply a tangent by the Hessian of `mean_kl(., mask)` at self."""
        ...


def rebuilt(like: Distribution, parts: Iterable[Tensor]) -> Any:
    """Build a distribution of the kind of `like` from its parameters."""
    kind: Any = type(like)
    return kind(*parts)
