"""`evaluate.py`: adapt a trained initialization to held-out tasks and report the returns."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from envs.arguments import flag, integer_at_least, one_of, pair
from envs.errors import UserError
from envs.protocol import (
    Splits,
    TaskDistribution,
    TaskGrid,
    Tasks,
    count_tasks,
    take_tasks,
    task_at,
    task_grid,
)
from envs.tools.rendering import picture_of
from envs.wrappers.trials import Trials
from maml_rl.algorithm.inner_loop.loop import stack
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.rollout import Params
from maml_rl.commands.cli import compose, parse_overrides
from maml_rl.commands.paths import config_directory
from maml_rl.commands.tracking import track_evaluation
from maml_rl.evaluation.curves import adaptation_plot, save_png
from maml_rl.evaluation.films import record
from maml_rl.evaluation.protocol import Evaluation, evaluate, evaluate_trials
from maml_rl.evaluation.summary import summary
from maml_rl.evaluation.trajectories import (
    PANELS,
    chosen_tasks,
    spread,
    stage_name,
    task_figure,
    trajectory_figure,
)
from maml_rl.files import write_json
from maml_rl.randomness import Key, Purpose
from maml_rl.reporting.comparison import compare, tables
from maml_rl.reporting.problems import outdated, unfinished
from maml_rl.runs.data import FILM_TITLES, RunData, find_runs, is_run, read_run
from maml_rl.runs.folder import RunFolder
from maml_rl.sampling import Sampler
from maml_rl.trained.loading import Trained, load, step_scales
from maml_rl.trained.rollout_files import save_rollouts
from maml_rl.wording import bracketed, shown

COMPARISON = "comparison"  # the folder that runs are compared into
USAGE = """usage: python evaluate.py run=<run folder> [out=<folder>] [option=value ...]
       python evaluate.py runs=[<run folder>,<run folder>] [out=<folder>] [option=value ...]

Adapt the run's trained initialization to its stored tasks; write evaluation.json, adaptation.png
and pictures of tasks and trajectories into the run's folder evaluation/, or into another. Several
runs are compared: those without an evaluation, or trained on since, get one first, and all do where
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
        what = "steps=0" if options.steps == 0 else "tasks=grid"
        raise UserError(f"{what} is of one run: write run=<run folder>.")
    listed = options.runs if OmegaConf.is_list(options.runs) else [options.runs]
    folders, out = find_runs([str(place) for place in listed]), Path(options.out or COMPARISON)
    again = bool(given - {"run", "runs", "out"})
    options.out = None  # of the comparison; each run is evaluated into its own folder
    comparison = compare(folders, out, lambda run: _evaluate_for(run, options, again), again)
    for header, rows in tables(comparison):
        table = Table(*map(escape, header))
        for row in rows:
            table.add_row(*map(escape, row))
        Console(width=None if sys.stdout.isatty() else 160).print(table)
    for note in comparison.result["notes"]:
        print(f"note: {note}")
    print(f"in brackets: {comparison.result['interval']}")
    print(f"comparison: {shown(out / 'comparison.md')}, .json and .png")


def _evaluate_for(run: RunData, options: DictConfig, again: bool) -> None:
    """Evaluate a run that is to be compared; one trained on since it was evaluated, as it was."""
    why = outdated(run)
    if why is not None and not again:
        print(f"{shown(run.path)}: {why}: it is evaluated anew, with the same options.")
        options = options.copy()
        for name, value in _options_of(run.evaluation or {}).items():
            OmegaConf.update(options, name, value)
    _evaluate_run(str(run.path), options)


