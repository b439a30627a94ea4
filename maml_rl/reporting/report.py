"""One self-contained HTML page of a run, or of several: `python -m maml_rl.commands.report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from envs.errors import UserError
from maml_rl.evaluation.comparison_curves import comparison_figure
from maml_rl.files import replacing
from maml_rl.reporting.blocks import (
    Block,
    Bullets,
    Cell,
    Contents,
    Folded,
    Section,
    Status,
    Table,
    Text,
    drawn,
)
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
    media, failed = Media(folder), [problems(run) for run in runs]
    blocks: list[Block]
    if len(runs) == 1:
        title = f"{runs[0].env}, {runs[0].algorithm}, seed {runs[0].seed}"
        contents = Contents({key: name for key, (name, _) in SECTIONS.items()})
        blocks = [_status(runs[0], failed[0]), contents]
        blocks += _run_sections(View(runs[0], failed[0], media), "", 2)
    else:
        title = f"{len(runs)} runs of {', '.join(sorted({run.env for run in runs}))}"
        folded = [
            _folded(number, View(run, failed[number], media), len(runs) <= MOST_OPEN)
            for number, run in enumerate(runs)
        ]
        blocks = [
            Section("overview", "All runs", [_overview(runs, failed)]),
            *_comparisons(runs),
            Section("runs", "Each run", folded),
        ]
    environment = Environment(
        loader=PackageLoader("maml_rl.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(title=title, blocks=blocks)


def _status(run: RunData, failed: Sequence[str]) -> Status:
    """The state of the run, and the number of its problems."""
    words = f"{run.iterations} iterations, {run.env_steps / 1e6:.3g} million environment steps."
    things = "one thing" if len(failed) == 1 else f"{len(failed)} things"
    return Status(words, f"{things} to look at" if failed else "")


def _overview(runs: Sequence[RunData], failed: Sequence[Sequence[str]]) -> Table:
    """The table of all runs with what failed of each."""
    rows: list[list[str | Cell]] = [
        [
            Cell([str(run.path)], link=f"#run-{number}"),
            *(run.env, run.algorithm, str(run.seed), str(run.iterations)),
            Cell(_short_returns(run)),
            Cell(failed[number]) if failed[number] else Cell(["nothing"], style="good"),
        ]
        for number, run in enumerate(runs)
    ]
    header = ["run", "environment", "algorithm", "seed", "iterations", "return", "what failed"]
    return Table(header, rows)


def _short_returns(run: RunData) -> list[str]:
    """A run's return before adaptation and after the steps trained with, a line each."""
    if run.evaluation is None:
        return ["not evaluated"]
    result, terms = run.evaluation, run.evaluation.terms
    steps = (0, min(result.steps, max(1, terms.trained_steps)))
    returns = [f"{result.curve[step].written(result.form)} {after(step)}" for step in steps]
    return [f"{terms.num_tasks} {terms.split} tasks:", *returns]


def _comparisons(runs: Sequence[RunData]) -> list[Section]:
    """The comparison of the evaluated runs of each environment, or why there is none."""
    sections = []
    for number, env in enumerate(dict.fromkeys(run.env for run in runs)):
        evaluated = [run for run in runs if run.env == env and run.evaluation is not None]
        if len(evaluated) < 2:
            continue
        try:
            blocks = _comparison(compared(evaluated))
        except UserError as error:
            blocks = [Text(f"Not compared: {error}", "bad")]
        sections.append(Section(f"comparison-{number}", f"Comparison: {env}", blocks))
    return sections


def _comparison(comparison: Comparison) -> list[Block]:
    figure = comparison_figure(comparison.overlays(), comparison.title)
    curves = [
        f"{of.group.label}: {of.curve[0].mean:.4g} before adaptation, "
        f"{of.curve[-1].mean:.4g} after the last step"
        for of in comparison.statistics
    ]
    notes = comparison.notes
    return [
        Text(comparison_terms(comparison)),
        *(Table(header, rows) for header, rows in comparison_tables(comparison)),
        drawn(figure, f"Learning and adaptation curves. {'; '.join(curves)}."),
        *([Bullets(notes)] if notes else []),
    ]


def _folded(number: int, view: View, opened: bool) -> Folded:
    run = view.run
    name = f"{run.path}: {run.env}, {run.algorithm}, seed {run.seed}"
    sections = _run_sections(view, f"run-{number}-", 3)
    return Folded(f"run-{number}", name, sections, opened)


def _run_sections(view: View, prefix: str, level: int) -> list[Block]:
    """All sections about one run; ids begin with `prefix`, headings are of `level`."""
    return [
        Section(f"{prefix}{key}", name, content(view), level, key)
        for key, (name, content) in SECTIONS.items()
    ]
