"""The figures: adaptation, learning, comparison of runs, diagnostics, timing."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from maml_rl.evaluation.result import Curve, Estimate, EvaluationResult, Grid, Point
from maml_rl.evaluation.statistics import Values
from maml_rl.files import replacing
from maml_rl.wording import counted

COLOURS = ("#1b6ca8", "#d1495b", "#3c8d53", "#8d6a9f", "#e08e1b", "#1fa3a3", "#6b5b4b")
DASHES = ("-", "--", "-.")  # 7, 3 and 11 have no common factors: combinations come again late
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
BEFORE = "#8c8c8c"  # before adaptation
DPI = 120
TITLE_CHARACTERS = 100  # of a line
CUT = 3  # medians: where a stack is cut off
FEW_TICKS = 6  # of long numbers
MOST_POINTS = 400  # of a line: longer ones are drawn by the means of as many bins
QUANTITIES = {  # of an evaluation
    "return": "return",
    "success": "success rate",
    "episode": "return of an episode",
    "earned": "returns earned before it",
}
BY_ENV_STEPS = ("episode", "earned")  # drawn against them; the others against inner steps


def adaptation_plot(path: Path, title: str, result: EvaluationResult) -> None:
    """Draw an evaluation: the adaptation curve, each task before and after, other `QUANTITIES`.

    Tasks on a grid are drawn against their parameter.

    Args:
        path: of the PNG.
        title: above the figure.
        result: of the evaluation.
    """
    _, *others = quantities([result], result.remembers)
    figure, (left, right, *rest) = laid_out(2 + len(others), 5, 4.2)
    _draw_curves(left, result)
    if result.grid is not None:
        _draw_grid(right, result.grid, result.curve)
    else:
        _draw_tasks(right, result)
    for axes, quantity in zip(rest, others, strict=True):
        draw_quantity(axes, quantity, result, "all tasks", ALL_TASKS)
        name_quantity(axes, quantity, result.curve, result.remembers)
    figure.suptitle(textwrap.fill(title, TITLE_CHARACTERS))
    save_png(figure, path)


class Style(NamedTuple):
    """The style of one of several lines: no two have the same colour and marker."""

    colour: str
    dash: str
    marker: str


ALL_TASKS = Style("black", "-", "o")


def style(number: int) -> Style:
    """The style of line `number`, unique among 77."""
    kinds = (COLOURS, DASHES, MARKERS)
    return Style(*(values[number % len(values)] for values in kinds))


def stage_colour(step: int, last: int) -> Any:
    """The colour of an adaptation step: grey before, then from blue over red to orange."""
    if step == 0:
        return BEFORE
    return mpl.colormaps["plasma"](0.72 * (step - 1) / max(last - 1, 1))


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in inches, drawn without a screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def laid_out(
    count: int, width: float, height: float, below: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Lay out panels of a size in inches: up to three in a row, more in two; room `below` them."""
    rows = 1 if count < 4 else 2
    columns = -(-count // rows)
    figure = new_figure(width * columns, height * rows + below)
    return figure, grid_of(figure, rows, columns, count)


def grid_of(figure: Any, rows: int, columns: int, count: int, **shared: bool) -> list[Axes]:
    """The first `count` panels of a grid; the others are left empty."""
    panels = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for unused in panels[count:]:
        unused.set_axis_off()
    return panels[:count]


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, atomically; its words go into the file as `Description`."""
    _keep_dollars(figure)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=DPI, metadata={"Description": words(figure)})


def words(figure: Figure) -> str:
    """Titles, names of axes and legends of a figure, a line each."""
    texts = [figure.get_suptitle()]
    for axes in figure.axes:
        texts += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
    for legend in figure.findobj(Legend):
        texts += [text.get_text() for text in legend.get_texts()]
    return "\n".join(filter(None, texts))


def _keep_dollars(figure: Figure) -> None:
    """Let labels appear as they are: between dollar signs, matplotlib would read formulas."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)


def svg(figure: Figure) -> bytes:
    """A figure as an SVG, the same bytes for the same figure."""
    _keep_dollars(figure)
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "maml_rl"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def _draw_curves(axes: Axes, result: EvaluationResult) -> None:
    """Draw the adaptation curve of all tasks, and of each group."""
    draw_quantity(axes, "return", result, "all tasks", ALL_TASKS, 0.2)
    for number, (label, curve) in enumerate(result.groups.items()):
        group = replace(result, curve=curve)
        draw_quantity(axes, "return", group, label, style(number)._replace(dash="--"), 0.1)
    name_quantity(axes, "return", result.curve, result.remembers)
    axes.set_ylabel("return (95 % interval over tasks)")
    axes.legend()


class Overlay(NamedTuple):
    """One group of runs in a comparison."""

    label: str
    runs: list[tuple[Values, Values]]  # learning curve of each: env steps [I], return [I]
    mean: tuple[Values, Values] | None  # their mean; None where nothing was trained
    curve: Sequence[Point]  # adaptation curve with intervals over runs and tasks
    within: Sequence[Point] | None = None  # every episode, of learners with memory
    success: Sequence[Estimate] | None = None  # success rate at each point of the curve


Drawn = EvaluationResult | Overlay


def quantities(results: Sequence[Drawn], remembers: bool) -> list[str]:
    """The quantities that all results have.

    Gradient learners alone have their returns drawn against the steps that lead to them.
    """
    known = ["return"]
    if all(result.success is not None for result in results):
        known.append("success")
    if all(result.curve[0].cumulative is not None for result in results):
        known += ["episode", "earned"] if remembers else ["earned"]
    return known


def estimates_of(points: Sequence[Point], quantity: str) -> Sequence[Estimate]:
    """Returns, or returns earned before, at points."""
    if quantity != "earned":
        return points
    return [point.cumulative for point in points if point.cumulative is not None]


def draw_quantity(
    axes: Axes, quantity: str, result: Drawn, label: str, line: Style, alpha: float = 0.12
) -> None:
    """Draw means of a quantity and their intervals.

    Learners with memory are drawn at every episode against environment steps, others where they
    have adapted.
    """
    points, x = result.curve, [float(point.number) for point in result.curve]
    if quantity in BY_ENV_STEPS:
        if result.within is not None:
            points, line = result.within, line._replace(marker="")
        x = [point.env_steps or 0.0 for point in points]
    rates = quantity == "success" and result.success
    estimates = rates or estimates_of(points, quantity)
    low, high = np.array([estimate.ci95 for estimate in estimates]).T
    axes.plot(
        x,
        [estimate.mean for estimate in estimates],
        color=line.colour,
        linestyle=line.dash,
        marker=line.marker,
        markersize=5,
        label=label,
    )
    axes.fill_between(x, low, high, color=line.colour, alpha=alpha, linewidth=0)


def name_quantity(axes: Axes, quantity: str, curve: Sequence[Point], remembers: bool) -> None:
    """Set the names of the axes of a quantity."""
    axes.set_ylabel(f"{QUANTITIES[quantity]} (95 % interval)")
    axes.grid(alpha=0.3)
    if quantity in BY_ENV_STEPS:
        axes.set_xlabel("environment steps of the task, seen before the episode")
        axes.locator_params(axis="x", nbins=FEW_TICKS)
        return
    axes.set_xlabel(
        "inner gradient steps" + (", or as many episodes remembered" if remembers else "")
    )
    axes.set_xticks([point.number for point in curve])
    if quantity == "success":
        axes.set_ylim(-0.03, 1.03)


def _draw_tasks(axes: Axes, result: EvaluationResult) -> None:
    """Draw each task's return before against after one step, or as many episodes."""
    values: list[float] = []
    for number, (label, curve) in enumerate((result.groups or {"all tasks": result.curve}).items()):
        before, after = curve[0].per_task, curve[1].per_task
        colour, _, marker = style(number)
        axes.scatter(before, after, color=colour, marker=marker, s=18, alpha=0.8, label=label)
        values += [*before, *after]
    room = 0.05 * (max(values) - min(values)) or 0.5
    ends = (min(values) - room, max(values) + room)
    axes.plot(ends, ends, color="grey", linewidth=1, label="no change")
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    first, later = "return before adaptation", "after one step"
    if result.remembers:
        first, later = "return of the first episode", f"after {result.terms.num_episodes} episodes"
    axes.set(xlabel=f"{first}, per task", ylabel=later)
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_grid(axes: Axes, grid: Grid, curve: Curve) -> None:
    """Draw each task's return against its parameter, before and after each step.

    The trained range is shaded where the grid goes beyond it.
    """
    for point in curve:
        axes.plot(
            grid.values,
            point.per_task,
            marker=MARKERS[point.number % len(MARKERS)],
            markersize=4,
            color=stage_colour(point.number, len(curve) - 1),
            label=f"after {counted(point.number, 'step')}" if point.number else "before",
        )
    low, high = grid.trained_range
    if min(grid.values) < low or max(grid.values) > high:
        axes.axvspan(low, high, color=COLOURS[0], alpha=0.08, linewidth=0, label="trained range")
    axes.set(xlabel=grid.parameter, ylabel="return, per task")
    axes.grid(alpha=0.3)
    axes.legend()


def adaptation_figure(result: EvaluationResult) -> Figure:
    """The adaptation curve of an evaluation, and of its groups; success rates where recorded."""
    figure, (left, *right) = laid_out(1 if result.success is None else 2, 5.5, 4)
    _draw_curves(left, result)
    for axes in right:
        draw_quantity(axes, "success", result, "all tasks", ALL_TASKS)
        name_quantity(axes, "success", result.curve, result.remembers)
    return figure


def scatter_figure(result: EvaluationResult) -> Figure:
    """Each task's return before and after one step."""
    figure = new_figure(5.5, 4)
    _draw_tasks(figure.subplots(), result)
    return figure


def lines_figure(
    panels: Mapping[str, Mapping[str, tuple[Values, Values]]], xlabel: str, columns: int = 3
) -> Figure:
    """Draw panels of lines.

    Args:
        panels: by title, lines by label: (x [I], y [I]).
        xlabel: of all panels.
        columns: panels side by side.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width, height = (11, 2.4) if columns > 1 else (8, 4)
    figure = new_figure(width, height * rows)
    grid = grid_of(figure, rows, columns, len(panels))
    for axes, (title, lines) in zip(grid, panels.items(), strict=True):
        for number, (label, (x, y)) in enumerate(lines.items()):
            colour, dash, marker = style(number)
            few: dict[str, Any] = {"marker": marker, "markersize": 3} if len(x) < 30 else {}
            axes.plot(
                *thinned(x, y), color=colour, linestyle=dash, linewidth=1.2, label=label, **few
            )
        axes.set(xlabel=xlabel)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=8)
    return figure


def stacked_figure(x: Values, parts: Mapping[str, Values], xlabel: str, ylabel: str) -> Figure:
    """Draw parts of a whole, one on the other: values [I] at `x` [I], by label."""
    figure = new_figure(8, 3)
    axes = figure.subplots()
    thin = {label: thinned(x, values) for label, values in parts.items()}
    positions, heights = next(iter(thin.values()))[0], [y for _, y in thin.values()]
    axes.stackplot(positions, *heights, labels=list(thin), colors=COLOURS, alpha=0.8)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.margins(x=0)
    whole = np.sum(heights, axis=0)
    top = CUT * float(np.median(whole))
    if whole.max() > top > 0:
        axes.set_ylim(0, top)
        axes.set_ylabel(f"{ylabel} (more is cut off)")
    axes.legend(fontsize=8)
    return figure


def thinned(x: Values, y: Values) -> tuple[Values, Values]:
    """A long line, reduced to the means of bins."""
    if len(x) <= MOST_POINTS:
        return x, y
    bins = [np.array_split(values, MOST_POINTS) for values in (x, y)]
    means = [np.array([part.mean() for part in parts]) for parts in bins]
    return means[0], means[1]
