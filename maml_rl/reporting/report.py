"""One self-contained HTML page of a run, or of several: `python -m maml_rl.reporting <folder>`."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from envs.errors import UserError
from maml_rl.evaluation.curves import (
    adaptation_figure,
    comparison_figure,
    lines_figure,
    scatter_figure,
    stacked_figure,
    svg,
)
from maml_rl.evaluation.statistics import Values, interquartile_mean, statistic_interval
from maml_rl.files import replacing
from maml_rl.randomness import Key, Purpose
from maml_rl.reporting.comparison import Comparison, after, compared, tables, terms
from maml_rl.reporting.problems import gain_of_first_step, problems, return_format
from maml_rl.runs.data import FILM_TITLES, RunData, find_runs, read_run
from maml_rl.wording import bracketed, command, python

USAGE = """usage: python -m maml_rl.reporting <folder> [<folder> ...] [out=<page>]

Make one self-contained HTML page of a run, or of all runs in the folders (a multirun's, or a glob),
with a comparison of those of the same environment. The page is <folder>/report.html, or report.html
where several folders are given, or `out`.
"""
PAGES = (".html", ".htm")
LARGEST_FILE = 8_000_000  # bytes of a film or picture that goes into the page; others are linked
LARGEST_PAGE = 40_000_000  # bytes of all of them
MOST_OPEN = 2  # runs on a page; of more, each is folded
OWN_PICTURES = ("adaptation.png", "comparison.png")  # which the page draws itself
FILMS = {".mp4": "video/mp4", ".webm": "video/webm"}
PICTURES = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg"}
PICTURE_TEXTS = {
    "grid": "return against the parameter of a grid of tasks, before and after adaptation",
    "grid_trajectories": "where episodes went before and after adaptation, tasks of a grid",
    "tasks": "the run's validation and test tasks",
    "trajectories": "where episodes went before and after adaptation",
}
NOT_LAPS = ("seconds/iteration", "seconds/steps_per_second", "seconds/share_")
NOT_DIAGNOSTICS = ("iteration", "env_steps", "return/", "success/", "validation/", "seconds")
TITLES = {
    "adaptation_gain": "gain of adaptation (return)",
    "baseline/explained_variance": "explained variance of the baseline",
    "gain": "gain of each inner step (return)",
    "inner/grad_cosine": "cosine between tasks' inner gradients",
    "inner/grad_norm": "norm of the inner gradient",
    "inner/kl": "KL divergence of the inner steps",
    "outer/accepted": "outer step accepted (1) or not (0)",
    "outer/displacement_norm": "norm of the mean displacement",
    "outer/gradient_cosine": "cosine between tasks' meta-gradients",
    "outer/gradient_norm": "norm of the meta-gradient",
    "outer/kl": "KL divergence of the outer step",
    "outer/line_search_rejections": "steps that the line search rejected",
    "outer/line_search_steps": "line-search steps",
    "outer/loss": "outer loss",
    "policy/std": "standard deviation of the policy",
}
STYLE = """
:root { color-scheme: light dark; --text: #1d2329; --back: #fff; --soft: #f2f4f6; --line: #d5dade;
  --link: #1b6ca8; --bad: #b3261e; --good: #2f7d46; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8eb; --back: #15191d; --soft: #20262c;
  --line: #3a434b; --link: #7fbbe6; --bad: #ff9a90; --good: #83d19b; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 70rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { margin: 2.2rem 0 .6rem; font-size: 1.3rem;
  border-bottom: 1px solid var(--line); padding-bottom: .2rem; } h3 { margin: 1.6rem 0 .4rem; }
a { color: var(--link); } nav a { margin-right: 1rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; } td { overflow-wrap: anywhere; }
caption { text-align: left; font-size: .85rem; padding-bottom: .3rem; }
.wide { overflow-x: auto; margin: .6rem 0 1.2rem; } .wide td { white-space: nowrap; }
#overview td:first-child { white-space: normal; min-width: 9rem; }
#overview td:last-child { white-space: normal; min-width: 14rem; }
figure { margin: .8rem 0; } figcaption { font-size: .85rem; }
figure img { background: #fff; border-radius: 6px; max-width: 100%; height: auto; }
video { max-width: 100%; border-radius: 6px; }
.adaptation, .tasks { display: inline-block; width: 49%; vertical-align: top; }
@media (max-width: 50rem) { .adaptation, .tasks { width: 100%; } }
.pair { display: grid; gap: 0 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(28rem, 100%), 1fr)); }
.bad { color: var(--bad); } .good { color: var(--good); }
pre { background: var(--soft); padding: .8rem; border-radius: 6px; overflow-x: auto;
  font-size: .82rem; }
