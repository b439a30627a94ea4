"""Comparing runs: algorithms side by side, over seeds and tasks, on equal terms or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from maml_rl.evaluation.comparison_curves import Overlay
from maml_rl.evaluation.result import Terms
from maml_rl.evaluation.statistics import Values
from maml_rl.reporting.group_statistics import GroupStatistics, statistics_of
from maml_rl.reporting.groups import SIZES, Group, check_equal_terms, grouped
from maml_rl.reporting.notes import notes
from maml_rl.runs.data import RunData
from maml_rl.wording import counted

WINDOW = 10  # iterations of a learning curve's running mean
GRID = 200  # points of a mean learning curve


@dataclass(frozen=True)
class Comparison:
    """Groups of runs and their statistics, the first group's first."""

    statistics: list[GroupStatistics]
    headline_step: int  # that the robust statistics are of
    notes: list[str]  # what a reader should know beside the tables

    interval: ClassVar[str] = "95 % bootstrap over runs and tasks"

    @property
    def groups(self) -> list[Group]:
        """The groups."""
        return [statistics.group for statistics in self.statistics]

    @property
    def terms(self) -> Terms:
        """The terms of the first run's evaluation, which all share."""
        return self.groups[0].runs[0].evaluated.terms

    @property
    def title(self) -> str:
        """Environment, groups and runs in a few words."""
        runs = sum(len(group.runs) for group in self.groups)
        return f"{self.terms.env}: {counted(runs, 'run')}, {counted(len(self.groups), 'group')}"

    def overlays(self) -> list[Overlay]:
        """The curves of each group in the figure."""
        return [
            Overlay(
                label=of.group.label,
                runs=[smoothed(run) for run in of.group.runs if run.metrics],
                mean=mean_learning_curve(of.group.runs),
                curve=of.curve,
                within=of.within,
                success=of.success,
            )
            for of in self.statistics
        ]

    def to_json(self) -> dict[str, Any]:
        """The content of comparison.json."""
        return {
            **{name: getattr(self.terms, name) for name in ("env", "split", *SIZES, "later_scale")},
            "compared_with": self.groups[0].label,
            "headline_step": self.headline_step,
            "interval": self.interval,
            "notes": self.notes,
            "groups": [statistics.to_json() for statistics in self.statistics],
        }


def compared(runs: Sequence[RunData]) -> Comparison:
    """Compute the statistics of runs that have an evaluation.

    Raises:
        UserError: where they were not evaluated on equal terms.
    """
    return compare_groups(grouped(runs))


def compare_groups(groups: list[Group]) -> Comparison:
    """Compute the statistics of groups of runs; arguments and errors as `compared`'s."""
    runs = [run for group in groups for run in group.runs]
    check_equal_terms(runs)
    steps = min(run.evaluated.steps for run in runs)
    headline = min(steps, max(1, *(run.evaluated.terms.trained_steps for run in runs)))
    statistics = [statistics_of(group, groups[0], steps) for group in groups]
    return Comparison(statistics, headline, list(notes(groups, steps)))


def smoothed(run: RunData) -> tuple[Values, Values]:
    """A run's learning curve: (env steps, running mean over ten iterations)."""
    _, env_steps, values = run.learning_curve()
    ends = range(1, len(values) + 1)
    return env_steps, np.array([values[max(0, end - WINDOW) : end].mean() for end in ends])


def mean_learning_curve(runs: Sequence[RunData]) -> tuple[Values, Values] | None:
    """Mean of the runs' learning curves, as far as all of them go."""
    curves = [smoothed(run) for run in runs if run.metrics]
    curves = [curve for curve in curves if len(curve[0])]
    if not curves:
        return None
    begin, end = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = np.linspace(begin, max(begin, end), GRID)
    return grid, np.mean([np.interp(grid, *curve) for curve in curves], axis=0)
