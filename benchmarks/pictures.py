"""The pictures of docs/ that need trained weights or a renderer: `python -m benchmarks.pictures`.

Two small runs are trained into outputs/pictures/ (about 10 CPU-minutes) where they do not lie there
yet, and evaluated. Their pictures go into docs/images/; what is worth keeping of them, without
weights, goes into results/pictures/.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.results import IMAGES, ROOT, keep

SMALL = (  # ProMP on small batches: much adaptation from few environment steps
    "algorithm=promp",
    "algorithm.gae_lambda=0.95",
    "trainer.num_tasks=8",
    "trainer.iterations=null",
    "seed=0",
)
TASKS = "ant_goal_tasks.png"


class Run(NamedTuple):
    """A small run, and which pictures of its evaluations the pages show."""

    options: tuple[str, ...]  # of train.py
    evaluations: dict[tuple[str, ...], dict[str, str]]  # options of evaluate.py: file: picture


RUNS = {
    "half_cheetah_vel": Run(
        ("experiment=half_cheetah_vel_finn2017", "trainer.env_steps=3_000_000"),
        {
            (): {"trajectories.png": "half_cheetah_vel_trajectories.png"},
            ("tasks=grid", "range=[0,3]", "num_tasks=31"): {
                "grid.png": "half_cheetah_vel_grid.png"
            },
        },
    ),
    "ant_goal": Run(
        ("experiment=ant_goal_finn2017", "inner.step_size=0.5", "trainer.env_steps=640_000"),
        {(): {"trajectories.png": "ant_goal_trajectories.png"}},
    ),
}


def train(name: str, folder: Path, options: Sequence[str] = ()) -> None:
    """Train one of the runs into a folder.

    Args:
        name: in `RUNS`.
        folder: of the run.
        options: more of train.py's, after the run's.
    """
    called("train.py", *RUNS[name].options, *SMALL, *options, f"hydra.run.dir={folder}")


def draw(name: str, folder: Path, images: Path, options: Sequence[str] = ()) -> None:
    """Evaluate a trained run and copy its pictures.

    Args:
        name: in `RUNS`.
        folder: of the run.
        images: where the pictures go.
        options: more of evaluate.py's.
    """
    for evaluation, pictures in RUNS[name].evaluations.items():
        called("evaluate.py", f"run={folder}", *evaluation, *options)
        for file, picture in pictures.items():
            shutil.copyfile(folder / "evaluation" / file, images / picture)


def draw_tasks(images: Path) -> None:
    """Draw four goals of the ant as `envs.show` does."""
    called("-m", "envs.show", "ant_goal", f"out={images / TASKS}")


def called(*arguments: str) -> None:
    """Run a program of the repository; an error of it ends this one too."""
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)


def main() -> None:
    """Train what is missing, draw every picture, keep the runs' data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=ROOT / "outputs" / "pictures")
    runs = parser.parse_args().runs.resolve()
    for name in RUNS:
        if not (runs / name / "checkpoints").is_dir():
            train(name, runs / name)
        draw(name, runs / name, IMAGES)
        keep(runs / name, f"pictures/{name}")
    draw_tasks(IMAGES)


if __name__ == "__main__":
    main()
