"""What each decision is worth in learning speed: `python -m benchmarks.studies.learning <problem>`.

Trains every setting of a problem's table of factors, one factor at a time around the problem's
base, on seeds and training tasks that are reported nowhere else, and keeps a line a run in
results/studies/<problem>.jsonl: what was set, and the return after adaptation against environment
steps. A run that is kept is not run again, so the command goes on where it was stopped.
No page shows the tables yet.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.studies.factors import STUDIES, Study
from envs.protocol import Array

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "results" / "studies"
POINTS = 40  # kept of a learning curve


@dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    factor: str
    setting: str
    seed: int
    overrides: list[str]
    env_steps: list[int]  # of the kept points
    returns: list[float]  # after the last inner step, mean over the iterations of a point
    cpu_seconds: float  # of the whole command
    commit: str

    def at(self, env_steps: float, width: float) -> float:
        """Mean return of the points within `width` of `env_steps`; nan where there is none."""
        steps, returns = np.array(self.env_steps), np.array(self.returns)
        near = np.abs(steps - env_steps) <= width
        return float(returns[near].mean()) if near.any() else float("nan")


def kept_runs(problem: str, folder: Path = KEPT) -> list[StudyRun]:
    """The kept runs of a problem, in the order in which they ended."""
    path = folder / f"{problem}.jsonl"
    if not path.is_file():
        return []
    return [StudyRun(**json.loads(line)) for line in path.read_text().splitlines()]


def due(study: Study, runs: Sequence[StudyRun]) -> Iterator[tuple[str, str, int, list[str]]]:
    """Factor, setting, seed and overrides of the runs that are not kept yet."""
    done = {(run.factor, run.setting, run.seed) for run in runs}
    for seed in study.seeds:
        for factor, settings in {"base": {"base": []}, **study.factors}.items():
            for setting, overrides in settings.items():
                if (factor, setting, seed) not in done:
                    yield factor, setting, seed, study.overrides(overrides, seed)


def learning_curve(metrics: Path) -> tuple[Array, Array]:
    """Environment steps and returns after the last inner step of a run's iterations, [N] each."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    last = max(key for key in rows[0] if key.startswith("return/step_"))
    return np.array([row["env_steps"] for row in rows]), np.array([row[last] for row in rows])


def thinned(steps: Array, returns: Array, points: int = POINTS) -> tuple[list[int], list[float]]:
    """Means over `points` stretches of a learning curve, each at its last iteration's steps."""
    parts = np.array_split(np.arange(len(steps)), min(points, len(steps)))
    means = [round(float(returns[part].mean()), 3) for part in parts]
    return [int(steps[part[-1]]) for part in parts], means


def run_name(factor: str, setting: str, seed: int) -> str:
    """Folder of a run: only what an override of Hydra takes without quotes."""
    return re.sub(r"[^\w.-]+", "-", f"{factor}_{setting}_{seed}")


def run(problem: str, scratch: Path, folder: Path = KEPT) -> None:
    """Train what is due of a problem, one run after the other, and keep each."""
    study, commit = STUDIES[problem], _commit()
    for factor, setting, seed, overrides in due(study, kept_runs(problem, folder)):
        path = scratch / problem / run_name(factor, setting, seed)
        print(f"{factor}={setting} seed={seed}", flush=True)
        cpu = _children()
        command = [sys.executable, str(ROOT / "train.py"), *overrides, f"hydra.run.dir={path}"]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        steps, returns = thinned(*learning_curve(path / "metrics.jsonl"))
        seconds = round(_children() - cpu, 1)
        kept = StudyRun(factor, setting, seed, overrides, steps, returns, seconds, commit)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{problem}.jsonl").open("a") as file:
            file.write(json.dumps(asdict(kept)) + "\n")


def _children() -> float:
    """CPU-seconds of the processes that this one has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Run a study, or say how much of each is done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("problem", nargs="?", choices=sorted(STUDIES))
    parser.add_argument("--scratch", type=Path, default=ROOT / "outputs" / "studies")
    arguments = parser.parse_args()
    if arguments.problem is not None:
        run(arguments.problem, arguments.scratch)
        return
    for problem, study in sorted(STUDIES.items()):
        runs = kept_runs(problem)
        print(f"{problem}: {len(runs)} runs kept, {len(list(due(study, runs)))} due")


if __name__ == "__main__":
    main()
