"""Keep a run's trained initialization in pretrained/: `python -m benchmarks.results --keep RUN`.

A kept initialization is a run folder of what evaluation needs: the parameters of the best
checkpoint, the configuration, the tasks, the evaluation and its provenance, and of the metrics the
learning curve. The optimizer's state stays behind.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import maml_rl
from envs.errors import UserError
from envs.protocol import count_tasks, take_tasks
from maml_rl.evaluation.protocol import evaluate
from maml_rl.evaluation.result import EvaluationResult
from maml_rl.evaluation.statistics import Values
from maml_rl.evaluation.storage import from_json, to_json
from maml_rl.randomness import Key, Purpose
from maml_rl.reporting.problems import outdated, unfinished
from maml_rl.reporting.tables import written
from maml_rl.runs.checkpoint import digest, load_checkpoint, save_checkpoint
from maml_rl.runs.data import CONFIG, EVALUATION, RunData, read_run
from maml_rl.runs.environment import environment_difference
from maml_rl.runs.folder import RunFolder
from maml_rl.runs.provenance import provenance
from maml_rl.runs.shipped import NAME, shipped_folder, shipped_runs
from maml_rl.sampling import Sampler
from maml_rl.trained.loading import Trained
from maml_rl.wording import after, command, shown

OPTION = re.compile(r"(?<==)/(?:[^/\"\s]+/)*([^/\"\s]+)")  # the absolute path of an option
SETTING = re.compile(r"(?<=: )/(?:[^/\n]+/)*([^/\n]+)$", re.MULTILINE)  # and of a configuration
TARGET = re.compile(r"_target_: ['\"]?([\w.]+)")
COUNTS, CURVES = ("iteration", "env_steps"), ("return/", "success/")
MOST_ROWS, DIGITS = 100, 6  # of the learning curve


def keep_initialization(run: Path, name: str | None = None) -> Path:
    """Write the initialization of a finished and evaluated run to pretrained/<name>.

    Absolute paths of the machine are cut to their last part. An initialization of the same name is
    replaced.

    Args:
        run: the run folder.
        name: None takes the environment's.

    Returns:
        The folder.

    Raises:
        UserError: if the run is not finished, or not evaluated on its test tasks as it is now, or
            its evaluation is not found again.
    """
    folder = RunFolder.existing(run, "--keep")
    data = read_run(folder.path)
    reason = _obstacle(data)
    if reason is not None:
        raise UserError(f"{run} cannot be kept: {reason}")
    name = data.evaluated.terms.env if name is None else name
    if not NAME.fullmatch(name):
        raise UserError(f"--name {name}: write letters, digits and underscores, as in ant_dir_rl2.")
    place = shipped_folder() / name
    partial = place.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(data, partial)
        _check_found_again(maml_rl.load(partial), data)
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def _obstacle(run: RunData) -> str | None:
    """Why a run cannot be kept, a sentence; None where it can."""
    again = command("evaluate", {"run": run.path})
    if run.folder.shipped:
        return "it is one of pretrained/ itself."
    if run.faults:
        return run.faults[0]
    if (run.path / "stopped.json").is_file():
        return "numbers that are not finite ended its training."
    foreign = [target for target in TARGET.findall((run.path / CONFIG).read_text())
               if not target.startswith(("maml_rl.", "envs."))]  # fmt: skip
    if foreign:
        return f"its configuration names {foreign[0]}, which another clone does not have."
    if run.evaluation is None:
        return f"it was not evaluated; {again} does it."
    terms, changed = run.evaluation.terms, outdated(run)
    if changed is not None:
        return f"{changed}; {again} evaluates it anew."
    if terms.checkpoint != "best" or terms.split != "test" or terms.inner:
        return f"its evaluation is not of the best checkpoint on its test tasks; {again} makes one."
    return unfinished(run) or _changed_environment(run)


def _changed_environment(run: RunData) -> str | None:
    """Why today's environment is not that of the training; None where it is."""
    difference = environment_difference(run.provenance, maml_rl.load(run.path).distribution)
    return None if difference is None else f"its environment has changed: {difference}."


