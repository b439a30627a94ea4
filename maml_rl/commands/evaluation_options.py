"""The options of `evaluate.py`, checked before any episode is collected."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig

from envs.arguments import flag, integer_at_least, one_of, pair
from envs.errors import ArgumentError, UserError
from envs.protocol import TaskDistribution, TaskGrid, Tasks, task_at
from envs.tools.rendering import picture_of
from envs.wrappers.trials import Trials
from maml_rl.runs.data import is_run
from maml_rl.runs.folder import RunFolder
from maml_rl.trained.loading import Trained, load, step_scales

FRESH_TASKS, GRID_TASKS = 100, 21  # where num_tasks is left out
LEAST = {"threads": 1, "steps": 0, "num_episodes": 1, "seed": 0, "trials": 1}


class Request(NamedTuple):
    """The request of an evaluation: tasks, options, and the folder of its files."""

    folder: RunFolder
    place: Path
    options: DictConfig  # checked
    trained: Trained  # with the inner loop of the evaluation
    trained_steps: int  # of the run's own inner loop
    inner: dict[str, float]  # what differs in the evaluation's
    source: TaskDistribution  # of the tasks
    tasks: Tasks  # leaves [M, ...]
    grid: TaskGrid | None
    no_film: str | None = None  # why there is none with video=auto

    @property
    def trials(self) -> Trials | None:
        """The trials that a learner with memory is trained on."""
        return self.trained.distribution if isinstance(self.trained.distribution, Trials) else None

    @property
    def distribution(self) -> TaskDistribution:
        """Whose single episodes are evaluated."""
        return self.trained.distribution if self.trials is None else self.trials.distribution

    @property
    def split(self) -> str | None:
        """The set that the tasks are of; None of a grid."""
        if self.grid is not None:
            return None
        return "fresh" if self.options.tasks == "fresh" else str(self.options.split)

    @property
    def later_scale(self) -> float | list[float]:
        """The scale of the steps beyond the number trained with, or one for each."""
        return step_scales(self.options.later_scale)


def checked(run: str, options: DictConfig) -> Request:
    """Check the options, load the run and make the folder.

    Raises:
        UserError: naming the option that is wrong, or the file that cannot be used.
    """
    folder = RunFolder.existing(run, "run")
    place = _place(folder, options.out)
    _check_values(options)
    trained = load(run, options.checkpoint)
    trained_steps = trained.learner.inner.steps
    inner = {str(key): value for key, value in options.inner.items() if value is not None}
    try:
        trained = trained.varied(**inner)
    except ArgumentError as error:
        raise error.within("inner") from error
    no_film = None
    try:
        if options.video:
            _check_film(
                trained.distribution, trained.learner.name, f"video={options.video}".lower()
            )
    except UserError as error:
        if options.video != "auto":  # which films what can be filmed
            raise
        no_film = str(error)
        options.video = False  # for every run of a comparison: a second try may end the process
    source, grid = trained.source(options.split), _grid(options, trained.distribution)
    tasks = _tasks(trained, options) if grid is None else grid.tasks
    _make_writable(place)
    return Request(
        *(folder, place, options, trained, trained_steps, inner, source, tasks, grid, no_film)
    )


def _check_values(options: DictConfig) -> None:
    """Check what can be checked before the run is loaded."""
    for name, least in LEAST.items():
        if options[name] is not None or name != "threads":
            integer_at_least(name, options[name], least)
    step_scales(options.later_scale)
    flag("rollouts", options.rollouts)
    if not isinstance(options.video, bool) and options.video != "auto":
        raise UserError(f"video must be true, false or auto, not {options.video!r}.")


def _place(folder: RunFolder, out: str | None) -> Path:
    """The folder that an evaluation goes into."""
    place = Path(out if out is not None else folder.evaluation)
    around = (place.resolve(), *place.resolve().parents)
    if any(map(is_run, around)) and folder.evaluation.resolve() not in around:
        raise UserError(
            f"out={out} lies in the folder of a run: leave out away to evaluate into "
            f"{folder.evaluation}, or name a folder elsewhere."
        )
    return place


def _make_writable(folder: Path) -> None:
    """Make the folder that an evaluation goes into.

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


def _tasks(trained: Trained, options: DictConfig) -> Tasks:
    """The run's stored tasks, or as many fresh ones as are asked for."""
    if options.tasks == "stored":
        return trained.tasks(options.split, options.num_tasks)
    count = FRESH_TASKS if options.num_tasks is None else options.num_tasks
    return trained.fresh_tasks(count, options.seed)


def _grid(options: DictConfig, distribution: TaskDistribution) -> TaskGrid | None:
    """The grid of tasks, where one is asked for."""
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
    count = options.num_tasks
    count = GRID_TASKS if count is None else integer_at_least("num_tasks", count, 2)
    return distribution.grid(count, limits)


def _check_film(distribution: TaskDistribution, algorithm: str, asked: str) -> None:
    """Refuse what cannot be filmed; a distribution that draws itself needs no renderer."""
    if isinstance(distribution, Trials):
        raise UserError(
            f"{asked} films single episodes, and {algorithm} adapts by what it remembers of "
            f"the episodes before: leave video out."
        )
    task = task_at(distribution.sample(1, np.random.default_rng(0)), 0)
    with closing(distribution.single(task, render_mode="rgb_array")) as env:
        env.reset(seed=0)
        picture_of(env, distribution.name, asked)
