"""Ranks of a training: how many there are, and what those after the first do."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from envs.errors import UserError
from maml_rl.configuration.building import build_trainer, configuration_files
from maml_rl.parallel import Communicator, Distributed, was_shared
from maml_rl.parallel.launch import launched
from maml_rl.training.state import Progress

TASKS = ("trainer.num_tasks", "trainer.validation_tasks")  # of which every rank needs one


def number_of_ranks(config: DictConfig) -> int:
    """The number of ranks that a run has, or is to have.

    Raises:
        UserError: if it is no number, or there are fewer tasks.
    """
    wanted: Any = config.get("ranks", 1)
    if wanted != "auto" and (type(wanted) is not int or wanted < 1):
        raise UserError(f"ranks must be a whole number from 1, or auto, not {wanted!r}.")
    counts = {key: OmegaConf.select(config, key) for key in TASKS}
    tasks = {key: count for key, count in counts.items() if type(count) is int and count > 0}
    fewest = min(tasks, key=lambda key: tasks[key], default=None)
    if launched():
        size = int(os.environ["WORLD_SIZE"])
        if wanted not in (1, "auto", size):
            raise UserError(
                f"ranks={wanted}, and the launcher has begun {size} of them: leave ranks away."
            )
    elif wanted == "auto":
        cores = len(os.sched_getaffinity(0))
        size = min([cores, *tasks.values()])
    else:
        size = wanted
    if fewest is not None and size > tasks[fewest]:
        raise UserError(
            f"ranks={size} is more than {fewest}={tasks[fewest]}, of which every rank takes at "
            f"least one: write ranks={tasks[fewest]}, or a larger {fewest}."
        )
    return size


def as_rank(command: Callable[[Communicator], int]) -> int:
    """Exit status of a process that a launcher has begun: rank 0 runs the command."""
    with Distributed() as ranks:
        if ranks.rank > 0:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                return _follow(ranks)
        with ranks.sharing_errors():
            try:
                status = command(ranks)
            except SystemExit as ended:
                status = int(ended.code or 0)
            ranks.broadcast(None)
        return status


def tell(ranks: Communicator, config: DictConfig, path: Path) -> None:
    """Let the other ranks build a run, and enter its `run`."""
    if ranks.size > 1:
        ranks.broadcast((configuration_files(config)["config.yaml"], str(path)))


def _follow(ranks: Communicator) -> int:
    """Take part in the runs that rank 0 begins, until there are no more; it tells of errors."""
    try:
        while (told := ranks.broadcast()) is not None:
            text, path = told
            try:
                with ranks.sharing_errors():
                    config: Any = OmegaConf.create(text)
                    build_trainer(config, Path(path), ranks).run(Progress({}))
            except Exception as error:
                if not was_shared(error):
                    raise
    except Exception as error:
        if not was_shared(error):
            raise
    return 0
