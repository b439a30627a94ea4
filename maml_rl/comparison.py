"""Comparing runs: algorithms side by side, over seeds and tasks, on equal terms or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.checks import UserError
from maml_rl.plotting import Overlay, comparison_figure, save_png
from maml_rl.randomness import Key, Purpose
from maml_rl.run_data import RunData, read_run
from maml_rl.run_folder import write_json
from maml_rl.statistics import (
    Statistic,
    Values,
    improvement,
    interquartile_mean,
    mean,
    statistic_interval,
)

RESAMPLES = 5000
WINDOW = 10  # iterations of a learning curve's running mean
GRID = 200  # points of a mean learning curve
SIZES = ("num_tasks", "num_episodes")
NOT_COMPARED = (  # settings that do not make another algorithm of a run
    *("seed", "device", "resume", "requires", "sampler", "logger", "hydra"),
    "trainer.checkpoint_every",
)
MOST_SETTINGS = 3  # of a label
LONG_LABEL = 30  # characters, too many for the head of a column

Table = tuple[list[str], list[list[str]]]  # header, rows


@dataclass(frozen=True)
class Group:
    """Runs of one algorithm with one configuration: N seeds."""

    label: str
    settings: dict[str, Any]  # those in which groups of the same algorithm differ
    runs: list[RunData]

    def returns(self, step: int) -> Values:
        """Return what evaluation found after `step` inner steps, [N, M]."""
        return np.stack([run.returns[step] for run in self.runs])

    def success(self, step: int) -> Values | None:
        """Return the success rates likewise; None where a run has none."""
        curves = [(run.evaluation or {}).get("success") for run in self.runs]
        if any(curve is None or len(curve) <= step for curve in curves):
            return None
        return np.array([curve[step]["per_task"] for curve in curves if curve])


@dataclass(frozen=True)
class Comparison:
    """Groups and the statistics that comparison.json holds."""

    groups: list[Group]
    result: dict[str, Any]

    @property
    def title(self) -> str:
        """Environment, groups and runs in a few words."""
        runs = sum(len(group.runs) for group in self.groups)
        return f"{self.result['env']}: {_count(runs, 'run')}, {_count(len(self.groups), 'group')}"

    def overlays(self) -> list[Overlay]:
        """Return what the figure draws of each group."""
        return [
            Overlay(
                label=group.label,
                runs=[smoothed(run) for run in group.runs if run.metrics],
                mean=mean_learning_curve(group.runs),
                curve=found["curve"],
            )
            for group, found in zip(self.groups, self.result["groups"], strict=True)
        ]


def compare(
    folders: Sequence[Path], out: Path, evaluate: Callable[[Path], None] | None = None
) -> Comparison:
    """Compare runs; write comparison.json, comparison.md and comparison.png into the folder `out`.

    Args:
        folders: of the runs (`maml_rl.run_data.find_runs` lists them); the first one's group is
            what the others are compared with.
        out: made where it is missing.
        evaluate: called with the folder of each run that has no evaluation, to make one; without
            it such a run is refused.

    Raises:
        UserError: where a run cannot be compared, or was evaluated on other terms than the first.
    """
    runs = [evaluated(folder, evaluate) for folder in folders]
    comparison = compared(runs)
    write_json(out / "comparison.json", comparison.result)
    (out / "comparison.md").write_text(markdown(comparison))
    save_png(comparison_figure(comparison.overlays(), comparison.title), out / "comparison.png")
    return comparison


def evaluated(folder: Path, evaluate: Callable[[Path], None] | None = None) -> RunData:
    """Read a run that has an evaluation, or is given one.

    Raises:
        UserError: saying what to run where there is none.
    """
    run = read_run(folder)
    if not run.config:
        raise UserError(f"{folder}: {run.faults[0]}")
    if run.evaluation is None and evaluate is not None:
        evaluate(folder)
        run = read_run(folder)
    if run.evaluation is None:
        if not run.folder.checkpoint_names():
            raise UserError(
                f"{folder} has neither an evaluation nor a checkpoint: leave it out, or train it."
            )
        damaged = [fault for fault in run.faults if "evaluation.json" in fault]
        why = damaged[0].rstrip(".") if damaged else "it was not evaluated"
        raise UserError(f"{folder}: {why}; python evaluate.py run={folder} evaluates it.")
    return run


def compared(runs: Sequence[RunData]) -> Comparison:
    """Compute the statistics of runs that have an evaluation.

    Raises:
        UserError: where they were not evaluated on equal terms.
    """
    check_equal_terms(runs)
    groups = grouped(runs)
    steps = min(len(run.returns) for run in runs) - 1
    headline = min(steps, max(1, *(_trained_steps(run) for run in runs)))
    first = groups[0]
    result = {
        "env": runs[0].env,
        **{name: (runs[0].evaluation or {})[name] for name in ("split", *SIZES)},
        "later_scale": (runs[0].evaluation or {}).get("later_scale"),
        "compared_with": first.label,
        "headline_step": headline,
        "interval": "95 % bootstrap over runs and tasks",
        "notes": list(_notes(groups, steps)),
        "groups": [_statistics(group, first, steps) for group in groups],
    }
    return Comparison(groups, result)


def check_equal_terms(runs: Sequence[RunData]) -> None:
    """Compare environment and evaluation of each run with the first one's.

    Raises:
        UserError: naming both runs and what differs.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.env != first.env:
            raise UserError(
                f"runs of different environments cannot be overlaid: {first.path} is of "
                f"{first.env}, {run.path} of {run.env}."
            )
        own, other = (_flat(one.config.get("env"), "env.") for one in (run, first))
        for key in sorted(own.keys() | other.keys()):
            if not _same(own.get(key), other.get(key)):
                raise UserError(
                    f"runs of different environments cannot be overlaid: {first.path} has "
                    f"{_setting(key, other.get(key))}, {run.path} {_setting(key, own.get(key))}."
                )
        for key in ("split", *SIZES, *(["later_scale"] if _goes_on(run, first) else [])):
            own_value, value = ((one.evaluation or {}).get(key) for one in (run, first))
            if own_value != value:
                raise UserError(
                    f"{run.path} was evaluated with {key}={own_value}, {first.path} with "
                    f"{key}={value}: python evaluate.py run={run.path} {key}={value} evaluates it "
                    f"alike."
                )


