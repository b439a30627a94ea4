"""The figures: adaptation, learning, comparison of runs, diagnostics, timing."""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maml_rl.evaluation.statistics import Values
from maml_rl.files import replacing

COLOURS = ("#1b6ca8", "#d1495b", "#3c8d53", "#8d6a9f")
GROUP_COLOURS = ("#1b6ca8", "#d1495b", "#3c8d53", "#8d6a9f", "#e08e1b", "#1fa3a3", "#6b5b4b")
GROUP_LINES = ("-", "--", ":", "-.")  # where colours repeat
LEGEND_COLUMNS = 3
LEGEND_CHARACTERS = 180  # side by side
FEWEST_FOR_FAR = 5  # groups
TITLE_CHARACTERS = 100  # of a line
CUT = 3  # medians: where a stack is cut off
FEW_TICKS = 6  # of long numbers
MOST_POINTS = 400  # of a line: longer ones are drawn by the means of as many bins


def adaptation_plot(path: Path, title: str, result: Mapping[str, Any]) -> None:
    """Draw the adaptation curve with its band, and each task's return before and after one step.

    Args:
        path: of the PNG.
        title: above the figure.
        result: as evaluation.json holds it: `curve` and `groups`; of tasks on a grid, `grid`, whose
            parameter takes the place of the return before adaptation. Where it tells the
            environment steps of the task seen before, the returns earned on the way are drawn
            against them, and of learners with memory those of every episode.
    """
    panels = _budget_panels([result["curve"]], "within" in result)
    figure, (left, right, *rest) = _laid_out(2 + len(panels), 5, 4.2)
    for axes, what in zip(rest, panels, strict=True):
        _draw_budget(axes, what, "all tasks", result["curve"], result.get("within"), "black")
        _name_budget(axes, what)
    _draw_curves(left, result["curve"], result["groups"], "within" in result)
    if "grid" in result:
        _draw_grid(right, result["grid"], result["curve"])
    else:
        _draw_tasks(right, result)
    figure.suptitle(textwrap.fill(title, TITLE_CHARACTERS))
    save_png(figure, path)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _laid_out(
    count: int, width: float, height: float, below: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Lay out panels of a size in inches: up to three in a row, four in two; room `below` them."""
    rows = 1 if count < 4 else 2
    columns = -(-count // rows)
    figure = _figure(width * columns, height * rows + below)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, atomically."""
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120)


def svg(figure: Figure) -> bytes:
    """Return a figure as an SVG, the same bytes for the same figure."""
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "maml_rl"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def _draw_curves(
    axes: Axes,
    curve: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Sequence[Any]],
    remembers: bool = False,
) -> None:
    _band(axes, curve, "black", "all tasks")
    for colour, (label, points) in zip(itertools.cycle(COLOURS), groups.items(), strict=False):
        _band(axes, points, colour, label, alpha=0.1, linestyle="--")
    axes.set(xlabel=_steps(remembers), ylabel="return (95 % interval over tasks)")
    axes.set_xticks([point["step"] for point in curve])
    axes.grid(alpha=0.3)
    axes.legend()


def _steps(remembers: bool) -> str:
    """Name the axis of steps, at which learners with memory have seen as many episodes."""
    return "inner gradient steps" + (", or as many episodes remembered" if remembers else "")


def _band(
    axes: Axes,
    curve: Sequence[Mapping[str, Any]],
    colour: str,
    label: str,
    alpha: float = 0.2,
    linestyle: str = "-",
    at: str = "step",
    what: str = "return",
    marker: str = "o",
) -> None:
    """Draw means of `what` and their intervals against `at`."""
    steps = [point[at] for point in curve]
    low, high = np.array([point[f"{what}_ci95"] for point in curve]).T
    means = [point[f"{what}_mean"] for point in curve]
    axes.plot(
        steps, means, color=colour, marker=marker, markersize=5, linestyle=linestyle, label=label
    )
    axes.fill_between(steps, low, high, color=colour, alpha=alpha, linewidth=0)


def _budget_panels(
    curves: Sequence[Sequence[Mapping[str, Any]]], remembers: bool
) -> tuple[str, ...]:
    """Return what is drawn against the environment steps of the task, where all curves tell them.

    Gradient learners alone have their returns drawn against the steps that lead to them.
    """
    if not all("env_steps" in curve[0] for curve in curves):
        return ()
    return ("return", "cumulative") if remembers else ("cumulative",)


