"""Entry points of the commands, which run before any heavy import."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO

# Hydra's script for bash knows no .venv/bin/python, of which it would run `-sc query=bash`
ANY_PYTHON = (
    '[ "${words[0]}" == "python" ]',
    '[[ "${words[0]##*/}" == python* ]]',
)


def train_main() -> None:
    """Run `train.py` on the process's arguments."""
    with _quiet_interrupt():
        if {"-sc", "--shell-completion"} & set(sys.argv[1:]):
            complete()
            return
        from maml_rl.commands.cli import guarded
        from maml_rl.commands.train import train_command

        guarded(train_command)


def complete() -> None:
    """Let Hydra answer a shell that asks for completions, or for the script that asks for them.

    Neither torch nor any environment is imported.
    """
    from hydra._internal.utils import get_args_parser

    from maml_rl.commands.hydra_app import run

    _name_python_plainly()
    with redirect_stdout(StringIO()) as written:
        run(get_args_parser().parse_args(), lambda config: None)
    print(written.getvalue().replace(*ANY_PYTHON), end="")


def _name_python_plainly() -> None:
    """Replace .venv/bin/python by python in the line to complete, since Hydra only knows that."""
    line = os.environ.get("COMP_LINE", "")
    called, space, rest = line.partition(" ")
    if called.rpartition("/")[2].startswith("python"):
        os.environ["COMP_LINE"] = f"python{space}{rest}"
        point = int(os.environ.get("COMP_POINT", len(line)))
        os.environ["COMP_POINT"] = str(point - len(called) + len("python"))


def evaluate_main() -> None:
    """Run `evaluate.py`; a renderer is chosen first where a video is wanted."""
    with _quiet_interrupt():
        if wants_video(sys.argv[1:]):
            from envs.tools.rendering import choose_renderer

            choose_renderer()
        from maml_rl.commands.cli import guarded
        from maml_rl.commands.evaluate import evaluate_command

        guarded(evaluate_command)


def report_main() -> None:
    """Make the HTML page of runs."""
    with _quiet_interrupt():
        from maml_rl.commands.cli import guarded
        from maml_rl.commands.report import report_command

        guarded(report_command)


@contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """Exit with 130 where Ctrl-C comes while the heavy imports are under way."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)


def wants_video(arguments: Sequence[str]) -> bool:
    """Whether `video=true` or auto is among the arguments, in any form that Hydra reads."""
    pairs = [part.lstrip("+").partition("=") for part in arguments]
    values = [value.strip() for key, _, value in pairs if key == "video"]
    return bool(values) and values[-1].lower() in ("true", "auto")
