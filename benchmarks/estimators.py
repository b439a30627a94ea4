"""Quality of the inner losses' derivatives: `python -m benchmarks.estimators [--draw]`.

Draws random tabular problems, estimates gradient, Hessian and MAML's one-step meta-gradient with
the library's own losses and compares them with the exact ones. Writes results/estimators/*.jsonl,
draws docs/images/estimators.png and prints the tables of docs/estimators.md. `--draw` only draws
and prints what is kept. One torch thread, about seven minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.derivatives import (
    STEP_SIZE,
    Derivatives,
    Estimator,
    Problem,
    doubly_robust,
    estimate,
    sampled_gradient,
    score,
    stepwise_importance_sampling,
)
from maml_rl.algorithm.inner_loop.losses import dice, likelihood_ratio, loaded_dice, log_likelihood

ROOT = Path(__file__).resolve().parent.parent
PROBLEMS = 10  # random MDPs, of seeds 0 to 9
TOTAL = 8192  # trajectories per problem
SIZES = (32, 128, 512, 2048, 4096)
CRITIC_SIZES, CRITIC_TOTAL = (128, 1024), 2048
OFF_POLICY = 0.5  # share of a deterministic policy in the target policy; the rest is uniform
LIMIT = 0  # in the place of a number of trajectories: as many as one likes
FIRST_ORDER = "no Hessian (first-order MAML)"

ON = (
    Estimator("LVC (likelihood ratio)", likelihood_ratio, "noisy"),
    Estimator("Loaded DiCE, decay 1", loaded_dice(1.0), "noisy"),
    Estimator("Loaded DiCE, decay 0.5", loaded_dice(0.5), "noisy"),
    Estimator("log-likelihood (naive)", log_likelihood, "noisy"),
    Estimator("DiCE with first-order baseline", dice, "noisy"),
    Estimator("DiCE", dice, "none"),
)
OFF = (
    Estimator("LVC (likelihood ratio)", likelihood_ratio, "noisy"),
    Estimator("Loaded DiCE, decay 1", doubly_robust, "noisy"),
    Estimator("DiCE with first-order baseline", stepwise_importance_sampling, "noisy"),
    Estimator("DiCE", stepwise_importance_sampling, "none"),
)
CRITICS = tuple(
    Estimator(name, loss, critic)
    for critic in ("none", "exact", "fitted")
    for name, loss in (
        ("LVC (likelihood ratio)", likelihood_ratio),
        ("Loaded DiCE, decay 1", loaded_dice(1.0)),
        ("log-likelihood (naive)", log_likelihood),
        ("DiCE", dice),
    )
)
HESSIAN, GRADIENT = "Hessian", "gradient"
META, ALL = "meta-gradient, sampled Hessian", "meta-gradient, all sampled"


def quantities(
    problem: Problem, derivatives: Derivatives, size: int, seed: int, on_policy: bool
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Each estimated quantity by name: R estimates [R, P] and the truth [P]."""
    yield GRADIENT, derivatives.gradient, problem.gradient
    yield HESSIAN, derivatives.hessian.flatten(1), problem.hessian.flatten()
    yield META, problem.meta(derivatives.hessian), problem.meta_gradient
    if not on_policy:
        return
    adapted = problem.logits + STEP_SIZE * derivatives.gradient.unflatten(1, problem.logits.shape)
    outer = sampled_gradient(problem, adapted, size, seed)
    product = (derivatives.hessian @ outer[..., None])[..., 0]
    yield ALL, outer + STEP_SIZE * product, problem.meta_gradient


