"""Aggregate statistics of returns with bootstrap intervals, after Agarwal et al. 2021.

"Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021); rliable is
the paper's library, whose definitions these are (tests have its numbers); its last release, 1.2.0,
does not run on current pandas (import) and arch (bootstrap). Letters: N runs (seeds) of one
algorithm, M tasks, R resamples; scores are [N, M], higher is better.

The paper resamples runs within each task independently: right where each score is a training of its
own, as on Atari. Here one meta-trained run gives the scores of all its tasks, and a run that went
wrong is wrong on all of them. Comparisons therefore resample whole runs, and tasks.

Tasks that a design fixes in equal counts (two directions, families, members of a union) are strata:
tasks are resampled within each, so that what strata differ by does not widen an interval.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maml_rl.randomness import Key, Purpose

Values = NDArray[np.float64]
Interval = tuple[float, float]
Statistic = Callable[..., Values]  # of resampled groups [R, N_i, M]; one value each, [R]
Strata = Sequence[str]  # label of each task's stratum, [M]
Resampler = Callable[[Sequence[Values], np.random.Generator, int], list[Values]]

RESAMPLES = 10_000
TAIL = 0.2  # share of a run's tasks in its lower tail
MOST_VALUES = 4_000_000  # resampled at once: 32 MB
DRAWS = 32  # kept: up to a few MB each


def bootstrap_generator() -> np.random.Generator:
    """The generator of every interval's resamples: one number has one interval everywhere."""
    return Key(0, (Purpose.TEST,)).generator(Purpose.BOOTSTRAP)


def bootstrap_interval(
    values: Values,
    rng: np.random.Generator | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    strata: Strata | None = None,
) -> Interval:
    """Percentile bootstrap interval of the mean of `values` [M], tasks resampled within strata.

    `scipy.stats.bootstrap` draws its resamples otherwise, and would change every published number.
    """
    resampler = stratified(strata)
    return statistic_interval([values[None]], mean, rng, resampler, level, resamples)


def mean(scores: Values) -> Values:
    """Mean over runs and tasks of scores [..., N, M]."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def interquartile_mean(scores: Values) -> Values:
    """Interquartile mean of scores [..., N, M] over all runs and tasks together.

    The mean of what is left when a quarter of the N * M scores, rounded down, is cut off at either
    end (Agarwal et al. 2021, section 4.3): less moved by outliers than the mean, and by fewer runs
    than the median.
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def conditional_value_at_risk(scores: Values) -> Values:
    """Mean of the lowest fifth of a run's tasks, averaged over runs, of scores [..., N, M].

    The conditional value at risk, or expected shortfall, at a = 0.2 of the distribution that has
    1 / M at each of a run's scores (Acerbi and Tasche 2002, Journal of Banking & Finance 26(7)). Of
    sorted scores x_1 <= ... <= x_M it is

        (x_1 + ... + x_k + (a M - k) x_(k + 1)) / (a M),  k the whole part of a M,

    where the last task counts in part; of up to five tasks it is the lowest score. Every run has
    its tail, so that a bad run does not fill it: the mean of the runs' values.
    """
    size = TAIL * scores.shape[-1]
    weights = np.clip(size - np.arange(math.ceil(size)), 0.0, 1.0) / size
    tails = np.sort(scores, axis=-1)[..., : len(weights)]
    return np.asarray((weights * tails).sum(axis=-1).mean(axis=-1))


def lowered(scores: Values, before: Values) -> Values:
    """1 where a score is below the one before, else 0 (a tie too), [..., N, M].

    Its mean is the share of tasks that adaptation makes worse. A task counts that is worse by the
    noise of its episodes alone: the share is near one half where adaptation changes nothing.
    """
    return np.asarray(scores < before, dtype=np.float64)


def probability_of_improvement(scores: Values, others: Values) -> Values:
    """P(X > Y) of `scores` X [..., N, M] over `others` Y [..., L, M] of the same tasks.

    For each task the share of the N * L pairs of runs in which X has the higher score, a tie
    counting one half (the Mann-Whitney U statistic over N * L); averaged over tasks (Agarwal et al.
    2021, section 4.3).
    """
    left, right = scores[..., :, None, :], others[..., None, :, :]
    wins = (left > right) + 0.5 * (left == right)
    return np.asarray(wins.mean(axis=(-3, -2, -1)))


def resample_runs_and_tasks(
    groups: Sequence[Values],
    rng: np.random.Generator,
    count: int,
    strata: Strata | None = None,
) -> list[Values]:
    """Resample whole runs of each group [N_i, M], and tasks, the same for all groups, [R, N_i, M].

    The pigeonhole bootstrap of Owen 2007 (Annals of Applied Statistics 1(2)): its variance holds
    that of runs and that of tasks, and overstates their interaction's. With one run the interval is
    over tasks alone; with few it is too narrow, by a factor of sqrt((N - 1) / N) in the runs' part.
    Tasks are resampled within `strata`.
    """
    num_tasks = groups[0].shape[1]
    labels = None if strata is None else tuple(strata)
    state = pickle.dumps(rng)
    columns, rows, after = _drawn_places(state, count, tuple(map(len, groups)), num_tasks, labels)
    rng.bit_generator.state = after
    return [
        scores.ravel().take(chosen * num_tasks + columns)
        for scores, chosen in zip(groups, rows, strict=True)
    ]