summary { cursor: pointer; font-weight: 600; } details.run { border: 1px solid var(--line);
  border-radius: 6px; padding: .6rem 1rem; margin: .8rem 0; }
"""
Lines = dict[str, tuple[Values, Values]]  # x [I] and y [I] by label
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def report(places: Sequence[str | Path], out: Path | None = None) -> Path:
    """Write the page of the runs in `places` and return its path.

    Args:
        places: folders of runs, folders with runs below them, or globs.
        out: the page; None puts report.html into the one folder given, or into the working
            directory.

    Raises:
        UserError: if there is no run, or the page cannot be written.
    """
    runs = [read_run(path) for path in find_runs(places, "folder")]
    if out is None:
        single = len(places) == 1 and Path(places[0]).is_dir()
        out = Path(places[0] if single else ".") / "report.html"
    if out.suffix.lower() not in PAGES:
        raise UserError(f"out={out} is to be a page: give it a name that ends in .html.")
    if out.is_dir():
        raise UserError(
            f"out={out} is a folder: give the name of the page, as in {out}/report.html."
        )
    content = page(runs, out.parent)
    try:
        with replacing(out) as partial:
            partial.write_text(content)
    except OSError as error:
        raise UserError(f"out={out} cannot be written: {error.strerror}.") from error
    return out


def page(runs: Sequence[RunData], folder: Path) -> str:
    """Return the page of one or more runs, which lies in `folder` and links from there."""
    media, failed = Media(folder), [problems(run) for run in runs]
    if len(runs) == 1:
        title = f"{runs[0].env}, {runs[0].algorithm}, seed {runs[0].seed}"
        body = _status(runs[0], failed[0]) + _contents()
        body += _run_sections(runs[0], failed[0], media, "", 2)
    else:
        title = f"{len(runs)} runs of {', '.join(sorted({run.env for run in runs}))}"
        body = _section("overview", "All runs", _overview(runs, failed), 2) + _comparisons(runs)
        folded = [
            _folded(number, run, failed[number], media, len(runs) <= MOST_OPEN)
            for number, run in enumerate(runs)
        ]
        body += _section("runs", "Each run", "".join(folded), 2)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}</main>\n</body>\n</html>\n"
    )


def _status(run: RunData, failed: Sequence[str]) -> str:
    """Say in a line how far the run came and whether all went well."""
    done = f"{run.iterations} iterations, {run.env_steps / 1e6:.3g} million environment steps. "
    if not failed:
        return f'<p>{done}<span class="good">Finished and evaluated.</span></p>\n'
    things = "one thing" if len(failed) == 1 else f"{len(failed)} things"
    return f'<p>{done}<a class="bad" href="#failed">{things} to look at</a></p>\n'


def _contents() -> str:
    links = " ".join(f'<a href="#{key}">{name}</a>' for key, (name, _) in SECTIONS.items())
    return f'<nav aria-label="sections">{links}</nav>\n'


def _overview(runs: Sequence[RunData], failed: Sequence[Sequence[str]]) -> str:
    """Return the table of all runs with what failed of each."""
    rows = []
    for number, run in enumerate(runs):
        rows.append(
            [
                f'<a href="#run-{number}">{escape(str(run.path))}</a>',
                *map(escape, (run.env, run.algorithm, str(run.seed), str(run.iterations))),
                "<br>".join(map(escape, _short_returns(run))),
                "<br>".join(map(escape, failed[number])) or '<span class="good">nothing</span>',
            ]
        )
    header = ["run", "environment", "algorithm", "seed", "iterations", "return", "what failed"]
    return _table(header, rows)


def _short_returns(run: RunData) -> list[str]:
    """Say a run's return before adaptation and after the steps trained with."""
    if run.evaluation is None:
        return ["not evaluated"]
    curve, form = run.evaluation["curve"], return_format(run.evaluation)
    tasks = f"{run.evaluation['num_tasks']} {run.evaluation['split']} tasks:"
    last = min(len(curve) - 1, max(1, int(run.evaluation.get("trained_steps", 1))))
    returns = [
        f"{bracketed(curve[step]['return_mean'], curve[step]['return_ci95'], form)} {after(step)}"
        for step in (0, last)
    ]
    return [tasks, *returns]


