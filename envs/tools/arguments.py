"""The common part of `python -m envs.check`, `.list` and `.show`: arguments and errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from envs.errors import UserError, one_line
from envs.registry import import_from_working_folder
from envs.yaml_text import from_yaml


def run(command: Callable[[Sequence[str]], int]) -> None:
    """Run a command on the process's arguments and exit with its status; 2 for wrong input."""
    import_from_working_folder()
    sys.exit(status_of(lambda: command(sys.argv[1:])))


def status_of(call: Callable[[], int]) -> int:
    """Exit status of a call; errors for the user are printed as one sentence."""
    try:
        status = call()
        sys.stdout.flush()  # here, where a reader that has gone away can still be met
        return status
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def read(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split arguments into names and `key=value` pairs, whose values are read as YAML.

    Raises:
        UserError: quoting the one that cannot be read.
    """
    names, options = [], {}
    for part in arguments:
        key, equals, text = part.partition("=")
        if not equals:
            if part.startswith("-"):
                raise UserError(f"{part} is unknown; write options as key=value, or --help alone.")
            names.append(part)
            continue
        try:
            options[key.lstrip("+")] = from_yaml(text)
        except ValueError as error:
            message = f"cannot read {part!r}: write key=value, the value as in YAML."
            raise UserError(message) from error
    return names, options


def one_name(names: Sequence[str], usage: str) -> str:
    """The only name among the arguments.

    Raises:
        UserError: if there is none, or several.
    """
    if len(names) != 1:
        given = f"not {' '.join(names)}" if names else "and there is none"
        raise UserError(f"give one name or target, {given}: {usage}")
    return names[0]
