"""The figure of a comparison: groups of runs, in training and in evaluation."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from maml_rl.evaluation.curves import (
    COLOURS,
    FEW_TICKS,
    Style,
    band,
    budget_panels,
    draw_budget,
    laid_out,
    name_budget,
    new_figure,
    steps_axis,
    style,
    thinned,
)
from maml_rl.evaluation.statistics import Values

OTHERS = "#b4b4b4"  # groups that are not in colour
MOST_COLOURED = 7  # groups of a comparison; of more, the best ones, and all others in small panels
SMALL_COLUMNS = 6
LEGEND_COLUMNS = 3
LEGEND_CHARACTERS = 180  # side by side
FEWEST_FOR_FAR = 5  # groups


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
    that take gradient steps and for those that remember, also what was earned on the way. Of many
    groups the first and the best are in colour, the rest grey there and in small panels of their
    own below.
    """
    coloured = chosen(overlays)
    rest = [number for number in range(len(overlays)) if number not in coloured]
    longest = max(len(overlays[number].label) for number in coloured)
    columns = max(1, min(LEGEND_COLUMNS, LEGEND_CHARACTERS // longest))
    remembers = any(overlay.within is not None for overlay in overlays)
    budgets = budget_panels([overlay.curve for overlay in overlays], remembers)
    below = 0.2 * -(-(len(coloured) + bool(rest)) // columns)
    figure, panels = _laid_out_with(2 + len(budgets), below, len(rest))
    learning, evaluation, *budget_axes = panels[: 2 + len(budgets)]
    for number in [*rest, *coloured]:
        own = style(coloured.index(number)) if number in coloured else Style(OTHERS, "-", "")
        _draw_group(learning, evaluation, overlays[number], own)
        for axes, what in zip(budget_axes, budgets, strict=True):
            overlay = overlays[number]
            alpha = 0.12 if number in coloured else 0.0
            draw_budget(axes, what, overlay.label, overlay.curve, overlay.within, *own, alpha)
    _name_comparison(learning, evaluation, overlays[0].curve, remembers)
    for axes, what in zip([evaluation, *budget_axes], ("return", *budgets), strict=True):
        means = {one.label: [point[f"{what}_mean"] for point in one.curve] for one in overlays}
        _leave_out_far(axes, means)
    for axes, what in zip(budget_axes, budgets, strict=True):
        name_budget(axes, what)
    for axes, number in zip(panels[2 + len(budgets) :], rest, strict=True):
        _draw_small(axes, overlays, number, evaluation.get_ylim())
    _group_legend(figure, evaluation, [overlays[number].label for number in coloured], columns)
    figure.suptitle(title)
    return figure


def chosen(overlays: Sequence[Overlay]) -> list[int]:
    """The groups of a comparison in colour: all of a few, else the first and the best."""
    if len(overlays) <= MOST_COLOURED:
        return list(range(len(overlays)))
    final = [overlay.curve[-1]["return_mean"] for overlay in overlays]
    best = sorted(range(1, len(overlays)), key=lambda number: -final[number])
    return sorted([0, *best[: MOST_COLOURED - 1]])


def _laid_out_with(panels: int, below: float, small: int) -> tuple[Figure, list[Axes]]:
    """Lay out the panels of a comparison, and small ones below them."""
    if not small:
        return laid_out(panels, 6, 4.7, below)
    rows, small_rows = 1 if panels < 4 else 2, -(-small // SMALL_COLUMNS)
    columns = -(-panels // rows)
    heights = [4.7 * rows + below, 2.1 * small_rows]
    figure = new_figure(6 * columns, sum(heights))
    upper, lower = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    axes = list(upper.subplots(rows, columns, squeeze=False).flat)[:panels]
    panels_below = lower.subplots(
        small_rows, SMALL_COLUMNS, sharex=True, sharey=True, squeeze=False
    )
    grid = list(panels_below.flat)
    for unused in grid[small:]:
        unused.set_axis_off()
    return figure, [*axes, *grid[:small]]


def _draw_group(learning: Axes, evaluation: Axes, overlay: Overlay, own: Style) -> None:
    """Draw a group's learning curves and its adaptation curve."""
    grey = own.colour == OTHERS
    for env_steps, values in overlay.runs if len(overlay.runs) > 1 and not grey else ():
        learning.plot(*thinned(env_steps / 1e6, values), color=own.colour, linewidth=0.7, alpha=0.5)
    if overlay.mean is not None:
        env_steps, values = overlay.mean
        learning.plot(
            env_steps / 1e6,
            values,
            color=own.colour,
            linewidth=1 if grey else 2,
            linestyle=own.dash,
            marker=own.marker or ("o" if np.ptp(env_steps) == 0 else ""),
            markevery=max(1, len(values) // 8),
            markersize=5,
        )
    band(
        evaluation,
        overlay.curve,
        own.colour,
        overlay.label,
        alpha=0.0 if grey else 0.12,
        linestyle=own.dash,
        marker=own.marker,
    )


def _draw_small(
    axes: Axes, overlays: Sequence[Overlay], number: int, limits: tuple[float, float]
) -> None:
    """Draw one group's adaptation curve before all others'."""
    for overlay in overlays:
        axes.plot([point["return_mean"] for point in overlay.curve], color=OTHERS, linewidth=0.6)
    band(axes, overlays[number].curve, COLOURS[0], overlays[number].label)
    axes.set(ylim=limits, xticks=[point["step"] for point in overlays[number].curve])
    axes.set_title(textwrap.fill(overlays[number].label, 24), fontsize=9)
    axes.grid(alpha=0.3)


def _name_comparison(
    learning: Axes, evaluation: Axes, curve: Sequence[Mapping[str, Any]], remembers: bool
) -> None:
    learning.set(
        title="training tasks, mean of ten iterations",
        xlabel="million environment steps",
        ylabel="return after the inner steps trained with",
    )
    learning.locator_params(axis="x", nbins=FEW_TICKS)
    evaluation.set(
        title="evaluation", xlabel=steps_axis(remembers), ylabel="return (95 % interval)"
    )
    evaluation.set_xticks([point["step"] for point in curve])
    for axes in (learning, evaluation):
        axes.grid(alpha=0.3)


def _group_legend(figure: Figure, axes: Axes, labels: Sequence[str], columns: int) -> None:
    """Draw the legend of the groups in colour, with one entry for the grey ones."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    shown = {label: handles[label] for label in labels}
    if len(handles) > len(labels):
        shown["others, each in a small panel below"] = Line2D([], [], color=OTHERS)
    place = figure.subfigs[0] if figure.subfigs else figure
    place.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        handlelength=5,  # so that the marker leaves the dashes to be seen
    )


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
