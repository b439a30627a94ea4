"""The result of an evaluation, one tree of frozen dataclasses: evaluation.json's content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from maml_rl.evaluation.statistics import (
    Statistic,
    Strata,
    Values,
    conditional_value_at_risk,
    lowered,
    mean,
    statistic_interval,
    stratified,
)
from maml_rl.wording import bracketed, number_format

Kind = Literal["gradient", "memory"]  # takes inner steps, or remembers the episodes of a trial
OPTIONS = ("split", "num_tasks", "num_episodes", "later_scale", "seed", "trials")


@dataclass(frozen=True)
class Estimate:
    """A mean, or another statistic, and its 95 % interval."""

    mean: float
    ci95: tuple[float, float]

    def written(self, form: str) -> str:
        """The mean with its interval in brackets."""
        return bracketed(self.mean, self.ci95, form)


def estimate(scores: Values, statistic: Statistic = mean, strata: Strata | None = None) -> Estimate:
    """A statistic of scores [N, M], and its interval over runs and tasks, tasks within strata."""
    interval = statistic_interval([scores], statistic, resampler=stratified(strata))
    return Estimate(float(statistic(scores)), interval)


@dataclass(frozen=True, kw_only=True)
class Point(Estimate):
    """A measure after some inner steps, or in an episode of a trial."""

    number: int  # of inner steps, or of episodes, before it
    env_steps: float | None = None  # of the task, before it
    cumulative: Estimate | None = None  # sum of the returns of the episodes before it


@dataclass(frozen=True, kw_only=True)
class TaskPoint(Point):
    """A mean over M tasks."""

    per_task: tuple[float, ...]  # [M]


Curve = tuple[TaskPoint, ...]  # by inner step, K + 1, or by episode


@dataclass(frozen=True)
class Grid:
    """The scalar parameter of M tasks at equal distances."""

    parameter: str  # its name and unit
    values: Sequence[float]  # [M], rising
    trained_range: Sequence[float]  # lowest and highest of training


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The evaluated run and tasks, and the options of the evaluation."""

    env: str
    algorithm: str
    kind: Kind
    checkpoint: str  # that was loaded
    iteration: int | None = None  # that left it; None in files from before November 2026
    trained_steps: int = 1  # inner steps
    requested_checkpoint: str | None = None
    split: str | None = None  # "test", "validation" or "fresh"; None of a grid
    num_tasks: int
    num_episodes: int  # of each task, before each inner step and after the last
    later_scale: float | list[float] | None = None  # of the steps beyond the trained ones
    inner: Mapping[str, float] = field(default_factory=dict)  # what was changed of the inner loop
    seed: int = 0
    trials: int | None = None  # of each task; of learners with memory
    trained_episodes: int | None = None  # of a trial in training


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Returns of M tasks after 0 ... K inner steps, or as many episodes of a trial."""

    terms: Terms
    curve: Curve  # of returns, K + 1
    strata: Strata | None = None  # label of each task's stratum, [M]
    groups: Mapping[str, Curve] = field(default_factory=dict)  # of returns, by label
    success: Curve | None = None  # of success rates, K + 1
    within: Curve | None = None  # of returns in every episode of a trial; of learners with memory
    gain: Estimate | None = None  # of the first inner step, paired by task; None without steps
    optimal_return: Sequence[float] | None = None  # of a policy that knows the task, [M]
    unstable_episodes: float | None = None  # cut off; None where they stop the evaluation
    grid: Grid | None = None

    @property
    def remembers(self) -> bool:
        """Whether the learner adapts by its memory."""
        return self.terms.kind == "memory"

    @cached_property
    def returns(self) -> Values:
        """Return of each task, [K + 1, M]."""
        return per_task(self.curve)

    @cached_property
    def lower_fifth(self) -> tuple[Estimate, ...]:
        """CVaR 0.2 of the tasks' returns after each step, K + 1."""
        return tuple(
            estimate(row[None], conditional_value_at_risk, self.strata) for row in self.returns
        )

    @cached_property
    def share_worse(self) -> tuple[Estimate | None, ...]:
        """Share of tasks with a lower return after each step than before adaptation, K + 1.

        Of learners with memory, than in a trial's first episode. None before adaptation.
        """
        first, *later = self.returns
        shares = [estimate(lowered(row, first)[None], strata=self.strata) for row in later]
        return None, *shares

    @property
    def steps(self) -> int:
        """K, the inner steps taken."""
        return len(self.curve) - 1

    @property
    def form(self) -> str:
        """The format in which the returns are written."""
        return number_format([end for point in self.curve for end in point.ci95])

    @cached_property
    def earned(self) -> Values:
        """Sum of each task's returns in the episodes before each step, [K + 1, M].

        Gradient learners have the mean over the episodes of each step.
        """
        episodes = self.terms.num_episodes
        if self.within is None:
            return before(episodes * self.returns)
        return before(per_task(self.within))[::episodes]

    @property
    def options(self) -> dict[str, Any]:
        """The options of evaluate.py that give this evaluation."""
        terms = self.terms
        loaded = terms.checkpoint.removeprefix("iteration_").lstrip("0")
        given = {name: getattr(terms, name) for name in OPTIONS}
        fresh = {"tasks": "fresh", "split": "test"} if terms.split == "fresh" else {}
        return {
            "checkpoint": terms.requested_checkpoint or loaded,
            "steps": self.steps,
            **{name: value for name, value in given.items() if value is not None},
            **fresh,
            **{f"inner.{name}": value for name, value in terms.inner.items()},
        }


def per_task(curve: Curve) -> Values:
    """Values of each task, [N, M]."""
    return np.array([point.per_task for point in curve], dtype=np.float64)


def before(values: Values) -> Values:
    """Sum of values [N, ...] over the entries before each."""
    return np.concatenate([np.zeros_like(values[:1]), values.cumsum(axis=0)[:-1]]).astype(float)
