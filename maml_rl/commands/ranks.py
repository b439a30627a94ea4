"""Training on all ranks: how many there are, what each does, and how it ends."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from envs.errors import UserError
from maml_rl.configuration.building import build_trainer, configuration_files
from maml_rl.parallel import Communicator, Distributed, is_known, was_shared
from maml_rl.parallel.launch import launched
from maml_rl.training.state import Progress
from maml_rl.training.trainer import Trainer
from maml_rl.wording import command, shown

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


def as_rank(call: Callable[[Communicator], int]) -> int:
    """Exit status of a process that a launcher has begun: rank 0 makes the call."""
    with Distributed() as ranks:
        if ranks.rank > 0:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                return _follow(ranks)
        with ranks.sharing_errors():
            try:
                status = call(ranks)
            except SystemExit as ended:
                status = int(ended.code or 0)
            ranks.broadcast(None)
        return status


def run_trainer(
    trainer: Trainer, progress: Progress, config: DictConfig, ranks: Communicator
) -> None:
    """Train on all ranks."""
    if ranks.size > 1:  # let them build it too
        text = configuration_files(config)["config.yaml"]
        ranks.broadcast((text, str(trainer.folder.path)))
    with ranks.sharing_errors():
        trainer.run(progress)


def ended(trainer: Trainer) -> int:
    """Print how a run ended, and return the exit status: 130 or 143 after a signal."""
    requested = trainer.stop.requested
    path = shown(trainer.folder.path)
    if requested is not None:
        goes_on = command("train", {"resume": path})
        print(f"stopped by {requested.name}; {goes_on} goes on.", flush=True)
        return 128 + requested.value
    print(f"done; {command('evaluate', {'run': path})} evaluates it.", flush=True)
    return 0


def _follow(ranks: Communicator) -> int:
    """Take part in the runs that rank 0 begins, until there are no more."""
    with _left_to_rank_0():
        while (told := ranks.broadcast()) is not None:
            text, path = told
            with _left_to_rank_0(), ranks.sharing_errors():
                config: Any = OmegaConf.create(text)
                build_trainer(config, Path(path), ranks).run(Progress({}))
    return 0


@contextmanager
def _left_to_rank_0() -> Iterator[None]:
    """Leave errors that all ranks have raised to rank 0; those of unknown kinds leave a trace."""
    try:
        yield
    except Exception as error:
        if not was_shared(error):
            raise
        if not is_known(error):
            traceback.print_exc()
