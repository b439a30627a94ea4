"""An evaluation's results and pictures, for TensorBoard and the trackers of the run."""

from __future__ import annotations

import sys

from envs.errors import UserError, one_line
from maml_rl.configuration.building import build_logger
from maml_rl.configuration.stored import stored_config
from maml_rl.evaluation.result import EvaluationResult
from maml_rl.runs.data import read_run
from maml_rl.runs.folder import RunFolder

PICTURES = (".png", ".gif")


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
