"""MLflow: logger=mlflow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from envs.errors import ArgumentError
from maml_rl.runs.folder import flat
from maml_rl.training.loggers.run_logger import Metrics, RunLogger, Sink
from maml_rl.training.loggers.stored import (
    known_runs,
    labels,
    quiet,
    remember_run,
    require,
    stored_configuration,
    text,
    title,
)


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
        tags: of the run, beside environment, algorithm, seed and group.
    """

    def __init__(
        self,
        tensorboard: bool = True,
        progress: bool = True,
        experiment: str = "maml_rl",
        tracking_uri: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(tensorboard, progress)
        self.experiment = text("experiment", experiment)
        self.tracking_uri = None if tracking_uri is None else text("tracking_uri", tracking_uri)
        if not isinstance(tags, Mapping | None):
            raise ArgumentError(f"tags must name tags, such as {{by: me}}, not {tags!r}.", "tags")
        self.tags = {str(name): str(value) for name, value in (tags or {}).items()}
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # which it reads when it is imported
        require("mlflow", ["mlflow", "sqlalchemy", "alembic"])

    def sinks(self, folder: Path, start: int | None) -> dict[str, Callable[[], Sink]]:
        """Add MLflow."""
        added = {"MLflow": lambda: Mlflow(self, folder, start is not None)}
        return super().sinks(folder, start) | added


class Mlflow:
    """A run of MLflow, new or continued.

    Args:
        options: experiment, store and tags.
        folder: of the run.
        training: whether the run is being trained; otherwise results are added to it.
    """

    def __init__(self, options: MlflowLogger, folder: Path, training: bool) -> None:
        self._mlflow: Any = import_module("mlflow")
        self._entities: Any = import_module("mlflow.entities")
        self._training = training
        uri = options.tracking_uri or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        with quiet("mlflow", "alembic"):
            self._client = self._mlflow.MlflowClient(tracking_uri=uri)
            self._run = known_runs(folder).get("mlflow") or self._begun(options, folder)
            if training:
                self._client.update_run(self._run, status="RUNNING")
        remember_run(folder, "mlflow", self._run)

    def _begun(self, options: MlflowLogger, folder: Path) -> str:
        """Begin a run with the configuration as its parameters; return its id."""
        in_folder, experiment = options.tracking_uri is None, options.experiment
        artifacts = (folder / "mlartifacts").resolve().as_uri() if in_folder else None
        try:
            number = self._client.create_experiment(experiment, artifact_location=artifacts)
        except self._mlflow.MlflowException:  # of that name there is one: of other runs
            number = self._client.get_experiment_by_name(experiment).experiment_id
        tags = {**labels(folder), **options.tags}
        run: str = self._client.create_run(number, run_name=title(folder), tags=tags).info.run_id
        params = [
            self._entities.Param(key, str(value))
            for key, value in flat(stored_configuration(folder)).items()
        ]
        for first in range(0, len(params), 100):  # as many as it takes at a time
            self._client.log_batch(run, params=params[first : first + 100])
        return run

    def log(self, env_steps: int, metrics: Metrics) -> None:
        """Log one iteration."""
        now = int(time.time() * 1000)
        values = [
            self._entities.Metric(name, value, now, env_steps) for name, value in metrics.items()
        ]
        self._client.log_batch(self._run, metrics=values)

    def add(self, env_steps: int, results: Metrics, pictures: Mapping[str, Path]) -> None:
        """Log an evaluation's results, and keep its pictures as artifacts."""
        self.log(env_steps, results)
        for path in pictures.values():
            self._client.log_artifact(self._run, str(path), "evaluation")

    def close(self, failed: bool) -> None:
        """Finish the run, where it was trained."""
        if self._training:
            self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")
