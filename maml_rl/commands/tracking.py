"""An evaluation's results and pictures, for TensorBoard and the trackers of the run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from envs.errors import UserError
from maml_rl.configuration.building import build_logger, one_line
from maml_rl.configuration.stored import stored_config
from maml_rl.runs.data import read_run
from maml_rl.runs.folder import RunFolder

PICTURES = (".png", ".gif")


def track_evaluation(folder: RunFolder, since: float) -> None:
    """Report a run's evaluation, and the pictures in its folder that are as new, to its logger.

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
    iteration = run.evaluation.get("iteration", 0)
    steps = [int(row["env_steps"]) for row in run.metrics if row["iteration"] == iteration]
    pictures = {
        f"evaluation/{file.stem}": file
        for file in sorted(folder.evaluation.iterdir())
        if file.suffix in PICTURES and file.stat().st_mtime >= since
    }
    logger.add_evaluation(folder.path, (steps or [0])[-1], results(run.evaluation), pictures)


def results(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Mean return and success of each step, and the gain of the first, by the names of metrics."""
    names = {"curve": "return", "success": "success"}
    values = {
        f"evaluation/{quantity}/step_{point['step']}": float(point[f"{quantity}_mean"])
        for curve, quantity in names.items()
        for point in evaluation.get(curve, ())
    }
    if "gain_of_first_step" in evaluation:  # not of steps=0
        values["evaluation/gain/step_1"] = float(evaluation["gain_of_first_step"]["mean"])
    return values
