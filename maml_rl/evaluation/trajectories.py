"""Pictures of an evaluation: the tasks, and the paths of episodes before and after adaptation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke

from envs.protocol import (
    Array,
    Splits,
    TaskDistribution,
    Tasks,
    count_tasks,
    task_at,
)
from envs.trajectories import Trajectories, shown_of
from maml_rl.algorithm.rollout import Rollout
from maml_rl.evaluation.curves import BEFORE, new_figure, stage_colour
from maml_rl.wording import after, counted

PANELS = 6  # tasks in a figure of trajectories, at most
COLUMNS = 3
EPISODES = 5  # single episodes drawn of a stage, at most
MOST_NUMBERS = 6  # of a task that is drawn by pairs of its first three
FAINT = {True: 0.12, False: 0.3}  # opacity of single episodes' lines, in the plane and over time
DRAWS = 1000  # tasks drawn to show what is trained on
GOAL: dict[str, Any] = {"marker": "*", "s": 130, "color": "#ffc20a", "edgecolor": "black"}
COURSE: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.2}
STORED: dict[str, dict[str, Any]] = {
    "validation": {"marker": "o", "s": 22, "color": "#1b6ca8"},
    "test": {"marker": "^", "s": 28, "color": "#d1495b"},
}


def stage_name(step: int, episodes: int | None = None) -> str:
    """Name of a stage of adaptation: "before adaptation", "after 1 step".

    For a learner with memory, which sees so many `episodes` instead of each step: "the first
    episode", "after 20 episodes".
    """
    if episodes is None:
        return after(step)
    return f"after {counted(step * episodes, 'episode')}" if step else "the first episode"


def chosen_tasks(distribution: TaskDistribution, tasks: Tasks, most: int = PANELS) -> list[int]:
    """Indices of the tasks in a figure: of a finite set each once, else the first ones.

    Tasks that are called the same count as one.
    """
    first: dict[str, int] = {}
    for index in range(count_tasks(tasks)):
        first.setdefault(distribution.describe(task_at(tasks, index)), index)
    return list(first.values())[:most]


def spread(num_tasks: int) -> list[int]:
    """Indices of a grid's tasks in a figure: the ends, and some at equal distances."""
    return sorted({round(index) for index in np.linspace(0, num_tasks - 1, PANELS).tolist()})


# Trajectories.


def trajectory_figure(
    title: str,
    distribution: TaskDistribution,
    tasks: Tasks,
    rollouts: Sequence[Rollout],
    panels: Sequence[int] | None = None,
    episodes: int | None = None,
) -> Figure | None:
    """Draw the paths of some tasks' episodes, before adaptation and after each step.

    Args:
        title: above the figure.
        distribution: its optional method `trajectories` gives the paths.
        tasks: leaves [M, ...].
        rollouts: K + 1 of the M tasks, before each inner step and after the last; K >= 1.
        panels: which tasks to show; None takes `chosen_tasks`.
        episodes: of a learner with memory, those seen between two rollouts; see `stage_name`.

    Returns:
        The figure; None where the distribution shows nothing.
    """
    shown = [_trajectories(distribution, tasks, rollout) for rollout in rollouts]
    stages = [panel for panel in shown if panel is not None]
    if len(stages) < len(shown):
        return None
    panels = chosen_tasks(distribution, tasks) if panels is None else panels
    figure, axes = _panels(len(panels))
    ran, last = [_ran(rollout) for rollout in rollouts], len(stages) - 1
    for panel, index in zip(axes, panels, strict=True):
        panel.set_title(distribution.describe(task_at(tasks, index)), fontsize=10)
        for step, stage in enumerate(stages):
            thin = EPISODES if step in (0, last) else 0
            _draw_stage(panel, stage, ran[step], index, stage_colour(step, last), thin)
        _draw_target(panel, stages[0], index)
    _name_axes(axes, stages[0])
    if stages[0].in_plane:
        _square(axes)
    names = [stage_name(step, episodes) for step in range(len(stages))]
    _legend(figure, stages[0], names, ran[0].shape[2])
    figure.suptitle(title, fontsize=11)
    return figure


