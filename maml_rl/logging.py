"""What a run reports: one JSON line per iteration, TensorBoard, and a live display."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

Metrics = dict[str, float]


class RunLogger:
    """Writes metrics.jsonl and TensorBoard's events, and shows progress.

    Args:
        tensorboard: write TensorBoard's event files.
        progress: show progress, as a live table on a terminal and as plain lines elsewhere.
    """

    def __init__(self, tensorboard: bool = True, progress: bool = True) -> None:
        self.tensorboard, self.progress = tensorboard, progress
        self._path = Path()
        self._writer: Any = None
        self._display: Display | None = None

    @contextmanager
    def open(self, metrics: Path, start: int, kept_bytes: int) -> Iterator[RunLogger]:
        """Open the files of a run, cut back to what was there at iteration `start`."""
        self._path = metrics
        metrics.touch()
        os.truncate(metrics, kept_bytes)
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(metrics.parent), purge_step=start + 1)
        self._display = Display() if self.progress else None
        try:
            with self._display.shown() if self._display else _nothing():
                yield self
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def write(self, metrics: Metrics) -> int:
        """Append one iteration's metrics; return the size of metrics.jsonl after it, in bytes."""
        with self._path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")
            file.flush()
            os.fsync(file.fileno())  # the checkpoint that follows counts on these bytes
            size = file.tell()
        if self._writer is not None:
            step = int(metrics["iteration"])
            for name, value in metrics.items():
                if name != "iteration":
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()
        return size

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
        self._live.update(table, refresh=True)

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


def duration(seconds: float) -> str:
    """Write a time as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
