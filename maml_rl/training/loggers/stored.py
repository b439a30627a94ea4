"""Facts about a run for trackers beside its metrics: configuration, title, labels.

trackers.json holds the tracker's run of a run folder, so that a resumed run goes on in the same
one.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from envs.errors import ArgumentError, UserError
from envs.protocol import snake_case
from envs.yaml_text import from_yaml
from maml_rl.files import write_json
from maml_rl.runs.folder import RunFolder, apply_changes, changed_settings


def stored_configuration(folder: Path) -> dict[str, Any]:
    """A run's present configuration; empty where the run began from Python without one."""
    run = RunFolder(folder)
    if not run.config.is_file():
        return {}
    config: dict[str, Any] = from_yaml(run.config.read_text())
    apply_changes(config, changed_settings(run.read_provenance()))
    return config


def labels(folder: Path) -> dict[str, str]:
    """A run's environment, algorithm, seed and group, by which trackers find it.

    Runs that differ by their seeds are of one group. Empty where the configuration lacks a part.
    """
    config = stored_configuration(folder)
    try:
        environment = snake_case(str(config["env"]["_target_"]).rpartition(".")[2])
        algorithm, seed = str(config["algorithm"]["name"]), str(config["seed"])
    except (KeyError, TypeError):
        return {}
    names = {"environment": environment, "algorithm": algorithm, "seed": seed}
    return names | {"group": f"{environment}, {algorithm}"}


def title(folder: Path) -> str:
    """A run's folder and the one above, which distinguish the runs of a sweep."""
    return "/".join(folder.resolve().parts[-2:])


def known_runs(folder: Path) -> dict[str, str]:
    """The ids of the trackers' runs that belong to a run folder, by tracker."""
    path = folder / "trackers.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def remember_run(folder: Path, tracker: str, run_id: str) -> None:
    """Keep the id of the tracker's run in the run folder."""
    write_json(folder / "trackers.json", known_runs(folder) | {tracker: run_id})


def require(choice: str, modules: Sequence[str]) -> None:
    """Import what a choice of logger needs.

    Raises:
        UserError: naming the extra that brings it.
    """
    for module in modules:
        try:
            with quiet():
                import_module(module)
        except ImportError as error:
            raise UserError(
                f"logger={choice} needs the package {module}, which cannot be imported here: "
                f"pip install maml_rl[{choice}], or leave logger={choice} away."
            ) from error


def text(key: str, value: object) -> str:
    """A text that is not empty.

    Raises:
        UserError: naming the key.
    """
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"{key} must be a text, such as {key}=maml_rl, not {value!r}.", key)
    return value


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Keep a package's own warnings and notes out of the terminal."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
