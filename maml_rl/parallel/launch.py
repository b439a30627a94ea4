"""Processes of the ranks on this machine, started and watched by torch's elastic agent."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

PROGRAM = "from maml_rl.commands.main import train_main; train_main()"
RUN_ID = "maml_rl"


def launched() -> bool:
    """Whether a launcher has started this process as a rank: `launch`, or torchrun."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launched_here() -> bool:
    """Whether `launch` has started this process, and tells how its ranks end."""
    return launched() and os.environ.get("TORCHELASTIC_RUN_ID") == RUN_ID


def launch(ranks: int, arguments: Sequence[str]) -> int:
    """Run `train.py` on `arguments` in so many processes on this machine.

    They are joined on a free port of the loopback interface. Ctrl-C and SIGTERM reach all of them;
    where one dies, the others are ended.

    Returns:
        The exit status of rank 0, or of the rank that ended the others.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),  # the ranks write to our streams
        run_id=RUN_ID,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    device = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    try:
        with _environment(PYTHONPATH=path, GLOO_SOCKET_IFNAME=device), _without_its_logs():
            elastic_launch(config, sys.executable)("-c", PROGRAM, *arguments)
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return int(failure.exitcode)
        name = signal.Signals(-failure.exitcode).name
        print(
            f"stopped: rank {rank} of {ranks} was ended by {name}, and the others with it; the "
            f"last checkpoint is whole.",
            file=sys.stderr,
        )
        return 1
    return 0


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables for the processes that are started within."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_its_logs() -> Iterator[None]:
    """Keep the agent's own warnings off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
