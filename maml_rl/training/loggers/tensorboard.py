"""TensorBoard's event files: scalars against environment steps, the configuration, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.yaml_text import to_yaml
from maml_rl.runs.folder import flat
from maml_rl.training.loggers.stored import stored_configuration

COMPARED = ("adaptation_gain", "return/step_", "success/step_", "validation/")


class TensorBoard:
    """Event files in a run's folder.

    Args:
        folder: of the run.
        start: environment steps before this session; later events are hidden. 0 begins a run, None
            adds to one.
    """

    def __init__(self, folder: Path, start: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if start is None else start + 1
        self._writer: Any = SummaryWriter(str(folder), purge_step=purge)
        self._settings: dict[str, Any] = {}
        self._session_end: Any = None
        if start == 0:
            config = stored_configuration(folder)
            self._settings = flat(config)
            lines = to_yaml(config).splitlines()
            # indented by four: a block of code in Markdown
            self._writer.add_text("configuration", "\n".join(f"    {line}" for line in lines), 0)

    def log(self, env_steps: int, metrics: dict[str, float]) -> None:
        """Write one scalar per metric; before the first, the hyperparameters."""
        if self._settings:
            self._begin_session(metrics)
        for name, value in metrics.items():
            if name != "env_steps":  # the axis
                self._writer.add_scalar(name, value, env_steps)
        self._writer.flush()

    def _begin_session(self, metrics: dict[str, float]) -> None:
        """Write the hyperparameters and the metrics of the page HPARAMS."""
        from torch.utils.tensorboard.summary import hparams

        settings = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in self._settings.items()
        }
        compared = {name: 0 for name in metrics if name.startswith(COMPARED)}
        experiment, begin, self._session_end = hparams(settings, compared)
        self._summary(experiment, 0)
        self._summary(begin, 0)
        self._settings = {}

    def _summary(self, summary: Any, step: int) -> None:
        self._writer.file_writer.add_summary(summary, step)

    def add(self, env_steps: int, results: dict[str, float], pictures: Mapping[str, Path]) -> None:
        """Write an evaluation's scalars and pictures; GIFs move."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        for name, value in results.items():
            self._writer.add_scalar(name, value, env_steps)
        for name, path in pictures.items():
            with Image.open(path) as opened:
                width, height = opened.size
            image = Summary.Image(
                width=width, height=height, colorspace=4, encoded_image_string=path.read_bytes()
            )
            self._summary(Summary(value=[Summary.Value(tag=name, image=image)]), env_steps)

    def close(self, failed: bool) -> None:
        """Close the file."""
        if self._session_end is not None:
            self._summary(self._session_end, 0)
        self._writer.close()
