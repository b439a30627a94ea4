"""What a run reports: one JSON line per iteration, TensorBoard, and a live display.

Other trackers are in loggers.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

Metrics = dict[str, float]


class Sink(Protocol):
    """Takes a copy of the metrics, beside metrics.jsonl; may raise anything."""

    def log(self, iteration: int, metrics: Metrics) -> None:
        """Take one iteration's metrics."""

    def close(self, failed: bool) -> None:
        """Finish; `failed` where an error ended the run."""


class TensorBoard:
    """TensorBoard's event files in `folder`; what was there after iteration `start` is hidden."""

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=start + 1)

    def log(self, iteration: int, metrics: Metrics) -> None:
        """Write one scalar per metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, iteration)
        self._writer.flush()

    def close(self, failed: bool) -> None:
        """Close the file."""
        self._writer.close()


class RunLogger:
    """Writes metrics.jsonl and TensorBoard's events, and shows progress.

    Only metrics.jsonl is needed to go on: whatever else fails is left out from then on, with one
    line of warning.

    Args:
        tensorboard: write TensorBoard's event files.
        progress: show progress, as a live table on a terminal and as plain lines elsewhere.
    """

    def __init__(self, tensorboard: bool = True, progress: bool = True) -> None:
        self.tensorboard, self.progress = tensorboard, progress
        self._path = Path()
        self._sinks: dict[str, Sink] = {}
        self._display: Display | None = None

    def sinks(self, folder: Path, start: int) -> dict[str, Callable[[], Sink]]:
        """Return what opens each sink of a run that goes on after iteration `start`, by name."""
        return {"TensorBoard": lambda: TensorBoard(folder, start)} if self.tensorboard else {}

    @contextmanager
    def open(self, metrics: Path, start: int, kept_bytes: int) -> Iterator[RunLogger]:
        """Open the files of a run, cut back to what was there at iteration `start`."""
        self._path = metrics
        metrics.touch()
        os.truncate(metrics, kept_bytes)
        for name, opened in self.sinks(metrics.parent, start).items():
            with self._warned(name):
                self._sinks[name] = opened()
        self._display = Display() if self.progress else None
        failed = True
        try:
            with self._display.shown() if self._display else _nothing():
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
        rest = {name: value for name, value in metrics.items() if name != "iteration"}
        self._each(lambda sink: sink.log(int(metrics["iteration"]), rest))
        return size

    def _each(self, call: Callable[[Sink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            with self._warned(name):
                call(sink)

    @contextmanager
    def _warned(self, name: str) -> Iterator[None]:
        """Turn the failure of a sink into a line of warning, and do without it from then on."""
        try:
            yield
        except Exception as error:
            self._sinks.pop(name, None)
            why = " ".join(f"{type(error).__name__}: {error}".split())
            print(
                f"warning: {name} gets no more metrics of this run, metrics.jsonl does ({why}).",
                file=sys.stderr,
                flush=True,
            )

    def show(self, metrics: Metrics, fraction: float) -> None:
        """Show one iteration's metrics; `fraction` of the run is done."""
        if self._display is not None:
            self._display.update(metrics, fraction)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


class Display:
    """Progress: iteration, steps, speed, return before and after adaptation, time left."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout)
        self._live: Live | None = None
        self._began: tuple[float, float] | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the live table on a terminal; elsewhere nothing is needed."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False) as self._live:
            yield
        self._live = None

    def update(self, metrics: Metrics, fraction: float) -> None:
        """Show the state after an iteration."""
        row = self._row(metrics, fraction)
        if self._live is None:
            self._console.print(
                "  ".join(f"{name} {value}" for name, value in row.items()),
                soft_wrap=True,
                highlight=False,
            )
            return
        table = Table(*row, title="meta-training")
        table.add_row(*row.values())
        details = Text(_details(metrics), style="dim")
        self._live.update(Group(table, details), refresh=True)

    def _row(self, metrics: Metrics, fraction: float) -> dict[str, str]:
        iteration = metrics["seconds/iteration"]
        if self._began is None:
            per_iteration = fraction / max(1, metrics["iteration"])
            self._began = (fraction - per_iteration, metrics["seconds"] - iteration)
        done, spent = fraction - self._began[0], metrics["seconds"] - self._began[1]
        left = spent * (1 - fraction) / done if done > 0 else 0.0
        steps = [name for name in metrics if name.startswith("return/step_")]
        row = {
            "iteration": f"{metrics['iteration']:.0f}",
            "env steps": f"{metrics['env_steps'] / 1e6:.2f}M",
            "steps/s": f"{metrics['seconds/steps_per_second']:.0f}",
        }
        if len(steps) == 1:
            row["return"] = f"{metrics[steps[0]]:.1f}"
        else:
            row["return before"] = f"{metrics[steps[0]]:.1f}"
            row["after"] = f"{metrics[steps[-1]]:.1f}"
        if f"validation/{steps[-1]}" in metrics:
            row["validation"] = f"{metrics[f'validation/{steps[-1]}']:.1f}"
        return row | {"left": duration(left)}


DETAILS = {  # what is shown below the table, by metric: its words and how it is written
    "inner/kl": ("inner KL", ".3g"),
    "inner/grad_cosine": ("inner gradients' cosine", ".2f"),
    "outer/kl": ("outer KL", ".3g"),
    "outer/gradient_cosine": ("outer gradients' cosine", ".2f"),
    "outer/line_search_rejections": ("rejections", ".0f"),
    "baseline/explained_variance": ("explained variance", ".2f"),
    "policy/std": ("std", ".2f"),
    "seconds/share_sampling": ("sampling", ".0%"),
    "seconds/share_outer_loop": ("learning", ".0%"),
}


def _details(metrics: Metrics) -> str:
    """Write the diagnostics that an iteration has in a line."""
    gains = [f"{value:+.1f}" for name, value in metrics.items() if name.startswith("gain/step_")]
    shown = [f"gain {' '.join(gains)}"] if gains else []
    for name, (words, written) in DETAILS.items():
        if name in metrics:
            shown.append(f"{words} {metrics[name]:{written}}")
    return "  ".join(shown)


def duration(seconds: float) -> str:
    """Write a time as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
