"""`evaluate.py`: adapt a trained initialization to held-out tasks and report the returns."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from envs.errors import UserError
from envs.protocol import count_tasks
from maml_rl.commands.cli import compose, parse_overrides
from maml_rl.commands.evaluation_files import film, track_evaluation, write_evaluation
from maml_rl.commands.evaluation_options import Request, checked
from maml_rl.commands.paths import config_directory
from maml_rl.evaluation.protocol import Evaluation, evaluate
from maml_rl.evaluation.result import EvaluationResult, Grid, Terms
from maml_rl.evaluation.summary import summarized
from maml_rl.randomness import Key, Purpose
from maml_rl.reporting.comparison_files import compare
from maml_rl.reporting.problems import outdated, unfinished
from maml_rl.reporting.tables import (
    ROBUST,
    comparison_tables,
    evaluation_lines,
    evaluation_table,
    evaluation_title,
    print_table,
)
from maml_rl.runs.data import RunData, find_runs, read_run
from maml_rl.sampling import Sampler
from maml_rl.wording import shown

COMPARISON = "comparison"  # the folder that runs are compared into
USAGE = """usage: python evaluate.py run=<run folder> [out=<folder>] [option=value ...]
       python evaluate.py runs=[<run folder>,<run folder>] [out=<folder>] [option=value ...]

Adapt the run's trained initialization to its stored tasks; write evaluation.json, adaptation.png
and pictures of tasks and trajectories into the run's folder evaluation/ (of the initializations of
pretrained/, which a name alone gives too, into outputs/pretrained/), or into another. Several runs
are compared: those without an evaluation, or trained on since, get one first, and all do where
an option of it is given. Options and defaults:
"""


def evaluate_command(arguments: Sequence[str]) -> int:
    """Evaluate one run, or compare several."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE + (config_directory() / "evaluate.yaml").read_text())
        return 0
    options = compose("evaluate", arguments)
    if options.out is not None and (not isinstance(options.out, str) or not options.out):
        raise UserError("out must name a folder, as in out=comparison.")
    if options.runs is not None:
        _compare_runs(options, {override.key_or_group for override in parse_overrides(arguments)})
        return 0
    if options.run is None:
        raise UserError("run is missing: write run=<run folder>, or runs=[<folder>,<folder>].")
    _evaluate_run(str(options.run), options)
    return 0


def _compare_runs(options: DictConfig, given: Set[str]) -> None:
    """Compare runs; those without an evaluation get one, and all where an option of it is given."""
    if options.run is not None:
        raise UserError("run and runs were both given: write one of them.")
    if options.tasks == "grid" or options.steps == 0:
        option = "steps=0" if options.steps == 0 else "tasks=grid"
        raise UserError(f"{option} is of one run: write run=<run folder>.")
    listed = options.runs if OmegaConf.is_list(options.runs) else [options.runs]
    folders, out = find_runs([str(place) for place in listed]), Path(options.out or COMPARISON)
    again = bool(given - {"run", "runs", "out"})
    options.out = None  # of the comparison; each run is evaluated into its own folder
    comparison = compare(folders, out, lambda run: _evaluate_for(run, options, again), again)
    for table in comparison_tables(comparison):
        print_table(table)
    for note in comparison.notes:
        print(f"note: {note}")
    print("\n".join([*ROBUST, f"in brackets: {comparison.interval}"]))
    print(f"comparison: {shown(out / 'comparison.md')}, .json and .png")


def _evaluate_for(run: RunData, options: DictConfig, again: bool) -> None:
    """Evaluate a run for a comparison, with the options of its evaluation if it has one."""
    why = outdated(run)
    if why is not None and not again:
        print(f"{shown(run.path)}: {why}: it is evaluated anew, with the same options.")
        options = options.copy()
        for name, value in run.evaluated.options.items():
            OmegaConf.update(options, name, value)
    _evaluate_run(str(run.path), options)


def _evaluate_run(run: str, options: DictConfig) -> None:
    """Evaluate one run; write the files into its folder, or the one that `out` names, and print."""
    request, began = checked(run, options), time.time()
    trained, source, tasks = request.trained, request.source, request.tasks
    sampler, key = Sampler(options.threads), Key(options.seed, (Purpose.TEST,))
    evaluation = evaluate(
        *(trained.learner, trained.meta, trained.distribution, tasks),
        *(options.steps, options.num_episodes, sampler, key),
        *(request.later_scale, source, options.trials),
    )
    result = _result(request, evaluation)
    lines = write_evaluation(request, evaluation, result)
    print_table(evaluation_table(result), evaluation_title(result))
    print("\n".join([*evaluation_lines(result), *lines]))
    if options.video:
        film(request, evaluation, sampler, key)
    usual = request.place == request.folder.evaluation and not request.folder.shipped
    if usual and request.grid is None and result.steps > 0:
        track_evaluation(request.folder, began)
    _print_notes(request)


def _result(request: Request, evaluation: Evaluation) -> EvaluationResult:
    """The evaluation's statistics, and the terms that they hold on."""
    distribution, grid = request.distribution, None
    if request.grid is not None:
        values = request.grid.values
        trained_range = distribution.grid(len(values)).values[[0, -1]]
        grid = Grid(request.grid.parameter, values.tolist(), trained_range.tolist())
    optimal = distribution.optimal_return(request.tasks)
    optimal_return = None if optimal is None else np.asarray(optimal).tolist()
    return summarized(_terms(request), evaluation, optimal_return, grid)


def _terms(request: Request) -> Terms:
    """The evaluated run and tasks, and the options of the evaluation."""
    trained, trials, options = request.trained, request.trials, request.options
    return Terms(
        env=request.distribution.name,
        algorithm=trained.learner.name,
        kind="gradient" if trials is None else "memory",
        checkpoint=trained.checkpoint,
        iteration=trained.iteration,
        trained_steps=request.trained_steps,
        requested_checkpoint=str(options.checkpoint),
        split=request.split,
        num_tasks=count_tasks(request.tasks),
        num_episodes=options.num_episodes,
        later_scale=request.later_scale,
        inner=request.inner,
        seed=options.seed,
        trials=None if trials is None else options.trials,
        trained_episodes=None if trials is None else trials.episodes,
    )


def _print_notes(request: Request) -> None:
    """Print the notes to the table."""
    trained = request.trained
    if request.options.checkpoint == "best" and trained.checkpoint != "best":
        print(
            f"note: the run has no best checkpoint, which validation makes: this is the last one, "
            f"of iteration {trained.iteration}."
        )
    if request.no_film is not None:
        print(f"note: no film: {request.no_film}")
    if not request.options.rollouts and (request.place / "rollouts.npz").is_file():
        print(f"note: {shown(request.place / 'rollouts.npz')} is of an earlier evaluation.")
    note = unfinished(read_run(request.folder.path))
    if note is not None:
        print(f"note: {note}")
