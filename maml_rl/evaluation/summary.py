"""From the arrays of an evaluation to its result: means and 95 % intervals over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from maml_rl.algorithm.diagnostics import unstable_episodes
from maml_rl.evaluation.protocol import Course, Evaluation
from maml_rl.evaluation.result import (
    Curve,
    Estimate,
    EvaluationResult,
    Grid,
    TaskPoint,
    Terms,
    before,
    estimate,
    per_task,
)
from maml_rl.evaluation.statistics import Strata, Values, bootstrap_interval


def summarized(
    terms: Terms,
    evaluation: Evaluation,
    optimal_return: Sequence[float] | None = None,
    grid: Grid | None = None,
) -> EvaluationResult:
    """The result of an evaluation."""
    strata, returns = evaluation.strata, evaluation.returns
    success, within = evaluation.success, evaluation.within
    return EvaluationResult(
        terms=terms,
        curve=curve_of(returns, strata, evaluation.course),
        strata=strata,
        groups={
            label: curve_of(returns[:, members]) for label, members in evaluation.groups.items()
        },
        success=None if success is None else curve_of(success, strata),
        within=None if within is None else curve_of(within.returns, strata, within),
        gain=gain(returns, strata) if len(returns) > 1 else None,
        optimal_return=optimal_return,
        unstable_episodes=unstable_episodes(evaluation.rollouts, "").get("unstable_episodes"),
        grid=grid,
    )


def curve_of(values: Values, strata: Strata | None = None, course: Course | None = None) -> Curve:
    """A measure's mean over tasks, of values [N, M]; `course` is the experience before each."""
    return tuple(
        TaskPoint(
            **vars(_over_tasks(row, strata)),
            number=number,
            per_task=tuple(row.tolist()),
            env_steps=None if course is None else float(course.env_steps[number].mean()),
            cumulative=None if course is None else _over_tasks(course.cumulative[number], strata),
        )
        for number, row in enumerate(values)
    )


def gain(returns: Values, strata: Strata | None = None) -> Estimate:
    """Mean gain of the first inner step and its interval, paired by task."""
    return _over_tasks(returns[1] - returns[0], strata)


def _over_tasks(values: Values, strata: Strata | None) -> Estimate:
    """Mean of values [M] and its interval over tasks."""
    return estimate(values[None], strata=strata)


def within_strata(result: EvaluationResult) -> EvaluationResult:
    """The result of a file from before strata were named, with intervals within strata.

    The strata are read off the groups, and the intervals are computed from each task's values.
    """
    strata = _strata_of_groups(result)
    success, within = result.success, result.within
    return replace(
        result,
        strata=strata,
        curve=_renewed(result.curve, strata, result.earned),
        groups={label: _renewed(curve, None) for label, curve in result.groups.items()},
        success=None if success is None else _renewed(success, strata),
        within=None if within is None else _renewed(within, strata, before(per_task(within))),
        gain=gain(result.returns, strata),
    )


def _renewed(curve: Curve, strata: Strata | None, earned: Values | None = None) -> Curve:
    """A curve with new intervals; `earned` [N, M] is the sum of the returns before each point."""
    return tuple(
        replace(
            point,
            ci95=bootstrap_interval(np.array(point.per_task), strata=strata),
            cumulative=point.cumulative
            if point.cumulative is None or earned is None
            else _over_tasks(earned[point.number], strata),
        )
        for point in curve
    )


def _strata_of_groups(result: EvaluationResult) -> list[str] | None:
    """Label of each task's group, found by the returns that the two hold; None without groups."""
    if not result.groups:
        return None
    columns = list(map(tuple, result.returns.T.tolist()))
    labels = [""] * len(columns)
    for label, curve in result.groups.items():
        for column in map(tuple, per_task(curve).T.tolist()):
            free = [i for i, other in enumerate(columns) if other == column and not labels[i]]
            if not free:
                raise ValueError("a group holds a task that the curve does not")
            labels[free[0]] = label
    return labels