def _trajectories(
    distribution: TaskDistribution, tasks: Tasks, rollout: Rollout
) -> Trajectories | None:
    """Trajectories of a rollout's episodes, from the distribution."""
    last = rollout.final_observations[:, None]
    observations = np.concatenate([rollout.observations.numpy(), last.numpy()], axis=1)
    info = {name: leaf.numpy() for name, leaf in rollout.info.items()}
    return shown_of(distribution, tasks, observations, info)


def _ran(rollout: Rollout) -> Array:
    """The moments that episodes reached, of T + 1 with their start, [M, T + 1, B] bool."""
    mask = rollout.mask.numpy() > 0
    return np.concatenate([np.ones_like(mask[:, :1]), mask], axis=1)


def _draw_stage(
    axes: Axes, shown: Trajectories, ran: Array, index: int, colour: Any, thin: int
) -> None:
    """Draw `thin` of one task's episodes as thin lines, and the mean of all as a thick one.

    An episode that has ended stays where it ended.
    """
    values, ran = shown.values[index], ran[index]
    times = shown.dt * np.arange(len(values))
    for slot in range(min(thin, ran.shape[1])):
        line = _coordinates(shown, times[ran[:, slot]], values[ran[:, slot], slot])
        axes.plot(*line, color=colour, linewidth=0.7, alpha=FAINT[shown.in_plane], zorder=2)
    last = ran.sum(axis=0) - 1  # the moment at which each episode ended, [B]
    moment = np.minimum(np.arange(len(values))[:, None], last)  # [T + 1, B]
    mean = values[moment, np.arange(ran.shape[1])].mean(axis=1)
    outline = [Stroke(linewidth=3.2, foreground="white"), Normal()]
    line = _coordinates(shown, times, mean)
    axes.plot(*line, color=colour, linewidth=2.0, path_effects=outline, zorder=3)


def _coordinates(shown: Trajectories, times: Array, values: Array) -> tuple[Array, Array]:
    """Horizontal and vertical coordinates, [N] each, of values [N] or [N, 2]."""
    return (values[:, 0], values[:, 1]) if shown.in_plane else (times, values)