def batches(
    problem: Problem, estimator: Estimator, sizes: tuple[int, ...], total: int, seed: int
) -> Iterator[tuple[int, Derivatives]]:
    """Estimate from batches of every size, at a total number of trajectories.

    Estimates are averages over trajectories, so that those of the smallest size make the others;
    a critic fitted to its own batch needs batches of its own.
    """
    if estimator.critic == "fitted":
        yield from ((size, estimate(problem, estimator, size, total, seed)) for size in sizes)
    else:
        chunks = estimate(problem, estimator, sizes[0], total, seed)
        yield from ((size, chunks.averaged(size // sizes[0])) for size in sizes)


def limits(
    problem: Problem, estimators: tuple[Estimator, ...]
) -> Iterator[tuple[str, str, str, Tensor, Tensor]]:
    """Estimator, critic, quantity, mean and truth of unlimited batches."""
    for estimator in estimators:
        hessian = problem.limit(estimator)
        if hessian is None:
            continue
        key = (estimator.name, estimator.critic)
        yield *key, HESSIAN, hessian.flatten()[None], problem.hessian.flatten()
        yield *key, META, problem.meta(hessian[None]), problem.meta_gradient
    hessian = torch.zeros_like(problem.hessian)[None]
    yield FIRST_ORDER, "", META, problem.meta(hessian), problem.meta_gradient


def measure(
    setting: str, estimators: tuple[Estimator, ...], sizes: tuple[int, ...], total: int
) -> list[dict[str, Any]]:
    """Score estimators on all problems: a row for each estimator, quantity and batch size."""
    scores: dict[tuple[str, str, str, int], list[dict[str, float]]] = {}
    for seed in range(PROBLEMS):
        problem = Problem.random(seed, OFF_POLICY if setting == "off-policy" else 0.0)
        for estimator in estimators:
            for size, derivatives in batches(problem, estimator, sizes, total, 1000 + seed):
                for quantity, estimates, truth in quantities(
                    problem, derivatives, size, 2000 + seed, setting == "on-policy"
                ):
                    key = (estimator.name, estimator.critic, quantity, size)
                    scores.setdefault(key, []).append(score(estimates, truth))
        for name, critic, quantity, mean, truth in limits(problem, estimators):
            key = (name, critic, quantity, LIMIT)
            scores.setdefault(key, []).append(score(mean, truth))
        print(f"{setting}: problem {seed} done", flush=True)
    return [summary(setting, *key, rows) for key, rows in scores.items()]


def summary(
    setting: str,
    estimator: str,
    critic: str,
    quantity: str,
    size: int,
    rows: list[dict[str, float]],
) -> dict[str, Any]:
    """Average scores over problems, with the standard error of the mean correlation."""
    means = {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
    means["bias"] = max(means.pop("bias_squared"), 0.0) ** 0.5
    means["error"] = statistics.stdev(row["correlation"] for row in rows) / len(rows) ** 0.5
    return {
        "setting": setting,
        "estimator": estimator,
        "critic": critic,
        "quantity": quantity,
        "trajectories": size,
        **{name: float(f"{value:.4g}") for name, value in means.items()},
    }


def read() -> list[dict[str, Any]]:
    """The stored rows."""
    return [
        json.loads(line)
        for path in sorted((ROOT / "results" / "estimators").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def select(rows: list[dict[str, Any]], **values_of: Any) -> list[dict[str, Any]]:
    """Rows that have these values."""
    return [row for row in rows if all(row[name] == value for name, value in values_of.items())]


def table(rows: list[dict[str, Any]], measure_name: str, sizes: tuple[int, ...]) -> str:
    """One measure of one setting and quantity as a Markdown table, sizes as columns."""
    heads = ["unlimited" if size == LIMIT else str(size) for size in sizes]
    lines = [
        f"| estimator | critic | {' | '.join(heads)} |",
        f"| --- | --- |{' --- |' * len(sizes)}",
    ]
    for name, critic in dict.fromkeys((row["estimator"], row["critic"]) for row in rows):
        by_size = {row["trajectories"]: row for row in select(rows, estimator=name, critic=critic)}
        cells = [number(by_size[size][measure_name]) if size in by_size else "" for size in sizes]
        lines.append(f"| {name} | {critic} | {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Write a number with two decimals, a large one with none."""
    return f"{value:.2f}".replace("-0.00", "0.00") if abs(value) < 10 else f"{value:.0f}"


TABLES = (
    ("on-policy", HESSIAN, "correlation", (*SIZES, LIMIT)),
    ("on-policy", HESSIAN, "spread", SIZES),
    ("on-policy", HESSIAN, "bias", (SIZES[0], LIMIT)),
    ("on-policy", META, "correlation", (*SIZES, LIMIT)),
    ("on-policy", META, "spread", SIZES),
    ("on-policy", ALL, "correlation", SIZES),
    ("on-policy", ALL, "spread", SIZES),
    ("on-policy", ALL, "bias", SIZES),
    ("on-policy", GRADIENT, "correlation", SIZES),
    ("on-policy", GRADIENT, "spread", SIZES),
    ("off-policy", HESSIAN, "correlation", (*SIZES, LIMIT)),
    ("off-policy", HESSIAN, "spread", SIZES),
    ("off-policy", HESSIAN, "bias", (SIZES[0], LIMIT)),
    ("off-policy", META, "correlation", (*SIZES, LIMIT)),
    ("off-policy", GRADIENT, "correlation", SIZES),
    ("off-policy", GRADIENT, "bias", SIZES[:1]),
    ("critics", HESSIAN, "correlation", (*CRITIC_SIZES, LIMIT)),
    ("critics", HESSIAN, "spread", CRITIC_SIZES),
    ("critics", HESSIAN, "bias", (CRITIC_SIZES[0], LIMIT)),
    ("critics", META, "correlation", (*CRITIC_SIZES, LIMIT)),
)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the tables."""
    for setting, quantity, name, sizes in TABLES:
        print(f"\n{setting}, {quantity}: {name}\n")
        chosen = select(rows, setting=setting, quantity=quantity)
        print(table([row for row in chosen if row["trajectories"] in sizes], name, sizes))


COLORS = {estimator.name: f"C{index}" for index, estimator in enumerate(ON)}
LABELS = {"correlation": "correlation with the truth", "spread": "spread / |truth|"}
PANELS = (
    ("on-policy", HESSIAN, "correlation"),
    ("on-policy", META, "correlation"),
    ("on-policy", ALL, "correlation"),
    ("off-policy", HESSIAN, "correlation"),
    ("on-policy", HESSIAN, "spread"),
    ("on-policy", ALL, "spread"),
)


def panel(axes: Axes, rows: list[dict[str, Any]], setting: str, quantity: str, name: str) -> None:
    """Draw one measure against the batch size: a line per estimator, its limit dotted."""
    chosen = select(rows, setting=setting, quantity=quantity)
    for label, color in COLORS.items():
        line = [row for row in select(chosen, estimator=label) if row["trajectories"] != LIMIT]
        sizes = [row["trajectories"] for row in line]
        errors = [row["error"] if name == "correlation" else 0.0 for row in line]
        axes.errorbar(sizes, [row[name] for row in line], errors, color=color, label=label)
    if name == "correlation":
        for row in select(chosen, trajectories=LIMIT):
            color = COLORS.get(row["estimator"], "grey")
            shown = None if row["estimator"] in COLORS else row["estimator"]
            axes.axhline(row[name], color=color, linestyle=":", linewidth=1.5, label=shown)
        axes.set_ylim(-0.03, 1.03)
    else:
        axes.set_yscale("log")
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.set(title=f"{quantity} ({setting})", xlabel="trajectories", ylabel=LABELS[name])
    axes.grid(alpha=0.3, which="both")


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw the figure."""
    figure = Figure(figsize=(14, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 3)
    for axes, chosen in zip(grid.flat, PANELS, strict=True):
        panel(axes, rows, *chosen)
    handles, labels = grid[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.savefig(ROOT / "docs" / "images" / "estimators.png", dpi=90)


STUDIES = {
    "on-policy": (ON, SIZES, TOTAL),
    "off-policy": (OFF, SIZES, TOTAL),
    "critics": (CRITICS, CRITIC_SIZES, CRITIC_TOTAL),
}


def main() -> None:
    """Measure unless only drawing is asked for; draw and print what is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", action="store_true", help="only draw and print what is kept")
    if not parser.parse_args().draw:
        torch.set_num_threads(1)
        folder = ROOT / "results" / "estimators"
        folder.mkdir(parents=True, exist_ok=True)
        for setting, study in STUDIES.items():
            lines = [json.dumps(row) for row in measure(setting, *study)]
            (folder / f"{setting}.jsonl").write_text("\n".join(lines) + "\n")
    rows = read()
    draw(rows)
    show(rows)


if __name__ == "__main__":
    main()
