"""MLflow: logger=mlflow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from envs.errors import ArgumentError
from maml_rl.training.loggers.run_logger import Metrics, RunLogger, Sink
from maml_rl.training.loggers.stored import (
    flat,
    known_run,
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

        def opened() -> Mlflow:
            return Mlflow(folder, self.experiment, self.tracking_uri, self.tags, start is not None)

        return super().sinks(folder, start) | {"MLflow": opened}


class Mlflow:
    """A run of MLflow, new or continued.

    Args:
        folder: of the run.
        experiment: of MLflow.
        tracking_uri: None is the database in the run folder.
        tags: of a run that is begun.
        training: whether the run is being trained; otherwise results are added to it.
    """

    def __init__(
        self,
        folder: Path,
        experiment: str,
        tracking_uri: str | None,
        tags: Mapping[str, str],
        training: bool,
    ) -> None:
        self._mlflow: Any = import_module("mlflow")
        self._entities: Any = import_module("mlflow.entities")
        self._training = training
        uri = tracking_uri or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        with quiet("mlflow", "alembic"):
            self._client = self._mlflow.MlflowClient(tracking_uri=uri)
            known = known_run(folder, "mlflow")
            self._run = known or self._begun(folder, experiment, tracking_uri is None, tags)
            if training:
                self._client.update_run(self._run, status="RUNNING")
        remember_run(folder, "mlflow", self._run)

    def _begun(
        self, folder: Path, experiment: str, in_folder: bool, tags: Mapping[str, str]
    ) -> str:
        """Begin a run with the configuration as its parameters; return its id."""
        artifacts = (folder / "mlartifacts").resolve().as_uri() if in_folder else None
        try:
            number = self._client.create_experiment(experiment, artifact_location=artifacts)
        except self._mlflow.MlflowException:  # of that name there is one: of other runs
            number = self._client.get_experiment_by_name(experiment).experiment_id
        named = labels(folder)
        label_tags = {} if named is None else {**named._asdict(), "group": named.group}
        run: str = self._client.create_run(
            number, run_name=title(folder), tags={**label_tags, **tags}
        ).info.run_id
        params = [
            self._entities.Param(key, str(value))
            for key, value in flat(stored_configuration(folder))
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
