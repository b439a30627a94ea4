"""The files of `evaluate.py`: numbers, pictures, episodes and films; reports to trackers."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from envs.errors import UserError, one_line
from envs.protocol import Tasks, count_tasks, take_tasks, task_at
from maml_rl.algorithm.inner_loop.loop import stack
from maml_rl.algorithm.rollout import Params
from maml_rl.commands.evaluation_options import Request
from maml_rl.configuration.building import build_logger
from maml_rl.configuration.stored import stored_config
from maml_rl.evaluation.curves import adaptation_plot, save_png
from maml_rl.evaluation.films import record
from maml_rl.evaluation.protocol import Evaluation
from maml_rl.evaluation.result import EvaluationResult
from maml_rl.evaluation.storage import from_json, to_json
from maml_rl.evaluation.trajectories import (
    MOST_NUMBERS,
    PANELS,
    chosen_tasks,
    number_names,
    spread,
    stage_name,
    task_figure,
    trajectory_figure,
)
from maml_rl.files import write_json
from maml_rl.randomness import Key
from maml_rl.reporting.tables import evaluation_title
from maml_rl.runs.data import DAMAGES, FILM_TITLES, read_run
from maml_rl.runs.folder import RunFolder
from maml_rl.sampling import Sampler
from maml_rl.trained.rollout_files import save_rollouts
from maml_rl.wording import number_format, shown

FILMED = 2  # tasks of a distribution that has many
PICTURES = (".png", ".gif")  # that trackers take


def write_evaluation(
    request: Request, evaluation: Evaluation, result: EvaluationResult
) -> list[str]:
    """Write everything but the films; a line for each file."""
    lines = [*_write_numbers(request.place, result), *_write_figures(request, evaluation)]
    if request.options.rollouts:
        path = request.place / "rollouts.npz"
        save_rollouts(path, evaluation.rollouts, evaluation.tasks)
        lines.append(f"rollouts: {shown(path)}")
    return lines


def _write_numbers(place: Path, result: EvaluationResult) -> list[str]:
    """Write the numbers and their plot; of the initialization alone there is none."""
    if result.steps == 0:
        write_json(place / "initialization.json", to_json(result))
        return [f"numbers: {shown(place / 'initialization.json')}"]
    data, picture = ("evaluation", "adaptation") if result.grid is None else ("grid", "grid")
    lines = _replaced(place / f"{data}.json", result)
    write_json(place / f"{data}.json", to_json(result))
    plot = place / f"{picture}.png"
    adaptation_plot(plot, evaluation_title(result), result)
    return [*lines, f"plot: {shown(plot)}"]


def _replaced(file: Path, result: EvaluationResult) -> list[str]:
    """A note where another evaluation is replaced, with what differed."""
    try:
        earlier = from_json(json.loads(file.read_bytes()))
    except (OSError, *DAMAGES):
        return []  # there is none
    options = result.options
    changed = [f"{key}={value}" for key, value in earlier.options.items()
               if options.get(key) != value]  # fmt: skip
    if not changed and earlier.curve == result.curve:
        return []
    difference = f"with {', '.join(changed)}" if changed else "of another run or iteration"
    return [
        f"note: this takes the place of an evaluation {difference}; out=<folder> writes elsewhere."
    ]


def _write_figures(request: Request, evaluation: Evaluation) -> list[str]:
    """Draw the run's tasks and the paths of episodes, where the distribution has paths."""
    distribution, grid = request.distribution, request.grid
    title, lines = f"{distribution.name}, {request.trained.learner.name}", []
    went = trajectory_figure(
        title,
        distribution,
        evaluation.tasks,
        evaluation.rollouts,
        None if grid is None else spread(len(grid.values)),
        None if request.trials is None else request.options.num_episodes,
    )
    figures = {"grid_trajectories": went}
    if grid is None:
        splits = request.folder.read_splits()
        figures = {"tasks": task_figure(title, distribution, splits), "trajectories": went}
        count = len(number_names(splits.test))
        if figures["tasks"] is None and count > MOST_NUMBERS:
            lines.append(f"tasks: not drawn, a task has {count} numbers (at most {MOST_NUMBERS})")
    for name, figure in figures.items():
        if figure is not None:
            path = request.place / f"{name}.png"
            save_png(figure, path)
            lines.append(f"{name}: {shown(path)}")
    return lines


