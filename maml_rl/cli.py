"""What the commands share: where the configuration is, and how errors end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from envs.checks import UserError
from maml_rl.building import one_line
from maml_rl.errors import CheckpointError, NonFiniteError


def config_directory() -> Path:
    """Return the folder of the configuration: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def guarded(command: Callable[[Sequence[str]], int]) -> None:
    """Run a command on the process's arguments and exit with its status."""
    torch.set_num_threads(1)  # more lose on small networks; parallelism is over environments
    sys.path.insert(0, str(Path.cwd()))  # a user's task distribution is found where they work
    sys.exit(status_of(lambda: command(sys.argv[1:])))


def status_of(call: Callable[[], int]) -> int:
    """Call, and turn the errors that are somebody's to read into a sentence and a status."""
    try:
        return call()
    except (UserError, CheckpointError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except NonFiniteError as error:
        print(f"stopped: {one_line(error)}; the last good checkpoint is kept.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def shown(path: Path) -> Path:
    """Write a path relative to the working directory where it lies below it."""
    absolute = path.resolve()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