def _write(run: RunData, place: Path) -> None:
    """Write what is kept of a run into a new folder."""
    copy, hydra = RunFolder(place), run.path / ".hydra"
    files = {name: (hydra / name).read_text() for name in ("config.yaml", "overrides.yaml")
             if (hydra / name).is_file()}  # fmt: skip
    copy.write_configuration({
        name: OPTION.sub(r"\1", SETTING.sub(r"\1", text)) for name, text in files.items()
    })  # fmt: skip
    content = load_checkpoint(run.folder.checkpoint("best"))
    meta = {leaf: values.detach().clone() for leaf, values in content["meta"].items()}
    numbers = {key: content[key] for key in (*COUNTS, "best_validation") if key in content}
    save_checkpoint(copy.checkpoint("best"), {"meta": meta, **numbers})
    _write_json(copy.tasks, json.loads(run.folder.tasks.read_bytes()))
    origin = {**run.provenance, "parameters_sha256": digest(meta), "evaluated_on": processor()}
    _write_json(copy.provenance, origin, lambda text: OPTION.sub(r"\1", text))
    _write_json(place / EVALUATION, to_json(run.evaluated))
    lines = [json.dumps(row) for row in learning_curve(run)]
    copy.metrics.write_text("".join(f"{line}\n" for line in lines))


def _write_json(path: Path, content: Any, clean: Callable[[str], str] = str) -> None:
    """Write JSON, each part of the outermost object on a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [f"{json.dumps(key)}: {json.dumps(part)}" for key, part in content.items()]
    path.write_text(clean("{\n" + ",\n".join(parts) + "\n}\n"))


def learning_curve(run: RunData) -> list[dict[str, float]]:
    """Returns and success of at most a hundred iterations at equal distances, the last included."""
    count = len(run.metrics)
    chosen = np.linspace(0, count - 1, min(count, MOST_ROWS)).round().astype(int)
    return [_row(run.metrics[index]) for index in chosen]


def _row(metrics: Mapping[str, float]) -> dict[str, float]:
    """The counts of an iteration, and its curves in few digits."""
    curves = {name: value for name, value in metrics.items() if name.startswith(CURVES)}
    return {name: int(metrics[name]) for name in COUNTS} | {
        name: float(f"{value:.{DIGITS}g}") for name, value in curves.items() if math.isfinite(value)
    }


def processor() -> dict[str, Any]:
    """What the last bits of an evaluation depend on: the processor and the libraries."""
    here = provenance(0)
    versions = {name: here["versions"][name] for name in ("torch", "mujoco", "numpy")}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"processor": here["machine"]["processor"], "instructions": capability, **versions}


def first_tasks_again(trained: Trained, stored: EvaluationResult) -> Values:
    """Returns of the first test tasks, evaluated again as they were, [K + 1, M].

    K is one inner step, of a learner with memory all; M is two tasks, or each of a finite set. On
    the same processor these are the stored returns of those tasks, bit for bit.
    """
    terms, finite = stored.terms, trained.distribution.finite_tasks()
    count = min(2 if finite is None else count_tasks(finite), terms.num_tasks)
    return evaluate(
        *(trained.learner, trained.meta, trained.distribution),
        take_tasks(trained.tasks("test"), slice(count)),
        stored.steps if stored.remembers else min(1, stored.steps),
        terms.num_episodes,
        Sampler(1),
        Key(terms.seed, (Purpose.TEST,)),
        1.0 if terms.later_scale is None else terms.later_scale,
        trained.source("test"),
        terms.trials or 1,
    ).returns


def _check_found_again(trained: Trained, run: RunData) -> None:
    """Evaluate a few tasks again.

    Raises:
        UserError: where their returns are not those of the run's evaluation.
    """
    again = first_tasks_again(trained, run.evaluated)
    stored = run.evaluated.returns[: len(again), : again.shape[1]]
    if not np.array_equal(again, stored):
        difference = np.abs(again - stored).max()
        raise UserError(
            f"{run.path} cannot be kept: its evaluation is not found again here (a return differs "
            f"by {difference:.3g}); {command('evaluate', {'run': run.path})} evaluates it anew."
        )


def stored_evaluation(folder: Path) -> EvaluationResult:
    """The evaluation that an initialization was kept with."""
    return from_json(json.loads((folder / EVALUATION).read_bytes()))


def initializations_table() -> str:
    """Write the name, the training and the returns of every initialization."""
    runs = {name: (read_run(folder), stored_evaluation(folder))
            for name, folder in shipped_runs().items()}  # fmt: skip
    steps = range(max((result.steps for _, result in runs.values()), default=0) + 1)
    rows = []
    for name, (run, result) in runs.items():
        cells = [point.written(result.form) for point in result.curve]
        cells += [""] * (len(steps) - len(cells))
        size = f"{run.env_steps / 1e6:.3g}"
        rows.append([f"`{name}`", result.terms.env, result.terms.algorithm, size, *cells])
    header = ["name", "environment", "algorithm", "million env steps", *map(after, steps)]
    return written((header, rows))


def outcome(folder: Path) -> str:
    """What was kept, in words."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    result = stored_evaluation(folder)
    returns = ", ".join(f"{point.written(result.form)} {after(point.number)}"
                        for point in result.curve)  # fmt: skip
    return f"kept: {shown(folder)} ({size / 1000:.0f} kB): return {returns}"
