"""The run folder: writing it, and reading it again."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from envs.errors import UserError
from envs.protocol import Splits, Tasks, count_tasks, tasks_from_json, tasks_to_json
from maml_rl.files import write_json, write_text
from maml_rl.runs.provenance import provenance
from maml_rl.runs.shipped import OUTPUTS, missing_run, run_path, shipped_name
from maml_rl.wording import option

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of some file systems on a network
NO_LOCK_WARNING = (
    "warning: the file system of the run folder has no locks: start no second process in it."
)


class RunFolder:
    """Paths of a run folder and the files that are not the logger's.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.metrics = self.path / "metrics.jsonl"
        self.tasks = self.path / "tasks.json"
        self.provenance = self.path / "provenance.json"
        name = shipped_name(self.path)
        self.shipped = name is not None  # with the code, and only read
        self.evaluation = self.path / "evaluation" if name is None else OUTPUTS / name

    @classmethod
    def existing(cls, path: str | Path, key: str) -> RunFolder:
        """Open the folder of a run, or a trained initialization by its name.

        Raises:
            UserError: naming `key`, the option that gave the path, if it is not a run folder.
        """
        folder = cls(run_path(path))
        if not folder.path.is_dir():
            raise UserError(f"{key}={path}: {missing_run(path)}")
        for needed in (folder.config, folder.tasks):
            if not needed.is_file():
                folder._check_none_within(path, key)
                reason = folder.read_provenance().get("no_configuration")
                if reason is not None:
                    raise UserError(
                        f"{key}={path} was trained from Python and has no configuration: {reason}"
                    )
                raise UserError(
                    f"{key}={path} is not a run folder: "
                    f"it has no {needed.relative_to(folder.path)}."
                )
        return folder

    def _check_none_within(self, path: str | Path, key: str) -> None:
        """Refuse a folder of runs, such as a multirun's, where one run was to be given."""
        config = self.config.relative_to(self.path)
        within = sorted([*self.path.glob(f"*/{config}"), *self.path.glob(f"*/*/{config}")])
        if within:
            first = Path(path) / within[0].parent.parent.relative_to(self.path)
            choices = option(key, first)
            if key == "run":
                choices += f", or {option('runs', Path(path))} to compare all in it"
            raise UserError(f"{key}={path} holds runs and is none: write {choices}.")

    @property
    def config(self) -> Path:
        """The composed configuration."""
        return self.path / ".hydra" / "config.yaml"

    def checkpoint(self, name: str | int) -> Path:
        """Path of a checkpoint: "last", "best", or the number of an iteration."""
        stem = str(name)
        if stem.isdigit():
            stem = f"iteration_{int(stem):06d}"
        return self.path / "checkpoints" / f"{stem}.pt"

    def checkpoint_names(self) -> list[str]:
        """Values of `checkpoint=` in this run: last, best, iterations' numbers."""
        stems = [path.stem for path in (self.path / "checkpoints").glob("*.pt")]
        names = [stem.removeprefix("iteration_").lstrip("0") for stem in stems if "." not in stem]
        return sorted(names, key=lambda name: (name.isdecimal(), name.zfill(9)))

    def is_used(self) -> bool:
        """Whether a run has written here."""
        return self.metrics.exists() or (self.path / "checkpoints").exists()

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Keep the folder for a new run while its first files are written; undone where that fails.

        Raises:
            UserError: if it holds a run, or another process is training there.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.locked():
            if self.is_used():
                raise UserError(
                    f"{self.path} holds a run already: resume={self.path} goes on with it, another "
                    f"folder begins a new one."
                )
            try:
                yield
            except BaseException:
                for path in (self.config.parent, self.checkpoint("last").parent):
                    shutil.rmtree(path, ignore_errors=True)
                for path in (self.tasks, self.provenance):
                    path.unlink(missing_ok=True)
                raise

    def write_configuration(self, files: Mapping[str, str]) -> None:
        """Store the configuration: texts by the names of their files in .hydra."""
        for name, text in files.items():
            write_text(self.config.parent / name, text)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder.

        Raises:
            UserError: if one does.
        """
        directory = os.open(self.path, os.O_RDONLY)
        try:
            if not _taken(directory, fcntl.LOCK_EX):
                raise UserError(f"another process is training in {self.path}.")
            yield
        finally:
            os.close(directory)

    def is_locked(self) -> bool:
        """Whether a process is training here."""
        directory = os.open(self.path, os.O_RDONLY)
        try:
            return not _taken(directory, fcntl.LOCK_SH, tries=1)
        finally:
            os.close(directory)

    def write_splits(self, splits: Splits) -> None:
        """Store the validation and test tasks."""
        data = {name: tasks_to_json(tasks) for name, tasks in splits._asdict().items()}
        write_json(self.tasks, data)

    def read_splits(self) -> Splits:
        """Read the stored tasks.

        Raises:
            UserError: if the file is damaged.
        """
        try:
            data = json.loads(self.tasks.read_text())
            splits = Splits(*(tasks_from_json(data[name]) for name in Splits._fields))
            if not all(_are_tasks(tasks) for tasks in splits):
                raise ValueError("these are no tasks")
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{self.tasks} is damaged: it should hold the run's tasks.") from error
        return splits

    def write_provenance(self, seed: int, extra: Mapping[str, Any]) -> None:
        """Record the provenance of the run: code, versions, machine, threads, seed."""
        write_json(self.provenance, {**provenance(seed), **extra})

    def add_session(self, seed: int, extra: Mapping[str, Any]) -> None:
        """Record a resumed session under "resumed", beside the first one.

        Raises:
            UserError: if provenance.json is damaged.
        """
        known = self.read_provenance()
        sessions = [*known.get("resumed", []), {**provenance(seed), **extra}]
        write_json(self.provenance, {**known, "resumed": sessions})

    def read_provenance(self) -> dict[str, Any]:
        """The provenance of the run; empty where the file is missing.

        Raises:
            UserError: if it is damaged.
        """
        try:
            content = json.loads(self.provenance.read_bytes())
            changed_settings(content)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
            raise UserError(
                f"{self.provenance} is damaged: it should say what produced the run; without it, "
                f"the run goes by the configuration that it began with."
            ) from error
        return dict(content)


def changed_settings(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that sessions changed when they resumed a run, by their dotted keys.

    They are in order: a node that was chosen anew loses the earlier changes of that node.

    Args:
        origin: content of provenance.json.
    """
    changed: dict[str, Any] = {}
    for session in origin.get("resumed", []):
        for key, value in session["changed"].items():
            earlier = {
                name: setting
                for name, setting in changed.items()
                if name != key and not name.startswith(f"{key}.")
            }
            changed = {**earlier, key: value}
    return changed


