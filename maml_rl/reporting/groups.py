"""Groups of runs: the runs of one algorithm, and the conditions for comparing runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.errors import UserError
from maml_rl.evaluation.statistics import Strata, Values
from maml_rl.runs.data import RunData
from maml_rl.runs.folder import flat
from maml_rl.wording import command

SIZES = ("num_tasks", "num_episodes")
NOT_COMPARED = (  # settings that do not make another algorithm of a run
    *("seed", "device", "resume", "requires", "ranks", "sampler", "logger", "hydra"),
    *("trainer.checkpoint_every", "algorithm.requires"),  # the latter until November 2026
)
OWN = ("envs.", "maml_rl.")
MOST_SETTINGS = 3  # of a label


@dataclass(frozen=True)
class Group:
    """Runs of one algorithm with one configuration: N seeds."""

    label: str
    settings: dict[str, Any]  # those in which groups of the same algorithm differ
    runs: list[RunData]

    @cached_property
    def task_sets(self) -> list[str]:
        """The tasks that each run was evaluated on."""
        return [task_set(run) for run in self.runs]

    @cached_property
    def strata(self) -> Strata | None:
        """Label of the stratum of each column of the runs' scores, [M]; None where runs differ."""
        labels = [run.evaluated.strata for run in self.runs]
        ordered = [sorted(label) for label in labels if label is not None]
        if len(ordered) < len(labels) or any(label != ordered[0] for label in ordered):
            return None
        return labels[0] if all(label == labels[0] for label in labels) else ordered[0]

    @cached_property
    def orders(self) -> list[NDArray[np.intp]]:
        """The order of each run's tasks, [M], in which a column is of one stratum in all runs."""
        return [
            np.arange(result.returns.shape[1])
            if self.strata is None or result.strata == self.strata
            else np.argsort(np.array(result.strata), kind="stable")
            for result in (run.evaluated for run in self.runs)
        ]

    def _stacked(self, values: Sequence[Values]) -> Values:
        """Values of each run's tasks, [N, M], in the order of the strata."""
        return np.stack([row[order] for row, order in zip(values, self.orders, strict=True)])

    def returns(self, step: int) -> Values:
        """Return of each run's tasks after `step` inner steps, [N, M]."""
        return self._stacked([run.evaluated.returns[step] for run in self.runs])

    @property
    def remembers(self) -> bool:
        """Whether these are learners with memory, followed through trials."""
        return all(run.evaluated.remembers for run in self.runs)

    def env_steps(self, step: int) -> Values | None:
        """Environment steps of a task before `step`, [N]; None where a run has no count."""
        steps = [run.evaluated.curve[step].env_steps for run in self.runs]
        return None if None in steps else np.array(steps, dtype=np.float64)

    def cumulative(self, step: int) -> Values:
        """Sums of the returns before `step`, [N, M]."""
        return self._stacked([run.evaluated.earned[step] for run in self.runs])

    def success(self, step: int) -> Values | None:
        """Success rates after `step` inner steps, [N, M]; None where a run has none."""
        curves = [run.evaluated.success for run in self.runs]
        rates = [np.array(curve[step].per_task) for curve in curves if curve is not None]
        return self._stacked(rates) if len(rates) == len(curves) else None


def check_same_environment(runs: Sequence[RunData]) -> None:
    """Compare the environment of each run with the first one's, evaluated or not.

    Raises:
        UserError: naming both runs and what differs.
    """
    first = runs[0]
    for run in runs[1:]:
        alike = (run.evaluation is None) == (first.evaluation is None)
        if alike and run.env != first.env:
            raise UserError(
                f"runs of different environments cannot be overlaid: {first.path} is of "
                f"{first.env}, {run.path} of {run.env}."
            )
        given, other = (flat(side.config.get("env", {}), "env.") for side in (run, first))
        for key in dict.fromkeys([*other, *given]):
            if not _same(given.get(key), other.get(key)):
                raise UserError(
                    f"runs of different environments cannot be overlaid: {first.path} has "
                    f"{written(key, other.get(key))}, {run.path} {written(key, given.get(key))}."
                )


CHANGED = ("inner.step_size", "inner.steps")  # of the adaptation, for an evaluation alone