def _goes_on(*runs: RunData) -> bool:
    """Say whether a run was evaluated beyond the steps that it was trained with."""
    return any(len(run.returns) - 1 > _trained_steps(run) for run in runs)


def _trained_steps(run: RunData) -> int:
    return int((run.evaluation or {}).get("trained_steps", 1))


def grouped(runs: Sequence[RunData]) -> list[Group]:
    """Group runs by algorithm, and by the settings but the seed that differ within an algorithm."""
    by_algorithm: dict[str, list[RunData]] = {}
    for run in runs:
        by_algorithm.setdefault(run.algorithm, []).append(run)
    groups = []
    for algorithm, own in by_algorithm.items():
        flat = [_compared_settings(run.config) for run in own]
        keys = [
            key
            for key in dict.fromkeys(key for settings in flat for key in settings)
            if not all(_same(settings.get(key), flat[0].get(key)) for settings in flat)
        ]
        members: dict[str, list[int]] = {}
        for index, settings in enumerate(flat):
            text = json.dumps([_plain(settings.get(key)) for key in keys])
            members.setdefault(text, []).append(index)
        values = [{key: flat[indices[0]].get(key) for key in keys} for indices in members.values()]
        labels = _labels(algorithm, values)
        for label, settings, indices in zip(labels, values, members.values(), strict=True):
            groups.append(Group(label, settings, [own[index] for index in indices]))
    order = {id(run): number for number, run in enumerate(runs)}
    return sorted(groups, key=lambda group: order[id(group.runs[0])])


def _compared_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that tell algorithms apart; where a run began is a yes or no."""
    flat = {
        key: value
        for key, value in _flat(config, "").items()
        if not any(key == name or key.startswith(f"{name}.") for name in NOT_COMPARED)
    }
    if flat.get("init_from") is not None:
        flat["init_from"] = "a run"
    return flat


def _labels(algorithm: str, values: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name groups of one algorithm by the settings that differ; the first few where that does."""
    full = [[_setting(key, value) for key, value in settings.items()] for settings in values]
    for length in range(MOST_SETTINGS, max(len(full[0]), MOST_SETTINGS) + 1):
        labels = [", ".join([algorithm, *parts[:length]]) for parts in full]
        if len(set(labels)) == len(labels):
            break
    return labels


def _flat(node: Any, prefix: str) -> dict[str, Any]:
    """Return the values of nested mappings by their dotted keys; lists are values."""
    if not isinstance(node, Mapping):
        return {prefix.rstrip("."): node}
    return {k: v for name, own in node.items() for k, v in _flat(own, f"{prefix}{name}.").items()}


def _plain(value: Any) -> Any:
    """Return what a value is compared by: off, null and absent are one, as are 1 and 1.0."""
    if value is None or value is False:
        return None
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _same(left: Any, right: Any) -> bool:
    return bool(_plain(left) == _plain(right))


def _setting(key: str, value: Any) -> str:
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    if value is None or isinstance(value, bool):
        value = {None: "null", True: "true", False: "false"}[value]
    return f"{key}={value}"