def apply_changes(config: dict[str, Any], changed: Mapping[str, Any]) -> None:
    """Apply the changes of resumed sessions to the configuration that a run began with.

    Raises:
        UserError: naming a key that the configuration does not have.
    """
    for key, value in changed.items():
        try:
            _put(config, key.split("."), deepcopy(value))
        except (TypeError, ValueError, LookupError) as error:
            raise UserError(
                f"provenance.json is damaged: {key}={value}, which it says was changed on "
                f"resuming, does not fit the run's configuration."
            ) from error


def flat(node: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by their dotted keys; lists are values."""
    values: dict[str, Any] = {}
    for name, part in node.items():
        key = f"{prefix}{name}"
        values |= flat(part, f"{key}.") if isinstance(part, Mapping) else {key: part}
    return values


def _put(node: Any, path: Sequence[str], value: Any) -> None:
    """Put a value at a path into nested dictionaries and lists; make dictionaries on the way."""
    first: Any = int(path[0]) if isinstance(node, list) else path[0]
    if len(path) == 1:
        node[first] = value
        return
    child = node[first] if isinstance(node, list) else node.get(first)
    if not isinstance(child, dict | list):
        child = node[first] = {}
    _put(child, path[1:], value)


def _taken(directory: int, kind: int, tries: int = 5) -> bool:
    """Try to lock a folder, several times, since a test of the lock holds it for a moment."""
    for last in range(1 - tries, 1):
        try:
            fcntl.flock(directory, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05 if last else 0)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if kind == fcntl.LOCK_EX:
                print(NO_LOCK_WARNING, file=sys.stderr, flush=True)
            return True
    return False


def _are_tasks(tasks: Tasks) -> bool:
    """Whether leaves are finite numbers for one number of tasks, at least one."""
    numeric = all(leaf.dtype.kind in "biuf" and np.isfinite(leaf).all() for leaf in tasks.values())
    return numeric and all(leaf.ndim for leaf in tasks.values()) and count_tasks(tasks) > 0
