"""Learning curves from kept run data: `python -m benchmarks.learning_curves`.

Reads results/<experiment>/<run>/metrics.jsonl of MAML's experiments (benchmarks/comparison.py has
the other algorithms), draws one panel per experiment into docs/images/learning_curves.png, and
prints the return after one step at some numbers of environment steps (means of ten iterations,
training tasks). `--keep <run folder> <experiment>/<run>` first copies what is worth keeping of a
run, no weights, into results/.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
KEPT = (
    "metrics.jsonl",
    "provenance.json",
    ".hydra/config.yaml",
    ".hydra/overrides.yaml",
    "evaluation/evaluation.json",
)
EXPERIMENTS = ("half_cheetah_dir", "half_cheetah_dir_full", "point_navigation")
# Half-cheetah forward/backward after one step, by million environment steps: pytorch-maml-rl run on
# current MuJoCo with 20 tasks x 20 episodes x 100 steps, and RLlib's curve read off a plot.
PUBLISHED: dict[str, list[tuple[float, float]]] = {
    "pytorch-maml-rl": [
        *((0.9, 8), (1.7, 45), (2.5, 82), (4.1, 132)),
        *((6.5, 163), (8.9, 187), (10.5, 194), (13.7, 207)),
    ],
    "RLlib (plot)": [(17, 0), (40, 200)],
}


def keep(run: Path, name: str) -> None:
    """Copy a run's metrics, configuration, provenance and evaluation into results/<name>."""
    target = ROOT / "results" / name
    target.mkdir(parents=True, exist_ok=True)
    for part in KEPT:
        if (run / part).is_file():
            shutil.copyfile(run / part, target / Path(part).name)


def curve(metrics: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return million environment steps and the running mean of ten iterations of a metric."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    steps = np.array([row["env_steps"] for row in rows]) / 1e6
    values = np.array([row[key] for row in rows])
    means = [values[max(0, i - 9) : i + 1].mean() for i in range(len(values))]
    return steps, np.array(means)


def draw(axes: Axes, experiment: Path) -> None:
    """Draw an experiment's runs before and after adaptation, and print the table's rows."""
    for number, metrics in enumerate(sorted(experiment.glob("*/metrics.jsonl"))):
        label = metrics.parent.name
        steps, after = curve(metrics, "return/step_1")
        axes.plot(steps, after, color=f"C{number}", label=f"after one step, {label}")
        steps, before = curve(metrics, "return/step_0")
        axes.plot(steps, before, color=f"C{number}", linestyle=":", linewidth=1)
        marks = [mark for mark in (1, 2, 4, 6, 8, 10, 12, 20, 30, 40) if mark <= steps[-1] + 0.1]
        row = [f"{after[np.searchsorted(steps, mark).clip(0, len(steps) - 1)]:.0f} at {mark}M"
               for mark in marks]  # fmt: skip
        print(f"{experiment.name}/{label}: {', '.join(row)}")
    if experiment.name.startswith("half_cheetah_dir"):
        limit = axes.get_xlim()
        for marker, (name, points) in zip("sx", PUBLISHED.items(), strict=True):
            axes.plot(*np.transpose(points), marker, color="grey", label=name)
        axes.set_xlim(limit)
    axes.set(title=experiment.name, xlabel="million environment steps", ylabel="return")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def main() -> None:
    """Keep a run where one is named; draw and print all that is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", nargs=2, metavar=("RUN", "NAME"))
    arguments = parser.parse_args()
    if arguments.keep:
        keep(Path(arguments.keep[0]), arguments.keep[1])
    experiments = [ROOT / "results" / name for name in EXPERIMENTS]
    figure = Figure(figsize=(5.5 * len(experiments), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(experiments), squeeze=False)[0]
    for axes, experiment in zip(panels, experiments, strict=True):
        draw(axes, experiment)
    figure.savefig(ROOT / "docs" / "images" / "learning_curves.png", dpi=100)


if __name__ == "__main__":
    main()