def _options_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that an evaluation was made with."""
    names = ("split", "num_tasks", "num_episodes", "later_scale", "seed", "trials")
    fresh = {"tasks": "fresh", "split": "test"} if evaluation.get("split") == "fresh" else {}
    inner = {f"inner.{name}": value for name, value in evaluation.get("inner", {}).items()}
    loaded = str(evaluation["checkpoint"]).removeprefix("iteration_").lstrip("0")
    return {
        "checkpoint": evaluation.get("requested_checkpoint", loaded),
        "steps": len(evaluation["curve"]) - 1,
        **{name: evaluation[name] for name in names if name in evaluation},
        **fresh,
        **inner,
    }


def _evaluate_run(run: str, options: DictConfig) -> None:
    """Evaluate one run and write what was found into its folder, or the one that `out` names."""
    folder = RunFolder.existing(run, "run")
    place, began = _place(folder, options.out), time.time()
    steps, episodes, seed = _sizes(options)
    later_scale = step_scales(options.later_scale)
    video, rollouts = flag("video", options.video), flag("rollouts", options.rollouts)
    trained = load(run, options.checkpoint)
    trained_steps = trained.learner.inner.steps
    inner = {str(key): value for key, value in options.inner.items() if value is not None}
    trained = trained.varied(**inner)
    distribution, learner, meta = trained.distribution, trained.learner, trained.meta
    trials = distribution if isinstance(distribution, Trials) else None
    num_trials = integer_at_least("trials", options.trials)
    if video:
        _check_film(distribution, learner.name)
    source, grid = trained.source(options.split), _grid(options, distribution)
    tasks = _tasks(trained, options) if grid is None else grid.tasks
    _make_writable(place)
    sampler, key = Sampler(options.threads), Key(seed, (Purpose.TEST,))
    if trials is None:
        evaluation = evaluate(
            *(learner, meta, distribution, tasks, steps, episodes, sampler, key, later_scale),
            source,
        )
    else:
        evaluation = evaluate_trials(
            *(learner, meta, trials, tasks, steps, episodes, num_trials, sampler, key, source)
        )
        distribution = trials.distribution
    said: dict[str, Any] = {"trained_steps": trained_steps}
    said |= {"requested_checkpoint": str(options.checkpoint)}
    split = "fresh" if options.tasks == "fresh" else options.split
    said |= {"split": split} if grid is None else _told(grid, distribution)
    said |= {"num_tasks": count_tasks(tasks), "num_episodes": episodes, "later_scale": later_scale}
    said |= {"inner": inner} if inner else {}
    said |= {"seed": seed} | ({} if trials is None else _told_of(trials, num_trials))
    result = _result(trained, distribution, said, evaluation)
    _report(place, result)
    title = f"{distribution.name}, {learner.name}"
    splits = folder.read_splits()
    _figures(place, title, distribution, splits, evaluation, grid, episodes if trials else None)
    if rollouts:
        path = place / "rollouts.npz"
        save_rollouts(path, evaluation.rollouts, evaluation.tasks)
        print(f"rollouts: {shown(path)}")
    if video:
        _videos(place, distribution, learner, meta, evaluation, sampler, key, later_scale)
    if place == folder.evaluation and grid is None and steps > 0:
        track_evaluation(folder, began)
    _notes(folder, place, options, trained)


def _result(
    trained: Trained,
    distribution: TaskDistribution,
    said: Mapping[str, Any],
    evaluation: Evaluation,
) -> dict[str, Any]:
    """Return what evaluation.json holds: of which run, on what terms, and what was found."""
    return {
        "env": distribution.name,
        "algorithm": trained.learner.name,
        "checkpoint": trained.checkpoint,
        "iteration": trained.iteration,
        **said,
        **_optimum(distribution, evaluation.tasks),
        **summary(evaluation),
    }


def _place(folder: RunFolder, out: str | None) -> Path:
    """Return the folder that an evaluation goes into."""
    place = Path(out if out is not None else folder.evaluation)
    own = folder.evaluation.resolve()
    inside = [one for one in (place.resolve(), *place.resolve().parents) if is_run(one)]
    if inside and own not in (place.resolve(), *place.resolve().parents):
        raise UserError(
            f"out={out} lies in the folder of a run: leave out away to evaluate into "
            f"{folder.evaluation}, or name a folder elsewhere."
        )
    return place


def _make_writable(folder: Path) -> None:
    """Make the folder that an evaluation goes into, before any episode is collected.

    Raises:
        UserError: if nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(
            f"{folder} cannot be written: an evaluation goes into its run's folder, or into "
            f"out=<folder>."
        )


def _notes(folder: RunFolder, place: Path, options: DictConfig, trained: Trained) -> None:
    """Say what else a reader of the table should know."""
    if options.checkpoint == "best" and trained.checkpoint != "best":
        print(
            f"note: the run has no best checkpoint, which validation makes: this is the last one, "
            f"of iteration {trained.iteration}."
        )
    if not options.rollouts and (place / "rollouts.npz").is_file():
        print(f"note: {shown(place / 'rollouts.npz')} is of an earlier evaluation.")
    said = unfinished(read_run(folder.path))
    if said is not None:
        print(f"note: {said}")


def _optimum(distribution: TaskDistribution, tasks: Tasks) -> dict[str, Any]:
    """Return each task's return under a policy that knows it, where that is known exactly."""
    optimal: Callable[[Tasks], NDArray[np.float64]] | None
    optimal = getattr(distribution, "optimal_return", None)
    return {} if optimal is None else {"optimal_return": np.asarray(optimal(tasks)).tolist()}


def _sizes(options: DictConfig) -> tuple[int, int, int]:
    """Check the numbers before anything is read; return steps, episodes and seed."""
    if options.threads is not None:
        integer_at_least("threads", options.threads)
    return (
        integer_at_least("steps", options.steps, 0),
        integer_at_least("num_episodes", options.num_episodes),
        integer_at_least("seed", options.seed, 0),
    )