def _comparisons(runs: Sequence[RunData]) -> str:
    """Return the comparison of the evaluated runs of each environment, or why there is none."""
    sections = []
    for number, env in enumerate(dict.fromkeys(run.env for run in runs)):
        own = [run for run in runs if run.env == env and run.evaluation is not None]
        if len(own) < 2:
            continue
        try:
            content = _comparison(compared(own))
        except UserError as error:
            content = f'<p class="bad">Not compared: {escape(str(error))}</p>\n'
        sections.append(_section(f"comparison-{number}", f"Comparison: {env}", content, 2))
    return "".join(sections)


def _comparison(comparison: Comparison) -> str:
    figure = comparison_figure(comparison.overlays(), comparison.title)
    curves = [
        f"{group['label']}: {group['curve'][0]['return_mean']:.4g} before adaptation, "
        f"{group['curve'][-1]['return_mean']:.4g} after the last step"
        for group in comparison.result["groups"]
    ]
    parts = [f"<p>{escape(terms(comparison))}</p>\n"]
    parts += [_table(header, _escaped(rows)) for header, rows in tables(comparison)]
    parts.append(_figure(figure, f"Learning and adaptation curves. {'; '.join(curves)}."))
    parts.append(_bullets(comparison.result["notes"]))
    return "".join(parts)


def _folded(number: int, run: RunData, failed: Sequence[str], media: Media, opened: bool) -> str:
    name = f"{run.path}: {run.env}, {run.algorithm}, seed {run.seed}"
    inner = _run_sections(run, failed, media, f"run-{number}-", 3)
    return (
        f'<details class="run" id="run-{number}"{" open" if opened else ""}>\n'
        f"<summary>{escape(name)}</summary>\n{inner}</details>\n"
    )


def _run_sections(
    run: RunData, failed: Sequence[str], media: Media, prefix: str, level: int
) -> str:
    """Return all sections about one run; ids begin with `prefix`, headings are of `level`."""
    view = View(run, failed, media)
    return "".join(
        _section(f"{prefix}{key}", name, content(view), level, key)
        for key, (name, content) in SECTIONS.items()
    )


class View(NamedTuple):
    """What the sections about a run are made from."""

    run: RunData
    failed: Sequence[str]
    media: Media


def _what_it_is(view: View) -> str:
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
        **{f"resumed ({number})": _session(one) for number, one in enumerate(run.sessions, 1)},
    }
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>\n'
        for name, value in rows.items()
    )
    return f"<table>\n<tbody>\n{body}</tbody>\n</table>\n"


