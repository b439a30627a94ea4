"""The sections of a page about one run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from envs.yaml_text import to_yaml
from maml_rl.evaluation.curves import (
    adaptation_figure,
    lines_figure,
    scatter_figure,
    stacked_figure,
)
from maml_rl.evaluation.result import estimate
from maml_rl.evaluation.statistics import Values, interquartile_mean
from maml_rl.reporting.blocks import HTML, drawn
from maml_rl.reporting.media import Media, gallery
from maml_rl.reporting.tables import evaluation_table, robust_words
from maml_rl.runs.data import RunData
from maml_rl.training.metrics import is_diagnostic, is_lap, panel_of
from maml_rl.wording import after, command

Lines = dict[str, tuple[Values, Values]]  # x [I] and y [I] by label
NO_ITERATION = "No iteration was finished."


class View(NamedTuple):
    """The data behind the sections about a run."""

    run: RunData
    failed: Sequence[str]
    media: Media


def _identity(view: View) -> list[Markup]:
    run, origin = view.run, view.run.provenance
    commit = origin.get("git_commit")
    changed = " with uncommitted changes" if origin.get("git_modified") else ""
    machine = origin.get("machine")
    rows = {
        "run": run.path,
        "environment": f"{run.env} ({run.setting('env._target_')})",
        "algorithm": run.algorithm,
        "seed": run.seed,
        "overrides": " ".join(run.overrides) or "none",
        "command": " ".join(map(str, origin.get("command") or [])) or "unknown",
        "commit": f"{commit}{changed}" if commit else "unknown",
        "versions": _pairs(origin.get("versions")) + f", python {origin.get('python')}",
        "machine": _pairs(machine) if machine else "unknown",
        **{
            f"resumed ({number})": _session(session)
            for number, session in enumerate(run.sessions, 1)
        },
    }
    return [HTML.facts({name: str(value) for name, value in rows.items()})]


def _session(session: Mapping[str, Any]) -> str:
    """A resumed session: its first iteration, its changes, and its code."""
    changed = session.get("changed")
    changes = "nothing"
    if isinstance(changed, Mapping) and changed:
        changes = ", ".join(f"{key}={value}" for key, value in changed.items())
    modified = " with uncommitted changes" if session.get("git_modified") else ""
    return (
        f"at iteration {session.get('iteration')}; changed: {changes}; "
        f"commit {session.get('git_commit') or 'unknown'}{modified}"
    )


def _pairs(values: Any) -> str:
    if not isinstance(values, Mapping):
        return "unknown"
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _results(view: View) -> list[Markup]:
    evaluation = view.run.evaluation
    if evaluation is None:
        return [_missing("It was not evaluated:", view)]
    strata, terms = evaluation.strata, evaluation.terms
    middle = [estimate(row[None], interquartile_mean, strata) for row in evaluation.returns]
    header, rows = evaluation_table(evaluation)
    rows = [[*row, iqm.written(evaluation.form)] for row, iqm in zip(rows, middle, strict=True)]
    iteration = "unknown" if terms.iteration is None else terms.iteration
    words = (
        f"{terms.num_tasks} {terms.split} tasks, {terms.num_episodes} episodes per task and step, "
        f"checkpoint {terms.checkpoint}, iteration {iteration}; in brackets, 95 % bootstrap "
        f"intervals over tasks. {robust_words()}"
    )
    blocks: list[Markup] = [HTML.text(words), HTML.table([*header, "interquartile mean"], rows)]
    if evaluation.gain is not None:
        gain = evaluation.gain.written(evaluation.form)
        first = f"{terms.num_episodes} episodes" if evaluation.remembers else "step"
        blocks.append(HTML.text(f"Gain of the first {first}, per task: {gain}."))
    return blocks


def _missing(sentence: str, view: View) -> Any:
    return HTML.hint(sentence, command("evaluate", {"run": view.run.path}), "evaluates it.")


def _learning(view: View) -> list[Markup]:
    panels = {
        quantity: lines
        for quantity in ("return", "success")
        if (lines := _learning_lines(view.run, quantity))
    }
    if not panels:
        return [HTML.text(NO_ITERATION)]
    ends = [f"{name}: {values[-1]:.4g}" for name, (_, values) in panels["return"].items()]
    figure = lines_figure(panels, "million environment steps", columns=2)
    return [drawn(figure, f"Learning curves. At the end, {'; '.join(ends)}.")]


def _learning_lines(run: RunData, quantity: str) -> Lines:
    """Mean return or success rate over training, by inner step and split."""
    lines: Lines = {}
    for prefix, tasks in (("", "training"), ("validation/", "validation")):
        for key in run.metric_names:
            if re.fullmatch(rf"{prefix}{quantity}/step_\d+", key):
                step = int(key.rpartition("_")[2])
                x, y = run.column(key, "env_steps")
                lines[f"{after(step)}, {tasks} tasks"] = x / 1e6, y
    return lines


def _adaptation(view: View) -> list[Markup]:
    evaluation = view.run.evaluation
    if evaluation is None:
        return [_missing("There is no adaptation curve:", view)]
    means = [f"{after(point.number)} {point.mean:.4g}" for point in evaluation.curve]
    words = f"Adaptation curve with its 95 % band over tasks. Mean return {', '.join(means)}."
    return [drawn(adaptation_figure(evaluation), words)]


def _tasks(view: View) -> list[Markup]:
    evaluation = view.run.evaluation
    if evaluation is None:
        return [_missing("There are no returns per task:", view)]
    gains = evaluation.returns[1] - evaluation.returns[0]
    when = "before and after one step"
    if evaluation.remembers:
        when = f"in the first episode and after {evaluation.terms.num_episodes}"
    words = (
        f"Each task's return {when}. {np.count_nonzero(gains > 0)} of "
        f"{len(gains)} tasks gain; the gains range from {gains.min():.4g} to {gains.max():.4g}."
    )
    return [drawn(scatter_figure(evaluation), words)]


def _diagnostics(view: View) -> list[Markup]:
    """A panel for every metric that is no return, success or time."""
    run = view.run
    panels: dict[str, Lines] = {}
    for key in filter(is_diagnostic, run.metric_names):
        title, line = panel_of(key)
        panels.setdefault(title, {})[line] = run.column(key)
    if not panels:
        return [HTML.text(NO_ITERATION)]
    last = [
        f"{title} {' and '.join(f'{values[-1]:.3g}' for _, values in lines.values())}"
        for title, lines in panels.items()
    ]
    words = f"Diagnostics of training by iteration. In the last: {'; '.join(last)}."
    return [drawn(lines_figure(panels, "iteration"), words)]


def _timing(view: View) -> list[Markup]:
    parts = _seconds(view.run)
    if not parts:
        return [HTML.text(NO_ITERATION)]
    iterations, whole = view.run.column("seconds/iteration")
    total = whole.sum()
    rows = [
        [
            name,
            f"{values.sum():.1f}",
            f"{100 * values.sum() / total:.3g} %",
            f"{np.median(values[values > 0]):.3g}" if values.any() else "0",
        ]
        for name, values in {**parts, "all": whole}.items()
    ]
    shares = [f"{name} {100 * values.sum() / total:.0f} %" for name, values in parts.items()]
    header = ["part", "seconds", "share", "seconds each time (median)"]
    figure = stacked_figure(iterations, parts, "iteration", "seconds")
    return [
        HTML.text(f"{view.run.env_steps / total:,.0f} environment steps per second in all."),
        HTML.table(header, rows),
        drawn(figure, f"Seconds of each iteration by part: {', '.join(shares)} of the whole."),
    ]


def _seconds(run: RunData) -> dict[str, Values]:
    """Seconds of each part of every iteration, [I], and what is left of the whole."""
    rows = [row for row in run.metrics if "seconds/iteration" in row]
    if not rows:
        return {}
    parts = {
        key.removeprefix("seconds/").replace("_", " "): np.array([row.get(key, 0) for row in rows])
        for key in filter(is_lap, run.metric_names)
    }
    whole = np.array([row["seconds/iteration"] for row in rows])
    rest = np.maximum(whole - sum(parts.values()), 0)
    return parts | ({"other": rest} if rest.sum() > 0.005 * whole.sum() else {})


def _films(view: View) -> list[Markup]:
    return [gallery(view.run, view.media)]


def _failed(view: View) -> list[Markup]:
    return [HTML.bullets(view.failed, "bad") if view.failed else HTML.text("Nothing.", "good")]


def _config(view: View) -> list[Markup]:
    text = to_yaml(view.run.config) if view.run.config else "missing"
    name = "config.yaml, with what resuming changed" if view.run.sessions else "config.yaml"
    return [HTML.code(name, text)]


SECTIONS: dict[str, tuple[str, Callable[[View], list[Markup]]]] = {
    "what": ("What it is", _identity),
    "results": ("Results", _results),
    "learning": ("Learning curves", _learning),
    "adaptation": ("Adaptation curve", _adaptation),
    "tasks": ("Return of each task", _tasks),
    "diagnostics": ("Diagnostics", _diagnostics),
    "timing": ("Timing", _timing),
    "videos": ("Films and pictures", _films),
    "failed": ("What failed", _failed),
    "config": ("Configuration", _config),
}