def _draw_target(axes: Axes, shown: Trajectories, index: int) -> None:
    """Draw the goal as a star, or the course to follow as a dashed line."""
    if shown.targets is None or np.isnan(shown.targets[index]).any():
        return
    target = shown.targets[index]
    if shown.in_plane:
        axes.scatter(target[0], target[1], zorder=4, **GOAL)
    else:
        axes.plot(shown.dt * np.arange(len(target)), target, zorder=4, **COURSE)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Lay out panels of the same scale."""
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = new_figure(1 + 3.4 * columns, 1.1 + 3.3 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def _name_axes(axes: Sequence[Axes], shown: Trajectories) -> None:
    """Set the names of the axes, at the left and below."""
    unit = f", {shown.unit}" if shown.unit else ""
    across, upwards = f"x{unit}", f"y{unit}"
    if not shown.in_plane:
        across, upwards = "time, s", f"{shown.label}{unit}"
    for index, panel in enumerate(axes):
        panel.grid(alpha=0.25)
        if index % COLUMNS == 0:
            panel.set_ylabel(upwards)
    for panel in axes[-COLUMNS:]:
        panel.set_xlabel(across)
        panel.tick_params(labelbottom=True)  # where the row below is not full


def _square(axes: Sequence[Axes]) -> None:
    """Set the same length in both directions of the panels of the plane, which share limits."""
    low, high = np.array([axes[0].get_xlim(), axes[0].get_ylim()]).T
    half = (high - low).max() / 2
    start, end = (low + high) / 2 - half, (low + high) / 2 + half
    axes[0].set(xlim=(start[0], end[0]), ylim=(start[1], end[1]))
    for panel in axes:
        panel.set_aspect("equal", adjustable="box")


def _legend(figure: Figure, shown: Trajectories, names: Sequence[str], episodes: int) -> None:
    """Draw the legend: the colours, and the thin and thick lines."""
    handles = [
        Line2D([], [], color=stage_colour(step, len(names) - 1), linewidth=2.0, label=name)
        for step, name in enumerate(names)
    ]
    thin, mean = "single episodes", "their mean"
    if episodes > EPISODES or len(names) > 2:
        thin = f"{min(episodes, EPISODES)} of {episodes} episodes, first and last stage"
        mean = f"mean of all {episodes}"
    for width, label in ((0.7, thin), (2.0, mean)):
        handles.append(Line2D([], [], color="black", linewidth=width, label=label))
    if shown.targets is not None:
        goal = Line2D([], [], linestyle="", marker="*", markersize=11, label="goal")
        goal.set(markerfacecolor=GOAL["color"], markeredgecolor=GOAL["edgecolor"])
        handles.append(goal if shown.in_plane else Line2D([], [], label="target", **COURSE))
    figure.legend(handles=handles, loc="outside lower center", ncols=COLUMNS, frameon=False)


# Tasks.


def task_figure(title: str, distribution: TaskDistribution, splits: Splits) -> Figure | None:
    """Draw the training tasks, and the stored validation and test tasks.

    Args:
        title: above the figure.
        distribution: of the training tasks.
        splits: the stored tasks.

    Returns:
        The figure; None where tasks are a finite set, or of more than `MOST_NUMBERS` numbers. Of
        three numbers and more, every pair of the first three is drawn, and the title names the
        others.
    """
    names = number_names(splits.test)
    if distribution.finite_tasks() is not None or not 1 <= len(names) <= MOST_NUMBERS:
        return None
    drawn = distribution.sample(DRAWS, np.random.default_rng(0))
    numbers = [_numbers(tasks) for tasks in (drawn, splits.validation, splits.test)]
    pairs = list(itertools.combinations(range(min(3, len(names))), 2))
    width = 6.4 if len(pairs) < 2 else 4.6 * len(pairs)
    figure = new_figure(width, 6.0 if pairs else 4.0)
    panels = figure.subplots(1, max(1, len(pairs)), squeeze=False)[0]
    if not pairs:
        _draw_histogram(panels[0], names, *numbers)
    for axes, pair in zip(panels, pairs, strict=False):
        columns = list(pair)
        chosen = [values[:, columns] for values in numbers]
        _draw_scatter(axes, [names[column] for column in columns], *chosen)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    more = f" (not drawn: {', '.join(names[3:])})" if len(names) > 3 else ""
    figure.suptitle(f"{title}{more}", fontsize=11)
    return figure


def number_names(tasks: Tasks) -> list[str]:
    """Name of every number of a task: velocity; goal[0], goal[1]."""
    names = []
    for name in sorted(tasks):
        size = int(np.prod(np.shape(tasks[name])[1:]))
        names += [name] if size == 1 else [f"{name}[{index}]" for index in range(size)]
    return names


def _numbers(tasks: Tasks) -> Array:
    """Write tasks as rows of numbers, [M, F]."""
    leaves = [np.reshape(tasks[name], (len(tasks[name]), -1)) for name in sorted(tasks)]
    return np.concatenate(leaves, axis=1)


def _draw_histogram(axes: Axes, names: Sequence[str], drawn: Array, *stored: Array) -> None:
    """Draw a histogram of a number of the training tasks, with the stored tasks below."""
    axes.hist(drawn[:, 0], bins=15, color=BEFORE, alpha=0.4, label=f"training, {DRAWS} draws")
    low = axes.get_xaxis_transform()  # heights in shares of the axes
    for place, (label, style), values in zip((0.03, 0.08), STORED.items(), stored, strict=True):
        height = np.full(len(values), place)
        axes.scatter(values[:, 0], height, transform=low, label=_counted(label, values), **style)
    shown = np.concatenate([drawn[:, 0], *(values[:, 0] for values in stored)])
    room = 0.05 * float(np.ptp(shown)) or 0.5
    axes.set(xlabel=names[0], ylabel="tasks", xlim=(shown.min() - room, shown.max() + room))


def _draw_scatter(axes: Axes, names: Sequence[str], drawn: Array, *stored: Array) -> None:
    """Draw tasks by their two numbers."""
    axes.scatter(
        drawn[:, 0], drawn[:, 1], s=6, color=BEFORE, alpha=0.4, label=f"training, {DRAWS} draws"
    )
    for (label, style), values in zip(STORED.items(), stored, strict=True):
        axes.scatter(values[:, 0], values[:, 1], label=_counted(label, values), **style)
    axes.set(xlabel=names[0], ylabel=names[1])
    if names[0].partition("[")[0] == names[1].partition("[")[0]:  # of one vector
        axes.set_aspect("equal", adjustable="datalim")


def _counted(label: str, values: Array) -> str:
    return f"{label}, {counted(len(values), 'task')}"
