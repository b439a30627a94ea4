"""One self-contained HTML page of a run, or of several: `python -m maml_rl.commands.report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from envs.errors import UserError
from maml_rl.evaluation.comparison_curves import comparison_figure
from maml_rl.files import replacing
from maml_rl.reporting.blocks import HTML, TEMPLATES, drawn
from maml_rl.reporting.comparison import Comparison, compared
from maml_rl.reporting.media import Media
from maml_rl.reporting.problems import problems
from maml_rl.reporting.sections import SECTIONS, View
from maml_rl.reporting.tables import comparison_tables, comparison_terms
from maml_rl.runs.data import RunData, find_runs, read_run
from maml_rl.wording import after

PAGES = (".html", ".htm")
MOST_OPEN = 2  # runs on a page; of more, each is folded


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
        out = _folder_of(places, runs) / "report.html"
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


def _folder_of(places: Sequence[str | Path], runs: Sequence[RunData]) -> Path:
    """The folder that was given; of an initialization that ships, that of its evaluations."""
    if len(places) > 1:
        return Path()
    if len(runs) == 1 and runs[0].folder.shipped:
        runs[0].folder.evaluation.mkdir(parents=True, exist_ok=True)
        return runs[0].folder.evaluation
    return Path(places[0]) if Path(places[0]).is_dir() else Path()


def page(runs: Sequence[RunData], folder: Path) -> str:
    """HTML of one or more runs, which lies in `folder` and links from there."""
    media = Media(folder)
    views = [View(run, problems(run), media) for run in runs]
    if len(runs) == 1:
        title = f"{runs[0].env}, {runs[0].algorithm}, seed {runs[0].seed}"
        contents = HTML.contents({key: name for key, (name, _) in SECTIONS.items()})
        blocks = [_status(views[0]), contents, *_run_sections(views[0], "", 2)]
    else:
        title = f"{len(runs)} runs of {', '.join(sorted({run.env for run in runs}))}"
        opened = len(runs) <= MOST_OPEN
        folded = [_folded(number, view, opened) for number, view in enumerate(views)]
        blocks = [
            HTML.section("overview", "All runs", [_overview(views)]),
            *_comparisons(runs),
            HTML.section("runs", "Each run", folded),
        ]
    return TEMPLATES.get_template("page.html").render(title=title, blocks=blocks)


def _status(view: View) -> Any:
    """The state of the run, and the number of its problems."""
    run, count = view.run, len(view.failed)
    words = f"{run.iterations} iterations, {run.env_steps / 1e6:.3g} million environment steps."
    things = "one thing" if count == 1 else f"{count} things"
    return HTML.status(words, f"{things} to look at" if count else "")


def _overview(views: Sequence[View]) -> Any:
    """The table of all runs with what failed of each."""
    header = ["run", "environment", "algorithm", "seed", "iterations", "return", "what failed"]
    rows = [
        [
            HTML.reference(f"#run-{number}", run.path),
            *(run.env, run.algorithm, run.seed, run.iterations),
            HTML.lines(_short_returns(run)),
            HTML.lines(failed) if failed else HTML.styled("nothing", "good"),
        ]
        for number, (run, failed, _) in enumerate(views)
    ]
    return HTML.table(header, rows)


def _short_returns(run: RunData) -> list[str]:
    """A run's return before adaptation and after the steps trained with, a line each."""
    if run.evaluation is None:
        return ["not evaluated"]
    result, terms = run.evaluation, run.evaluation.terms
    steps = (0, min(result.steps, max(1, terms.trained_steps)))
    returns = [f"{result.curve[step].written(result.form)} {after(step)}" for step in steps]
    return [f"{terms.num_tasks} {terms.split} tasks:", *returns]


def _comparisons(runs: Sequence[RunData]) -> list[Markup]:
    """The comparison of the evaluated runs of each environment, or why there is none."""
    sections = []
    for number, env in enumerate(dict.fromkeys(run.env for run in runs)):
        evaluated = [run for run in runs if run.env == env and run.evaluation is not None]
        if len(evaluated) < 2:
            continue
        try:
            blocks = _comparison(compared(evaluated))
        except UserError as error:
            blocks = [HTML.text(f"Not compared: {error}", "bad")]
        sections.append(HTML.section(f"comparison-{number}", f"Comparison: {env}", blocks))
    return sections


def _comparison(comparison: Comparison) -> list[Markup]:
    figure = comparison_figure(comparison.overlays(), comparison.title)
    curves = [
        f"{of.group.label}: {of.curve[0].mean:.4g} before adaptation, "
        f"{of.curve[-1].mean:.4g} after the last step"
        for of in comparison.statistics
    ]
    return [
        HTML.text(comparison_terms(comparison)),
        *(HTML.table(header, rows) for header, rows in comparison_tables(comparison)),
        drawn(figure, f"Learning and adaptation curves. {'; '.join(curves)}."),
        *([HTML.bullets(comparison.notes)] if comparison.notes else []),
    ]


def _folded(number: int, view: View, opened: bool) -> Any:
    run = view.run
    name = f"{run.path}: {run.env}, {run.algorithm}, seed {run.seed}"
    return HTML.folded(f"run-{number}", name, _run_sections(view, f"run-{number}-", 3), opened)


def _run_sections(view: View, prefix: str, level: int) -> list[Markup]:
    """All sections about one run; ids begin with `prefix`, headings are of `level`."""
    return [
        HTML.section(f"{prefix}{key}", name, content(view), level, key)
        for key, (name, content) in SECTIONS.items()
    ]
