"""Loggers that report to an experiment tracker too: logger=wandb, logger=mlflow.

Both work without a network unless told otherwise, keep their files in the run folder, and need a
package of their own. Which run of the tracker a run folder belongs to is kept in trackers.json, so
that a resumed run goes on in the same one.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from envs.arguments import one_of
from envs.errors import UserError
from maml_rl.files import write_json
from maml_rl.runs.folder import RunFolder, apply_changes, changed_settings
from maml_rl.training.logging import Metrics, RunLogger, Sink


class WandbLogger(RunLogger):
    """Reports to Weights & Biases too, by default into `wandb/` of the run folder alone.

    `wandb sync <run folder>/wandb/offline-run-*` uploads what was written without a network. Who is
    meant, and more such, is taken from the environment variables of Weights & Biases.

    Args:
        tensorboard: write TensorBoard's event files.
        progress: show progress.
        project: of Weights & Biases.
        mode: "offline", or "online" to upload meanwhile.
    """

    def __init__(
        self,
        tensorboard: bool = True,
        progress: bool = True,
        project: str = "maml_rl",
        mode: str = "offline",
    ) -> None:
        super().__init__(tensorboard, progress)
        self.project = _name("logger.project", project)
        self.mode = one_of("logger.mode", mode, ("offline", "online"))
        if self.mode == "offline":  # its reports of its own errors too; read when it is imported
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        _require("wandb", ["wandb"])

    def sinks(self, folder: Path, start: int) -> dict[str, Callable[[], Sink]]:
        """Add Weights & Biases."""
        added = {"Weights & Biases": lambda: Wandb(folder, self.project, self.mode)}
        return super().sinks(folder, start) | added


class MlflowLogger(RunLogger):
    """Reports to MLflow too, by default into `mlflow.db` of the run folder alone.

    `mlflow ui --backend-store-uri sqlite:///<run folder>/mlflow.db` shows it. MLflow's own reports
    on its use are switched off.

    Args:
        tensorboard: write TensorBoard's event files.
        progress: show progress.
        experiment: of MLflow.
        tracking_uri: of a server or another store, such as http://localhost:5000; None is the
            database in the run folder.
    """

    def __init__(
        self,
        tensorboard: bool = True,
        progress: bool = True,
        experiment: str = "maml_rl",
        tracking_uri: str | None = None,
    ) -> None:
        super().__init__(tensorboard, progress)
        self.experiment = _name("logger.experiment", experiment)
        self.tracking_uri = (
            None if tracking_uri is None else _name("logger.tracking_uri", tracking_uri)
        )
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # which it reads when it is imported
        _require("mlflow", ["mlflow", "sqlalchemy", "alembic"])

    def sinks(self, folder: Path, start: int) -> dict[str, Callable[[], Sink]]:
        """Add MLflow."""
        added = {"MLflow": lambda: Mlflow(folder, self.experiment, self.tracking_uri)}
        return super().sinks(folder, start) | added


class Wandb:
    """A run of Weights & Biases, begun or gone on with; a segment of its own for each session."""

    def __init__(self, folder: Path, project: str, mode: str) -> None:
        wandb: Any = import_module("wandb")
        known = _known_run(folder, "wandb")
        run_id = known or uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=project,
            id=run_id,
            name=_title(folder),
            config=_config(folder),
            dir=str(folder),
            mode=mode,
            resume="allow" if mode == "online" and known else None,
            reinit="create_new",
            settings=wandb.Settings(
                silent=mode == "offline",  # online it may have to ask who is there
                console="off",
                disable_git=True,
                disable_code=True,
                symlink=False,
            ),
        )
        _remember_run(folder, "wandb", run_id)

    def log(self, iteration: int, metrics: Metrics) -> None:
        """Log one iteration."""
        self._run.log(metrics, step=iteration)

    def close(self, failed: bool) -> None:
        """Finish the run."""
        self._run.finish(exit_code=int(failed))


class Mlflow:
    """A run of MLflow, begun or gone on with."""

    def __init__(self, folder: Path, experiment: str, tracking_uri: str | None) -> None:
        self._mlflow: Any = import_module("mlflow")
        self._entities: Any = import_module("mlflow.entities")
        uri = tracking_uri or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        with _quiet("mlflow", "alembic"):
            self._client = self._mlflow.MlflowClient(tracking_uri=uri)
            known = _known_run(folder, "mlflow")
            self._run = known or self._begun(folder, experiment, tracking_uri is None)
            self._client.update_run(self._run, status="RUNNING")
        _remember_run(folder, "mlflow", self._run)

    def _begun(self, folder: Path, experiment: str, own_store: bool) -> str:
        """Begin a run with the configuration as its parameters; return its id."""
        artifacts = (folder / "mlartifacts").resolve().as_uri() if own_store else None
        try:
            number = self._client.create_experiment(experiment, artifact_location=artifacts)
        except self._mlflow.MlflowException:  # of that name there is one: of other runs
            number = self._client.get_experiment_by_name(experiment).experiment_id
        run: str = self._client.create_run(number, run_name=_title(folder)).info.run_id
        params = [
            self._entities.Param(key, str(value)) for key, value in _flat(_config(folder), "")
        ]
        for first in range(0, len(params), 100):  # as many as it takes at a time
            self._client.log_batch(run, params=params[first : first + 100])
        return run

    def log(self, iteration: int, metrics: Metrics) -> None:
        """Log one iteration."""
        now = int(time.time() * 1000)
        values = [
            self._entities.Metric(name, value, now, iteration) for name, value in metrics.items()
        ]
        self._client.log_batch(self._run, metrics=values)

    def close(self, failed: bool) -> None:
        """Finish the run."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _require(choice: str, modules: Sequence[str]) -> None:
    """Import what a choice of logger needs.

    Raises:
        UserError: naming the extra that brings it.
    """
    for module in modules:
        try:
            with _quiet():
                import_module(module)
        except ImportError as error:
            raise UserError(
                f"logger={choice} needs the package {module}, which cannot be imported here: "
                f"pip install maml_rl[{choice}], or leave logger={choice} away."
            ) from error


def _name(key: str, value: object) -> str:
    """Return a text that is not empty.

    Raises:
        UserError: naming the key.
    """
    if not isinstance(value, str) or not value:
        raise UserError(f"{key} must be a text, such as {key}=maml_rl, not {value!r}.")
    return value


def _title(folder: Path) -> str:
    """Name a run by its folder and the one above, which tell runs of a sweep apart."""
    return "/".join(folder.resolve().parts[-2:])


def _config(folder: Path) -> dict[str, Any]:
    """Return a run's configuration as it is now; one begun from Python may have none."""
    run = RunFolder(folder)
    if not run.config.is_file():
        return {}
    stored: Any = OmegaConf.load(run.config)
    apply_changes(stored, changed_settings(run.read_provenance()))
    config: Any = OmegaConf.to_container(stored, resolve=True)
    return config


def _flat(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """List the values of a nested dictionary with their dotted keys."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _known_run(folder: Path, tracker: str) -> str | None:
    """Return the id of the tracker's run that belongs to a run folder, None where there is none."""
    path = folder / "trackers.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    return known.get(tracker)


def _remember_run(folder: Path, tracker: str, run_id: str) -> None:
    path = folder / "trackers.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    write_json(path, known | {tracker: run_id})


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Keep a package's own warnings and notes out of the terminal."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
