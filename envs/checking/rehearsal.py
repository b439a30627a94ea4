"""The check before a training: episodes can be repeated. It takes a fraction of a second."""

from __future__ import annotations

from contextlib import closing

import numpy as np
from gymnasium import spaces

from envs.checking.authored import authored_parts, check_names, fresh
from envs.checking.contract import check
from envs.checking.drawn import drawn_tasks, some_tasks
from envs.checking.resets import traced_beside_another
from envs.checking.steps import differing_parts, with_other_actions
from envs.checking.tasks import check_sampling
from envs.episodes import CheckedEnv, ContractError, compare, name_of, row_seeds, standard_actions
from envs.protocol import TaskDistribution, count_tasks, take_tasks

STEPS = 5  # of the episodes that are repeated
SPARSE_STEPS = 100  # that are taken where no reward tells tasks apart in those


def rehearse(distribution: TaskDistribution) -> str | None:
    """Check faults that would not stop a training, but mislead it.

    Episodes of one environment are run again, with other episodes beside them. Where they differ,
    all checks look for the cause.

    Returns:
        A warning about tasks without any difference, which is no error, since rewards may be
        sparse; None where all is well.

    Raises:
        ContractError: naming the cause.
    """
    check_names(distribution)
    for part in authored_parts(distribution):  # of a mixture's tasks, a part may have none
        if isinstance(part, TaskDistribution):
            _rehearse_part(part)
    return _without_difference(fresh(distribution))


def _rehearse_part(distribution: TaskDistribution) -> None:
    """Check a distribution, or one that it is made of.

    Raises:
        ContractError: naming the cause.
    """
    check_sampling(fresh(distribution))
    try:
        _repeat(fresh(distribution))
    except ContractError:
        for finding in check(fresh(distribution)):
            if finding.status == "wrong":
                raise ContractError(finding.sentence) from None
        raise


def _repeat(distribution: TaskDistribution) -> None:
    """Run one row's episode among other rows, and all rows' in a used and a new environment.

    Raises:
        ContractError: where they differ.
    """
    name, tasks, seeds = name_of(distribution), drawn_tasks(distribution, 3), row_seeds(2, 2)
    two, beside = take_tasks(tasks, np.array([0, 1])), take_tasks(tasks, np.array([2, 1]))
    steps = min(distribution.horizon, STEPS)
    actions = standard_actions(distribution, steps, 2, 2)
    row = np.array([[False, False], [True, False]])
    stops = np.array([[steps, 2], [steps, steps]])
    mixed = with_other_actions(distribution, steps, row)
    if isinstance(distribution.action_space, spaces.Box):
        mixed[2:, 0, 1] = np.nan  # of the row that stops
    with closing(CheckedEnv(distribution, 2, 2)) as env, np.errstate(invalid="ignore"):
        among = env.run(beside, np.where(row, seeds, seeds + 50), mixed, stops)
        used = env.run(two, seeds, actions)
    new = traced_beside_another(distribution, two, seeds, actions)
    advice = f"python -m envs.check {name} may say more"
    compare(f"{name}: episodes cannot be repeated", used, new, advice, exact=True)
    compare(f"{name}: a row depends on the others of its batch", used, among, advice, rows=row)


def _without_difference(distribution: TaskDistribution) -> str | None:
    """A sentence where all tasks give the same; None where some differ."""
    tasks = some_tasks(distribution, 8)
    steps = min(distribution.horizon, SPARSE_STEPS)
    differing, _ = differing_parts(distribution, tasks, ((min(steps, STEPS), 4), (steps, 8)))
    if differing:
        return None
    return (
        f"{count_tasks(tasks)} tasks of {distribution.name} gave equal rewards and observations "
        f"over {steps} steps of the same actions: rewards may be that sparse; otherwise let the "
        f"reward or the dynamics read the task"
    )
