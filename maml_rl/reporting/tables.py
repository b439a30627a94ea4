"""Tables of evaluations and comparisons, for the console, Markdown and the page."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from maml_rl.evaluation.result import EvaluationResult
from maml_rl.reporting.comparison import Comparison
from maml_rl.reporting.group_statistics import GroupStatistics
from maml_rl.wording import after, counted, number_format

LONG_LABEL = 30  # characters, too many for the head of a column
WIDTH = 160  # characters of a table that goes into a file or a pipe
RATE = "{:.2f}"  # the format of rates and probabilities

Table = tuple[list[str], list[list[str]]]  # header, rows


def print_table(table: Table, title: str = "", left: int = 1) -> None:
    """Print a table, its texts as they are; all columns but the first `left` to the right.

    A label may hold brackets, which rich would take for its markup.
    """
    header, rows = table
    drawn = RichTable(title=Text(title) if title else None)
    for number, name in enumerate(header):
        drawn.add_column(Text(name), justify="left" if number < left else "right")
    for row in rows:
        drawn.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(drawn)


def transposed(columns: Mapping[str, Sequence[str]]) -> Table:
    """A table of columns by their heads."""
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def evaluation_title(result: EvaluationResult) -> str:
    """Title of an evaluation, with its terms."""
    terms = result.terms
    number = f"iteration {terms.iteration}"
    checkpoint = terms.checkpoint
    checkpoint = number if checkpoint.startswith("iteration") else f"{checkpoint} ({number})"
    tasks = f"{terms.split} tasks"
    if result.grid is not None:
        tasks = f"tasks, a grid of {result.grid.parameter}"
    episodes = f"{terms.num_episodes} episodes a step"
    if result.within is not None:
        episodes = f"{terms.trials} trials of {len(result.within)} episodes"
    title = f"{terms.env}, {terms.algorithm}, checkpoint {checkpoint}: {terms.num_tasks} {tasks}, "
    title += episodes
    full = max(terms.inner.get("steps", terms.trained_steps), 1)
    if not result.remembers and result.steps > full and terms.later_scale != 1:
        title += f", steps after step {full} scaled by {terms.later_scale}"
    return title + "".join(f", inner.{name}={value}" for name, value in terms.inner.items())


def evaluation_table(result: EvaluationResult) -> Table:
    """Returns of all tasks and of each group, and success rates, by inner step."""
    size = result.terms.num_episodes if result.remembers else 1
    head = "episodes seen" if result.remembers else "inner steps"
    columns = {
        head: [str(size * point.number) for point in result.curve],
        "env steps": [
            "" if point.env_steps is None else f"{point.env_steps:.0f}" for point in result.curve
        ],
    }
    for label, curve in {"all tasks": result.curve, **result.groups}.items():
        columns[f"return, {label}"] = [point.written(result.form) for point in curve]
    if result.success is not None:
        columns["success rate"] = [point.written(RATE) for point in result.success]
    return transposed(columns)


def evaluation_lines(result: EvaluationResult) -> list[str]:
    """The lines below the table of an evaluation."""
    lines = []
    if result.gain is not None:
        first = f"{result.terms.num_episodes} episodes" if result.remembers else "step"
        lines.append(f"gain of the first {first}: {result.gain.written(result.form)}")
    lines.append("in brackets: 95 % bootstrap interval over tasks")
    if result.optimal_return is not None:
        best = sum(result.optimal_return) / len(result.optimal_return)
        shares = ", ".join(f"{point.mean / best:.2f}" for point in result.curve)
        optimum = number_format([best]).format(best)
        lines.append(f"optimum: {optimum}; share of it by step: {shares}")
    return lines


def comparison_terms(comparison: Comparison) -> str:
    """The terms of the evaluations and the meaning of the brackets, in words."""
    terms = comparison.terms
    scale = terms.later_scale
    scaled = "" if scale in (1, None) else f" Steps beyond the trained are scaled by {scale}."
    return (
        f"Return on {counted(terms.num_tasks, f'{terms.split} task')}, "
        f"{counted(terms.num_episodes, 'episode')} per task and step, mean over runs and tasks; "
        f"in brackets, {comparison.interval}.{scaled}"
    )


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Two tables: returns by step, and the robust statistics after the headline step."""
    statistics = comparison.statistics
    form = number_format([end for of in statistics for point in of.curve for end in point.ci95])
    return [_return_table(statistics, form), _robust_table(comparison, form)]


def _return_table(statistics: Sequence[GroupStatistics], form: str) -> Table:
    columns = {
        "algorithm": [of.group.label for of in statistics],
        "runs": [str(len(of.group.runs)) for of in statistics],
        "million env steps": [f"{of.env_steps / 1e6:.3g}" for of in statistics],
    }
    for step in range(len(statistics[0].curve)):
        columns[after(step)] = [of.curve[step].written(form) for of in statistics]
    return transposed(columns)


def _robust_table(comparison: Comparison, form: str) -> Table:
    statistics, when = comparison.statistics, after(comparison.headline_step)
    points = [of.curve[comparison.headline_step] for of in statistics]
    columns = {
        "algorithm": [of.group.label for of in statistics],
        f"interquartile mean {when}": [point.iqm.written(form) for point in points],
        "gain of the first step": [of.gain.written(form) for of in statistics],
    }
    if len(statistics) > 1:
        first = statistics[0].group.label
        first = first if len(first) < LONG_LABEL else "the first row"
        shares = [point.improvement for point in points]
        columns[f"P(better than {first}) {when}"] = [
            "-" if share is None else share.written(RATE) for share in shares
        ]
    rates = [point.success for point in points if point.success is not None]
    if len(rates) == len(points):
        columns[f"success rate {when}"] = [rate.written(RATE) for rate in rates]
    return transposed(columns)


def markdown(comparison: Comparison) -> str:
    """The comparison as a page of Markdown: its terms, two tables and the notes."""
    parts = [f"# {comparison.title}", comparison_terms(comparison)]
    parts += [written(table) for table in comparison_tables(comparison)]
    parts += ["\n".join(f"- {note}" for note in comparison.notes)] if comparison.notes else []
    return "\n\n".join([*parts, "![learning and adaptation curves](comparison.png)"]) + "\n"


def written(table: Table) -> str:
    """A table in Markdown."""
    header, rows = table
    lines = [header, ["---"] * len(header), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
