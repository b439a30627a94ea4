"""Notes to a comparison, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maml_rl.reporting.groups import MOST_SETTINGS, Group, written
from maml_rl.wording import counted

ENOUGH = 5  # runs, from which on an interval over them is nearly as wide as it should be


def notes(groups: Sequence[Group], steps: int) -> Iterator[str]:
    """Yield the notes of groups that were evaluated, compared after up to `steps` inner steps."""
    yield from _of_evaluations(groups, steps)
    yield from _of_few_runs(groups)
    yield from _of_training(groups)
    yield from _of_tasks(groups)
    for group in groups:
        yield from _of_group(group)


def _of_evaluations(groups: Sequence[Group], steps: int) -> Iterator[str]:
    """Yield the differences between the evaluations, and the meaning of a step."""
    runs = [run for group in groups for run in group.runs]
    if any(run.evaluated.steps > steps for run in runs):
        sentence = f"Some runs were evaluated for more than {counted(steps, 'step')}"
        yield f"{sentence}; those are left out."
    remember = [group.label for group in groups if group.remembers]
    flat = [
        group.label
        for group in groups
        if group.runs[0].evaluated.terms.trained_steps == 0 and group.label not in remember
    ]
    if flat:
        yield f"Trained without inner steps: {'; '.join(flat)}."
    if remember:
        episodes = runs[0].evaluated.terms.num_episodes
        yield (
            f"Remembers instead of taking steps, and stands where it has seen as many episodes, "
            f"{episodes} for each step: {'; '.join(remember)}."
        )
    checkpoints = sorted({run.evaluated.terms.checkpoint for run in runs})
    if len(checkpoints) > 1:
        yield f"The runs were evaluated at different checkpoints: {', '.join(checkpoints)}."


def _of_few_runs(groups: Sequence[Group]) -> Iterator[str]:
    """Yield the effect of few runs on the intervals."""
    alone = [group.label for group in groups if len(group.runs) == 1]
    if alone:
        yield f"One run alone, so that the interval is over tasks only: {'; '.join(alone)}."
    few = [f"{group.label}, {len(group.runs)}" for group in groups if 1 < len(group.runs) < ENOUGH]
    if few:
        several = ", and a P of 0 or 1 is of these runs, not of all" if len(groups) > 1 else ""
        yield (
            f"Few runs, so that their part of the interval is too narrow (by a factor of 0.7 with "
            f"two, 0.8 with three){several}: {'; '.join(few)}."
        )


def _of_training(groups: Sequence[Group]) -> Iterator[str]:
    """Yield the unfinished runs, and differences in environment steps."""
    stopped = [
        f"{group.label}, seed {run.seed}, {run.unfinished}"
        for group in groups
        for run in group.runs
        if run.unfinished is not None
    ]
    if stopped:
        yield f"Training has not finished: {'; '.join(stopped)}."
    spent = [run.env_steps for group in groups for run in group.runs]
    if min(spent) < 0.9 * max(spent):
        yield "The runs were not trained for the same number of environment steps."


def _of_tasks(groups: Sequence[Group]) -> Iterator[str]:
    """Yield whether all groups met the same test tasks."""
    sets = [set(group.task_sets) for group in groups]
    if len(groups) > 1 and len(set.union(*sets)) > 1:
        yield (
            "Test tasks are drawn by each run's seed; the probability of improvement compares runs "
            "that met the same tasks."
        )
    apart = [group.label for group, tasks in zip(groups, sets, strict=True) if not tasks & sets[0]]
    if apart:
        yield (
            f"Met none of the test tasks of {groups[0].label}, so that there is no probability of "
            f"improvement on them: {'; '.join(apart)}."
        )


def _of_group(group: Group) -> Iterator[str]:
    """Yield the peculiarities of a group, and the settings that its label leaves out."""
    seeds = [run.seed for run in group.runs]
    if len(set(seeds)) < len(seeds):
        yield (
            f"{group.label} has a seed more than once: its interval is too narrow if that is the "
            f"same run twice."
        )
    if len(group.settings) > MOST_SETTINGS:
        settings = ", ".join(written(key, value) for key, value in group.settings.items())
        yield f"{group.label} has {settings}."
