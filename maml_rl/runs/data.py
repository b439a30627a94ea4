"""Runs on the disk, read for comparisons and reports: nothing is built or executed."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from envs.errors import UserError
from envs.protocol import snake_case
from envs.yaml_text import from_yaml
from maml_rl.evaluation.result import EvaluationResult
from maml_rl.evaluation.statistics import Values
from maml_rl.evaluation.storage import from_json, to_json
from maml_rl.runs.compact import is_compact_run, read_compact_run, write_compact_run
from maml_rl.runs.folder import RunFolder, apply_changes, changed_settings
from maml_rl.runs.shipped import missing_run, run_path

CONFIG = ".hydra/config.yaml"
EVALUATION = "evaluation/evaluation.json"
FILM_TITLES = "films.json"  # what films of an evaluation show, by their names
TRACES = ("tasks.json", "metrics.jsonl", "checkpoints")  # beside the configuration, one at least
DAMAGES = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError)


@dataclass(frozen=True)
class RunData:
    """A run's files, as far as they can be read."""

    path: Path
    config: dict[str, Any]  # with what was changed on resuming
    metrics: list[dict[str, Any]]  # by iteration
    evaluation: EvaluationResult | None
    provenance: dict[str, Any]
    overrides: list[str]
    faults: list[str] = field(default_factory=list)  # what could not be read, a sentence each

    @property
    def folder(self) -> RunFolder:
        """The paths of its parts."""
        return RunFolder(self.path)

    @property
    def algorithm(self) -> str:
        """The name that its configuration gives the algorithm."""
        return str(self.setting("algorithm.name") or "unnamed algorithm")

    @property
    def env(self) -> str:
        """The task distribution's name; that of its class where the run was not evaluated."""
        if self.evaluation is not None:
            return self.evaluation.terms.env
        target = str(self.setting("env._target_") or "unknown environment")
        return snake_case(target.rpartition(".")[2])

    @property
    def seed(self) -> Any:
        """The seed."""
        return self.config.get("seed")

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The sessions that resumed the run, from provenance.json."""
        sessions = self.provenance.get("resumed", [])
        return [session for session in sessions if isinstance(session, dict)] if sessions else []

    def setting(self, key: str) -> Any:
        """A value of the configuration by its dotted key; None where there is none."""
        node: Any = self.config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return node

    @property
    def iterations(self) -> int:
        """Number of finished iterations."""
        return int(self.metrics[-1]["iteration"]) if self.metrics else 0

    @property
    def env_steps(self) -> int:
        """Environment steps of training."""
        return int(self.metrics[-1]["env_steps"]) if self.metrics else 0

    @property
    def unfinished(self) -> str | None:
        """Progress of training, "50 of 150 iterations"; None where it reached a limit."""
        limits = [
            (self.iterations, self.setting("trainer.iterations"), "iterations"),
            (self.env_steps, self.setting("trainer.env_steps"), "environment steps"),
        ]
        set_limits = [limited for limited in limits if isinstance(limited[1], int | float)]
        if not set_limits or any(done >= limit for done, limit, _ in set_limits):
            return None
        return " and ".join(f"{done} of {limit} {unit}" for done, limit, unit in set_limits)

    @property
    def metric_names(self) -> list[str]:
        """The metrics that any iteration has, in their order."""
        return list(dict.fromkeys(name for row in self.metrics for name in row))

    @property
    def evaluated(self) -> EvaluationResult:
        """The evaluation of a run that has one."""
        assert self.evaluation is not None, f"{self.path} has no evaluation"
        return self.evaluation

    def column(self, key: str, at: str = "iteration") -> tuple[Values, Values]:
        """A metric where there is one, [I], after `at` of the same iterations, [I]."""
        rows = [(row[at], row[key]) for row in self.metrics if key in row]
        table = np.array(rows, dtype=np.float64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def learning_curve(self) -> tuple[str, Values, Values]:
        """After the last inner step in training: (its key, env steps, values)."""
        keys = [key for key in (self.metrics or [{}])[-1] if key.startswith("return/step_")]
        key = max(keys, key=lambda name: int(name.rpartition("_")[2]), default="return/step_0")
        return key, *self.column(key, "env_steps")


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, or a file is a compact one (`maml_rl.runs.compact`)."""
    if path.is_file():
        return is_compact_run(path)
    return (path / CONFIG).is_file() and any((path / name).exists() for name in TRACES)


def find_runs(places: Sequence[str | Path], key: str = "runs") -> list[Path]:
    """List the folders of runs, in the order given, each once.

    Args:
        places: a run's folder, a folder with runs somewhere below it (of a multirun), or a glob.
        key: the option that gave them, for errors.

    Raises:
        UserError: naming the place where there is no run.
    """
    if not places:
        raise UserError(f"{key} is empty: give the folders of runs, as in {key}=[a,b], or a glob.")
    by_path: dict[Path, Path] = {}
    for place in places:
        text = str(place)
        if not text:
            raise UserError(f"{key} names no folder: write {key}=<folder>, or . for this one.")
        folders = [run_path(text)]
        if glob.has_magic(text) and not folders[0].exists():
            folders = sorted(
                (Path(match) for match in glob.glob(text, recursive=True)), key=natural
            )
            if not folders:
                raise UserError(f"{key}={text} matches nothing; give the folders of runs.")
        elif not folders[0].is_dir() and not is_run(folders[0]):
            raise UserError(f"{key}={text}: {missing_run(text)}")
        runs = [run for folder in folders for run in _below(folder)]
        if not runs:
            raise UserError(
                f"{key}={text} holds no run: a run's folder has .hydra/config.yaml and tasks.json."
            )
        for run in runs:
            by_path.setdefault(run.resolve(), run)
    return list(by_path.values())