@lru_cache(maxsize=DRAWS)
def _drawn_places(
    state: bytes, count: int, sizes: tuple[int, ...], num_tasks: int, strata: Strata | None
) -> tuple[NDArray[np.intp], list[NDArray[np.intp]], Any]:
    """Tasks [R, 1, M] and each group's runs [R, N_i, 1] of R resamples, and the generator's state.

    Every number has the same generator by default, so that a table's cells share their draws.
    """
    rng: np.random.Generator = pickle.loads(state)
    columns = [
        members[rng.integers(len(members), size=(count, 1, len(members)))]
        for members in stratum_members(strata, num_tasks)
    ]
    rows = [rng.integers(size, size=(count, size, 1)) for size in sizes]
    return np.concatenate(columns, axis=2), rows, rng.bit_generator.state


def stratified(strata: Strata | None) -> Resampler:
    """A resampler of runs and of tasks, tasks within strata."""
    return partial(resample_runs_and_tasks, strata=strata)


def stratum_members(strata: Strata | None, num_tasks: int) -> list[NDArray[np.intp]]:
    """Indices of the tasks of each stratum; all M tasks are one stratum where `strata` is None.

    One task alone has no spread to resample, and would count as certain. Strata of one task are
    therefore taken together, and a single one joins the smallest other stratum (the collapsed
    strata of survey sampling: an interval that is too wide rather than too narrow).
    """
    labels = np.array(["all"] * num_tasks if strata is None else strata)
    members = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]
    several = sorted((tasks for tasks in members if len(tasks) > 1), key=len)
    alone = [tasks for tasks in members if len(tasks) == 1]
    if len(alone) == 1 and several:
        alone.append(several.pop(0))
    return [*several, np.concatenate(alone)] if alone else several


def resampled_statistic(
    groups: Sequence[Values],
    statistic: Statistic,
    rng: np.random.Generator | None = None,
    resampler: Resampler = resample_runs_and_tasks,
    resamples: int = RESAMPLES,
) -> Values:
    """`statistic` of each of R resamples of the groups [N_i, M], [R]."""
    rng = rng or bootstrap_generator()
    num_tasks = groups[0].shape[1]
    size = num_tasks * max(sum(map(len, groups)), math.prod(map(len, groups)))
    step = max(1, MOST_VALUES // size)
    counts = [min(step, resamples - start) for start in range(0, resamples, step)]
    return np.concatenate([statistic(*resampler(groups, rng, count)) for count in counts])


def statistic_interval(
    groups: Sequence[Values],
    statistic: Statistic,
    rng: np.random.Generator | None = None,
    resampler: Resampler = resample_runs_and_tasks,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile bootstrap interval of a statistic of one or more groups.

    Args:
        groups: scores [N_i, M], of the same tasks: two for `probability_of_improvement`, one for
            every other statistic.
        statistic: of the groups.
        rng: draws the resamples; the same ones for every number where it is left out.
        resampler: what is resampled.
        level: of the interval.
        resamples: R.
    """
    return _percentiles(resampled_statistic(groups, statistic, rng, resampler, resamples), level)


def improvement(
    pairs: Sequence[tuple[Values, Values]],
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    strata: Sequence[Strata | None] | None = None,
) -> tuple[float, Interval]:
    """Probability of improvement of X over Y and its interval, over sets of tasks.

    Runs of different seeds may have test tasks of their own: then only runs that met the same tasks
    are compared, and each set of tasks is a pair. The sets are resampled first, then runs and tasks
    within each set, independently every time that the set is drawn.

    Args:
        pairs: (X [N_i, M], Y [L_i, M]) on each of S sets of M tasks.
        rng: draws the resamples.
        resamples: R.
        level: of the interval.
        strata: of each set's tasks.
    """
    rng = rng or bootstrap_generator()
    value = np.mean([probability_of_improvement(*pair) for pair in pairs])
    sets = rng.integers(len(pairs), size=(len(pairs), resamples))
    drawn = np.empty(sets.shape)
    for number, pair in enumerate(pairs):
        places = sets == number
        resampler = stratified(None if strata is None else strata[number])
        if places.any():
            drawn[places] = resampled_statistic(
                pair, probability_of_improvement, rng, resampler, int(places.sum())
            )
    return float(value), _percentiles(drawn.mean(axis=0), level)


def _percentiles(values: Values, level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
