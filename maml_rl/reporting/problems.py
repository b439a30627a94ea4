"""Problems of a run: what went wrong, or is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from envs.errors import UserError
from maml_rl.errors import CheckpointError
from maml_rl.runs.checkpoint import load_checkpoint
from maml_rl.runs.data import CONFIG, RunData
from maml_rl.wording import command


def problems(run: RunData) -> list[str]:
    """Problems of a run, a sentence each."""
    return [
        *run.faults,
        *_unfinished(run),
        *_broken_files(run),
        *_evaluation_problems(run),
        *_metric_problems(run),
        *_origin_problems(run),
    ]


def _unfinished(run: RunData) -> Iterator[str]:
    stopped = run.path / "stopped.json"
    if stopped.is_file():
        yield f"Training stopped with an error: {_reason(stopped)}"
    sentence = unfinished(run)
    if sentence is not None:
        yield sentence


def unfinished(run: RunData) -> str | None:
    """Progress of a run that reached no limit; None where it did."""
    if run.unfinished is None:
        return None
    if run.folder.is_locked():
        return f"Training is under way: {run.unfinished}."
    goes_on = command("train", {"resume": run.path})
    return f"Training did not finish: {run.unfinished}; {goes_on} goes on."


def outdated(run: RunData) -> str | None:
    """A sentence where a run was trained on since its evaluation; None where it was not."""
    if run.evaluation is None:
        return None
    terms = run.evaluation.terms
    path = run.path / "checkpoints" / f"{terms.checkpoint}.pt"
    if not path.is_file():
        return None
    try:
        now = load_checkpoint(path).get("iteration")
    except CheckpointError:
        return None  # said of the checkpoint
    then = terms.iteration
    if then == now:
        return None
    iteration = (
        "does not say of which iteration it is" if then is None else f"is of iteration {then}"
    )
    return f"the evaluation {iteration}, and {path.name} is of iteration {now} by now"


def _reason(stopped: Path) -> str:
    try:
        return str(json.loads(stopped.read_text())["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return "stopped.json, which cannot be read."


def _broken_files(run: RunData) -> Iterator[str]:
    if not (run.path / CONFIG).is_file():
        return  # kept in results/, without weights and tasks
    names = run.folder.checkpoint_names()
    if not names:
        yield "There is no checkpoint."
    for name in names:
        try:
            load_checkpoint(run.folder.checkpoint(name))
        except CheckpointError as error:
            yield f"Damaged checkpoint: {error}"
    try:
        run.folder.read_splits()
    except UserError as error:
        yield str(error)


def _evaluation_problems(run: RunData) -> Iterator[str]:
    evaluation = run.evaluation
    if evaluation is None:
        yield f"There is no evaluation: {command('evaluate', {'run': run.path})} makes one."
        return
    sentence = outdated(run)
    if sentence is not None:
        again = command("evaluate", {"run": run.path})
        yield f"{sentence[0].upper()}{sentence[1:]}; {again} evaluates it anew."
    gain, trained = evaluation.gain, evaluation.terms.trained_steps != 0
    if gain is not None and gain.ci95[0] <= 0 and trained:
        effect = "loses" if gain.ci95[1] < 0 else "gains nothing that can be told from 0"
        yield f"The first inner step {effect}: {gain.written(evaluation.form)} per task."


def _metric_problems(run: RunData) -> Iterator[str]:
    for key in run.metric_names:
        iterations, values = run.column(key)
        wrong = ~np.isfinite(values)
        if wrong.any():
            first = int(iterations[wrong][0])
            much = f"{wrong.sum()} of {len(values)} iterations"
            yield f"{key} is not a finite number in {much}, first in iteration {first}."
    _, accepted = run.column("outer/accepted")
    rejected = int((accepted == 0).sum())
    if rejected:
        share = rejected / len(accepted)
        yield f"{rejected} of {len(accepted)} outer steps were rejected ({100 * share:.0f} %)."


def _origin_problems(run: RunData) -> Iterator[str]:
    if "git_commit" not in run.provenance:
        yield "provenance.json is missing: commit and versions are unknown."
    sessions = [run.provenance, *run.sessions]
    if any(session.get("git_modified") for session in sessions):
        yield "The code had uncommitted changes: the commit does not give the run again."
