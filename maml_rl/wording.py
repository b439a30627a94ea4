"""Written forms of numbers, paths and commands in tables and sentences."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of a checkout


def shown(path: Path) -> Path:
    """Write a path relative to the working directory where it lies below it."""
    absolute = path.resolve()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


def command(name: str, options: Mapping[str, object]) -> str:
    """Write a call of `train` or `evaluate` that works where this process was started.

    Args:
        name: "train" or "evaluate".
        options: values by key; a path is quoted where Hydra needs it.

    Returns:
        Such as `.venv/bin/python evaluate.py run=outputs/mine`, quoted where a shell needs it.
    """
    written = [shlex.quote(option(key, value)) for key, value in options.items()]
    return " ".join([*_program(name), *written])


def option(key: str, value: object) -> str:
    """Write an option as Hydra reads it, `key=value`; a path that it would misread in quotes."""
    text = str(value)
    if not isinstance(value, Path) or _is_plain(text):
        return f"{key}={text}"
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text).replace("${", "\\${")
    return f"{key}='{escaped}'"


def _is_plain(text: str) -> bool:
    """Whether Hydra reads a text as itself."""
    other = text.lower() in ("null", "true", "false", "nan", "inf")
    return bool(re.fullmatch(r"(?:[A-Za-z_]|\.*/)[\w./-]*|\.+", text, re.ASCII)) and not other


def _program(name: str) -> list[str]:
    """The program of a command: the script's path after Python's, or an installed program's."""
    called = Path(sys.argv[0])
    beside = called if called.name in ("train.py", "evaluate.py") else ROOT / called.name
    script = beside.with_name(f"{name}.py")
    if script.is_file() and not called.name.startswith("maml-rl-"):
        written = str(script if beside is called else _near(script))
        return [python(), shlex.quote(written)]
    return [_runnable(Path(sys.executable).with_name(f"maml-rl-{name}"))]


def python() -> str:
    """Write the Python of this process as a shell finds it."""
    return _runnable(Path(sys.executable))


def _runnable(program: Path) -> str:
    """Write a program by its name where a shell finds it, or else by its path."""
    installed = shutil.which(program.name)
    if installed is not None and Path(installed).absolute() == program.absolute():
        return program.name
    return shlex.quote(str(_near(program)))


def _near(path: Path) -> Path:
    """Write a path relative to the working directory where it lies below it; links are kept."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def bracketed(value: float, interval: Sequence[float], form: str) -> str:
    """A value with its interval, in words."""
    low, high = (form.format(end) for end in interval)
    return f"{form.format(value)} [{low}, {high}]"


def number_format(values: Sequence[float]) -> str:
    """A format with as many decimals as numbers of this size need."""
    largest = max((abs(value) for value in values), default=0.0)
    return "{:.1f}" if largest >= 10 else "{:.2f}" if largest >= 1 else "{:.3f}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the singular or the plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def after(step: int) -> str:
    """Stage of adaptation in words: "before adaptation", "after 1 step"."""
    return "before adaptation" if step == 0 else f"after {counted(step, 'step')}"
