"""Tables of evaluations and comparisons, for the console, Markdown and the page."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table as RichTable
from rich.text import Text

from maml_rl.evaluation.result import Estimate, EvaluationResult
from maml_rl.reporting.comparison import Comparison
from maml_rl.reporting.group_statistics import GroupStatistics
from maml_rl.wording import after, counted, number_format

LONG_LABEL = 30  # characters, too many for the head of a column
WIDTH = 100  # characters of a table that goes into a file or a pipe
BORDER = 3  # characters of a column beside its text
RATE = "{:.2f}"  # the format of rates and probabilities
ROBUST = (  # the columns of tails, in words
    "lower fifth of tasks: mean of the fifth of a run's tasks with the lowest returns (CVaR 0.2)",
    "share worse: tasks with a lower return than before adaptation, or in a trial's first episode",
)

Table = tuple[list[str], list[list[str]]]  # header, rows


def print_table(table: Table, title: str = "") -> None:
    """Print a table, its texts as they are; all columns but the first to the right.

    Heads are folded to the width of their cells. Columns for which a line has no room follow below,
    beside the first column again. A label may hold brackets, which rich would take for its markup.
    """
    header, rows = table
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    widths = column_widths(table)
    for part in fitting(widths, console.width):
        drawn = RichTable(title=Text(title) if title else None)
        for number in part:
            side: JustifyMethod = "right" if number else "left"
            drawn.add_column(Text(header[number]), justify=side, width=widths[number])
        for row in rows:
            drawn.add_row(*(Text(row[number]) for number in part))
        console.print(drawn)
        title = ""


def column_widths(table: Table) -> list[int]:
    """Characters of each column: its longest cell, or word of its head; of labels not all."""
    header, rows = table
    widths = [
        max(map(len, [*head.split(), *cells])) for head, *cells in zip(header, *rows, strict=True)
    ]
    return [min(widths[0], LONG_LABEL), *widths[1:]]


def fitting(widths: Sequence[int], room: int) -> list[list[int]]:
    """Columns by their numbers, in parts that a line has room for, each with the first column."""
    parts, used = [[0]], 0
    for number in range(1, len(widths)):
        used += widths[number] + BORDER
        if len(parts[-1]) > 1 and widths[0] + BORDER + used + 1 > room:
            parts.append([0])
            used = widths[number] + BORDER
        parts[-1].append(number)
    return parts


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
    """Returns of all tasks and of each group, their tails, and success rates, by inner step."""
    size, form = result.terms.num_episodes if result.remembers else 1, result.form
    head = "episodes seen" if result.remembers else "inner steps"
    columns = {
        head: [str(size * point.number) for point in result.curve],
        "env steps": [
            "" if point.env_steps is None else f"{point.env_steps:.0f}" for point in result.curve
        ],
        "return, all tasks": [point.written(form) for point in result.curve],
        "lower fifth of tasks": [tail.written(form) for tail in result.lower_fifth],
    }
    if result.steps:
        columns["share worse"] = [_rate(share) for share in result.share_worse]
    for label, curve in result.groups.items():
        columns[f"return, {label}"] = [point.written(form) for point in curve]
    if result.success is not None:
        columns["success rate"] = [_rate(point) for point in result.success]
    return transposed(columns)


def _rate(share: Estimate | None) -> str:
    """A rate or probability with its interval, or a dash where there is none."""
    return "-" if share is None else share.written(RATE)


def evaluation_lines(result: EvaluationResult) -> list[str]:
    """The lines below the table of an evaluation."""
    lines = []
    if result.gain is not None:
        first = f"{result.terms.num_episodes} episodes" if result.remembers else "step"
        lines.append(f"gain of the first {first}: {result.gain.written(result.form)}")
    lines += [*ROBUST, "in brackets: 95 % bootstrap interval over tasks"]
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
        f"in brackets, {comparison.interval}.{scaled} {robust_words()}"
    )


def robust_words() -> str:
    """The meaning of the columns of tails, in sentences."""
    return " ".join(f"{line[0].upper()}{line[1:]}." for line in ROBUST)


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
        f"lower fifth of tasks {when}": [point.lower_fifth.written(form) for point in points],
        "gain of the first step": [of.gain.written(form) for of in statistics],
        f"share worse {when}": [_rate(point.share_worse) for point in points],
    }
    if len(statistics) > 1:
        first = statistics[0].group.label
        first = first if len(first) < LONG_LABEL else "the first row"
        columns[f"P(better than {first}) {when}"] = [_rate(point.improvement) for point in points]
    rates = [point.success for point in points if point.success is not None]
    if len(rates) == len(points):
        columns[f"success rate {when}"] = [_rate(rate) for rate in rates]
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