def _tasks(trained: Trained, options: DictConfig) -> Tasks:
    """Return the run's stored tasks, or as many fresh ones as are asked for."""
    if options.tasks == "stored":
        return trained.tasks(options.split, options.num_tasks)
    count = 100 if options.num_tasks is None else options.num_tasks
    return trained.fresh_tasks(count, options.seed)


def _grid(options: DictConfig, distribution: TaskDistribution) -> TaskGrid | None:
    """Return the grid of tasks that was asked for, if it was."""
    chosen = one_of("tasks", options.tasks, ("stored", "fresh", "grid"))
    limits = None if options.range is None else pair("range", options.range)
    if chosen != "grid" and limits is not None:
        raise UserError(f"range={list(limits)} is of a grid: add tasks=grid.")
    if chosen != "stored" and options.split != "test":
        raise UserError(
            f"split={options.split} is of stored tasks: leave it out with tasks={chosen}."
        )
    if chosen != "grid":
        return None
    if options.steps == 0:
        raise UserError("steps=0 leaves nothing to draw on a grid: write steps=1 or more.")
    if limits is not None and not (np.isfinite(limits).all() and limits[0] < limits[1]):
        raise UserError(
            f"range={list(limits)} spans no grid: write two finite numbers, [low, high]."
        )
    count = 21 if options.num_tasks is None else integer_at_least("num_tasks", options.num_tasks, 2)
    return task_grid(distribution, count, limits)


def _told(grid: TaskGrid, distribution: TaskDistribution) -> dict[str, Any]:
    """Return what evaluation/grid.json says of its tasks, and of the range that is trained in."""
    trained = task_grid(distribution, len(grid.values)).values[[0, -1]]
    return {
        "grid": {
            "parameter": grid.parameter,
            "values": grid.values.tolist(),
            "trained_range": trained.tolist(),
        }
    }


def _told_of(trials: Trials, num_trials: int) -> dict[str, Any]:
    """Return what evaluation.json says of trials."""
    return {"trials": num_trials, "trained_episodes": trials.episodes}


def _check_film(distribution: TaskDistribution, algorithm: str) -> None:
    """Refuse what cannot be filmed; a distribution that draws itself needs no renderer."""
    if isinstance(distribution, Trials):
        raise UserError(
            f"video=true films single episodes, and {algorithm} adapts by what it remembers of "
            f"the episodes before: leave video out."
        )
    if not hasattr(distribution, "single"):
        raise UserError(
            f"video=true: {distribution.name} has no single environment to be filmed; its class "
            f"would need a method single(task, render_mode)."
        )
    task = task_at(distribution.sample(1, np.random.default_rng(0)), 0)
    with closing(distribution.single(task, render_mode="rgb_array")) as env:
        env.reset(seed=0)
        picture_of(env, distribution.name, "video=true")


