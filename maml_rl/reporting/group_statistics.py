"""The statistics of groups of runs: means over runs and tasks, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maml_rl.evaluation.result import Estimate, Point, before, estimate, per_task
from maml_rl.evaluation.statistics import (
    Strata,
    Values,
    conditional_value_at_risk,
    improvement,
    interquartile_mean,
    lowered,
    mean,
)
from maml_rl.evaluation.storage import (
    estimates_json,
    gain_json,
    point_json,
    robust_json,
)
from maml_rl.reporting.groups import Group


@dataclass(frozen=True, kw_only=True)
class GroupPoint(Point):
    """After some inner steps: mean over runs and tasks."""

    iqm: Estimate  # interquartile mean
    lower_fifth: Estimate  # CVaR 0.2 of a run's tasks, mean over runs
    share_worse: Estimate | None  # share of tasks made worse; None before adaptation
    per_run: Values  # mean of each run, [N]
    success: Estimate | None  # rate; None where a run has none
    success_iqm: Estimate | None
    improvement: Estimate | None  # probability of improvement over the first group


@dataclass(frozen=True)
class GroupStatistics:
    """The statistics of a group in a comparison."""

    group: Group
    curve: Sequence[GroupPoint]  # by inner step
    gain: Estimate  # of the first inner step
    within: Sequence[Point] | None  # by episode; of learners with memory

    @property
    def success(self) -> list[Estimate] | None:
        """Success rate at each point of the curve; None where a run has none."""
        rates = [point.success for point in self.curve if point.success is not None]
        return rates if len(rates) == len(self.curve) else None

    @property
    def env_steps(self) -> float:
        """Environment steps of training, mean over runs."""
        return float(np.mean([run.env_steps for run in self.group.runs]))

    def to_json(self) -> dict[str, Any]:
        """The group's part of comparison.json."""
        group, within = self.group, self.within
        episodes = [point_json(point, number="episode") for point in within or ()]
        return {
            "label": group.label,
            "algorithm": group.runs[0].algorithm,
            "settings": {key: _plain(value) for key, value in group.settings.items()},
            "seeds": [run.seed for run in group.runs],
            "runs": [str(run.path) for run in group.runs],
            "checkpoints": [run.evaluated.terms.checkpoint for run in group.runs],
            "env_steps": self.env_steps,
            "curve": [_point_json(point) for point in self.curve],
            "gain_of_first_step": gain_json(self.gain),
            **({} if within is None else {"within": episodes}),
        }


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)


def _point_json(point: GroupPoint) -> dict[str, Any]:
    others = {
        "return_iqm": point.iqm,
        "success_mean": point.success,
        "success_iqm": point.success_iqm,
        "improvement": point.improvement,
    }
    return {
        **point_json(point),
        "return_per_run": point.per_run.tolist(),
        **robust_json(point.lower_fifth, point.share_worse),
        **estimates_json(others),
    }


def statistics_of(group: Group, first: Group, steps: int) -> GroupStatistics:
    """The statistics of a group after up to `steps` inner steps, against those of the first."""
    return GroupStatistics(
        group,
        [_point(group, first, step) for step in range(steps + 1)],
        estimate(group.returns(1) - group.returns(0), mean, group.strata),
        _within(group),
    )


def _point(group: Group, first: Group, step: int) -> GroupPoint:
    scores, success = group.returns(step), group.success(step)
    seen, strata = group.env_steps(step), group.strata
    worse = estimate(lowered(scores, group.returns(0)), mean, strata) if step else None
    return GroupPoint(
        **vars(estimate(scores, mean, strata)),
        number=step,
        env_steps=None if seen is None else float(seen.mean()),
        cumulative=None if seen is None else estimate(group.cumulative(step), mean, strata),
        iqm=estimate(scores, interquartile_mean, strata),
        lower_fifth=estimate(scores, conditional_value_at_risk, strata),
        share_worse=worse,
        per_run=scores.mean(axis=1),
        success=None if success is None else estimate(success, mean, strata),
        success_iqm=None if success is None else estimate(success, interquartile_mean, strata),
        improvement=None if group is first else _improvement(group, first, step),
    )


def _within(group: Group) -> list[Point] | None:
    """Every episode of trials, for a group of learners with memory."""
    curves = [run.evaluated.within for run in group.runs]
    known = [curve for curve in curves if curve is not None]
    if len(known) < len(curves):
        return None
    returns = np.stack(
        [per_task(curve)[:, order] for curve, order in zip(known, group.orders, strict=True)]
    )
    earned = np.stack([before(values) for values in returns])
    env_steps = np.mean([[point.env_steps or 0.0 for point in curve] for curve in known], axis=0)
    return [
        Point(
            **vars(estimate(returns[:, episode], mean, group.strata)),
            number=episode,
            env_steps=float(env_steps[episode]),
            cumulative=estimate(earned[:, episode], mean, group.strata),
        )
        for episode in range(returns.shape[1])
    ]


def _improvement(group: Group, first: Group, step: int) -> Estimate | None:
    """Probability of improvement over the first group, by runs that met the same test tasks.

    None where there are no such runs.
    """
    pairs: list[tuple[Values, Values]] = []
    strata: list[Strata | None] = []
    for tasks in dict.fromkeys(first.task_sets):
        ours, theirs = (
            [run for run, met in zip(side.runs, side.task_sets, strict=True) if met == tasks]
            for side in (group, first)
        )
        if ours:
            returns = [[run.evaluated.returns[step] for run in runs] for runs in (ours, theirs)]
            pairs.append((np.stack(returns[0]), np.stack(returns[1])))
            strata.append(theirs[0].evaluated.strata)
    return Estimate(*improvement(pairs, strata=strata)) if pairs else None