def _draw_budget(
    axes: Axes,
    what: str,
    label: str,
    curve: Sequence[Mapping[str, Any]],
    within: Sequence[Mapping[str, Any]] | None,
    colour: str,
    linestyle: str = "-",
) -> None:
    """Draw an episode's return, or the sum of those before it, against what was seen of the task.

    Learners with memory are drawn at every episode, others where they have adapted.
    """
    marker, points = ("o", curve) if within is None else ("", within)
    _band(axes, points, colour, label, 0.12, linestyle, "env_steps", what, marker)


def _name_budget(axes: Axes, what: str) -> None:
    names = {"return": "return of an episode", "cumulative": "returns earned before it"}
    axes.set(
        xlabel="environment steps of the task, seen before the episode",
        ylabel=f"{names[what]} (95 % interval)",
    )
    axes.locator_params(axis="x", nbins=FEW_TICKS)
    axes.grid(alpha=0.3)


def _draw_tasks(axes: Axes, result: Mapping[str, Any]) -> None:
    """Draw each task's return before against after one step, or as many episodes."""
    groups: Mapping[str, Sequence[Mapping[str, Any]]]
    groups, befores = result["groups"] or {"all tasks": result["curve"]}, []
    for colour, (label, curve) in zip(itertools.cycle(COLOURS), groups.items(), strict=False):
        before, after = curve[0]["per_task"], curve[1]["per_task"]
        axes.scatter(before, after, color=colour, s=18, alpha=0.8, label=label)
        befores += before
    ends = [min(befores), max(befores)]
    axes.plot(ends, ends, color="grey", linewidth=1, label="no change")
    names = ("return before adaptation, per task", "after one step")
    if "within" in result:
        names = (
            "return of the first episode, per task",
            f"after {result['num_episodes']} episodes",
        )
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_grid(axes: Axes, grid: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]) -> None:
    """Draw each task's return against its parameter, before and after each step.

    The range that was trained in is shaded where the grid goes beyond it.
    """
    for point in curve:
        step = point["step"]
        label = "before" if step == 0 else f"after {step} step{'s' if step > 1 else ''}"
        shade = 0.8 - 0.7 * step / max(len(curve) - 1, 1)
        axes.plot(grid["values"], point["per_task"], marker=".", color=str(shade), label=label)
    low, high = grid["trained_range"]
    if min(grid["values"]) < low or max(grid["values"]) > high:
        axes.axvspan(low, high, color=COLOURS[0], alpha=0.08, linewidth=0, label="trained range")
    axes.set(xlabel=grid["parameter"], ylabel="return, per task")
    axes.grid(alpha=0.3)
    axes.legend()


class Overlay(NamedTuple):
    """One group of runs in a comparison."""

    label: str
    runs: list[tuple[Values, Values]]  # learning curve of each: env steps [I], return [I]
    mean: tuple[Values, Values] | None  # their mean; None where nothing was trained
    curve: Sequence[Mapping[str, Any]]  # adaptation curve with intervals over runs and tasks
    within: Sequence[Mapping[str, Any]] | None = None  # every episode, of learners with memory