def _session(session: Mapping[str, Any]) -> str:
    """Say of a session that resumed a run from where it went on, what it changed, and its code."""
    changed = session.get("changed")
    said = "nothing"
    if isinstance(changed, Mapping) and changed:
        said = ", ".join(f"{key}={value}" for key, value in changed.items())
    modified = " with uncommitted changes" if session.get("git_modified") else ""
    return (
        f"at iteration {session.get('iteration')}; changed: {said}; "
        f"commit {session.get('git_commit') or 'unknown'}{modified}"
    )


def _pairs(values: Any) -> str:
    if not isinstance(values, Mapping):
        return "unknown"
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _results(view: View) -> str:
    evaluation = view.run.evaluation
    if evaluation is None:
        return _missing("It was not evaluated", view)
    form, curve = return_format(evaluation), evaluation["curve"]
    columns = {
        "inner steps": [escape(after(point["step"])) for point in curve],
        "return": [bracketed(point["return_mean"], point["return_ci95"], form) for point in curve],
        "interquartile mean": [_iqm(values, form) for values in view.run.returns],
    }
    for label, points in evaluation["groups"].items():
        columns[f"return, {label}"] = [
            bracketed(point["return_mean"], point["return_ci95"], form) for point in points
        ]
    if "success" in evaluation:
        columns["success rate"] = [
            bracketed(point["success_mean"], point["success_ci95"], "{:.2f}")
            for point in evaluation["success"]
        ]
    said = (
        f"{evaluation['num_tasks']} {evaluation['split']} tasks, {evaluation['num_episodes']} "
        f"episodes per task and step, checkpoint {evaluation.get('checkpoint', 'unknown')}, "
        f"iteration {evaluation.get('iteration', 'unknown')}; in "
        f"brackets, 95 % bootstrap intervals over tasks."
    )
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    gained = f"Gain of the first step, per task: {bracketed(*gain_of_first_step(view.run), form)}."
    return f"<p>{escape(said)}</p>\n{_table(list(columns), rows)}<p>{gained}</p>\n"


def _generator() -> np.random.Generator:
    return Key(0, (Purpose.TEST,)).generator(Purpose.BOOTSTRAP)


def _iqm(values: Values, form: str) -> str:
    """Return the interquartile mean of returns [M] with its interval over tasks."""
    interval = statistic_interval([values[None]], interquartile_mean, _generator())
    return bracketed(float(interquartile_mean(values[None])), interval, form)


def _missing(what: str, view: View) -> str:
    call = command("evaluate", {"run": view.run.path})
    return f"<p>{what}: <code>{escape(call)}</code> evaluates it.</p>\n"


def _learning(view: View) -> str:
    panels = {
        what: lines for what in ("return", "success") if (lines := _learning_lines(view.run, what))
    }
    if not panels:
        return "<p>No iteration was finished.</p>\n"
    ends = [f"{name}: {values[-1]:.4g}" for name, (_, values) in panels["return"].items()]
    figure = lines_figure(panels, "million environment steps", columns=2)
    return _figure(figure, f"Learning curves. At the end, {'; '.join(ends)}.")


def _learning_lines(run: RunData, what: str) -> Lines:
    """Return mean return or success rate over training, by inner step and split."""
    lines: Lines = {}
    for prefix, tasks in (("", "training"), ("validation/", "validation")):
        for key in run.metric_names:
            if re.fullmatch(rf"{prefix}{what}/step_\d+", key):
                step = int(key.rpartition("_")[2])
                x, y = run.column(key, "env_steps")
                lines[f"{after(step)}, {tasks} tasks"] = x / 1e6, y
    return lines


def _adaptation(view: View) -> str:
    evaluation = view.run.evaluation
    if evaluation is None:
        return _missing("There is no adaptation curve", view)
    means = [f"{after(p['step'])} {p['return_mean']:.4g}" for p in evaluation["curve"]]
    alt = f"Adaptation curve with its 95 % band over tasks. Mean return {', '.join(means)}."
    return _figure(adaptation_figure(evaluation), alt)


