"""Episodes whose simulation becomes unstable: the run stops, or the episode ends alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from envs.protocol import Array, Step

INFO = "unstable"
"""Name in `Step.info` of which episodes were ended so in this step, [M, B] bool."""
ADVICE = "sampler.on_unstable=end_episode ends such an episode and goes on"

_ENDING: ContextVar[bool] = ContextVar("ending_unstable_episodes", default=False)


@contextmanager
def ending_unstable_episodes(ending: bool = True) -> Iterator[None]:
    """End single episodes, within this context, where a simulation would stop the run.

    A context rather than an argument: environments lie within wrappers, which pass on only steps.
    """
    token = _ENDING.set(ending)
    try:
        yield
    finally:
        _ENDING.reset(token)


def ending_unstable() -> bool:
    """Whether single episodes are ended here."""
    return _ENDING.get()


def cut_off(step: Step, unstable: Array | None) -> Step:
    """End the episodes that became unstable, as a time limit ends them, with a reward of 0.

    Args:
        step: its observations in those rows are the last good ones.
        unstable: [M, B] bool; None for none.
    """
    rows = np.zeros(step.rewards.shape, dtype=bool) if unstable is None else unstable
    truncated = rows if step.truncated is None else rows | step.truncated
    info = {name: np.where(rows, 0, leaf) for name, leaf in step.info.items()}
    return step._replace(
        rewards=np.where(rows, 0, step.rewards),
        terminated=step.terminated & ~rows,
        truncated=truncated,
        info={**info, INFO: rows},
    )
