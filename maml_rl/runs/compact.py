"""A run in one compact file: configuration, provenance, metrics, evaluation; no weights, no tasks.

`results/` holds such files. Metrics are stored by column, so that a name is written once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maml_rl.files import replacing

MARK = '{"maml_rl_run":'  # how a compact run begins
FORMAT = 1


def is_compact_run(path: Path) -> bool:
    """Whether a file is a compact run."""
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK.encode()


def write_compact_run(path: Path, content: Mapping[str, Any]) -> None:
    """Write a run to one file, a part of it a line.

    Args:
        path: ends in .json.
        content: "config", "overrides", "provenance", "evaluation" (None where there is none) and
            "metrics", a dictionary for each iteration.
    """
    parts = {name: json.dumps(part, separators=(",", ":")) for name, part in content.items()}
    columns = _columns(content["metrics"])
    lines = [f"{json.dumps(name)}:{json.dumps(column)}" for name, column in columns.items()]
    parts["metrics"] = "{\n" + ",\n".join(line.replace(", ", ",") for line in lines) + "}"
    body = "".join(f',\n"{name}":{text}' for name, text in parts.items())
    with replacing(path) as partial:
        partial.write_text(f"{MARK}{FORMAT}{body}}}\n")


def read_compact_run(path: Path) -> dict[str, Any]:
    """The content that `write_compact_run` wrote.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        content = json.loads(path.read_bytes())
        if content.pop("maml_rl_run") != FORMAT:
            raise ValueError("the format is another")
        content["metrics"] = _rows(content["metrics"])
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ValueError("a part is missing") from error
    return dict(content)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Each metric's values by iteration; None where an iteration has none."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The metrics of each iteration, by name."""
    count = len(next(iter(columns.values()), ()))
    return [
        {name: column[index] for name, column in columns.items() if column[index] is not None}
        for index in range(count)
    ]
