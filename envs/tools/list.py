"""List the task distributions: `python -m envs.list`, `python -m envs.list ant_goal`."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from envs.checking import parameters, spaces_in_words
from envs.errors import UserError, cause
from envs.registry import (
    MADE_OF_OTHERS,
    SHIPPED,
    arguments,
    build,
    missing_package,
    published,
    resolve,
)
from envs.tools.arguments import read

USAGE = """usage: python -m envs.list [name or target] [argument=value ...]

List every task distribution with its spaces, horizon, task parameters (in brackets their shape, and
the range seen in samples) and presets (the default first): the shipped ones, and those that
installed packages publish. With a name, show one and its presets' numbers side by side.
"""
WIDTH = 150  # characters, where no terminal says otherwise


def list_command(arguments: Sequence[str]) -> int:
    """List all distributions, or one with its presets."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    names, options = read(arguments)
    if len(names) > 1 or (options and not names):
        raise UserError("give one name, or none to list all: python -m envs.list ant_goal.")
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(*(_details(names[0], options) if names else [_all()]), sep="\n")
    if not names:
        console.print(
            *(f"{name}: {description}" for name, description in MADE_OF_OTHERS.items()), sep="\n"
        )
    return 0


def _all() -> Table:
    table = Table(pad_edge=False, box=None, header_style="bold")
    for heading in ("name", "observations", "actions", "steps", "task", "presets"):
        table.add_column(heading, no_wrap=heading not in ("task", "presets"))
    for name in [*SHIPPED, *published()]:
        table.add_row(*(Text(cell) for cell in _row(name)))
    return table


def _row(name: str) -> tuple[str, ...]:
    """The row of one distribution; or the reason why it cannot be built."""
    try:
        distribution = build(name)
        return (
            name,
            *spaces_in_words(distribution).split(", "),
            f"{distribution.horizon}",
            parameters(distribution),
            ", ".join(distribution.presets),
        )
    except UserError as error:
        package = missing_package(error)
        why = f"not installed: it needs the package {package}" if package else f"{error}"
    except Exception as error:  # a published distribution may be wrong in any way
        why = cause(error)
    return name, "-", "-", "-", why, ""


def _details(name: str, options: Mapping[str, Any]) -> Iterator[Table | Text]:
    """Describe one distribution."""
    constructor, distribution = resolve(name), build(name, options)
    yield Text(f"{name}: {constructor.__module__}.{constructor.__qualname__}\n")
    yield Text(inspect.getdoc(constructor) or "It has no description.")
    yield Text(f"\n{spaces_in_words(distribution)}, {distribution.horizon} steps an episode")
    yield Text(f"task: {parameters(distribution)}\n")
    presets = distribution.presets
    yield _side_by_side(presets) if presets else _arguments(constructor)


def _side_by_side(presets: Mapping[str, Any]) -> Table:
    """Tabulate the presets' numbers; a number that a preset lacks is left empty."""
    numbers = {
        name: dict(vars(preset)) if dataclasses.is_dataclass(preset) else {"value": preset}
        for name, preset in presets.items()
    }
    table = Table(title="presets, the default first", title_justify="left")
    table.add_column("argument")
    for name in numbers:
        table.add_column(Text(name))
    for key in dict.fromkeys(key for row in numbers.values() for key in row):
        table.add_row(key, *(_written(row.get(key, "")) for row in numbers.values()))
    return table


def _written(value: Any) -> Text:
    """A value in the form of the command line."""
    if value is None or isinstance(value, bool):
        return Text({None: "null", True: "true", False: "false"}[value])
    return Text(str(list(value)) if isinstance(value, tuple) else str(value))


def _arguments(constructor: Any) -> Table:
    """Tabulate the constructor's arguments and their defaults, where there are no presets."""
    table = Table(title="arguments", title_justify="left")
    table.add_column("argument")
    table.add_column("default")
    for name, default in arguments(constructor).defaults.items():
        required = default is inspect.Parameter.empty
        table.add_row(name, "(none)" if required else _written(default))
    return table
