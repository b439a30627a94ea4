"""The adaptation plot."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maml_rl.run_folder import replacing

COLOURS = ("#1b6ca8", "#d1495b", "#3c8d53", "#8d6a9f")


def adaptation_plot(path: Path, title: str, result: Mapping[str, Any]) -> None:
    """Draw the adaptation curve with its band, and each task's return before and after one step.

    Args:
        path: of the PNG.
        title: above the figure.
        result: as evaluation.json holds it: `curve` and `groups`; of tasks on a grid, `grid`, whose
            parameter takes the place of the return before adaptation.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    groups = result["groups"] or {"all tasks": result["curve"]}
    _draw_curves(left, result["curve"], result["groups"])
    if "grid" in result:
        _draw_grid(right, result["grid"], result["curve"])
    else:
        _draw_tasks(right, groups)
    figure.suptitle(title)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120)


def _draw_curves(
    axes: Axes, curve: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[Any]]
) -> None:
    _band(axes, curve, "black", "all tasks")
    for colour, (label, points) in zip(itertools.cycle(COLOURS), groups.items(), strict=False):
        _band(axes, points, colour, label, alpha=0.1, linestyle="--")
    axes.set(xlabel="inner gradient steps", ylabel="return (95 % interval over tasks)")
    axes.set_xticks([point["step"] for point in curve])
    axes.grid(alpha=0.3)
    axes.legend()


def _band(
    axes: Axes,
    curve: Sequence[Mapping[str, Any]],
    colour: str,
    label: str,
    alpha: float = 0.2,
    linestyle: str = "-",
) -> None:
    steps = [point["step"] for point in curve]
    low, high = np.array([point["return_ci95"] for point in curve]).T
    means = [point["return_mean"] for point in curve]
    axes.plot(steps, means, color=colour, marker="o", linestyle=linestyle, label=label)
    axes.fill_between(steps, low, high, color=colour, alpha=alpha, linewidth=0)


def _draw_tasks(axes: Axes, groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    values = []
    for colour, (label, curve) in zip(itertools.cycle(COLOURS), groups.items(), strict=False):
        before, after = curve[0]["per_task"], curve[1]["per_task"]
        axes.scatter(before, after, color=colour, s=18, alpha=0.8, label=label)
        values += [*before, *after]
    ends = [min(values), max(values)]
    axes.plot(ends, ends, color="grey", linewidth=1, label="no change")
    axes.set(xlabel="return before adaptation, per task", ylabel="after one step")
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_grid(axes: Axes, grid: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]) -> None:
    """Draw each task's return against its parameter, before and after each step."""
    for point in curve:
        step = point["step"]
        label = "before" if step == 0 else f"after {step} step{'s' if step > 1 else ''}"
        shade = 0.8 - 0.7 * step / max(len(curve) - 1, 1)
        axes.plot(grid["values"], point["per_task"], marker=".", color=str(shade), label=label)
    axes.set(xlabel=grid["parameter"], ylabel="return, per task")
    axes.grid(alpha=0.3)
    axes.legend()
