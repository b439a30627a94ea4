"""Every metric of a run: its meaning, unit, and the words that the console and the report use.

docs/metrics.md, the report's diagnostics and the live display are made from this table.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Metric(NamedTuple):
    """One row of the table."""

    names: str  # of one key or of several; k is the number of an inner step
    meaning: str
    source: str  # what computes it
    unit: str = ""
    title: str = ""  # of its panel in the report's diagnostics
    word: str = ""  # in the console's line of diagnostics
    form: str = ".3g"  # of its value there

    @property
    def keys(self) -> list[str]:
        """Its keys in metrics.jsonl."""
        return self.names.split(", ")


RETURNS = (
    Metric("iteration", "outer steps taken", "`Trainer`"),
    Metric(
        "env_steps", "environment steps of training so far, validation not counted", "`Trainer`"
    ),
    Metric(
        "return/step_k",
        "return after k inner steps, on episodes collected with those parameters",
        "`mean_returns`",
    ),
    Metric(
        "return/first_episode, return/last_episode",
        "with trials of several episodes (`algorithm=rl2`): return of a trial's first and of its "
        "last episode; `return/step_0` is then the mean over all of them",
        "`trial_returns`",
    ),
    Metric(
        "gain/step_k",
        "`return/step_k` less the one before it: what inner step k brought",
        "`Trainer`",
        title="gain of each inner step (return)",
    ),
    Metric(
        "adaptation_gain",
        "the last `return/step_k` less `return/step_0`; 0 without an inner loop",
        "`Trainer`",
        title="gain of adaptation (return)",
    ),
    Metric(
        "success/step_k", "share of episodes with a step of success, in [0, 1]", "`success_rates`"
    ),
    Metric(
        "validation/return/step_k",
        "return on the stored validation tasks, with the meta-parameters after this iteration; "
        "every `trainer.validate_every` iterations",
        "`Trainer.validate`",
    ),
    Metric(
        "validation/return/first_episode, validation/return/last_episode",
        "the same on the stored validation tasks",
        "`Trainer.validate`",
    ),
    Metric("validation/success/step_k", "success on those tasks", "`Trainer.validate`"),
    Metric(
        "unstable_episodes",
        "episodes cut off because their simulation became unstable, with "
        "`sampler.on_unstable=end_episode`",
        "`unstable_episodes`",
    ),
    Metric("validation/unstable_episodes", "the same in validation", "`Trainer.validate`"),
)
INNER = (
    Metric(
        "inner/kl",
        "KL(policy before an inner step, policy after it) on the rollout the step learnt from; "
        "mean over its steps and over inner steps. It says how far one inner step moves a policy",
        "`MetaLearner.diagnostics`",
        "nats",
        "KL divergence of the inner steps",
        "inner KL",
    ),
    Metric(
        "inner/grad_norm",
        "norm of the gradient an inner step follows, in what adapts; mean over inner steps",
        "`MetaLearner.diagnostics`",
        "loss per parameter",
        "norm of the inner gradient",
    ),
    Metric(
        "inner/grad_cosine",
        "mean cosine between two tasks' gradients in the first inner step, where all tasks have "
        "the same parameters. Near 1: the tasks ask for the same change, so there is little to "
        "adapt to; near -1 (two tasks) they ask for opposite ones",
        "`mean_cosine`",
        "in [-1, 1]",
        "cosine between tasks' inner gradients",
        "inner gradients' cosine",
        ".2f",
    ),
)
OUTER = (
    Metric(
        "outer/loss",
        "the outer loss where the iteration's rollouts were collected, mean over tasks; with "
        "standardized advantages about 0",
        "the outer optimizer",
        "advantage",
        "outer loss",
    ),
    Metric(
        "outer/loss_after",
        "the same on the same rollouts after the outer step; below `outer/loss` where it improved",
        "the outer optimizer",
        "advantage",
        "outer loss",
    ),
    Metric(
        "outer/kl",
        "KL(adapted policies at the start of the iteration, after the outer step) on the rollout "
        "after adaptation; mean over steps and tasks; TRPO keeps it at or below `outer.max_kl`, "
        "PPO takes no further epoch beyond it",
        "`PostAdaptationObjective.measure`",
        "nats",
        "KL divergence of the outer step",
        "outer KL",
    ),
    Metric(
        "outer/accepted",
        "1 where the outer step was taken, 0 where TRPO's line search found none; always 1 for "
        "the others",
        "the outer optimizer",
        "0 or 1",
        "outer step accepted (1) or not (0)",
    ),
    Metric(
        "outer/gradient_norm",
        "norm of the meta-gradient, before `max_grad_norm` cuts it; PPO: of the first epoch",
        "`direction_metrics`",
        "loss per parameter",
        "norm of the meta-gradient",
    ),
    Metric(
        "outer/gradient_cosine",
        "mean cosine between two tasks' meta-gradients; PPO: of the first epoch. Near 0 the "
        "tasks' gradients are mostly noise or conflict, and more tasks or episodes help",
        "`direction_metrics`",
        "in [-1, 1]",
        "cosine between tasks' meta-gradients",
        "outer gradients' cosine",
        ".2f",
    ),
    Metric(
        "outer/line_search_steps",
        "TRPO: sizes tried, of `outer.line_search_steps`",
        "`TRPO`",
        "count",
        "line-search steps",
    ),
    Metric(
        "outer/line_search_rejections",
        "TRPO: sizes refused; all that were tried where none was accepted",
        "`TRPO`",
        "count",
        "steps that the line search rejected",
        "rejections",
        ".0f",
    ),
    Metric(
        "outer/inner_kl",
        "PPO and ProMP: KL(policy that collected, the same policy after the outer step) on the "
        "rollouts before inner steps; mean over steps, inner steps and tasks (Rothfuss et al. "
        "2019, equation 16)",
        "`terms.inner_kl`",
        "nats",
        "KL divergence of the outer step, before inner steps",
    ),
    Metric(
        "outer/epochs",
        "PPO and ProMP: epochs taken, fewer than `outer.epochs` where `outer.max_kl` ended them",
        "`PPO`",
        "count",
        "epochs of the outer step",
    ),
    Metric(
        "outer/inner_kl_coefficient",
        "PPO and ProMP: the penalty's coefficient in this iteration",
        "`PPO`",
        "advantage per nat",
        "coefficient of the penalty on the inner KL",
    ),
    Metric(
        "outer/displacement_norm",
        "Reptile: norm of the mean of (adapted - initial) parameters",
        "`direction_metrics`",
        "parameter",
        "norm of the mean displacement",
    ),
    Metric(
        "outer/displacement_cosine",
        "Reptile: mean cosine between two tasks' displacements",
        "`direction_metrics`",
        "in [-1, 1]",
        "cosine between tasks' displacements",
    ),
)
BASELINE = (
    Metric(
        "baseline/explained_variance",
        "1 - mean((returns to go - baseline)^2) / variance of the returns to go, on the rollout "
        "before adaptation; mean over tasks. 1: the baseline knows all, 0: no more than the mean",
        "`AdvantageEstimator`",
        "at most 1",
        "explained variance of the baseline",
        "explained variance",
        ".2f",
    ),
    Metric(
        "policy/std",
        "mean over action dimensions of the initialization's standard deviation after the outer "
        "step, before scale and clip",
        "`GaussianMLP.metrics`",
        "action",
        "standard deviation of the policy",
        "std",
        ".2f",
    ),
)
TIME = (
    Metric(
        "seconds",
        "of training so far, over resumed sessions; checkpoints and start-up not counted",
        "`Trainer`",
        "s",
    ),
    Metric("seconds/iteration", "of this iteration, validation included", "`Stopwatch`", "s"),
    Metric(
        "seconds/sampling",
        "collection of all rollouts, with baseline, advantages and inner steps",
        "`Stopwatch`",
        "s",
    ),
    Metric("seconds/outer_loop", "the outer step", "`Stopwatch`", "s"),
    Metric(
        "seconds/diagnostics", "what the numbers of this page cost beyond that", "`Stopwatch`", "s"
    ),
    Metric("seconds/validation", "validation, where there was one", "`Stopwatch`", "s"),
    Metric(
        "seconds/share_sampling",
        "`seconds/sampling` / `seconds/iteration`",
        "`Trainer`",
        "in [0, 1]",
        word="sampling",
        form=".0%",
    ),
    Metric(
        "seconds/share_outer_loop",
        "`seconds/outer_loop` / `seconds/iteration`",
        "`Trainer`",
        "in [0, 1]",
        word="learning",
        form=".0%",
    ),
    Metric(
        "seconds/steps_per_second",
        "training's environment steps of the iteration / `seconds/iteration`",
        "`Trainer`",
        "1/s",
    ),
)
SECTIONS = {  # of docs/metrics.md
    "returns": RETURNS,
    "inner": INNER,
    "outer": OUTER,
    "baseline": BASELINE,
    "time": TIME,
}
METRICS = tuple(metric for section in SECTIONS.values() for metric in section)
BY_KEY = {key: metric for metric in METRICS for key in metric.keys}
NOT_LAPS = ("seconds/iteration", "seconds/steps_per_second", "seconds/share_")


def metric_of(key: str) -> Metric | None:
    """The table's row for a key of metrics.jsonl; None for a metric of a user's class."""
    return BY_KEY.get(re.sub(r"/step_\d+$", "/step_k", key))


def is_diagnostic(key: str) -> bool:
    """Whether the report draws a metric among the diagnostics: no return, success or time."""
    metric = metric_of(key)
    return not key.startswith("seconds") if metric is None else bool(metric.title)


def is_lap(key: str) -> bool:
    """Whether a metric is the seconds of one part of an iteration."""
    return key.startswith("seconds/") and not key.startswith(NOT_LAPS)


def panel_of(key: str) -> tuple[str, str]:
    """Title of the report's panel that shows a metric, and the name of its line there."""
    family = re.sub(r"(/step_\d+|_after)$", "", key)
    metric = metric_of(key)
    title = family if metric is None else metric.title
    if key == family:
        return title, "before the step"
    if key.endswith("_after"):
        return title, "after the step"
    number = int(key.rpartition("_")[2])
    return title, f"after {number} step{'' if number == 1 else 's'}"


def details(values: dict[str, float]) -> str:
    """The diagnostics that an iteration has, in a line for the console."""
    gains = [f"{value:+.3g}" for name, value in values.items() if name.startswith("gain/step_")]
    parts = [f"gain {' '.join(gains)}"] if gains else []
    for metric in METRICS:
        if metric.word and metric.keys[0] in values:
            parts.append(f"{metric.word} {values[metric.keys[0]]:{metric.form}}")
    return "  ".join(parts)


def metric_table(section: str) -> str:
    """One section of docs/metrics.md: a table in Markdown."""
    metrics = SECTIONS[section]
    with_units = any(metric.unit for metric in metrics)
    header = ["key", "what it is", *(["unit"] if with_units else []), "from"]
    rows = [header, ["---"] * len(header)]
    for metric in metrics:
        keys = ", ".join(f"`{key}`" for key in metric.keys)
        unit = [metric.unit] if with_units else []
        rows.append([keys, metric.meaning, *unit, metric.source])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