def film(request: Request, evaluation: Evaluation, sampler: Sampler, key: Key) -> None:
    """Film the policy before adaptation, after one step and after all, each of a few tasks."""
    distribution, policy = request.distribution, request.trained.learner.policy
    most = PANELS if distribution.finite_tasks() is not None else FILMED
    members = chosen_tasks(distribution, evaluation.tasks, most)
    tasks = take_tasks(evaluation.tasks, np.array(members))
    stages = _stages(request, evaluation, tasks, sampler, key)
    described = {}
    for index in range(len(members)):
        task = task_at(tasks, index)
        label = distribution.describe(task)
        plain = re.sub(r"[^\w.=-]+", "_", label).strip("_")
        path = request.place / f"video_{index + 1}_{plain}.mp4"
        policies = {
            stage: {name: leaf[index : index + 1] for name, leaf in params.items()}
            for stage, params in stages.items()
        }
        print(f"film {index + 1} of {len(members)}: {label}:", end="", flush=True)
        returns = record(path, distribution, task, policy, policies, key.seed, _percent())
        form = number_format(returns)
        totals = [
            f"{form.format(total)} {stage}" for stage, total in zip(stages, returns, strict=True)
        ]
        print(f"\nvideo: {shown(path)} and .gif (return of the mean action: {', '.join(totals)})")
        described[path.name] = f"{distribution.name}, {label}: {', '.join(stages)}"
    write_json(request.place / FILM_TITLES, described)


def _stages(
    request: Request, evaluation: Evaluation, tasks: Tasks, sampler: Sampler, key: Key
) -> dict[str, Params]:
    """Parameters of the policies of some tasks, leaves [M, *s], by their stage of adaptation."""
    learner, meta = request.trained.learner, request.trained.meta
    num_tasks, last = count_tasks(tasks), len(evaluation.rollouts) - 1
    stages = {stage_name(0): learner.inner.initial_params(stack(meta, num_tasks))}
    with closing(
        sampler.collector(
            request.distribution, learner.policy, num_tasks, request.options.num_episodes
        )
    ) as collector:
        for step in sorted({min(1, last), last} - {0}):
            experience = learner.collect(collector, meta, tasks, step, key, request.later_scale)
            stages[stage_name(step)] = experience.adapted
    return stages


def _percent() -> Callable[[float], None]:
    """A function that prints the progress of a film, each tenth on one line."""
    tenths = 0

    def show(share: float) -> None:
        nonlocal tenths
        while tenths < int(10 * share + 1e-9):
            tenths += 1
            print(f" {10 * tenths} %", end="", flush=True)

    return show


def track_evaluation(folder: RunFolder, since: float) -> None:
    """Report a run's evaluation, and the new pictures in its folder, to its logger.

    A tracker whose package is missing here costs a line of warning.

    Args:
        folder: of the run.
        since: seconds since the epoch at which the evaluation began.
    """
    run = read_run(folder.path)
    try:
        logger = build_logger(stored_config(folder))
    except UserError as error:
        print(f"warning: the evaluation was not logged: {one_line(error)}", file=sys.stderr)
        return
    if logger is None or run.evaluation is None:
        return
    iteration = run.evaluation.terms.iteration
    steps = [int(row["env_steps"]) for row in run.metrics if row["iteration"] == iteration]
    pictures = {
        f"evaluation/{file.stem}": file
        for file in sorted(folder.evaluation.iterdir())
        if file.suffix in PICTURES and file.stat().st_mtime >= since
    }
    logger.add_evaluation(folder.path, (steps or [0])[-1], results(run.evaluation), pictures)


def results(evaluation: EvaluationResult) -> dict[str, float]:
    """Return, its tail, success and tasks made worse of each step, and the gain of the first."""
    values = {
        f"evaluation/{quantity}/step_{point.number}": point.mean
        for quantity, curve in (("return", evaluation.curve), ("success", evaluation.success))
        for point in curve or ()
    }
    tails = {"return_lower_fifth": evaluation.lower_fifth, "share_worse": evaluation.share_worse}
    for name, estimates in tails.items():
        for step, estimate in enumerate(estimates):
            if estimate is not None:
                values[f"evaluation/{name}/step_{step}"] = estimate.mean
    if evaluation.gain is not None:
        values["evaluation/gain/step_1"] = evaluation.gain.mean
    return values
