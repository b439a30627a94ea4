"""Comparing runs: algorithms side by side, over seeds and tasks, on equal terms or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.errors import SimulationError, UserError
from maml_rl.errors import NonFiniteError
from maml_rl.evaluation.comparison_curves import Overlay, comparison_figure
from maml_rl.evaluation.curves import save_png
from maml_rl.evaluation.statistics import (
    Statistic,
    Strata,
    Values,
    improvement,
    interquartile_mean,
    mean,
    statistic_interval,
    stratified,
)
from maml_rl.evaluation.summary import per_task
from maml_rl.files import replacing, write_json
from maml_rl.reporting.groups import (
    SIZES,
    Group,
    check_equal_terms,
    check_same_environment,
    grouped,
    trained_steps,
)
from maml_rl.reporting.notes import notes
from maml_rl.reporting.problems import outdated
from maml_rl.runs.data import RunData, read_run
from maml_rl.wording import bracketed, command, counted, number_format

WINDOW = 10  # iterations of a learning curve's running mean
GRID = 200  # points of a mean learning curve
LONG_LABEL = 30  # characters, too many for the head of a column

Table = tuple[list[str], list[list[str]]]  # header, rows


@dataclass(frozen=True)
class Comparison:
    """Groups and the statistics that comparison.json holds."""

    groups: list[Group]
    result: dict[str, Any]

    @property
    def title(self) -> str:
        """Environment, groups and runs in a few words."""
        runs = sum(len(group.runs) for group in self.groups)
        return f"{self.result['env']}: {counted(runs, 'run')}, {counted(len(self.groups), 'group')}"

    def overlays(self) -> list[Overlay]:
        """The curves of each group in the figure."""
        return [
            Overlay(
                label=group.label,
                runs=[smoothed(run) for run in group.runs if run.metrics],
                mean=mean_learning_curve(group.runs),
                curve=found["curve"],
                within=found.get("within"),
            )
            for group, found in zip(self.groups, self.result["groups"], strict=True)
        ]


def compare(
    folders: Sequence[Path],
    out: Path,
    evaluate: Callable[[RunData], None] | None = None,
    again: bool = False,
) -> Comparison:
    """Compare runs; write comparison.json, comparison.md and comparison.png into the folder `out`.

    Args:
        folders: of the runs (`maml_rl.runs.data.find_runs` lists them); the first one's group is
            what the others are compared with.
        out: made where it is missing.
        evaluate: called with each run that has no evaluation, or an `outdated` one, to make one;
            without it such a run is refused.
        again: evaluate those that have one too.

    Raises:
        UserError: where a run cannot be compared, or was evaluated on other terms than the first;
            runs of different environments are refused before any is evaluated.
    """
    if out.exists() and not (out.is_dir() and os.access(out, os.W_OK)):
        raise UserError(f"out={out} cannot be made or written to: name another folder.")
    runs = [_readable(folder) for folder in folders]
    check_same_environment(runs)
    runs = [_evaluated(run, evaluate, again) for run in runs]
    comparison = compared(runs)
    figure = comparison_figure(comparison.overlays(), comparison.title)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / "comparison.md") as partial:
            partial.write_text(markdown(comparison))
        write_json(out / "comparison.json", comparison.result)
        save_png(figure, out / "comparison.png")
    except OSError as error:
        raise UserError(f"out={out} cannot be made or written to: {error.strerror}.") from error
    return comparison


def _readable(folder: Path) -> RunData:
    run = read_run(folder)
    if not run.config:
        raise UserError(f"{folder}: {run.faults[0]}")
    return run


def _evaluated(run: RunData, evaluate: Callable[[RunData], None] | None, again: bool) -> RunData:
    """A run with an evaluation of its present checkpoint, made anew where it is missing.

    Raises:
        UserError: saying what to run where there is none.
    """
    why = outdated(run)
    if evaluate is not None and (again or run.evaluation is None or why is not None):
        try:
            evaluate(run)
        except (NonFiniteError, SimulationError) as error:
            raise type(error)(f"{run.path}: {error}") from error
        run, why = read_run(run.path), None
    if run.evaluation is not None and why is None:
        return run
    if not run.folder.checkpoint_names():
        raise UserError(
            f"{run.path} has neither an evaluation nor a checkpoint: leave it out, or train it."
        )
    damaged = [fault for fault in run.faults if "evaluation.json" in fault]
    why = why or (damaged[0].rstrip(".") if damaged else "it was not evaluated")
    raise UserError(f"{run.path}: {why}; {command('evaluate', {'run': run.path})} evaluates it.")


def compared(runs: Sequence[RunData]) -> Comparison:
    """Compute the statistics of runs that have an evaluation.

    Raises:
        UserError: where they were not evaluated on equal terms.
    """
    return compare_groups(grouped(runs))


def compare_groups(groups: list[Group]) -> Comparison:
    """Compute the statistics of groups of runs; arguments and errors as `compared`'s."""
    runs = [run for group in groups for run in group.runs]
    check_equal_terms(runs)
    steps = min(len(run.returns) for run in runs) - 1
    headline = min(steps, max(1, *(trained_steps(run) for run in runs)))
    first = groups[0]
    result = {
        "env": runs[0].env,
        **{name: (runs[0].evaluation or {})[name] for name in ("split", *SIZES)},
        "later_scale": (runs[0].evaluation or {}).get("later_scale"),
        "compared_with": first.label,
        "headline_step": headline,
        "interval": "95 % bootstrap over runs and tasks",
        "notes": list(notes(groups, steps)),
        "groups": [_statistics(group, first, steps) for group in groups],
    }
    return Comparison(groups, result)