def _report(place: Path, result: dict[str, Any]) -> None:
    """Print the table; write evaluation.json and the plot."""
    grid = result.get("grid")
    kind = f"{result['split']} tasks" if grid is None else f"tasks, a grid of {grid['parameter']}"
    title = (
        f"{result['env']}, {result['algorithm']}, checkpoint {_checkpoint(result)}: "
        f"{result['num_tasks']} {kind}, {_episodes(result)}"
    )
    trained = result.get("inner", {}).get("steps", result["trained_steps"])
    full, remembers = max(trained, 1), "within" in result
    if not remembers and len(result["curve"]) - 1 > full and result["later_scale"] != 1:
        title += f", steps after step {full} scaled by {result['later_scale']}"
    for name, value in result.get("inner", {}).items():
        title += f", inner.{name}={value}"
    curves = {"all tasks": result["curve"], **result["groups"]}
    table = Table(title=escape(title))
    table.add_column("episodes seen" if remembers else "inner steps")
    table.add_column("env steps", justify="right")
    for label in curves:
        table.add_column(escape(f"return, {label}"), justify="right")
    success = result.get("success", [])
    if success:
        table.add_column("success rate", justify="right")
    for step in range(len(result["curve"])):
        cells = [_cell(curve[step]) for curve in curves.values()]
        cells += [_cell(success[step], "success", "{:.2f}")] if success else []
        number = step * result["num_episodes"] if remembers else step
        table.add_row(str(number), f"{result['curve'][step]['env_steps']:.0f}", *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if "gain_of_first_step" in result:
        gained = result["gain_of_first_step"]
        first = f"{result['num_episodes']} episodes" if remembers else "step"
        print(f"gain of the first {first}: {bracketed(gained['mean'], gained['ci95'], '{:.1f}')}")
    print("in brackets: 95 % bootstrap interval over tasks")
    if "optimal_return" in result:
        best = float(np.mean(result["optimal_return"]))
        reached = ", ".join(f"{point['return_mean'] / best:.2f}" for point in result["curve"])
        print(f"optimum: {best:.1f}; share of it by step: {reached}")
    if len(result["curve"]) == 1:
        write_json(place / "initialization.json", result)
        print(f"numbers: {shown(place / 'initialization.json')}")
        return
    data, picture = ("evaluation", "adaptation") if grid is None else ("grid", "grid")
    _say_what_is_replaced(place / f"{data}.json", result)
    write_json(place / f"{data}.json", result)
    plot = place / f"{picture}.png"
    adaptation_plot(plot, title, result)
    print(f"plot: {shown(plot)}")


def _checkpoint(result: Mapping[str, Any]) -> str:
    """Name a checkpoint and its iteration: "best (iteration 30)"."""
    name = str(result["checkpoint"])
    number = f"iteration {result['iteration']}"
    return number if name.startswith("iteration") else f"{name} ({number})"


def _say_what_is_replaced(file: Path, result: Mapping[str, Any]) -> None:
    """Say that another evaluation is gone, and how both could be kept."""
    try:
        earlier = json.loads(file.read_bytes())
        own, other = _options_of(result), _options_of(earlier)
        same = earlier["curve"] == result["curve"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # there is none
    changed = [f"{key}={value}" for key, value in other.items() if own.get(key) != value]
    if changed or not same:
        what = f"with {', '.join(changed)}" if changed else "of another run or iteration"
        print(f"note: this takes the place of an evaluation {what}; out=<folder> writes elsewhere.")


def _episodes(result: dict[str, Any]) -> str:
    """Say how many episodes the returns are of."""
    if "within" not in result:
        return f"{result['num_episodes']} episodes a step"
    return f"{result['trials']} trials of {len(result['within'])} episodes"


def _cell(point: dict[str, Any], what: str = "return", form: str = "{:.1f}") -> str:
    return bracketed(point[f"{what}_mean"], point[f"{what}_ci95"], form)


def _figures(
    place: Path,
    title: str,
    distribution: TaskDistribution,
    splits: Splits,
    evaluation: Evaluation,
    grid: TaskGrid | None,
    episodes: int | None,
) -> None:
    """Draw the run's tasks, and where episodes went, where the distribution says how."""
    panels = None if grid is None else spread(len(grid.values))
    went = trajectory_figure(
        title, distribution, evaluation.tasks, evaluation.rollouts, panels, episodes
    )
    figures = {"grid_trajectories": went}
    if grid is None:
        stored = task_figure(title, distribution, splits)
        figures = {"tasks": stored, "trajectories": went}
    for name, figure in figures.items():
        if figure is not None:
            path = place / f"{name}.png"
            save_png(figure, path)
            print(f"{name}: {shown(path)}")


def _videos(
    place: Path,
    distribution: TaskDistribution,
    learner: MetaLearner,
    meta: Params,
    evaluation: Evaluation,
    sampler: Sampler,
    key: Key,
    later_scale: float | list[float],
) -> None:
    """Film the policy before adaptation, after one step and after all, each of a few tasks."""
    most = PANELS if distribution.finite_tasks() is not None else 2
    members = chosen_tasks(distribution, evaluation.tasks, most)
    tasks = take_tasks(evaluation.tasks, np.array(members))
    rollouts = evaluation.rollouts
    last, episodes = len(rollouts) - 1, rollouts[0].mask.shape[2]
    stages = {stage_name(0): learner.inner.initial_params(stack(meta, len(members)))}
    with closing(
        sampler.collector(distribution, learner.policy, len(members), episodes)
    ) as collector:
        for step in sorted({min(1, last), last} - {0}):
            experience = learner.collect(collector, meta, tasks, step, key, later_scale)
            stages[stage_name(step)] = experience.adapted
    described, frames = {}, f"up to {distribution.horizon + 1} frames"
    for index in range(len(members)):
        task = task_at(tasks, index)
        own = {
            stage: {name: leaf[index : index + 1] for name, leaf in params.items()}
            for stage, params in stages.items()
        }
        named = distribution.describe(task)
        plain = re.sub(r"[^\w.=-]+", "_", named).strip("_")
        path = place / f"video_{index + 1}_{plain}.mp4"
        print(f"film {index + 1} of {len(members)}: {named}, {frames} ...", flush=True)
        returns = record(path, distribution, task, learner.policy, own, key.seed)
        described[path.name] = f"{distribution.name}, {named}: {', '.join(own)}"
        said = ", ".join(f"{total:.1f} {stage}" for stage, total in zip(own, returns, strict=True))
        print(f"video: {shown(path)} and .gif (return of the mean action: {said})")
    write_json(place / FILM_TITLES, described)
