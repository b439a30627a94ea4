"""The display of a run under way: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from maml_rl.training.metrics import details
from maml_rl.wording import number_format

BAR = 60  # characters
BLOCKS = "▁▂▃▄▅▆▇█"


class Heading(NamedTuple):
    """The title of the display: what is trained, and for how long."""

    environment: str
    algorithm: str
    seed: int
    iterations: int | None = None  # limits of the run
    env_steps: int | None = None
    iteration: int = 0  # at which it begins or goes on

    def __str__(self) -> str:
        return f"{self.environment}, {self.algorithm}, seed {self.seed}"


class Display:
    """Progress: iteration, steps, speed, returns, the last validation, times.

    Args:
        console: to write on; None is standard output.
        heading: None leaves names and limits out.
    """

    def __init__(self, console: Console | None = None, heading: Heading | None = None) -> None:
        self._console = console or Console(file=sys.stdout)
        self._heading = heading
        self._live: Live | None = None
        self._began: tuple[float, float] | None = None
        self._largest = 0.0  # return so far, which sets the number of decimals
        self._learned: list[float] = []  # returns after adaptation, by iterations
        self._validation = ""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show what is trained; keep the live table on a terminal."""
        if not self._console.is_terminal:
            if self._heading is not None:
                self._print(f"{self._heading}: {self._first_words()}")
            yield
            return
        with Live(console=self._console, auto_refresh=False) as self._live:
            self._live.update(
                Text(f"{self._heading or 'meta-training'}: {self._first_words()}"), refresh=True
            )
            yield
        self._live = None

    def _first_words(self) -> str:
        """The display before the first iteration ends."""
        if self._heading is None:
            return "the first iteration is under way"
        number = self._heading.iteration + 1
        limit = self._heading.env_steps
        steps = "" if limit is None else f", up to {_millions(limit)} env steps"
        return f"iteration {_of(str(number), self._heading.iterations)} is under way{steps}"

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def update(self, metrics: dict[str, float], fraction: float) -> None:
        """Show the state after an iteration."""
        row = self._row(metrics, fraction)
        if self._live is None:
            self._print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        self._live.update(self._table(row, metrics, fraction), refresh=True)

    def _table(
        self, row: dict[str, str], metrics: dict[str, float], fraction: float
    ) -> RenderableType:
        title = f"meta-training: {self._heading or ''}".rstrip(": ")
        table = Table(*row, title=Text(title))
        table.add_row(*row.values())
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=1.0, completed=fraction, width=BAR), f"{fraction:.0%}")
        form = number_format([self._largest])
        ends = (form.format(limit) for limit in (min(self._learned), max(self._learned)))
        bar.add_row(drawn_curve(self._learned), "return from {} to {}".format(*ends))
        return Group(table, bar, Text(details(metrics), style="dim"))

    def _row(self, metrics: dict[str, float], fraction: float) -> dict[str, str]:
        heading = self._heading
        steps = [name for name in metrics if name.startswith("return/step_")]
        returns = self._returns(metrics, steps)
        return {
            "iteration": _of(f"{metrics['iteration']:.0f}", heading and heading.iterations),
            "env steps": _millions(metrics["env_steps"])
            + (f" of {_millions(heading.env_steps)}" if heading and heading.env_steps else ""),
            "steps/s": f"{metrics['seconds/steps_per_second']:.0f}",
            **returns,
            "elapsed": duration(metrics["seconds"]),
            "left": duration(self._left(metrics, fraction)),
        }

    def _returns(self, metrics: dict[str, float], steps: list[str]) -> dict[str, str]:
        """Returns before and after adaptation, success, and the last validation's."""
        checked = f"validation/{steps[-1]}"
        shown = [metrics[name] for name in (*steps, checked) if name in metrics]
        self._largest = max([self._largest, *map(abs, shown)])
        self._learned.append(metrics[steps[-1]])
        form = number_format([self._largest])
        if checked in metrics:
            rate = metrics.get(checked.replace("return", "success"))
            success = "" if rate is None else f", success {rate:.2f}"
            value = f"{form.format(metrics[checked])}{success}"
            self._validation = f"{value} (at {metrics['iteration']:.0f})"
        row = {"return": form.format(metrics[steps[0]])}
        if len(steps) > 1:
            row = {"return before": row["return"], "after": form.format(metrics[steps[-1]])}
        success = steps[-1].replace("return", "success")
        if success in metrics:
            row["success"] = f"{metrics[success]:.2f}"
        return row | ({"validation": self._validation} if self._validation else {})

    def _left(self, metrics: dict[str, float], fraction: float) -> float:
        """Seconds left, by the speed of this session."""
        if self._began is None:
            per_iteration = fraction / max(1, metrics["iteration"])
            begin = metrics["seconds"] - metrics["seconds/iteration"]
            self._began = (fraction - per_iteration, begin)
        done, spent = fraction - self._began[0], metrics["seconds"] - self._began[1]
        return spent * (1 - fraction) / done if done > 0 else 0.0


def drawn_curve(values: Sequence[float], width: int = BAR) -> str:
    """A curve in one line of block characters, the lowest to the highest mean of its stretches."""
    means = [float(part.mean()) for part in np.array_split(values, min(width, len(values)))]
    low, span = min(means), max(means) - min(means)
    heights = (0 if span == 0 else (mean - low) / span * (len(BLOCKS) - 1) for mean in means)
    return "".join(BLOCKS[round(height)] for height in heights)


def _of(number: str, limit: int | None) -> str:
    return number if limit is None else f"{number} of {limit}"


def _millions(steps: float) -> str:
    return f"{steps / 1e6:.2f}M" if steps >= 1e4 else f"{steps:.0f}"


def duration(seconds: float) -> str:
    """A time as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
