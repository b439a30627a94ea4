"""The check before a training: episodes can be repeated. It takes a fraction of a second."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from envs.checking.authored import authored_parts, check_names, fresh
from envs.checking.contract import check
from envs.checking.promise import Reference
from envs.checking.steps import differing_parts, spoilt
from envs.checking.tasks import check_sampling
from envs.episodes import CheckedEnv, ContractError, name_of
from envs.protocol import TaskDistribution, count_tasks, some_tasks

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
            check_sampling(fresh(part))
            try:
                _repeat(fresh(part))
            except ContractError:
                for finding in check(fresh(part)):
                    if finding.status == "wrong":
                        raise ContractError(finding.sentence) from None
                raise
    distribution = fresh(distribution)
    tasks = some_tasks(distribution, 8, np.random.default_rng(0))
    steps = min(distribution.horizon, SPARSE_STEPS)
    differing, _ = differing_parts(distribution, tasks, ((min(steps, STEPS), 4), (steps, 8)))
    if differing:
        return None
    return (
        f"{count_tasks(tasks)} tasks of {distribution.name} gave equal rewards and observations "
        f"over {steps} steps of the same actions: rewards may be that sparse; otherwise let the "
        f"reward or the dynamics read the task"
    )


def _repeat(distribution: TaskDistribution) -> None:
    """Run one row's episode among other rows, and all rows' in a used and a new environment.

    Raises:
        ContractError: where they differ.
    """
    name, episodes = name_of(distribution), Reference(distribution, STEPS)
    seeds, steps = episodes.seeds, len(episodes.actions)
    row = np.array([[False, False], [True, False]])
    stops = np.array([[steps, 2], [steps, steps]])
    mixed = spoilt(distribution, episodes.actions_where(row), stops)
    beside = episodes.tasks_where(np.array([False, True]))
    with closing(CheckedEnv(distribution, 2, 2)) as env, np.errstate(invalid="ignore"):
        among = env.run(beside, np.where(row, seeds, seeds + 50), mixed, stops)
        episodes.trace = env.run(episodes.tasks, seeds, episodes.actions)
    advice = f"python -m envs.check {name} may say more"
    new = episodes.run_beside_another()
    episodes.compare(new, ": episodes cannot be repeated", advice, exact=True)
    episodes.compare(among, ": a row depends on the others of its batch", advice, rows=row)
