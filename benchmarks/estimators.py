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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.tabular import (
    TabularMDP,
    action_values,
    exact_gradient,
    exact_hessian,
    exact_meta_gradient,
    hessian,
    random_mdp,
    sample,
    table_params,
    table_policy,
    values,
    visits,
)
from maml_rl.algorithm.advantages import AdvantageEstimator, Targets
from maml_rl.algorithm.baselines import Baseline, Bootstrap, LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.losses import (
    Loss,
    dice,
    dice_terms,
    likelihood_ratio,
    loaded_dice,
    loaded_dice_terms,
    log_likelihood,
)
from maml_rl.algorithm.policies import Distribution
from maml_rl.algorithm.returns import step_in_episode
from maml_rl.algorithm.rollout import Rollout, masked_mean

ROOT = Path(__file__).resolve().parent.parent
PROBLEMS = 10  # random MDPs, of seeds 0 to 9
CHUNK = 32  # trajectories an estimate is made of before averaging
TOTAL = 8192  # trajectories per problem
SIZES = (32, 128, 512, 2048, 4096)
CRITIC_SIZES, CRITIC_TOTAL = (128, 1024), 2048
STEP_SIZE = 10.0  # of the inner step, in the unit of the return: Liu et al. 2022
OFF_POLICY = 0.5  # share of a deterministic policy in the target policy; the rest is uniform
LIMIT = 0  # in the place of a number of trajectories: as many as one likes
FIRST_ORDER = "no Hessian (first-order MAML)"
CRITIC_NOISE = 1.0  # standard deviation of the critic's error, in |V| / S


