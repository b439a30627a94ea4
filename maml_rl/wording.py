"""How numbers, paths and commands are written in tables and sentences."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def shown(path: Path) -> Path:
    """Write a path relative to the working directory where it lies below it."""
    absolute = path.resolve()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


def command(name: str, *options: str) -> str:
    """Write a call of `train` or `evaluate` that works where this process was started.

    Args:
        name: "train" or "evaluate".
        *options: `key=value`, quoted where a shell needs it.

    Returns:
        Such as `.venv/bin/python evaluate.py run=outputs/mine`; an installed copy, which was called
        as `maml-rl-train`, is called by its other name.
    """
    called = Path(sys.argv[0])
    if called.name.startswith("maml-rl-"):
        return shlex.join([f"maml-rl-{name}", *options])
    beside = called.name in ("train.py", "evaluate.py")
    script = str(called.with_name(f"{name}.py")) if beside else f"{name}.py"
    return shlex.join([_python(), script, *options])


def _python() -> str:
    """Write the interpreter: by its path where it lies below the working directory."""
    path = os.path.relpath(sys.executable)
    return "python" if path.startswith(os.pardir) else path


def bracketed(value: float, interval: Sequence[float], form: str) -> str:
    """Write a value with its interval."""
    low, high = (form.format(end) for end in interval)
    return f"{form.format(value)} [{low}, {high}]"


def number_format(values: Sequence[float]) -> str:
    """Return a format with as many decimals as numbers of this size need."""
    largest = max((abs(value) for value in values), default=0.0)
    return "{:.1f}" if largest >= 10 else "{:.2f}" if largest >= 1 else "{:.3f}"


def counted(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
