"""docs/results.md from the kept run data: `make results`, or `python -m benchmarks.results`.

Rewrites every block of that page, of docs/metrics.md and of docs/learning.md between
`<!-- <block> <argument> -->` and `<!-- end -->` and draws its figures, and the README's first
picture, into docs/images/, from what results/ holds: configurations, metrics and evaluations, no
weights. The sentences around the blocks are the page's own.
`--keep <run folder> <experiment>/<run>` first copies what is worth keeping of a run into results/;
`--keep <run folder>` keeps its trained initialization in pretrained/, by the environment's name or
by `--name <name>`, and renews the pages alone.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.initializations import (
    OPTION,
    initializations_table,
    keep_initialization,
    outcome,
)
from benchmarks.published import PUBLISHED
from benchmarks.studies.learning import kept_runs
from benchmarks.studies.tables import study_rows
from envs.errors import UserError
from maml_rl.commands.cli import guarded
from maml_rl.evaluation.comparison_curves import comparison_figure
from maml_rl.evaluation.curves import adaptation_plot, save_png
from maml_rl.reporting.comparison import Comparison, compare_groups, smoothed
from maml_rl.reporting.groups import Group
from maml_rl.reporting.tables import comparison_tables, written
from maml_rl.runs.compact import read_compact_run, write_compact_run
from maml_rl.runs.data import RunData, keep_run, read_run
from maml_rl.training.metrics import metric_table
from maml_rl.wording import after, number_format

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE, IMAGES = ROOT / "results", ROOT / "docs" / "results.md", ROOT / "docs" / "images"
OTHER_PAGES = [ROOT / "docs" / name for name in ("metrics.md", "learning.md")]
ALGORITHMS = {  # by the name of their node, in the order of the tables
    "maml_trpo": "MAML, TRPO",
    "maml_05": "MAML, TRPO, step size 0.5",
    "maml_ppo": "MAML, PPO",
    "maml_adam": "MAML, Adam",
    "maml_log_likelihood": "MAML, log-likelihood",
    "maml_loaded_dice": "MAML, Loaded DiCE",
    "maml_dice": "MAML, DiCE",
    "promp": "ProMP",
    "promp_tuned": "ProMP, tuned",
    "e_maml": "E-MAML",
    "meta_sgd": "Meta-SGD",
    "meta_curvature": "Meta-Curvature",
    "kronecker": "Kronecker transform",
    "anil": "ANIL",
    "anil_03": "ANIL, step size 0.3",
    "anil_1": "ANIL, step size 1",
    "cavia": "CAVIA",
    "fomaml": "FOMAML",
    "reptile": "Reptile",
    "rl2": "RL²",
    "pretrained": "pretrained",
    "random": "random initialization",
    "oracle": "oracle",
}
FIRST_RUN = "half_cheetah_dir_make_train/seed_0.json"  # of `make train`
MARKS = (2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 36, 40)  # million env steps
BLOCK = re.compile(r"(<!-- (\w+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def keep(run: Path, name: str) -> None:
    """Write a run's metrics, configuration and evaluation to results/<name>.json.

    Absolute paths of the machine are cut to their last part in what was run, and metrics to six
    digits.
    """
    path = RESULTS / f"{name}.json"
    keep_run(run, path, lambda line: OPTION.sub(r"\1", line))
    content = read_compact_run(path)
    content["metrics"] = [
        {
            key: value if value == round(value) else float(f"{value:.6g}")
            for key, value in row.items()
        }
        for row in content["metrics"]
    ]
    write_compact_run(path, content)


def stored_runs(experiment: str) -> list[RunData]:
    """Read the kept runs of an experiment, by the names of their files.

    Raises:
        UserError: where there is none.
    """
    runs = [read_run(path) for path in sorted((RESULTS / experiment).glob("*.json"))]
    if not runs:
        raise UserError(f"results/{experiment} holds no run: python -m benchmarks.results --keep")
    return runs


def comparison_of(task: str) -> Comparison:
    """Compare the kept runs of all algorithms on a task."""
    return _comparison(RESULTS, task)


@cache
def _comparison(results: Path, task: str) -> Comparison:
    """A comparison, computed once for its tables and its figure."""
    return compare_groups(groups_of(task, results))


def groups_of(task: str, results: Path) -> list[Group]:
    """The kept runs of all algorithms on a task: <results>/<task>_<algorithm>/seed_<n>.json.

    Those of the task itself are MAML's with TRPO, where it has no folder of its own.
    """
    groups = []
    for algorithm, label in ALGORITHMS.items():
        folder = results / f"{task}_{algorithm}"
        if algorithm == "maml_trpo" and not folder.is_dir():
            folder = results / task
        paths = sorted(folder.glob("seed_*.json"))
        runs = [read_run(path) for path in paths if path.stem.removeprefix("seed_").isdigit()]
        if runs:
            groups.append(Group(label, {}, runs))
    return groups


def comparison_block(task: str) -> str:
    """Write the tables of a comparison, others' results below ours, and where its figure is."""
    comparison = comparison_of(task)
    (header, rows), robust = comparison_tables(comparison)
    form = number_format([end for point in comparison.statistics[0].curve for end in point.ci95])
    for published in PUBLISHED.get(task, ()):
        values = [*published.returns, *[None] * (len(header) - 3 - len(published.returns))]
        cells = ["" if value is None else form.format(value) for value in values]
        rows.append([f"*{published.source}*", "", published.env_steps, *cells])
    picture = f"![Learning and adaptation curves on {task}](images/{task}.png)"
    return "\n\n".join([written((header, rows)), written(robust), picture])