def _statistics(group: Group, first: Group, steps: int) -> dict[str, Any]:
    """The part of comparison.json about a group."""
    points = []
    for step in range(steps + 1):
        scores = group.returns(step)
        point: dict[str, Any] = {"step": step, **_point("return", scores, group.strata)}
        point["return_per_run"] = scores.mean(axis=1).tolist()
        point |= _budget_point(group, step)
        success = group.success(step)
        if success is not None:
            point |= _point("success", success, group.strata)
        pairs, strata = ([], []) if group is first else _pairs(group, first, step)
        if pairs:
            share, interval = improvement(pairs, strata=strata)
            point |= {"improvement": share, "improvement_ci95": list(interval)}
        points.append(point)
    gains = group.returns(1) - group.returns(0)
    return {
        "label": group.label,
        "algorithm": group.runs[0].algorithm,
        "settings": {key: _json_value(value) for key, value in group.settings.items()},
        "seeds": [run.seed for run in group.runs],
        "runs": [str(run.path) for run in group.runs],
        "checkpoints": [(run.evaluation or {}).get("checkpoint") for run in group.runs],
        "env_steps": float(np.mean([run.env_steps for run in group.runs])),
        "curve": points,
        "gain_of_first_step": {
            "mean": float(mean(gains)),
            "ci95": _interval(gains, mean, group.strata),
        },
        **_within(group),
    }


def _budget_point(group: Group, step: int) -> dict[str, Any]:
    """Environment steps and returns of a task before `step`, where every run has them."""
    seen = group.env_steps(step)
    if seen is None:
        return {}
    return {
        "env_steps": float(seen.mean()),
        **_point_of("cumulative", group.cumulative(step), group.strata),
    }


def _within(group: Group) -> dict[str, Any]:
    """Every episode of trials, for a group of learners with memory."""
    courses = [(run.evaluation or {}).get("within") for run in group.runs]
    if not all(courses):
        return {}
    returns = np.stack(
        [
            per_task(points)[:, order]
            for points, order in zip(courses, group.orders, strict=True)
            if points
        ]
    )
    env_steps = np.array([[point["env_steps"] for point in own] for own in courses if own])
    earned = np.zeros_like(returns)
    earned[:, 1:] = returns.cumsum(axis=1)[:, :-1]
    return {
        "within": [
            {
                "episode": episode,
                "env_steps": float(env_steps[:, episode].mean()),
                **_point_of("return", returns[:, episode], group.strata),
                **_point_of("cumulative", earned[:, episode], group.strata),
            }
            for episode in range(returns.shape[1])
        ]
    }


def _point_of(what: str, scores: Values, strata: Strata | None) -> dict[str, Any]:
    """Mean of scores [N, M] with its interval."""
    return {f"{what}_mean": float(mean(scores)), f"{what}_ci95": _interval(scores, mean, strata)}


def _json_value(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)


def _point(what: str, scores: Values, strata: Strata | None) -> dict[str, Any]:
    """Mean and interquartile mean of scores [N, M] with their intervals."""
    return {
        **_point_of(what, scores, strata),
        f"{what}_iqm": float(interquartile_mean(scores)),
        f"{what}_iqm_ci95": _interval(scores, interquartile_mean, strata),
    }


def _interval(scores: Values, statistic: Statistic, strata: Strata | None) -> list[float]:
    return list(statistic_interval([scores], statistic, resampler=stratified(strata)))