def _below(folder: Path) -> Iterator[Path]:
    """Yield `folder` if it is a run's, or else the runs below it."""
    if is_run(folder):
        yield folder
    elif folder.is_dir():
        for name in sorted(os.listdir(folder), key=natural):
            if not name.startswith(".") and not (folder / name).is_symlink():
                yield from _below(folder / name)


def natural(name: str | Path) -> list[tuple[int, int, str]]:
    """Order names with numbers by the numbers: 2 before 10."""
    parts = re.split(r"(\d+)", str(name))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def read_run(path: Path) -> RunData:
    """Read a run; what is damaged is left out and named in `faults`."""
    if path.is_file():
        return _compact_run(path)
    faults: list[str] = []
    origin = _json_object(path / "provenance.json", faults)
    overrides = _loaded(path / ".hydra/overrides.yaml")
    return RunData(
        path=path,
        config=_config(_loaded(path / CONFIG), CONFIG, origin, faults),
        metrics=_metrics(path / "metrics.jsonl", faults),
        evaluation=_evaluation(path, faults),
        provenance=origin,
        overrides=[str(line) for line in overrides] if isinstance(overrides, list) else [],
        faults=faults,
    )


def _compact_run(path: Path) -> RunData:
    """Read a run that is one file."""
    faults: list[str] = []
    try:
        content = read_compact_run(path)
        config = content["config"]
        origin, overrides = content["provenance"], content["overrides"]
        metrics, stored = content["metrics"], content["evaluation"]
        evaluation = None if stored is None else from_json(stored)
    except DAMAGES:
        return RunData(path, {}, [], None, {}, [], [f"{path.name} is damaged: it holds no run."])
    config = _config(config, path.name, origin, faults)
    return RunData(path, config, metrics, evaluation, origin, overrides, faults)


def keep_run(run: Path, path: Path, clean: Callable[[str], str] = str) -> None:
    """Write a run's configuration, metrics and evaluation to one file.

    Args:
        run: the folder.
        path: ends in .json.
        clean: applied to the command and the overrides, which may name folders of a machine.

    Raises:
        UserError: naming what cannot be read.
    """
    data = read_run(run)
    if data.faults:
        raise UserError(f"{run} cannot be kept: {data.faults[0]}")
    provenance = dict(data.provenance)
    if "command" in provenance:
        provenance["command"] = [clean(str(part)) for part in provenance["command"]]
    if "resumed" in provenance:
        provenance["resumed"] = [
            session | {"command": [clean(str(part)) for part in session["command"]]}
            for session in provenance["resumed"]
        ]
    content = {
        "config": from_yaml((run / CONFIG).read_text()),
        "overrides": [clean(line) for line in data.overrides],
        "provenance": provenance,
        "evaluation": None if data.evaluation is None else to_json(data.evaluation),
        "metrics": data.metrics,
    }
    write_compact_run(path, content)


def _loaded(file: Path) -> Any:
    """The content of a YAML file; None where it cannot be read."""
    try:
        return from_yaml(file.read_text())
    except (OSError, ValueError):
        return None


def _config(stored: Any, name: str, origin: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """The configuration with what was changed when the run was resumed; `name` is its file's."""
    config = stored if isinstance(stored, dict) else {}
    try:
        apply_changes(config, changed_settings(origin))
    except (AttributeError, TypeError, KeyError):
        faults.append("provenance.json is damaged: what was changed on resuming is unknown.")
    except UserError:
        config = {}
    if not config:
        faults.append(f"{name} cannot be read as YAML.")
        return {}
    missing = [name for name in ("env", "algorithm") if not isinstance(config.get(name), Mapping)]
    if missing:
        faults.append(f"{name} is not whole: it has no {missing[0]}.")
        return {}
    return {str(key): value for key, value in config.items()}


def _metrics(file: Path, faults: list[str]) -> list[dict[str, Any]]:
    """Read the JSON lines; stop at the first that is damaged."""
    rows: list[dict[str, Any]] = []
    if not file.is_file():
        faults.append("metrics.jsonl is missing.")
        return rows
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({name: float(value) for name, value in row.items()})
            int(row["iteration"]), int(row["env_steps"])
        except (ValueError, AttributeError, TypeError, KeyError, OverflowError):
            faults.append(f"metrics.jsonl is damaged at line {number}; what follows was not read.")
            return rows[: number - 1]
    return rows


def _json_object(file: Path, faults: list[str]) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        faults.append(f"{file.name} is damaged: it holds no JSON object.")
        return {}
    return content


def _evaluation(path: Path, faults: list[str]) -> EvaluationResult | None:
    """The last evaluation of a run; of an initialization that ships, else the one beside it."""
    last = RunFolder(path).evaluation / "evaluation.json"
    file = last if last.is_file() else path / EVALUATION
    content = _json_object(file, faults)
    if not content:
        return None
    try:
        return from_json(content)
    except DAMAGES:
        faults.append(f"{file.name} is damaged: it does not hold an evaluation.")
        return None