def learning_block(task: str) -> str:
    """Write the return on training tasks after the inner steps trained with, by env steps."""
    groups = groups_of(task, RESULTS)
    longest = max(run.env_steps for group in groups for run in group.runs) / 1e6
    marks = [mark for mark in MARKS if mark <= longest + 0.1]
    rows = []
    for group in groups:
        trained = [smoothed(run) for run in group.runs if run.metrics]
        if trained:
            label = f"{group.label}, {len(trained)} seed{'s' if len(trained) > 1 else ''}"
            rows.append([label, *(_at(trained, mark) for mark in marks)])
    return written((["", *(f"{mark}M" for mark in marks)], rows))


def _at(curves: Sequence[tuple[Any, Any]], mark: float) -> str:
    """Write the values of the curves that reach so many million env steps."""
    values = [
        np.interp(mark * 1e6, steps, values)
        for steps, values in curves
        if steps[-1] >= (mark - 0.1) * 1e6
    ]
    return ", ".join(f"{value:.0f}" for value in values)


def runs_block(experiment: str) -> str:
    """Write each run's return by step, over all test tasks and over groups of them."""
    runs = stored_runs(experiment)
    groups = list(runs[0].evaluated.groups)
    rows = []
    for run in runs:
        result = run.evaluated
        for points in zip(result.curve, *(result.groups[label] for label in groups), strict=True):
            cells = [point.written(result.form) for point in points]
            rows.append([run.path.stem.replace("_", " "), after(points[0].number), *cells])
    return written((["run", "", "all tasks", *groups], rows))


def training_block(experiment: str) -> str:
    """Write each run's return after the inner steps trained with, on training tasks."""
    runs = stored_runs(experiment)
    longest = max(run.env_steps for run in runs) / 1e6
    marks = [mark for mark in MARKS if mark <= longest + 0.1]
    rows = [
        [run.path.stem.replace("_", " "), *(_at([smoothed(run)], mark) for mark in marks)]
        for run in runs
    ]
    return written((["", *(f"{mark}M" for mark in marks)], rows))


def optimum_block(experiment: str) -> str:
    """Write each run's return by step and its share of what a policy that knows the task gets."""
    rows = []
    for run in stored_runs(experiment):
        result = run.evaluated
        best, curve = float(np.mean(result.optimal_return or ())), result.curve
        cells = [point.written(result.form) for point in curve]
        shares = [f"{curve[step].mean / best:.2f}" for step in (1, len(curve) - 1)]
        rows.append([run.path.stem.replace("_", " "), *cells, f"{best:.1f}", *shares])
    steps = [after(point.number) for point in curve]
    shares = [f"share {after(1)}", f"share {after(len(curve) - 1)}"]
    return written((["run", *steps, "optimum", *shares], rows))


def study_block(problem: str) -> str:
    """Write what each setting of a study of learning is worth."""
    return written(study_rows(kept_runs(problem)))


BLOCKS: dict[str, Callable[[str], str]] = {
    "comparison": comparison_block,
    "learning": learning_block,
    "runs": runs_block,
    "training": training_block,
    "optimum": optimum_block,
    "initializations": lambda argument: initializations_table(),
    "metrics": metric_table,
    "study": study_block,
}


def renewed(page: str) -> str:
    """Page with every block written anew.

    Raises:
        UserError: for a block that there is no function for.
    """

    def block(match: re.Match[str]) -> str:
        begin, name, argument, end = match.groups()
        if name not in BLOCKS:
            raise UserError(f"<!-- {name} {argument} --> is no block: {', '.join(BLOCKS)} are.")
        return f"{begin}\n{BLOCKS[name](argument)}\n\n{end}"

    return BLOCK.sub(block, page)


def draw(page: str, folder: Path) -> None:
    """Draw the figure of every comparison on the page into a folder."""
    for _, block, task, _ in BLOCK.findall(page):
        if block == "comparison":
            save_png(figure_of(task), folder / f"{task}.png")


def figure_of(task: str) -> Figure:
    """The figure of a comparison."""
    comparison = comparison_of(task)
    return comparison_figure(comparison.overlays(), comparison.title)


def draw_first_run(folder: Path) -> None:
    """Draw what `make train` leaves, the README's first picture, into a folder."""
    result = read_run(RESULTS / FIRST_RUN).evaluated
    terms = result.terms
    title = (
        f"{terms.env}, {terms.algorithm}: {terms.num_tasks} test tasks, "
        f"{terms.num_episodes} episodes a step"
    )
    adaptation_plot(folder / "adaptation.png", title, result)


def results_command(arguments: Sequence[str]) -> int:
    """Keep a run where one is named; renew the pages and their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", nargs="+", metavar=("RUN", "EXPERIMENT/RUN"), default=[])
    parser.add_argument("--name", help="of a trained initialization in pretrained/")
    options = parser.parse_args(arguments)
    if len(options.keep) > 2 or (options.name is not None and len(options.keep) != 1):
        parser.error("write --keep RUN, --keep RUN --name NAME, or --keep RUN EXPERIMENT/RUN")
    if len(options.keep) == 1:
        print(outcome(keep_initialization(Path(options.keep[0]), options.name)))
    elif options.keep:
        keep(Path(options.keep[0]), options.keep[1])
    page = renewed(PAGE.read_text())
    if len(options.keep) != 1:
        draw(page, IMAGES)
        draw_first_run(IMAGES)
    PAGE.write_text(page)
    for other in OTHER_PAGES:
        other.write_text(renewed(other.read_text()))
    return 0


if __name__ == "__main__":
    guarded(results_command)