def comparison_figure(overlays: Sequence[Overlay], title: str) -> Figure:
    """Draw learning curves (thin: each run, thick: mean) and adaptation curves with their bands.

    Where every group tells the environment steps of the task seen before, the same count for those
    that take gradient steps and for those that remember, also what was earned on the way.
    """
    longest = max(len(overlay.label) for overlay in overlays)
    columns = max(1, min(LEGEND_COLUMNS, LEGEND_CHARACTERS // longest))
    remembers = any(overlay.within is not None for overlay in overlays)
    told = _budget_panels([overlay.curve for overlay in overlays], remembers)
    room = 0.2 * -(-len(overlays) // columns)
    figure, (left, right, *rest) = _laid_out(2 + len(told), 6, 4.7, room)
    for number, overlay in enumerate(overlays):
        colour = GROUP_COLOURS[number % len(GROUP_COLOURS)]
        line = GROUP_LINES[number // len(GROUP_COLOURS) % len(GROUP_LINES)]
        for env_steps, values in overlay.runs if len(overlay.runs) > 1 else ():
            left.plot(*_thinned(env_steps / 1e6, values), color=colour, linewidth=0.7, alpha=0.5)
        if overlay.mean is not None:
            env_steps, values = overlay.mean
            left.plot(env_steps / 1e6, values, color=colour, linewidth=2, linestyle=line)
        _band(right, overlay.curve, colour, overlay.label, alpha=0.12, linestyle=line)
        for axes, what in zip(rest, told, strict=True):
            _draw_budget(axes, what, overlay.label, overlay.curve, overlay.within, colour, line)
    left.set(
        title="training tasks, mean of ten iterations",
        xlabel="million environment steps",
        ylabel="return after the inner steps trained with",
    )
    left.locator_params(axis="x", nbins=FEW_TICKS)
    right.set(title="evaluation", xlabel=_steps(remembers), ylabel="return (95 % interval)")
    right.set_xticks([point["step"] for point in overlays[0].curve])
    for axes in (left, right):
        axes.grid(alpha=0.3)
    for axes, what in zip([right, *rest], ("return", *told), strict=True):
        means = {one.label: [point[f"{what}_mean"] for point in one.curve] for one in overlays}
        _leave_out_far(axes, means)
    for axes, what in zip(rest, told, strict=True):
        _name_budget(axes, what)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)
    figure.suptitle(title)
    return figure


def _leave_out_far(axes: Axes, groups: Mapping[str, Sequence[float]]) -> None:
    """Let groups that lie far from most others leave the frame, and name them in the title.

    Far is three interquartile ranges beyond the quartiles of all values (Tukey's outer fence).
    """
    if len(groups) < FEWEST_FOR_FAR:
        return
    low, high = np.quantile(np.concatenate(list(groups.values())), [0.25, 0.75])
    fence = low - 3 * (high - low), high + 3 * (high - low)
    far = [name for name, own in groups.items() if min(own) < fence[0] or max(own) > fence[1]]
    if far:
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, fence[0]), min(top, fence[1]))
        axes.set_title(f"{axes.get_title()} (beyond the frame: {', '.join(far)})".strip())


def adaptation_figure(result: Mapping[str, Any]) -> Figure:
    """Draw the adaptation curve of evaluation.json's content, and of its groups."""
    figure = _figure(5.5, 4)
    _draw_curves(figure.subplots(), result["curve"], result["groups"], "within" in result)
    return figure


def scatter_figure(result: Mapping[str, Any]) -> Figure:
    """Draw each task's return before and after one step, of evaluation.json's content."""
    figure = _figure(5.5, 4)
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
    figure = _figure(11 if columns > 1 else 8, (2.4 if columns > 1 else 4) * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (title, lines) in zip(grid.flat, panels.items(), strict=False):
        for colour, (label, (x, y)) in zip(
            itertools.cycle(GROUP_COLOURS), lines.items(), strict=False
        ):
            few = {"marker": "o", "markersize": 3} if len(x) < 30 else {}
            axes.plot(*_thinned(x, y), color=colour, linewidth=1.2, label=label, **few)
        axes.set(xlabel=xlabel)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=8)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    return figure


def stacked_figure(x: Values, parts: Mapping[str, Values], xlabel: str, ylabel: str) -> Figure:
    """Draw parts of a whole, one on the other: values [I] at `x` [I], by label."""
    figure = _figure(8, 3)
    axes = figure.subplots()
    thin = {label: _thinned(x, values) for label, values in parts.items()}
    positions = next(iter(thin.values()))[0]
    colours = list(itertools.islice(itertools.cycle(GROUP_COLOURS), len(parts)))
    axes.stackplot(
        positions, *(y for _, y in thin.values()), labels=list(thin), colors=colours, alpha=0.8
    )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.margins(x=0)
    whole = np.sum([y for _, y in thin.values()], axis=0)
    top = CUT * float(np.median(whole))
    if whole.max() > top > 0:
        axes.set_ylim(0, top)
        axes.set_ylabel(f"{ylabel} (more is cut off)")
    axes.legend(fontsize=8)
    return figure


def _thinned(x: Values, y: Values) -> tuple[Values, Values]:
    """Return a long line by the means of bins."""
    if len(x) <= MOST_POINTS:
        return x, y
    bins = [np.array_split(values, MOST_POINTS) for values in (x, y)]
    means = [np.array([part.mean() for part in parts]) for parts in bins]
    return means[0], means[1]