def _option(run: RunData, key: str) -> Any:
    """Value of an option that a run was evaluated with; None where it was not given."""
    terms, (group, _, name) = run.evaluated.terms, key.rpartition(".")
    return terms.inner.get(name) if group else getattr(terms, name)


def check_equal_terms(runs: Sequence[RunData]) -> None:
    """Compare environment and evaluation of each run with the first one's.

    Raises:
        UserError: naming both runs and what differs.
    """
    check_same_environment(runs)
    first = runs[0]
    for run in runs[1:]:
        further = any(  # beyond the steps that a run was trained with
            side.evaluated.steps > side.evaluated.terms.trained_steps for side in (run, first)
        )
        for key in ("split", *SIZES, *CHANGED, *(["later_scale"] if further else [])):
            given, value = (str(_option(side, key)).replace(" ", "") for side in (run, first))
            if given != value:
                written = "null" if value == "None" else value
                options = {"tasks" if value == "fresh" else key: written}
                alike = command("evaluate", {"run": run.path, **options})
                raise UserError(
                    f"{run.path} was evaluated with {key}={given}, {first.path} with "
                    f"{key}={value}: {alike} evaluates it alike."
                )


def grouped(runs: Sequence[RunData]) -> list[Group]:
    """Group runs by algorithm, and by the settings but the seed that differ within an algorithm."""
    groups: list[Group] = []
    for algorithm in dict.fromkeys(run.algorithm for run in runs):
        settings_of = [
            (run, _compared_settings(run.config)) for run in runs if run.algorithm == algorithm
        ]
        first = settings_of[0][1]
        differing = [
            key
            for key in dict.fromkeys(key for _, settings in settings_of for key in settings)
            if not all(_same(settings.get(key), first.get(key)) for _, settings in settings_of)
        ]
        members: dict[str, list[RunData]] = {}
        values: dict[str, dict[str, Any]] = {}
        for run, settings in settings_of:
            chosen = {key: settings.get(key) for key in differing}
            text = json.dumps([_plain(value) for value in chosen.values()], default=str)
            members.setdefault(text, []).append(run)
            values.setdefault(text, chosen)
        labels = _labels(algorithm, list(values.values()))
        groups += map(Group, labels, values.values(), members.values())
    return sorted(groups, key=lambda group: runs.index(group.runs[0]))


def _compared_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that distinguish algorithms; the place where a run began is a yes or no."""
    settings = {
        key: value
        for key, value in flat(config).items()
        if not any(key == name or key.startswith(f"{name}.") for name in NOT_COMPARED)
    }
    if settings.get("init_from") is not None:
        settings["init_from"] = "a run"
    return settings


def _labels(algorithm: str, values: Sequence[Mapping[str, Any]]) -> list[str]:
    """Labels of one algorithm's groups: the settings that differ, or the first few of them."""
    full = [[written(key, value) for key, value in settings.items()] for settings in values]
    for length in range(MOST_SETTINGS, max(len(full[0]), MOST_SETTINGS) + 1):
        labels = [", ".join([algorithm, *parts[:length]]) for parts in full]
        if len(set(labels)) == len(labels):
            break
    return labels


def _plain(value: Any) -> Any:
    """The comparable form of a value: off, null and absent are equal, as are 1 and 1.0.

    So are envs.AntDir and envs.tasks.ant.AntDir: a class of the project by either of its names.
    """
    if value is None or value is False:
        return None
    if isinstance(value, str) and value.startswith(OWN):
        return value.rpartition(".")[2]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _same(left: Any, right: Any) -> bool:
    return bool(_plain(left) == _plain(right))


def written(key: str, value: Any) -> str:
    """Write a setting as the command line has it."""
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    if value is None or isinstance(value, bool):
        value = {None: "null", True: "true", False: "false"}[value]
    return f"{key}={value}"


def task_set(run: RunData) -> str:
    """A name of the tasks that a run was evaluated on, the same for the same tasks.

    tasks.json holds them. Without it, tasks that fall into a few groups count as a finite set,
    which all runs share; other tasks are named by the run's seed, which drew them.
    """
    terms = run.evaluated.terms
    try:
        stored = json.loads(run.folder.tasks.read_bytes())[terms.split]
        first = {name: leaf[: terms.num_tasks] for name, leaf in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "finite" if run.evaluated.groups else f"seed {run.seed}"
    return hashlib.sha256(json.dumps(first, sort_keys=True).encode()).hexdigest()
