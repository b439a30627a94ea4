"""Algorithms compared at equal environment steps: `python -m benchmarks.comparison`.

Reads what `benchmarks.learning_curves --keep` kept of the runs of experiment=<task>_<algorithm>
under results/, prints a Markdown table for each task (return on test tasks before and after one,
two and three steps, mean over seeds with the lowest and highest) and draws the adaptation and the
learning curves into docs/images/algorithms_<task>.png.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.learning_curves import ROOT, curve

ALGORITHMS = {  # by the name of their node, in the order of the table
    "maml_trpo": "MAML, TRPO",
    "maml_ppo": "MAML, PPO",
    "maml_adam": "MAML, Adam",
    "maml_log_likelihood": "MAML, log-likelihood",
    "maml_loaded_dice": "MAML, Loaded DiCE",
    "maml_dice": "MAML, DiCE",
    "promp": "ProMP",
    "e_maml": "E-MAML",
    "meta_sgd": "Meta-SGD",
    "meta_curvature": "Meta-Curvature",
    "kronecker": "Kronecker transform",
    "anil": "ANIL",
    "cavia": "CAVIA",
    "fomaml": "FOMAML",
    "reptile": "Reptile",
    "pretrained": "pretrained",
    "random": "random initialization",
    "oracle": "oracle",
}
TASKS = ("point_navigation", "half_cheetah_dir")
Values = NDArray[np.float64]


def adaptation(run: Path) -> Values:
    """Return a run's mean test return before and after each step, [K + 1]."""
    curve_of_run: list[dict[str, Any]] = json.loads((run / "evaluation.json").read_text())["curve"]
    return np.array([point["return_mean"] for point in curve_of_run])


def runs(task: str, algorithm: str) -> list[Path]:
    """List the kept runs of an algorithm on a task (of the task itself, for MAML-TRPO)."""
    folders = [ROOT / "results" / f"{task}_{algorithm}"]
    if algorithm == "maml_trpo" and not folders[0].is_dir():
        folders = [ROOT / "results" / task]
    return sorted(
        path.parent for folder in folders for path in folder.glob("seed_[0-9]/evaluation.json")
    )


def environment_steps(found: Sequence[Path]) -> float:
    """Return the most million environment steps that one of the runs trained for."""
    last = [path.read_text().splitlines()[-1:] for path in (run / "metrics.jsonl" for run in found)]
    return max((json.loads(lines[0])["env_steps"] / 1e6 for lines in last if lines), default=0.0)


def table(task: str, compared: dict[str, list[Path]]) -> None:
    """Print the table of a task."""
    print(f"\n{task}\n")
    print("| algorithm | seeds | million steps | before | one step | two | three |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for algorithm, found in compared.items():
        values = np.stack([adaptation(run) for run in found])
        cells = [
            f"{column.mean():.1f} [{column.min():.1f}, {column.max():.1f}]"
            for column in values.T[:4]
        ]
        steps = f"{environment_steps(found):.1f}"
        print(f"| {ALGORITHMS[algorithm]} | {len(found)} | {steps} | {' | '.join(cells)} |")


def draw(task: str, compared: dict[str, list[Path]]) -> None:
    """Draw learning curves (after one step, training tasks) and adaptation curves (test tasks)."""
    figure = Figure(figsize=(13, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    learning, adapting = figure.subplots(1, 2)
    for number, (algorithm, found) in enumerate(compared.items()):
        style: dict[str, Any] = {
            "color": f"C{number % 10}",
            "linestyle": ("-", "--")[number // 10],
            "label": ALGORITHMS[algorithm],
        }
        values = np.stack([adaptation(run) for run in found]).mean(0)
        adapting.plot(range(len(values)), values, marker="o", markersize=3, **style)
        trained = [run for run in found if (run / "metrics.jsonl").stat().st_size > 0]
        if trained and '"return/step_1"' in (trained[0] / "metrics.jsonl").read_text():
            curves = [curve(run / "metrics.jsonl", "return/step_1") for run in trained]
            grid = np.linspace(0.2, min(steps[-1] for steps, _ in curves), 100)
            mean = np.mean([np.interp(grid, steps, values) for steps, values in curves], axis=0)
            learning.plot(grid, mean, **style)
    learning.set(title=f"{task}: return after one step", xlabel="million environment steps")
    adapting.set(title="on test tasks", xlabel="inner steps", xticks=range(4))
    if "random" in compared:  # what falls far below an untrained policy leaves the frame
        untrained = min(adaptation(run).min() for run in compared["random"])
        top = adapting.get_ylim()[1]
        adapting.set_ylim(max(adapting.get_ylim()[0], untrained - 0.1 * (top - untrained)), top)
    for axes in (learning, adapting):
        axes.grid(alpha=0.3)
    handles, labels = adapting.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=9)
    figure.savefig(ROOT / "docs" / "images" / f"algorithms_{task}.png", dpi=90)


def main() -> None:
    """Print the tables and draw the figures of all that is kept."""
    for task in TASKS:
        found = {algorithm: runs(task, algorithm) for algorithm in ALGORITHMS}
        compared = {algorithm: paths for algorithm, paths in found.items() if paths}
        table(task, compared)
        draw(task, compared)


if __name__ == "__main__":
    main()
