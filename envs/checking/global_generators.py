"""Global generators of random numbers, which no distribution may draw from."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from envs.episodes import ContractError, name_of
from envs.protocol import TaskDistribution


@contextmanager
def leaving_global_generators(
    distribution: TaskDistribution, call: str, implies: Iterable[str] = ()
) -> Iterator[None]:
    """Raise if numpy's, Python's or torch's global generator was drawn from meanwhile."""
    before = _global_generators()
    yield
    for library, state in _global_generators().items():
        if state != before.get(library, state):
            raise ContractError(
                f"{name_of(distribution)}.{call} draws from {library}'s global generator: draw "
                f"from the generators it is given, and from nothing else.",
                implies,
            )


def _global_generators() -> dict[str, Any]:
    """States of the global generators, by library."""
    states: dict[str, Any] = {
        "Python": random.getstate(),
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
    }
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().tolist()
    return states
