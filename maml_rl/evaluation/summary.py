"""The statistics that evaluation.json holds: means, 95 % intervals, returns of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maml_rl.algorithm.diagnostics import unstable_episodes
from maml_rl.evaluation.protocol import Course, Evaluation
from maml_rl.evaluation.statistics import Strata, Values, bootstrap_interval

Points = list[dict[str, Any]]


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The statistics that evaluation.json holds."""
    strata, success = evaluation.strata, evaluation.success
    course, within = evaluation.course, evaluation.within
    curve = adaptation_curve(evaluation.returns, strata=strata)
    if course is not None:
        curve = _joined(curve, course_points(course, strata))
    return {
        "strata": strata if strata is None else list(strata),
        "curve": curve,
        **({} if success is None else {"success": adaptation_curve(success, "success", strata)}),
        **unstable_episodes(evaluation.rollouts, prefix=""),
        **_gain(evaluation.returns, strata),
        "groups": {
            label: adaptation_curve(evaluation.returns[:, members])
            for label, members in evaluation.groups.items()
        },
        **({} if within is None else {"within": within_points(within, strata)}),
    }


def adaptation_curve(returns: Values, what: str = "return", strata: Strata | None = None) -> Points:
    """Mean and 95 % interval over tasks of returns [K + 1, M], one object per inner step."""
    return [
        {
            "step": step,
            f"{what}_mean": float(values.mean()),
            f"{what}_ci95": list(bootstrap_interval(values, strata=strata)),
            "per_task": values.tolist(),
        }
        for step, values in enumerate(returns)
    ]


def gain(returns: Values, strata: Strata | None = None) -> dict[str, Any]:
    """Mean gain of the first inner step and its 95 % interval, paired by task."""
    gains = returns[1] - returns[0]
    return {
        "mean": float(gains.mean()),
        "ci95": list(bootstrap_interval(gains, strata=strata)),
    }


def _gain(returns: Values, strata: Strata | None) -> dict[str, Any]:
    """The gain where a step was taken."""
    return {"gain_of_first_step": gain(returns, strata)} if len(returns) > 1 else {}


def course_points(course: Course, strata: Strata | None = None) -> Points:
    """Environment steps before each of N episodes, and the return earned, with 95 % intervals."""
    return [
        {"env_steps": float(env_steps.mean()), **_earned(earned, strata)}
        for env_steps, earned in zip(course.env_steps, course.cumulative, strict=True)
    ]


def within_points(course: Course, strata: Strata | None = None) -> Points:
    """Every episode of trials as one object: its return, and what came before it."""
    points = adaptation_curve(course.returns, strata=strata)
    episodes = [{"episode": point.pop("step"), **point} for point in points]
    return _joined(episodes, course_points(course, strata))


def _earned(earned: Values, strata: Strata | None) -> dict[str, Any]:
    return {
        "cumulative_mean": float(earned.mean()),
        "cumulative_ci95": list(bootstrap_interval(earned, strata=strata)),
    }


def _joined(points: Points, others: Points) -> Points:
    return [left | right for left, right in zip(points, others, strict=True)]


def per_task(points: Sequence[Mapping[str, Any]]) -> Values:
    """Values of each task in a list of points, [K + 1, M]."""
    return np.array([point["per_task"] for point in points], dtype=np.float64)


def earned_before(content: Mapping[str, Any], step: int) -> Values:
    """Sum of each task's returns before `step` of evaluation.json's content, [M].

    Gradient learners have the mean over the episodes of each step before it.
    """
    episodes = int(content["num_episodes"])
    if "within" in content:
        returns = per_task(content["within"])[: step * episodes]
    else:
        returns = episodes * per_task(content["curve"])[:step]
    return np.asarray(returns.sum(axis=0))


def with_strata(content: Mapping[str, Any]) -> dict[str, Any]:
    """Content of an evaluation.json with intervals within strata.

    Files written before strata were named hold intervals over exchangeable tasks. Their strata are
    read off the groups, and their intervals are computed anew from the returns of each task.
    """
    if "strata" in content:
        return dict(content)
    strata = _strata_of_groups(content)
    returns = per_task(content["curve"])
    new = dict(content) | {
        "strata": strata,
        "curve": _renewed(content["curve"], "return", strata),
        **_gain(returns, strata),
        "groups": {
            label: _renewed(points, "return", None) for label, points in content["groups"].items()
        },
    }
    for step, point in enumerate(new["curve"]):
        if "cumulative_mean" in point:
            point |= _earned(earned_before(content, step), strata)
    if "success" in content:
        new["success"] = _renewed(content["success"], "success", strata)
    if "within" in content:
        new["within"] = _renewed(content["within"], "return", strata)
        before = np.zeros(returns.shape[1])
        for point in new["within"]:
            point |= _earned(before, strata)
            before = before + np.array(point["per_task"])
    return new


def _renewed(points: Points, what: str, strata: Strata | None) -> Points:
    curve = adaptation_curve(per_task(points), what, strata)
    return [
        {**point, f"{what}_ci95": new[f"{what}_ci95"]}
        for point, new in zip(points, curve, strict=True)
    ]


def _strata_of_groups(content: Mapping[str, Any]) -> list[str] | None:
    """Label of each task's group, found by the returns that the two hold; None without groups."""
    if not content["groups"]:
        return None
    labels = [""] * len(content["curve"][0]["per_task"])
    columns = list(map(tuple, per_task(content["curve"]).T.tolist()))
    for label, points in content["groups"].items():
        for column in map(tuple, per_task(points).T.tolist()):
            place = next(
                (i for i, other in enumerate(columns) if other == column and not labels[i]), None
            )
            if place is None:
                raise ValueError("a group holds a task that the curve does not")
            labels[place] = label
    return labels
