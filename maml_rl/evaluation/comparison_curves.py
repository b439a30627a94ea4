"""The figure of a comparison: groups of runs, in training and in evaluation."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from maml_rl.evaluation.curves import (
    COLOURS,
    FEW_TICKS,
    Overlay,
    Style,
    draw_quantity,
    estimates_of,
    grid_of,
    laid_out,
    name_quantity,
    new_figure,
    quantities,
    style,
    thinned,
)
from maml_rl.evaluation.result import Estimate

OTHERS = "#b4b4b4"  # groups that are not in colour
MOST_COLOURED = 7  # groups of a comparison; of more, the best ones, and all others in small panels
SMALL_COLUMNS = 6
LEGEND_COLUMNS = 3
LEGEND_CHARACTERS = 180  # side by side
FEWEST_FOR_FAR = 5  # groups


def comparison_figure(overlays: Sequence[Overlay], title: str) -> Figure:
    """Draw learning curves (thin: each run, thick: mean) and adaptation curves with their bands.

    Where all groups tell them, success rates have a panel; and the returns earned on the way,
    against the environment steps of the task seen before, the same count for those that take
    gradient steps and for those that remember. Of many groups the first and the best are in colour,
    the rest grey there and in small panels of their own below.
    """
    coloured = chosen(overlays)
    rest = [number for number in range(len(overlays)) if number not in coloured]
    longest = max(len(overlays[number].label) for number in coloured)
    columns = max(1, min(LEGEND_COLUMNS, LEGEND_CHARACTERS // longest))
    remembers = any(overlay.within is not None for overlay in overlays)
    drawn = quantities(overlays, remembers)
    below = 0.2 * -(-(len(coloured) + bool(rest)) // columns)
    figure, (learning, *panels) = _laid_out_with(1 + len(drawn), below, len(rest))
    for number in [*rest, *coloured]:
        overlay, grey = overlays[number], number in rest
        line = Style(OTHERS, "-", "") if grey else style(coloured.index(number))
        _draw_learning(learning, overlay, line)
        for axes, quantity in zip(panels, drawn, strict=False):
            draw_quantity(axes, quantity, overlay, overlay.label, line, 0.0 if grey else 0.12)
    _name_learning(learning)
    panels[0].set_title("evaluation")
    for axes, quantity in zip(panels, drawn, strict=False):
        if quantity != "success":
            _leave_out_far(
                axes, {group.label: estimates_of(group.curve, quantity) for group in overlays}
            )
        name_quantity(axes, quantity, overlays[0].curve, remembers)
    for axes, number in zip(panels[len(drawn) :], rest, strict=True):
        _draw_small(axes, overlays, number, panels[0].get_ylim())
    _group_legend(figure, panels[0], [overlays[number].label for number in coloured], columns)
    figure.suptitle(title)
    return figure


def chosen(overlays: Sequence[Overlay]) -> list[int]:
    """The groups of a comparison in colour: all of a few, else the first and the best."""
    if len(overlays) <= MOST_COLOURED:
        return list(range(len(overlays)))
    final = [overlay.curve[-1].mean for overlay in overlays]
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
    axes = grid_of(upper, rows, columns, panels)
    below_them = grid_of(lower, small_rows, SMALL_COLUMNS, small, sharex=True, sharey=True)
    return figure, [*axes, *below_them]


def _draw_learning(axes: Axes, overlay: Overlay, line: Style) -> None:
    """Draw a group's learning curves."""
    grey = line.colour == OTHERS
    for env_steps, values in overlay.runs if len(overlay.runs) > 1 and not grey else ():
        axes.plot(*thinned(env_steps / 1e6, values), color=line.colour, linewidth=0.7, alpha=0.5)
    if overlay.mean is not None:
        env_steps, values = overlay.mean
        axes.plot(
            env_steps / 1e6,
            values,
            color=line.colour,
            linewidth=1 if grey else 2,
            linestyle=line.dash,
            marker=line.marker or ("o" if np.ptp(env_steps) == 0 else ""),
            markevery=max(1, len(values) // 8),
            markersize=5,
        )


def _draw_small(
    axes: Axes, overlays: Sequence[Overlay], number: int, limits: tuple[float, float]
) -> None:
    """Draw one group's adaptation curve before all others'."""
    for overlay in overlays:
        axes.plot([point.mean for point in overlay.curve], color=OTHERS, linewidth=0.6)
    overlay = overlays[number]
    draw_quantity(axes, "return", overlay, overlay.label, Style(COLOURS[0], "-", "o"), 0.2)
    axes.set(ylim=limits, xticks=[point.number for point in overlay.curve])
    axes.set_title(textwrap.fill(overlay.label, 24), fontsize=9)
    axes.grid(alpha=0.3)


def _name_learning(axes: Axes) -> None:
    axes.set(
        title="training tasks, mean of ten iterations",
        xlabel="million environment steps",
        ylabel="return after the inner steps trained with",
    )
    axes.locator_params(axis="x", nbins=FEW_TICKS)
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


def _leave_out_far(axes: Axes, groups: Mapping[str, Sequence[Estimate]]) -> None:
    """Let groups that lie far from most others leave the frame, and name them in the title.

    Far is three interquartile ranges beyond the quartiles of all values (Tukey's outer fence).
    """
    if len(groups) < FEWEST_FOR_FAR:
        return
    means = {name: [point.mean for point in curve] for name, curve in groups.items()}
    low, high = np.quantile(np.concatenate(list(means.values())), [0.25, 0.75])
    fence = low - 3 * (high - low), high + 3 * (high - low)
    far = [name for name, own in means.items() if min(own) < fence[0] or max(own) > fence[1]]
    if far:
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, fence[0]), min(top, fence[1]))
        axes.set_title(f"{axes.get_title()} (beyond the frame: {', '.join(far)})".strip())
