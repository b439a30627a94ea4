"""Where the commands begin, before anything heavy is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def train_main() -> None:
    """Run `train.py` on the process's arguments."""
    with _quiet_interrupt():
        from maml_rl.commands.cli import guarded
        from maml_rl.commands.train import train_command

        guarded(train_command)


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
    """Say whether `video=true` is among the arguments, in any of the forms that Hydra reads."""
    pairs = [part.lstrip("+").partition("=") for part in arguments]
    values = [value.strip() for key, _, value in pairs if key == "video"]
    return bool(values) and values[-1].lower() == "true"