def _statistics(group: Group, first: Group, steps: int) -> dict[str, Any]:
    """Return what comparison.json says of a group."""
    points = []
    pairs = [_pairs(group, first, step) for step in range(steps + 1)]
    for step in range(steps + 1):
        point = {"step": step, **_point("return", group.returns(step))}
        success = group.success(step)
        if success is not None:
            point |= _point("success", success)
        if group is not first:
            share, interval = improvement(pairs[step], _generator(), resamples=RESAMPLES)
            point |= {"improvement": share, "improvement_ci95": list(interval)}
        points.append(point)
    gains = group.returns(1) - group.returns(0)
    return {
        "label": group.label,
        "algorithm": group.runs[0].algorithm,
        "settings": {key: _json_value(value) for key, value in group.settings.items()},
        "seeds": [run.seed for run in group.runs],
        "runs": [str(run.path) for run in group.runs],
        "checkpoints": [(run.evaluation or {}).get("checkpoint") for run in group.runs],
        "env_steps": float(np.mean([run.env_steps for run in group.runs])),
        "curve": points,
        "gain_of_first_step": {"mean": float(mean(gains)), "ci95": _interval(gains, mean)},
    }


def _json_value(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)


def _point(what: str, scores: Values) -> dict[str, Any]:
    """Return mean and interquartile mean of scores [N, M] with their intervals."""
    return {
        f"{what}_mean": float(mean(scores)),
        f"{what}_ci95": _interval(scores, mean),
        f"{what}_iqm": float(interquartile_mean(scores)),
        f"{what}_iqm_ci95": _interval(scores, interquartile_mean),
    }


def _interval(scores: Values, statistic: Statistic) -> list[float]:
    return list(statistic_interval([scores], statistic, _generator(), resamples=RESAMPLES))


def _generator() -> np.random.Generator:
    """Return the same resamples for every step, statistic and group."""
    return Key(0, (Purpose.TEST,)).generator(Purpose.BOOTSTRAP)


def _pairs(group: Group, first: Group, step: int) -> list[tuple[Values, Values]]:
    """Pair the returns of runs that met the same test tasks; all runs where none did."""
    own, other = group.returns(step), first.returns(step)
    sets = [np.array([task_set(run) for run in one.runs]) for one in (group, first)]
    shared = [name for name in dict.fromkeys(sets[1].tolist()) if name in sets[0]]
    return [(own[sets[0] == name], other[sets[1] == name]) for name in shared] or [(own, other)]