def _pairs(
    group: Group, first: Group, step: int
) -> tuple[list[tuple[Values, Values]], list[Strata | None]]:
    """Returns of runs that met the same test tasks, and the strata of those; empty without any."""
    by_set: list[dict[str, list[RunData]]] = [{}, {}]
    for runs, side in zip(by_set, (group, first), strict=True):
        for name, run in zip(side.task_sets, side.runs, strict=True):
            runs.setdefault(name, []).append(run)
    shared = [name for name in by_set[1] if name in by_set[0]]
    returns = [
        [np.stack([run.returns[step] for run in runs[name]]) for runs in by_set] for name in shared
    ]
    return [(left, right) for left, right in returns], [
        by_set[1][name][0].strata for name in shared
    ]


def smoothed(run: RunData) -> tuple[Values, Values]:
    """A run's learning curve: (env steps, running mean over ten iterations)."""
    _, env_steps, values = run.learning_curve()
    ends = range(1, len(values) + 1)
    return env_steps, np.array([values[max(0, end - WINDOW) : end].mean() for end in ends])


def mean_learning_curve(runs: Sequence[RunData]) -> tuple[Values, Values] | None:
    """Mean of the runs' learning curves, as far as all of them go."""
    curves = [smoothed(run) for run in runs if run.metrics]
    curves = [curve for curve in curves if len(curve[0])]
    if not curves:
        return None
    begin, end = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = np.linspace(begin, max(begin, end), GRID)
    return grid, np.mean([np.interp(grid, *curve) for curve in curves], axis=0)


def markdown(comparison: Comparison) -> str:
    """Write the comparison as a page of Markdown: its terms, two tables and the notes."""
    parts = [f"# {comparison.title}", terms(comparison)]
    for header, rows in tables(comparison):
        lines = [header, ["---"] * len(header), *rows]
        parts.append("\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines))
    notes = comparison.result["notes"]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    return "\n\n".join([*parts, "![learning and adaptation curves](comparison.png)"]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def terms(comparison: Comparison) -> str:
    """The terms of the evaluations and the meaning of the brackets, in words."""
    result = comparison.result
    scale = result["later_scale"]
    scaled = "" if scale in (1, None) else f" Steps beyond the trained are scaled by {scale}."
    return (
        f"Return on {counted(result['num_tasks'], result['split'] + ' task')}, "
        f"{counted(result['num_episodes'], 'episode')} per task and step, mean over runs and "
        f"tasks; in brackets, {result['interval']}.{scaled}"
    )


def tables(comparison: Comparison) -> list[Table]:
    """Two tables: returns by step, and the robust statistics after the headline step."""
    groups = comparison.result["groups"]
    ends = [end for group in groups for point in group["curve"] for end in point["return_ci95"]]
    form = number_format(ends)
    return [_return_table(groups, form), _robust_table(comparison.result, form)]


def _return_table(groups: Sequence[Mapping[str, Any]], form: str) -> Table:
    rows = []
    for group in groups:
        cells = [
            bracketed(point["return_mean"], point["return_ci95"], form) for point in group["curve"]
        ]
        trained = f"{group['env_steps'] / 1e6:.3g}"
        rows.append([group["label"], str(len(group["seeds"])), trained, *cells])
    steps = [after(point["step"]) for point in groups[0]["curve"]]
    return ["algorithm", "runs", "million env steps", *steps], rows


def _robust_table(result: Mapping[str, Any], form: str) -> Table:
    groups, headline = result["groups"], result["headline_step"]
    points = [group["curve"][headline] for group in groups]
    gains = [group["gain_of_first_step"] for group in groups]
    columns = {
        "algorithm": [group["label"] for group in groups],
        f"interquartile mean {after(headline)}": [
            bracketed(point["return_iqm"], point["return_iqm_ci95"], form) for point in points
        ],
        "gain of the first step": [bracketed(gain["mean"], gain["ci95"], form) for gain in gains],
    }
    if len(groups) > 1:
        first = result["compared_with"]
        first = first if len(first) < LONG_LABEL else "the first row"
        columns[f"P(better than {first}) {after(headline)}"] = [
            bracketed(point["improvement"], point["improvement_ci95"], "{:.2f}")
            if "improvement" in point
            else "-"
            for point in points
        ]
    if all("success_mean" in point for point in points):
        columns[f"success rate {after(headline)}"] = [
            bracketed(point["success_mean"], point["success_ci95"], "{:.2f}") for point in points
        ]
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def after(step: int) -> str:
    """Stage of adaptation in words: "before adaptation", "after 1 step"."""
    return "before adaptation" if step == 0 else f"after {counted(step, 'step')}"
