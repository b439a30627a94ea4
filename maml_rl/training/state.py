"""Progress of a run: the content of a checkpoint, the limits of a run, and its clock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from envs.arguments import integer_at_least
from envs.errors import ArgumentError
from maml_rl.algorithm.outer_loop.update import State
from maml_rl.algorithm.rollout import Params


@dataclass
class Progress:
    """The state of a run between two iterations; the content of a checkpoint."""

    meta: Params
    outer_state: State = field(default_factory=dict)
    iteration: int = 0  # finished
    env_steps: int = 0  # of training; validation is not counted
    seconds: float = 0.0
    best_validation: float | None = None
    metrics_bytes: int = 0

    def advance_to(self, later: Progress) -> None:
        """Take over all values of a later state."""
        vars(self).update(vars(later))


@dataclass(frozen=True)
class Limits:
    """The limits of a run in iterations and environment steps; the first one reached ends it."""

    iterations: int | None
    env_steps: int | None

    def __post_init__(self) -> None:
        if self.iterations is None and self.env_steps is None:
            raise ArgumentError(
                "iterations=null and env_steps=null: set one of them, the run must end somewhere.",
                *("iterations", "env_steps"),
            )
        if self.iterations is not None:
            integer_at_least("iterations", self.iterations, 0)
        if self.env_steps is not None:
            integer_at_least("env_steps", self.env_steps)

    def fraction(self, progress: Progress) -> float:
        """Share of the run that is done, by the nearer limit."""
        parts = []
        if self.iterations is not None:
            parts.append(progress.iteration / self.iterations if self.iterations else 1.0)
        if self.env_steps is not None:
            parts.append(progress.env_steps / self.env_steps)
        return min(1.0, max(parts))

    def reached(self, progress: Progress) -> bool:
        """Whether a limit was reached."""
        return self.fraction(progress) >= 1.0


class Stopwatch:
    """Wall-clock seconds of the parts of an iteration."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Record the time since the last lap under `name`."""
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def metrics(self, before: float, steps: int) -> dict[str, float]:
        """Seconds of an iteration of so many environment steps, after a run of `before` seconds."""
        total = self.total
        return {
            "seconds": before + total,
            "seconds/iteration": total,
            "seconds/steps_per_second": steps / total,
            **self.laps,
            "seconds/share_sampling": self.laps["seconds/sampling"] / total,
            "seconds/share_outer_loop": self.laps["seconds/outer_loop"] / total,
        }