class TableBaseline:
    """Values known beforehand: a critic that is not fitted to the rollout it serves."""

    def __init__(self, table: Tensor) -> None:
        self.table = table  # [T, S], or [M, T, S] for M tasks of their own

    def fit(self, rollout: Rollout, returns: Tensor, bootstrap: Bootstrap | None = None) -> Tensor:
        """No weights, [M, 0]."""
        return returns.new_zeros(len(returns), 0)

    def values(self, weights: Tensor, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Look the values up, [M, T, B]; after the last step there is nothing, [M, B]."""
        state, time = rollout.observations.argmax(-1), step_in_episode(rollout.first).long()
        task = torch.arange(len(state))[:, None, None]
        table = self.table.expand(len(state), -1, -1)
        return table[task, time, state], torch.zeros_like(rollout.rewards[:, 0])


def stepwise_importance_sampling(
    distribution: Distribution, rollout: Rollout, targets: Targets
) -> Tensor:
    """DiCE's loss against the policy that sampled, [M] (Tang et al. 2021, section 3.1)."""
    log_ratios = distribution.log_prob(rollout.actions) - rollout.log_probs
    return -masked_mean(dice_terms(log_ratios, targets, rollout.first), rollout.mask)


def doubly_robust(distribution: Distribution, rollout: Rollout, targets: Targets) -> Tensor:
    """Loaded DiCE's loss against the policy that sampled, [M] (Tang et al., equation 3).

    Advantages must be Monte-Carlo returns less values: then each reward's weight telescopes to the
    product of all ratios up to its own, and the advantages need no ratios of their own.
    """
    log_ratios = distribution.log_prob(rollout.actions) - rollout.log_probs
    return -masked_mean(loaded_dice_terms(log_ratios, targets, rollout.first), rollout.mask)


@dataclass(frozen=True)
class Estimator:
    """A loss and the critic its targets are made with."""

    name: str
    loss: Loss
    critic: str  # "none", "noisy", "exact" or "fitted"


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


class Derivatives(NamedTuple):
    """Derivatives of the return in the flattened table of logits, R estimates of them."""

    gradient: Tensor  # [R, S * A]
    hessian: Tensor  # [R, S * A, S * A]

    def averaged(self, count: int) -> Derivatives:
        """Average every `count` estimates."""
        return Derivatives(*(leaf.unflatten(0, (-1, count)).mean(1) for leaf in self))


class Problem:
    """A problem, the policy to differentiate at, the one that sampled, and the exact answers.

    Args:
        mdp: the problem.
        logits: of the policy whose return is differentiated, [S, A].
        behaviour: logits of the policy that samples, [S, A].
        noise: the critic's error in each state, in |V| / S: [S].
    """

    def __init__(self, mdp: TabularMDP, logits: Tensor, behaviour: Tensor, noise: Tensor) -> None:
        self.mdp, self.logits, self.behaviour, self.noise = mdp, logits, behaviour, noise
        self.gradient = exact_gradient(mdp, logits).flatten()
        self.hessian = exact_hessian(mdp, logits)
        self.meta_gradient = exact_meta_gradient(mdp, logits, STEP_SIZE).flatten()
        adapted = logits + STEP_SIZE * self.gradient.view(logits.shape)
        self.adapted_gradient = exact_gradient(mdp, adapted).flatten()

    @classmethod
    def random(cls, seed: int, off_policy: float) -> Problem:
        """Draw a problem: a uniform policy samples, the target mixes in a deterministic one."""
        rng = np.random.default_rng(seed)
        mdp = random_mdp(rng)
        shape = (mdp.num_states, mdp.num_actions)
        greedy = torch.zeros(shape, dtype=torch.float64)
        greedy[torch.arange(shape[0]), torch.from_numpy(rng.integers(shape[1], size=shape[0]))] = 1
        uniform = torch.full(shape, 1 / shape[1], dtype=torch.float64)
        logits = ((1 - off_policy) * uniform + off_policy * greedy).log()
        noise = torch.from_numpy(CRITIC_NOISE * rng.normal(size=shape[0]))
        return cls(mdp, logits, uniform.log(), noise)

    def critic(self, kind: str, logits: Tensor) -> Baseline:
        """A critic of policies [..., S, A]."""
        if kind == "fitted":
            return LinearFeatureBaseline()
        return TableBaseline(self.table(kind, logits))

    def table(self, kind: str, logits: Tensor) -> Tensor:
        """A critic's values [..., T, S]: zeros, exact, or with a fixed error per state."""
        exact = values(self.mdp, logits)
        if kind == "none":
            return torch.zeros_like(exact)
        scale = exact[..., :1, :].norm(dim=-1, keepdim=True) / self.mdp.num_states
        return exact + scale * self.noise * {"exact": 0.0, "noisy": 1.0}[kind]

    def targets(self, rollout: Rollout, critic: Baseline) -> Targets:
        """The library's targets, as the derivatives of the discounted return want them."""
        estimate = AdvantageEstimator(
            critic, self.mdp.discount, 1.0, standardize=False, discounted_visits=True
        )
        return estimate(rollout)

    def limit(self, estimator: Estimator) -> Tensor | None:
        """Mean Hessian of an unlimited batch where it has a closed form.

        Both forms that have one see each step alone: the Hessian of
        sum_t gamma^t sum_s d_t(s) sum_a w(a|s) A_t(s, a), where w is the target policy, or the
        sampling policy times the target's logarithm.
        """
        if estimator.critic == "fitted":
            return None
        exact = values(self.mdp, self.behaviour)
        following = torch.cat([exact[1:], torch.zeros_like(exact[:1])])
        advantages = action_values(self.mdp, following)
        advantages = advantages - self.table(estimator.critic, self.behaviour)[..., None]
        powers = self.mdp.discount ** torch.arange(self.mdp.horizon, dtype=torch.float64)
        weights = powers[:, None, None] * visits(self.mdp, self.behaviour)[..., None] * advantages
        if estimator.loss is likelihood_ratio:
            return hessian(lambda table: (weights * table.softmax(-1)).sum(), self.logits)
        if estimator.loss is log_likelihood:
            weights = weights * self.behaviour.softmax(-1)
            return hessian(lambda table: (weights * table.log_softmax(-1)).sum(), self.logits)
        return None

    def meta(self, hessians: Tensor) -> Tensor:
        """Meta-gradients [R, S * A] of exact gradients and Hessians [R, S * A, S * A]."""
        outer = self.adapted_gradient
        return outer + STEP_SIZE * (hessians @ outer[:, None])[..., 0]


def differentiate(problem: Problem, loss: Loss, rollout: Rollout, targets: Targets) -> Derivatives:
    """Differentiate minus T times a loss twice in the logits: M estimates."""
    shape = problem.logits.shape
    logits = problem.logits.expand(len(rollout.rewards), -1, -1).clone().requires_grad_()
    distribution = table_policy(problem.mdp).distribution(
        table_params(logits), rollout.observations
    )[0]
    total = -problem.mdp.horizon * loss(distribution, rollout, targets).sum()
    (gradient,) = torch.autograd.grad(total, logits, create_graph=True)
    rows = torch.zeros(len(logits), *shape, *shape, dtype=torch.float64)
    for state in rollout.observations.sum((0, 1, 2)).nonzero().flatten().tolist():
        for action in range(shape[1]):
            entry = gradient[:, state, action].sum()
            rows[:, state, action] = torch.autograd.grad(entry, logits, retain_graph=True)[0]
    return Derivatives(gradient.detach().flatten(1), rows.flatten(3).flatten(1, 2))


def estimate(
    problem: Problem, estimator: Estimator, chunk: int, total: int, seed: int
) -> Derivatives:
    """Estimate from chunks of trajectories, the same ones for every estimator of one seed."""
    generator = torch.Generator().manual_seed(seed)
    critic = problem.critic(estimator.critic, problem.behaviour)
    group = min(
        max(1, 512 // chunk), total // chunk
    )  # tasks at a time, so that intermediates stay in the cache
    estimates = []
    for _ in range(total // (chunk * group)):
        policies = problem.behaviour.expand(group, -1, -1)
        rollout = sample(problem.mdp, policies, chunk, generator)
        targets = problem.targets(rollout, critic)
        estimates.append(differentiate(problem, estimator.loss, rollout, targets))
    return Derivatives(*(torch.cat(leaves) for leaves in zip(*estimates, strict=True)))


def sampled_gradient(problem: Problem, adapted: Tensor, size: int, seed: int) -> Tensor:
    """Estimate the gradient at adapted policies [R, S, A] from a batch of their own, [R, S * A]."""
    generator = torch.Generator().manual_seed(seed)
    rollout = sample(problem.mdp, adapted, size, generator)
    targets = problem.targets(rollout, problem.critic("noisy", adapted))
    logits = adapted.clone().requires_grad_()
    policy = table_policy(problem.mdp)
    distribution = policy.distribution(table_params(logits), rollout.observations)[0]
    total = -problem.mdp.horizon * likelihood_ratio(distribution, rollout, targets).sum()
    return torch.autograd.grad(total, logits)[0].flatten(1)


def score(estimates: Tensor, truth: Tensor) -> dict[str, float]:
    """Compare R estimates [R, P] with the truth [P].

    The squared bias is |mean error|^2 / |truth|^2, less what the noise of a mean over R adds to it
    on average; the spread is the root of the mean squared distance from the mean, over |truth|.
    """
    count, size = len(estimates), truth.norm()
    mean = estimates.mean(0)
    variance = ((estimates - mean) ** 2).sum() / max(count - 1, 1)
    error = ((mean - truth) ** 2).sum() - variance / count
    centred = estimates - estimates.mean(-1, keepdim=True)
    return {
        "bias_squared": float(error / size**2),
        "spread": float(variance.sqrt() / size),
        "cosine": float(cosines(estimates, truth).mean()),
        "correlation": float(cosines(centred, truth - truth.mean()).mean()),
    }


def cosines(estimates: Tensor, truth: Tensor) -> Tensor:
    """Cosine of each row of [R, P] with [P]; 0 for a row of zeros."""
    return torch.nn.functional.cosine_similarity(estimates, truth[None], dim=-1)


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