def _tasks(view: View) -> str:
    if view.run.evaluation is None:
        return _missing("There are no returns per task", view)
    gains = view.run.returns[1] - view.run.returns[0]
    alt = (
        f"Each task's return before and after one step. {np.count_nonzero(gains > 0)} of "
        f"{len(gains)} tasks gain; the gains range from {gains.min():.4g} to {gains.max():.4g}."
    )
    return _figure(scatter_figure(view.run.evaluation), alt)


def _diagnostics(view: View) -> str:
    """Return a panel for every metric that is no return, success or time."""
    run = view.run
    panels: dict[str, Lines] = {}
    for key in run.metric_names:
        if not key.startswith(NOT_DIAGNOSTICS):
            family = re.sub(r"(/step_\d+|_after)$", "", key)
            title = TITLES.get(family, family)
            panels.setdefault(title, {})[_part(key, family)] = run.column(key)
    if not panels:
        return "<p>No iteration was finished.</p>\n"
    last = [
        f"{title} {' and '.join(f'{values[-1]:.3g}' for _, values in lines.values())}"
        for title, lines in panels.items()
    ]
    alt = f"Diagnostics of training by iteration. In the last: {'; '.join(last)}."
    return _figure(lines_figure(panels, "iteration"), alt)


def _part(key: str, family: str) -> str:
    """Name a line in the panel of its family of metrics."""
    if key == family:
        return "before the step"
    return "after the step" if key.endswith("_after") else after(int(key.rpartition("_")[2]))


def _timing(view: View) -> str:
    parts = _seconds(view.run)
    if not parts:
        return "<p>No iteration was finished.</p>\n"
    iterations, whole = view.run.column("seconds/iteration")
    total = whole.sum()
    rows = [
        [
            escape(name),
            f"{values.sum():.1f}",
            f"{100 * values.sum() / total:.3g} %",
            f"{np.median(values[values > 0]):.3g}" if values.any() else "0",
        ]
        for name, values in {**parts, "all": whole}.items()
    ]
    shares = [f"{name} {100 * values.sum() / total:.0f} %" for name, values in parts.items()]
    header = ["part", "seconds", "share", "seconds each time (median)"]
    speed = view.run.env_steps / total
    figure = stacked_figure(iterations, parts, "iteration", "seconds")
    alt = f"Seconds of each iteration by part: {', '.join(shares)} of the whole."
    return (
        f"<p>{speed:,.0f} environment steps per second in all.</p>\n"
        f"{_table(header, rows)}{_figure(figure, alt)}"
    )


def _seconds(run: RunData) -> dict[str, Values]:
    """Return the seconds of each part of every iteration, [I], and what is left of the whole."""
    found = [key for key in run.metric_names if key.startswith("seconds/")]
    laps = [key for key in found if not key.startswith(NOT_LAPS)]
    rows = [row for row in run.metrics if "seconds/iteration" in row]
    if not rows:
        return {}
    parts = {
        key.removeprefix("seconds/").replace("_", " "): np.array([row.get(key, 0) for row in rows])
        for key in laps
    }
    whole = np.array([row["seconds/iteration"] for row in rows])
    rest = np.maximum(whole - sum(parts.values()), 0)
    return parts | ({"other": rest} if rest.sum() > 0.005 * whole.sum() else {})


def _films(view: View) -> str:
    """Return films and pictures that lie beside the evaluation."""
    folder = view.run.folder.evaluation
    kinds = FILMS | PICTURES
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    films = {file.stem for file in files if file.suffix in FILMS}
    files = [
        file
        for file in files
        if file.suffix in kinds
        and file.name not in OWN_PICTURES
        and not (file.suffix == ".gif" and file.stem in films)  # the same, smaller
    ]
    if not files:
        call = command("evaluate", {"run": view.run.path, "video": "true"})
        return f"<p>None; <code>{escape(call)}</code> records some.</p>\n"
    evaluated = folder / "evaluation.json"
    made = evaluated.stat().st_mtime if evaluated.is_file() else 0.0
    titles = PICTURE_TEXTS | _film_titles(folder / FILM_TITLES)
    shown = [
        view.media.shown(
            file,
            titles.get(file.stem, file.stem.replace("_", " ")),
            file.stat().st_mtime < made and not file.stem.startswith("grid"),
        )
        for file in files
    ]
    return f'<div class="pair">{"".join(shown)}</div>\n'


