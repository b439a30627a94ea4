"""evaluation.json: an evaluation's result as JSON, and read back from files of any age."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from maml_rl.evaluation.result import (
    Curve,
    Estimate,
    EvaluationResult,
    Grid,
    Point,
    TaskPoint,
    Terms,
)
from maml_rl.evaluation.summary import within_strata

WORDS, COUNTS = ("env", "algorithm", "checkpoint"), ("num_tasks", "num_episodes", "trained_steps")
AS_THEY_ARE = ("optimal_return", "unstable_episodes")


def to_json(result: EvaluationResult) -> dict[str, Any]:
    """The content of evaluation.json, without the parts that do not apply."""
    curves = {"success": result.success, "within": result.within}
    content = {
        **{name: value for name, value in vars(result.terms).items() if value != {}},
        "grid": None if result.grid is None else vars(result.grid),
        **{name: getattr(result, name) for name in AS_THEY_ARE},
        "curve": [  # with the statistics that follow from the returns of all tasks
            task_point_json(point) | robust_json(tail, worse)
            for point, tail, worse in zip(
                result.curve, result.lower_fifth, result.share_worse, strict=True
            )
        ],
        **{
            name: [task_point_json(point, name) for point in curve]
            for name, curve in curves.items()
            if curve is not None
        },
        "gain_of_first_step": None if result.gain is None else gain_json(result.gain),
        "groups": {
            label: [task_point_json(point) for point in curve]
            for label, curve in result.groups.items()
        },
    }
    content = {name: value for name, value in content.items() if value is not None}
    return content | {"strata": None if result.strata is None else list(result.strata)}


def robust_json(lower_fifth: Estimate, share_worse: Estimate | None) -> dict[str, Any]:
    """CVaR 0.2 of returns, and the share of tasks made worse, where there was a step."""
    return estimates_json({"return_cvar20": lower_fifth, "share_worse": share_worse})


def task_point_json(point: TaskPoint, curve: str = "") -> dict[str, Any]:
    """A point of the curve named "success" or "within", or of one of returns after steps."""
    return point_json(point, *_names(curve)) | {"per_task": list(point.per_task)}


def point_json(point: Point, measure: str = "return", number: str = "step") -> dict[str, Any]:
    """A point of a measure."""
    seen = {} if point.env_steps is None else {"env_steps": point.env_steps}
    estimates = {f"{measure}_mean": point, "cumulative_mean": point.cumulative}
    return {number: point.number, **seen, **estimates_json(estimates)}


def estimates_json(estimates: Mapping[str, Estimate | None]) -> dict[str, Any]:
    """Estimates by their names, and their intervals beside them."""
    content: dict[str, Any] = {}
    for name, estimate in estimates.items():
        if estimate is not None:
            content |= {name: estimate.mean}
            content |= {f"{name.removesuffix('_mean')}_ci95": list(estimate.ci95)}
    return content


def gain_json(gain: Estimate) -> dict[str, Any]:
    """The gain of the first step."""
    return {"mean": gain.mean, "ci95": list(gain.ci95)}


def from_json(content: Mapping[str, Any]) -> EvaluationResult:
    """The result that evaluation.json holds, its intervals within strata.

    What follows from the returns of each task is not read, so that older files have it too.

    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError: for what is no
            evaluation.
    """
    grid, gain = content.get("grid"), content["gain_of_first_step"]
    result = EvaluationResult(
        terms=_terms(content),
        curve=_curve(content["curve"]),
        groups={label: _curve(points) for label, points in content["groups"].items()},
        strata=content.get("strata"),
        success=_curve(content["success"], "success") if "success" in content else None,
        within=_curve(content["within"], "within") if "within" in content else None,
        gain=Estimate(gain["mean"], _interval(gain["mean"], gain["ci95"])),
        **{name: content.get(name) for name in AS_THEY_ARE},
        grid=None if grid is None else Grid(**grid),
    )
    shape = (result.steps + 1, result.terms.num_tasks)
    tables = [curve for curve in (result.curve, result.success) if curve is not None]
    if any((len(curve), len(curve[0].per_task)) != shape for curve in tables):
        raise ValueError("a curve is not of all tasks")
    if (result.within is not None) != result.remembers:
        raise ValueError("the kind does not fit what is there")
    if result.strata is not None and len(result.strata) != shape[1]:
        raise ValueError("the strata are not of all tasks")
    return result if "strata" in content else within_strata(result)


def _terms(content: Mapping[str, Any]) -> Terms:
    """The terms; in files from before December 2026 the kind follows from the keys."""
    names = {field.name for field in fields(Terms)}
    kind = content.get("kind", "memory" if "within" in content else "gradient")
    known = {name: value for name, value in content.items() if name in names}
    terms = Terms(**(known | {"kind": kind}))
    words = [getattr(terms, name) for name in WORDS]
    words += [terms.split] if "grid" not in content else []
    counts = [getattr(terms, name) for name in COUNTS]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("a name is no text")
    if not all(isinstance(count, int) for count in counts) or kind not in ("gradient", "memory"):
        raise ValueError("a count is no whole number, or the kind is unknown")
    return terms


def _curve(content: Sequence[Mapping[str, Any]], curve: str = "") -> Curve:
    """Points in their order, each of the same tasks."""
    quantity, number = _names(curve)
    values = np.array([point["per_task"] for point in content], dtype=np.float64)
    if values.ndim != 2 or len(values) < 2 or not values.size or not np.isfinite(values).all():
        raise ValueError("a curve is no matrix of finite numbers")
    if [point[number] for point in content] != list(range(len(content))):
        raise ValueError("a point is out of its order")
    return tuple(
        TaskPoint(
            **vars(_estimate(point, quantity)),
            number=point[number],
            per_task=tuple(point["per_task"]),
            env_steps=point.get("env_steps"),
            cumulative=_estimate(point, "cumulative") if "cumulative_mean" in point else None,
        )
        for point in content
    )


def _estimate(point: Mapping[str, Any], quantity: str) -> Estimate:
    mean = point[f"{quantity}_mean"]
    return Estimate(mean, _interval(mean, point[f"{quantity}_ci95"]))


def _interval(mean: float, interval: Sequence[float]) -> tuple[float, float]:
    low, high = interval
    if not math.isfinite(mean + low + high):
        raise ValueError("an estimate is not finite")
    return low, high


def _names(curve: str) -> tuple[str, str]:
    """The measure of a curve's points, and what numbers them."""
    return "success" if curve == "success" else "return", (
        "episode" if curve == "within" else "step"
    )
