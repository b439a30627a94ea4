"""Reports of a run: one JSON line per iteration, TensorBoard's events, and a live display."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from envs.errors import cause
from envs.recorded import Recorded
from maml_rl.training.loggers.tensorboard import TensorBoard
from maml_rl.training.progress import Display, Heading

Metrics = dict[str, float]
"""Numbers of one iteration by name (docs/metrics.md)."""


class Sink(Protocol):
    """Takes a copy of what a run reports, beside its files; may raise anything."""

    def log(self, env_steps: int, metrics: Metrics) -> None:
        """Take one iteration's metrics, after so many environment steps."""

    def add(self, env_steps: int, results: Metrics, pictures: Mapping[str, Path]) -> None:
        """Take the results of an evaluation and its pictures (PNG or GIF) by name."""

    def close(self, failed: bool) -> None:
        """Finish; `failed` where an error ended the run."""


class RunLogger(Recorded):
    """Writes metrics.jsonl and TensorBoard's events, and shows progress.

    Only metrics.jsonl is necessary. Any other destination that fails is left out from then on, with
    one line of warning.

    Args:
        tensorboard: write TensorBoard's event files.
        progress: show progress, as a live table on a terminal and as plain lines elsewhere.
    """

    def __init__(self, tensorboard: bool = True, progress: bool = True) -> None:
        self.tensorboard, self.progress = tensorboard, progress
        self._path = Path()
        self._sinks: dict[str, Sink] = {}
        self._display: Display | None = None

    def sinks(self, folder: Path, start: int | None) -> dict[str, Callable[[], Sink]]:
        """Function that opens each sink, by name.

        Args:
            folder: of the run.
            start: environment steps before this session; 0 begins the run, None adds to a run
                without training it.
        """
        return {"TensorBoard": lambda: TensorBoard(folder, start)} if self.tensorboard else {}

    @contextmanager
    def open(
        self, metrics: Path, start: int, size: int, heading: Heading | None = None
    ) -> Iterator[RunLogger]:
        """Open the files of a run, cut back to the size at the checkpoint.

        Args:
            metrics: path of metrics.jsonl, in the run's folder.
            start: environment steps before this session.
            size: of metrics.jsonl at that point, in bytes.
            heading: of the display.
        """
        self._path = metrics
        metrics.touch()
        os.truncate(metrics, size)
        for name, opened in self.sinks(metrics.parent, start).items():
            with self._warned(name):
                self._sinks[name] = opened()
        self._display = Display(heading=heading) if self.progress else None
        failed = True
        try:
            with self._display.shown() if self._display else nullcontext():
                yield self
            failed = False
        finally:
            self._each(lambda sink: sink.close(failed))
            self._sinks = {}

    def write(self, metrics: Metrics) -> int:
        """Append one iteration's metrics; return the size of metrics.jsonl after it, in bytes."""
        with self._path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")
            file.flush()
            os.fsync(file.fileno())  # the checkpoint that follows counts on these bytes
            size = file.tell()
        self._each(lambda sink: sink.log(int(metrics["env_steps"]), metrics))
        return size

    def add_evaluation(
        self, folder: Path, env_steps: int, results: Metrics, pictures: Mapping[str, Path]
    ) -> None:
        """Report an evaluation of a run to all destinations except its files.

        Args:
            folder: of the run.
            env_steps: of training that the evaluated checkpoint has seen.
            results: by name.
            pictures: PNG or GIF, by name.
        """
        for name, opened in self.sinks(folder, None).items():
            with self._warned(name, "gets nothing of this evaluation, evaluation.json does"):
                sink = opened()
                sink.add(env_steps, results, pictures)
                sink.close(False)

    def _each(self, call: Callable[[Sink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            with self._warned(name):
                call(sink)

    @contextmanager
    def _warned(
        self, name: str, loss: str = "gets no more metrics of this run, metrics.jsonl does"
    ) -> Iterator[None]:
        """Turn the failure of a sink into a line of warning, and do without it from then on."""
        try:
            yield
        except Exception as error:
            self._sinks.pop(name, None)
            print(f"warning: {name} {loss} ({cause(error)}).", file=sys.stderr, flush=True)

    def show(self, metrics: Metrics, fraction: float) -> None:
        """Show one iteration's metrics; `fraction` of the run is done."""
        if self._display is not None:
            self._display.update(metrics, fraction)