def _film_titles(file: Path) -> dict[str, str]:
    """Return what films are said to show, by the stems of their names; empty where nothing is."""
    try:
        said = json.loads(file.read_bytes())
        return {Path(name).stem: str(title) for name, title in said.items()}
    except (OSError, ValueError, AttributeError):
        return {}


class Media:
    """Films and pictures: in the page up to a size, linked from the page's folder beyond it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._left = folder, LARGEST_PAGE

    def shown(self, file: Path, name: str, outdated: bool = False) -> str:
        """Return the figure of a file and what it shows, which may be an earlier evaluation."""
        name += " (of an earlier evaluation)" if outdated else ""
        size = file.stat().st_size
        if size > min(LARGEST_FILE, self._left):
            link = quote(Path(os.path.relpath(file, self._folder)).as_posix())
            text = f"{escape(name)} ({size / 1e6:.1f} MB, in a file of its own)"
            return f'<p><a href="{link}">{text}</a></p>\n'
        self._left -= size
        source = _data((FILMS | PICTURES)[file.suffix], file.read_bytes())
        label = escape(name, quote=True)
        shown = f'<img src="{source}" alt="{label}">'
        if file.suffix in FILMS:
            shown = f'<video controls loop muted src="{source}" aria-label="{label}"></video>'
        return f"<figure>{shown}<figcaption>{label}</figcaption></figure>\n"


def _failed(view: View) -> str:
    return _bullets(view.failed, "bad") or '<p class="good">Nothing.</p>\n'


def _config(view: View) -> str:
    text = OmegaConf.to_yaml(view.run.config) if view.run.config else "missing"
    name = "config.yaml, with what resuming changed" if view.run.sessions else "config.yaml"
    return f"<details><summary>{name}</summary>\n<pre>{escape(text)}</pre></details>\n"


SECTIONS: dict[str, tuple[str, Callable[[View], str]]] = {
    "what": ("What it is", _what_it_is),
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


def _section(key: str, name: str, content: str, level: int, kind: str = "all") -> str:
    label = escape(key, quote=True)
    return (
        f'<section id="{label}" class="{kind}" aria-labelledby="{label}-name">\n'
        f'<h{level} id="{label}-name">{escape(name)}</h{level}>\n{content}</section>\n'
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the cells of `rows` are HTML, the header is text."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return (
        f'<div class="wide" role="region" aria-label="table" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _escaped(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[escape(cell) for cell in row] for row in rows]


def _bullets(lines: Sequence[str], kind: str = "") -> str:
    items = "".join(f"<li>{escape(line)}</li>\n" for line in lines)
    return f'<ul class="{kind}">\n{items}</ul>\n' if lines else ""


def _figure(figure: Figure, alt: str) -> str:
    source = _data("image/svg+xml", svg(figure))
    return f'<figure><img src="{source}" alt="{escape(alt, quote=True)}"></figure>\n'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def report_command(arguments: Sequence[str]) -> int:
    """Make the page that the arguments ask for."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    places = [part for part in arguments if not part.startswith("out=")]
    outs = [part.removeprefix("out=") for part in arguments if part.startswith("out=")]
    for place in places:
        option = re.match(r"\w+=", place) and not Path(place).exists()
        if place.startswith("-") or option:
            raise UserError(f"{place} is unknown; give folders of runs, and out=<page>.")
    if not places:
        call = f"{python()} -m maml_rl.reporting <run folder>"
        raise UserError(f"no folder was given: write {call}.")
    print(f"report: {report(places, Path(outs[-1]) if outs else None)}")
    return 0
