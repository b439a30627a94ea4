"""What the settings of a study are worth, as a table with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from benchmarks.studies.learning import StudyRun
from envs.protocol import Array

Setting = tuple[str, str]
WIDTH = 0.06  # of a run: the returns within so much of a mark are averaged


def returns_at(runs: Sequence[StudyRun], fraction: float) -> dict[Setting, Array]:
    """Returns of every setting's seeds near a fraction of the run, by factor and setting."""
    longest = max(run.env_steps[-1] for run in runs)
    found: dict[Setting, list[float]] = {}
    for run in runs:
        value = run.at(fraction * longest, WIDTH * longest)
        found.setdefault((run.factor, run.setting), []).append(value)
    return {setting: np.array(values) for setting, values in found.items()}


def pooled_deviation(returns: dict[Setting, Array]) -> tuple[float, int]:
    """Standard deviation between seeds, pooled over all settings, and its degrees of freedom.

    A setting has few seeds, so its own deviation says little; all together have enough.
    """
    freedom = sum(len(values) - 1 for values in returns.values())
    squares = sum(((values - values.mean()) ** 2).sum() for values in returns.values())
    return float(np.sqrt(squares / freedom)) if freedom else float("nan"), freedom


def study_rows(runs: Sequence[StudyRun]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each setting's return at half and at the whole of a run, less the base's.

    Without an interval where no setting has a second seed.

    Rows of a factor stay together; the factor that gains or loses most comes first. The interval of
    a difference is Student's, of `pooled_deviation`.
    """
    half, whole = returns_at(runs, 0.5), returns_at(runs, 0.97)
    deviation, freedom = pooled_deviation(whole)
    base = whole.pop(("base", "base"))

    def difference(setting: Setting) -> tuple[float, float]:
        error = deviation * np.sqrt(1 / len(base) + 1 / len(whole[setting]))
        return float(whole[setting].mean() - base.mean()), float(
            student.ppf(0.975, freedom) * error
        )

    largest: dict[str, float] = {}
    for factor, name in whole:
        size = abs(difference((factor, name))[0])
        largest[factor] = max(largest.get(factor, 0.0), size)
    digits = 0 if max(abs(values).max() for values in whole.values()) >= 100 else 1
    rows = [["base", "", _seeds(half["base", "base"], digits), _seeds(base, digits), ""]]
    for factor, name in sorted(whole, key=lambda setting: -largest[setting[0]]):
        gained, margin = difference((factor, name))
        cells = (_seeds(values[factor, name], digits) for values in (half, whole))
        written = f"{gained:+.{digits}f}"
        if freedom > 0:
            written += f" [{gained - margin:+.{digits}f}, {gained + margin:+.{digits}f}]"
        rows.append([factor, name, *cells, written])
    steps = max(run.env_steps[-1] for run in runs) / 1e6
    header = ["", "setting", f"at {steps / 2:.2g}M", f"at {steps:.2g}M", "against the base"]
    return header, rows


def _seeds(values: Array, digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)
