"""Comparing runs of folders, and the files of a comparison."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from envs.errors import SimulationError, UserError
from maml_rl.errors import NonFiniteError
from maml_rl.evaluation.comparison_curves import comparison_figure
from maml_rl.evaluation.curves import save_png
from maml_rl.files import write_json, write_text
from maml_rl.reporting.comparison import Comparison, compared
from maml_rl.reporting.groups import check_same_environment
from maml_rl.reporting.problems import outdated
from maml_rl.reporting.tables import markdown
from maml_rl.runs.data import RunData, read_run
from maml_rl.wording import command


def compare(
    folders: Sequence[Path],
    out: Path,
    evaluate: Callable[[RunData], None] | None = None,
    again: bool = False,
) -> Comparison:
    """Compare runs; write comparison.json, comparison.md and comparison.png into the folder `out`.

    Args:
        folders: of the runs (`maml_rl.runs.data.find_runs` lists them); the first run's group is
            the reference.
        out: made where it is missing.
        evaluate: called with each run that has no evaluation, or an `outdated` one, to make one;
            without it such a run is refused.
        again: evaluate also the runs that have an evaluation.

    Raises:
        UserError: where a run cannot be compared, or was evaluated on other terms than the first;
            runs of different environments are refused before any is evaluated.
    """
    if out.exists() and not (out.is_dir() and os.access(out, os.W_OK)):
        raise UserError(f"out={out} cannot be made or written to: name another folder.")
    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if not run.config:
            raise UserError(f"{run.path}: {run.faults[0]}")
    check_same_environment(runs)
    runs = [_evaluated(run, evaluate, again) for run in runs]
    comparison = compared(runs)
    figure = comparison_figure(comparison.overlays(), comparison.title)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "comparison.md", markdown(comparison))
        write_json(out / "comparison.json", comparison.to_json())
        save_png(figure, out / "comparison.png")
    except OSError as error:
        raise UserError(f"out={out} cannot be made or written to: {error.strerror}.") from error
    return comparison


def _evaluated(run: RunData, evaluate: Callable[[RunData], None] | None, again: bool) -> RunData:
    """A run with an evaluation of its present checkpoint, made anew where it is missing.

    Raises:
        UserError: naming the command to run where there is none.
    """
    why = outdated(run)
    if evaluate is not None and (again or run.evaluation is None or why is not None):
        try:
            evaluate(run)
        except (NonFiniteError, SimulationError) as error:
            raise type(error)(f"{run.path}: {error}") from error
        run, why = read_run(run.path), None
    if run.evaluation is not None and why is None:
        return run
    if not run.folder.checkpoint_names():
        raise UserError(
            f"{run.path} has neither an evaluation nor a checkpoint: leave it out, or train it."
        )
    damaged = [fault for fault in run.faults if "evaluation.json" in fault]
    why = why or (damaged[0].rstrip(".") if damaged else "it was not evaluated")
    raise UserError(f"{run.path}: {why}; {command('evaluate', {'run': run.path})} evaluates it.")
