"""Weights & Biases: logger=wandb."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from envs.arguments import one_of
from envs.errors import ArgumentError
from maml_rl.training.loggers.run_logger import Metrics, RunLogger, Sink
from maml_rl.training.loggers.stored import (
    known_runs,
    labels,
    remember_run,
    require,
    stored_configuration,
    text,
    title,
)


class WandbLogger(RunLogger):
    """Reports to Weights & Biases too, by default into `wandb/` of the run folder alone.

    `wandb sync <run folder>/wandb/offline-run-*` uploads an offline run. The user, and other
    settings, come from the environment variables of Weights & Biases.

    Args:
        tensorboard: write TensorBoard's event files.
        progress: show progress.
        project: of Weights & Biases.
        mode: "offline", or "online" to upload during the run.
        group: of runs; None takes WANDB_RUN_GROUP, or else groups the seeds of an environment and
            algorithm.
        tags: beside the environment's and the algorithm's name.
    """

    def __init__(
        self,
        tensorboard: bool = True,
        progress: bool = True,
        project: str = "maml_rl",
        mode: str = "offline",
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__(tensorboard, progress)
        self.project = text("project", project)
        self.mode = one_of("mode", mode, ("offline", "online"))
        self.group = None if group is None else text("group", group)
        if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
            raise ArgumentError(
                f"tags must be a list of texts, such as [mine], not {tags!r}.", "tags"
            )
        self.tags = list(tags)
        if self.mode == "offline":  # its reports of its own errors too; read when it is imported
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        require("wandb", ["wandb"])

    def sinks(self, folder: Path, start: int | None) -> dict[str, Callable[[], Sink]]:
        """Add Weights & Biases."""
        return super().sinks(folder, start) | {"Weights & Biases": lambda: Wandb(self, folder)}


class Wandb:
    """A run of Weights & Biases, new or continued, with a segment for each session."""

    def __init__(self, options: WandbLogger, folder: Path) -> None:
        self._wandb: Any = import_module("wandb")
        known, names = known_runs(folder).get("wandb"), labels(folder)
        run_id = known or uuid.uuid4().hex[:12]
        self._run = self._wandb.init(
            project=options.project,
            id=run_id,
            name=title(folder),
            group=options.group or os.environ.get("WANDB_RUN_GROUP") or names.get("group"),
            tags=[*(names[key] for key in ("environment", "algorithm") if names), *options.tags],
            job_type="training",
            config=stored_configuration(folder),
            dir=str(folder),
            mode=options.mode,
            resume="allow" if options.mode == "online" and known else None,
            reinit="create_new",
            settings=self._wandb.Settings(
                silent=options.mode == "offline",  # online it may have to ask who is there
                console="off",
                disable_git=True,
                disable_code=True,
                symlink=False,
            ),
        )
        remember_run(folder, "wandb", run_id)

    def log(self, env_steps: int, metrics: Metrics) -> None:
        """Log one iteration."""
        self._run.log(metrics, step=env_steps)

    def add(self, env_steps: int, results: Metrics, pictures: Mapping[str, Path]) -> None:
        """Put an evaluation's results into the run's summary, and log its pictures.

        Its history takes only later steps than the last, and the checkpoint may be earlier.
        """
        self._run.summary.update(results | {"evaluation/env_steps": env_steps})
        images = {
            name: self._wandb.Video(str(path), format="gif")
            if path.suffix == ".gif"
            else self._wandb.Image(str(path))
            for name, path in pictures.items()
        }
        self._run.log(images)

    def close(self, failed: bool) -> None:
        """Finish the run."""
        self._run.finish(exit_code=int(failed))