def task_set(run: RunData) -> str:
    """Return a name of the tasks that a run was evaluated on, the same for the same tasks.

    A finite set is shared by all runs. Otherwise a run's seed draws its tasks, which tasks.json
    holds; where it was not kept, the seed stands for it.
    """
    content = run.evaluation or {}
    if content["groups"]:
        return "finite"
    try:
        stored = json.loads(run.folder.tasks.read_bytes())[content["split"]]
        first = {name: leaf[: content["num_tasks"]] for name, leaf in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"seed {run.seed}"
    return hashlib.sha256(json.dumps(first, sort_keys=True).encode()).hexdigest()


def _notes(groups: Sequence[Group], steps: int) -> Iterator[str]:
    """Yield what a reader of the table should know, a sentence each."""
    runs = [run for group in groups for run in group.runs]
    if any(len(run.returns) - 1 > steps for run in runs):
        yield f"Some runs were evaluated for more than {_count(steps, 'step')}; those are left out."
    alone = [group.label for group in groups if len(group.runs) == 1]
    if alone:
        yield f"One run alone, so that the interval is over tasks only: {'; '.join(alone)}."
    flat = [group.label for group in groups if _trained_steps(group.runs[0]) == 0]
    if flat:
        yield f"Trained without inner steps: {'; '.join(flat)}."
    spent = [run.env_steps for run in runs]
    if min(spent) < 0.9 * max(spent):
        yield "The runs were not trained for the same number of environment steps."
    checkpoints = sorted({str((run.evaluation or {}).get("checkpoint")) for run in runs})
    if len(checkpoints) > 1:
        yield f"The runs were evaluated at different checkpoints: {', '.join(checkpoints)}."
    sets = [{task_set(run) for run in group.runs} for group in groups]
    if len(set.union(*sets)) > 1:
        yield (
            "Test tasks are drawn by each run's seed; the probability of improvement compares runs "
            "that met the same tasks."
        )
    apart = [group.label for group, own in zip(groups, sets, strict=True) if not own & sets[0]]
    if apart:
        yield f"Met none of the test tasks of {groups[0].label}: {'; '.join(apart)}."
    for group in groups:
        seeds = [run.seed for run in group.runs]
        if len(set(seeds)) < len(seeds):
            yield (
                f"{group.label} has a seed more than once: its interval is too narrow if that is "
                f"the same run twice."
            )
        if len(group.settings) > MOST_SETTINGS:
            said = ", ".join(_setting(key, value) for key, value in group.settings.items())
            yield f"{group.label} has {said}."


def smoothed(run: RunData) -> tuple[Values, Values]:
    """Return a run's learning curve: (env steps, running mean over ten iterations)."""
    _, env_steps, values = run.learning_curve()
    sums = np.cumsum(np.concatenate([[0.0], values]))
    last = np.arange(1, len(values) + 1)
    begin = np.maximum(0, last - WINDOW)
    return env_steps, (sums[last] - sums[begin]) / (last - begin)


def mean_learning_curve(runs: Sequence[RunData]) -> tuple[Values, Values] | None:
    """Return the mean of the runs' learning curves, as far as all of them go."""
    curves = [smoothed(run) for run in runs if run.metrics]
    curves = [curve for curve in curves if len(curve[0])]
    if not curves:
        return None
    begin, end = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = np.linspace(begin, max(begin, end), GRID)
    return grid, np.mean([np.interp(grid, *curve) for curve in curves], axis=0)


def markdown(comparison: Comparison) -> str:
    """Write the comparison as a page of Markdown: its terms, two tables and the notes."""
    parts = [f"# {comparison.title}", terms(comparison)]
    for header, rows in tables(comparison):
        lines = [header, ["---"] * len(header), *rows]
        parts.append("\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines))
    notes = comparison.result["notes"]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    return "\n\n".join([*parts, "![learning and adaptation curves](comparison.png)"]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def terms(comparison: Comparison) -> str:
    """Say on what terms the runs were evaluated and what the brackets hold."""
    result = comparison.result
    scale = result["later_scale"]
    scaled = "" if scale in (1, None) else f" Steps beyond the trained are scaled by {scale:g}."
    return (
        f"Return on {_count(result['num_tasks'], result['split'] + ' task')}, "
        f"{_count(result['num_episodes'], 'episode')} per task and step, mean over runs and tasks; "
        f"in brackets, {result['interval']}.{scaled}"
    )


def tables(comparison: Comparison) -> list[Table]:
    """Return two tables: returns by step, and the robust statistics after the headline step."""
    groups = comparison.result["groups"]
    ends = [end for group in groups for point in group["curve"] for end in point["return_ci95"]]
    form = number_format(ends)
    return [_return_table(groups, form), _robust_table(comparison.result, form)]


def _return_table(groups: Sequence[Mapping[str, Any]], form: str) -> Table:
    rows = []
    for group in groups:
        cells = [
            bracketed(point["return_mean"], point["return_ci95"], form) for point in group["curve"]
        ]
        trained = f"{group['env_steps'] / 1e6:.3g}"
        rows.append([group["label"], str(len(group["seeds"])), trained, *cells])
    steps = [after(point["step"]) for point in groups[0]["curve"]]
    return ["algorithm", "runs", "million env steps", *steps], rows


def _robust_table(result: Mapping[str, Any], form: str) -> Table:
    groups, headline = result["groups"], result["headline_step"]
    points = [group["curve"][headline] for group in groups]
    gains = [group["gain_of_first_step"] for group in groups]
    columns = {
        "algorithm": [group["label"] for group in groups],
        f"interquartile mean {after(headline)}": [
            bracketed(point["return_iqm"], point["return_iqm_ci95"], form) for point in points
        ],
        "gain of the first step": [bracketed(gain["mean"], gain["ci95"], form) for gain in gains],
    }
    if len(groups) > 1:
        first = result["compared_with"]
        first = first if len(first) < LONG_LABEL else "the first row"
        columns[f"P(better than {first}) {after(headline)}"] = [
            bracketed(point["improvement"], point["improvement_ci95"], "{:.2f}")
            if "improvement" in point
            else "-"
            for point in points
        ]
    if all("success_mean" in point for point in points):
        columns[f"success rate {after(headline)}"] = [
            bracketed(point["success_mean"], point["success_ci95"], "{:.2f}") for point in points
        ]
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def after(step: int) -> str:
    """Say after how many steps."""
    return "before adaptation" if step == 0 else f"after {_count(step, 'step')}"


def bracketed(value: float, interval: Sequence[float], form: str) -> str:
    """Write a value with its interval."""
    low, high = (form.format(end) for end in interval)
    return f"{form.format(value)} [{low}, {high}]"


def number_format(values: Sequence[float]) -> str:
    """Return a format with as many decimals as numbers of this size need."""
    largest = max((abs(value) for value in values), default=0.0)
    return "{:.1f}" if largest >= 10 else "{:.2f}" if largest >= 1 else "{:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
