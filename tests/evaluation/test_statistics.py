"""Interquartile mean, probability of improvement and their intervals.

REFERENCE are the numbers of rliable 1.2.0 (arch 7.2.0, numpy 2.4.6, scipy 1.17.1, pandas 2.3.3; it
cannot be imported with pandas 3), 20000 resamples.
"""

import itertools

import numpy as np
import pytest
from scipy import stats

from maml_rl.evaluation.statistics import (
    bootstrap_interval,
    conditional_value_at_risk,
    improvement,
    interquartile_mean,
    lowered,
    mean,
    probability_of_improvement,
    resample_runs_and_tasks,
    resampled_statistic,
    statistic_interval,
    stratified,
    stratum_members,
)

X = np.array(
    [
        [-0.8, -0.3, 1.8, 3.4, 5.1, 5.1],
        [-0.6, 0.2, 2.7, 4.6, 4.3, 3.8],
        [-1.0, 2.6, 2.2, 1.3, 3.9, 3.8],
        [-0.6, 0.5, 1.3, 3.6, 3.9, 4.4],
        [0.4, 1.8, 0.4, 2.7, 3.0, 4.8],
    ]
)
Y = np.array(
    [
        [-0.9, 1.4, 2.4, 3.1, 3.4, 5.0],
        [-0.7, 0.0, 2.6, 2.3, 5.6, 6.1],
        [-1.6, 1.7, 1.3, 3.4, 4.4, 3.4],
        [0.2, 1.1, 3.4, 2.2, 5.1, 4.3],
    ]
)
REFERENCE = {
    "iqm": 2.425,
    "iqm_ci95": (1.9875, 2.85),
    "improvement": 0.47083333333333327,
    "improvement_ci95": (0.3125, 0.62916667),
}
SMALL = np.array([[1.0, 4.0], [2.0, 9.0]])


def rng(seed=0):
    return np.random.default_rng(seed)


def resample_within_tasks(groups, rng, count):
    """Runs of each group [N_i, M] resampled within every task on its own, [R, N_i, M].

    The stratified bootstrap of Agarwal et al. 2021, section 4.1, which rliable's numbers are of.
    """
    return [
        scores[rng.integers(len(scores), size=(count, *scores.shape)), np.arange(scores.shape[1])]
        for scores in groups
    ]


def test_interquartile_mean_by_hand():
    # of 8 sorted scores -6 -2 1 3 4 5 7 30, two go at either end: (1 + 3 + 4 + 5) / 4
    scores = np.array([[7.0, -2.0, 3.0, 30.0], [4.0, 1.0, -6.0, 5.0]])
    assert interquartile_mean(scores) == 3.25
    # of 6, a quarter is one and a half, rounded down: (2 + 3 + 5 + 7) / 4
    assert interquartile_mean(np.array([[7.0, 3.0, 90.0], [2.0, -8.0, 5.0]])) == 4.25


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 5), (3, 40), (7, 9)])
def test_interquartile_mean_against_scipy(shape):
    scores = rng().normal(size=(4, *shape))
    expected = [stats.trim_mean(one, 0.25, axis=None) for one in scores]
    assert interquartile_mean(scores) == pytest.approx(expected, rel=1e-12)
    assert mean(scores) == pytest.approx([one.mean() for one in scores], rel=1e-12)


def test_conditional_value_at_risk_by_hand():
    # a fifth of 10 are two: (-6 - 2) / 2; of 7 one and four tenths: (-6 - 2 * 0.4) / 1.4
    ten = np.array([[7.0, -2.0, 3.0, 30.0, 4.0, 1.0, -6.0, 5.0, 8.0, 9.0]])
    assert conditional_value_at_risk(ten) == -4.0
    assert conditional_value_at_risk(ten[:, :7]) == pytest.approx(-6.8 / 1.4, rel=1e-12)
    assert conditional_value_at_risk(ten[:, :3]) == -2.0  # of fewer than five the lowest
    # of each run its own tail, -4 and 16: the second has none of the lowest of both
    assert conditional_value_at_risk(np.concatenate([ten, ten + 20])) == 6.0


@pytest.mark.parametrize("tasks", [1, 4, 5, 6, 13, 35, 40])
def test_conditional_value_at_risk_against_its_variational_formula(tasks):
    # Rockafellar and Uryasev 2000: the largest of c - mean(max(c - x, 0)) / 0.2, at a score c
    scores = rng(4).normal(size=(3, 2, tasks))
    expected = [
        np.mean([max(c - np.maximum(c - x, 0).mean() / 0.2 for c in x) for x in runs])
        for runs in scores
    ]
    assert conditional_value_at_risk(scores) == pytest.approx(expected, rel=1e-12)


def test_the_resamples_of_a_tail_against_enumeration():
    # of each run the lower of two drawn tasks: of 1 and 4, or 2 and 9
    draws = list(itertools.product(range(2), repeat=2))
    expected = enumerated(lambda table: table.min(axis=1).mean(), draws, draws)
    got = resampled_statistic([SMALL], conditional_value_at_risk, rng(), resamples=40_000)
    values, counts = np.unique(expected, return_counts=True)
    shares = [np.isclose(got, value).mean() for value in values]
    assert sum(shares) == pytest.approx(1, abs=1e-12)
    assert shares == pytest.approx(counts / 16, abs=0.01)


def test_lowered_scores_are_strictly_below():
    assert lowered(np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 2.0, 2.5]])).tolist() == [[1, 0, 0]]


def test_against_rliable():
    assert interquartile_mean(X) == pytest.approx(REFERENCE["iqm"], rel=1e-12)
    assert probability_of_improvement(X, Y) == pytest.approx(REFERENCE["improvement"], rel=1e-12)
    iqm = statistic_interval([X], interquartile_mean, rng(), resample_within_tasks)
    assert iqm == pytest.approx(REFERENCE["iqm_ci95"], abs=0.03)
    over = statistic_interval([X, Y], probability_of_improvement, rng(), resample_within_tasks)
    assert over == pytest.approx(REFERENCE["improvement_ci95"], abs=0.01)


def test_probability_of_improvement_by_hand():
    # task 0: 1, 2 against 1: a tie and a win, 3/4; task 1: 4, 9 against 5: a loss and a win, 1/2
    assert probability_of_improvement(SMALL, np.array([[1.0, 5.0]])) == 0.625
    assert probability_of_improvement(np.array([[1.0, 5.0]]), SMALL) == 0.375


def test_probability_of_improvement_against_mann_whitney():
    x, y = rng(1).integers(4, size=(3, 5, 7)), rng(2).integers(4, size=(3, 4, 7))  # with ties
    expected = [
        np.mean([stats.mannwhitneyu(a[:, m], b[:, m]).statistic / 20 for m in range(7)])
        for a, b in zip(x, y, strict=True)
    ]
    assert probability_of_improvement(x, y) == pytest.approx(expected, rel=1e-12)


def test_resampling_within_tasks_keeps_tasks_and_mixes_runs():
    (drawn,) = resample_within_tasks([SMALL], rng(), 4000)
    assert set(np.unique(drawn[..., 0])) == {1.0, 2.0}
    assert set(np.unique(drawn[..., 1])) == {4.0, 9.0}
    # 1 and 4 are of one run, 2 and 9 of the other: drawn apart, in half of the cases
    apart = (drawn[..., 0] == 1.0) != (drawn[..., 1] == 4.0)
    assert apart.mean() == pytest.approx(0.5, abs=0.02)


def test_resampling_runs_and_tasks_keeps_both_whole():
    tables = np.array([[10.0, 20, 30], [11, 21, 31]]), np.array([[50.0, 60, 70]])
    drawn, other = resample_runs_and_tasks(tables, rng(), 500)
    assert (np.unique(drawn % 10, axis=None) == [0, 1]).all()
    assert (drawn % 10 == drawn[..., :1] % 10).all()  # a row is of one run
    assert (drawn // 10 == drawn[:, :1] // 10).all()  # a column of one task
    assert (drawn[:, :1] // 10 + 4 == other // 10).all()  # and the same in both groups


def enumerated(statistic, rows, columns):
    """Return the statistic of every equally probable resample, sorted."""
    return np.sort([statistic(SMALL[np.ix_(r, c)]) for r in rows for c in columns])


def test_draws_that_are_kept_are_those_of_the_generator_and_leave_it_where_drawing_does():
    runs, tasks = X.shape
    generators = rng(3), rng(3), rng(3)
    columns = generators[0].integers(tasks, size=(50, 1, tasks))
    expected = X[generators[0].integers(runs, size=(50, runs, 1)), columns]
    for own in generators[1:]:  # drawn, and taken from what was kept
        (found,) = resample_runs_and_tasks([X], own, 50)
        np.testing.assert_array_equal(found, expected)
    (other,) = resample_runs_and_tasks([X], generators[1], 50)
    assert (other != expected).any()
    assert generators[0].bit_generator.state == generators[2].bit_generator.state


def test_the_distribution_of_resamples_against_enumeration():
    # two runs and two tasks: 4 draws of runs x 4 draws of tasks
    draws = list(itertools.product(range(2), repeat=2))
    expected = enumerated(np.mean, draws, draws)
    got = resampled_statistic([SMALL], mean, rng(), resamples=40_000)
    values, counts = np.unique(expected, return_counts=True)
    shares = [(got == value).mean() for value in values]
    assert sum(shares) == 1
    assert shares == pytest.approx(counts / 16, abs=0.01)


def test_whole_runs_vary_more_than_runs_mixed_within_tasks():
    # two runs, one bad on all of 50 tasks: whole runs give a mean of 0, 5 or 10 (quarter, half,
    # quarter), so the interval spans all; mixed within tasks, the mean is Binomial(100, 1/2) / 10,
    # whose 2.5 % and 97.5 % quantiles are 40 and 60
    scores = np.stack([np.full(50, 0.0), np.full(50, 10.0)])
    assert statistic_interval([scores], mean, rng()) == (0, 10)
    within = statistic_interval([scores], mean, rng(), resample_within_tasks)
    assert within == pytest.approx((4.0, 6.0), abs=0.1)


def test_one_run_s_interval_is_over_its_tasks():
    values = rng(3).normal(5.0, 2.0, size=(1, 60))
    both = statistic_interval([values], mean, rng(1)), bootstrap_interval(values[0], rng(2))
    assert both[0] == pytest.approx(both[1], abs=0.05)


def test_the_level_and_chunks(monkeypatch):
    got = statistic_interval([X], mean, rng(), level=0.5, resamples=4000)
    wider = statistic_interval([X], mean, rng(), level=0.9, resamples=4000)
    assert wider[0] < got[0] < mean(X) < got[1] < wider[1]
    monkeypatch.setattr("maml_rl.evaluation.statistics.MOST_VALUES", 1000)
    values = resampled_statistic([X, Y], probability_of_improvement, rng(), resamples=101)
    assert values.shape == (101,)
    assert values.mean() == pytest.approx(REFERENCE["improvement"], abs=0.05)


def test_improvement_on_one_set_of_tasks_against_a_loop():
    value, (low, high) = improvement([(X, Y)], rng())
    assert value == pytest.approx(REFERENCE["improvement"])
    draw, shares = rng(1), []
    for _ in range(1500):
        columns = draw.choice(6, 6)
        x, y = X[draw.choice(5, 5)][:, columns], Y[draw.choice(4, 4)][:, columns]
        pairs = [(a, b) for m in range(6) for a in x[:, m] for b in y[:, m]]
        shares.append(np.mean([(a > b) + (a == b) / 2 for a, b in pairs]))
    assert (low, high) == pytest.approx(np.quantile(shares, [0.025, 0.975]), abs=0.02)
    assert low < REFERENCE["improvement_ci95"][0] < REFERENCE["improvement_ci95"][1] < high


def test_improvement_over_sets_compares_within_each_alone():
    # the tasks of the second set are a hundred harder: across sets, half of the pairs would be
    # decided by the tasks; within each, X wins 2 of 3 and 3 of 3
    x = np.array([[3.0, 5.0, 7.0]]), np.array([[-97.0, -95.0, -93.0]])
    y = np.array([[2.0, 6.0, 1.0]]), np.array([[-98.0, -99.0, -94.0]])
    value, interval = improvement(list(zip(x, y, strict=True)), rng())
    assert value == pytest.approx((2 / 3 + 1) / 2)
    # the mean of two sets drawn from: P = 1 (second), or 0, 1/3, 2/3, 1 (of 3 tasks drawn, first)
    # with probabilities 1, 6, 12, 8 of 27; below 1/3 both draws must be the first, at 0: 1/108
    assert interval == (pytest.approx(1 / 3), 1.0)


def test_intervals_repeat():
    assert improvement([(X, Y)], rng(5)) == improvement([(X, Y)], rng(5))
    assert statistic_interval([X], mean, rng(5)) != statistic_interval([X], mean, rng(6))


def test_strata_keep_what_they_differ_by_out_of_an_interval():
    # two strata of two: the mean of each is 0, 1, 2 above its lower value (1/4, 1/2, 1/4), the mean
    # of all 50 + Binomial(4, 1/2) / 2; P(0) = 1/16, so the 10 % and 90 % quantiles are 50.5, 51.5
    values = np.array([0.0, 100.0, 2.0, 102.0])
    strata = ["a", "b", "a", "b"]
    assert bootstrap_interval(values, rng(), strata=strata) == (50.0, 52.0)
    assert bootstrap_interval(values, rng(), 0.8, strata=strata) == (50.5, 51.5)
    assert bootstrap_interval(values, rng()) == (1.0, 101.0)


def test_an_interval_within_strata_against_scipy():
    values = [rng(1).normal(0.0, 1.0, 12), rng(2).normal(40.0, 3.0, 20)]
    expected = stats.bootstrap(
        values,
        lambda x, y, axis: (x.sum(axis=axis) + y.sum(axis=axis)) / 32,
        method="percentile",
        n_resamples=40_000,
        rng=rng(3),
    ).confidence_interval
    strata = ["a"] * 12 + ["b"] * 20
    got = bootstrap_interval(np.concatenate(values), rng(4), resamples=40_000, strata=strata)
    assert got == pytest.approx(tuple(expected), abs=0.02)


def test_strata_of_one_task_are_taken_together():
    def members(strata):
        return [indices.tolist() for indices in stratum_members(strata, len(strata))]

    assert members([*"abab"]) == [[0, 2], [1, 3]]
    assert members([*"abc"]) == [[0, 1, 2]]
    assert members([*"aabcc"]) == [[3, 4], [2, 0, 1]]  # b alone joins the first of the smallest
    assert members([*"aabc"]) == [[0, 1], [2, 3]]
    assert members(["a"]) == [[0]]
    assert [indices.tolist() for indices in stratum_members(None, 3)] == [[0, 1, 2]]


def test_runs_and_tasks_within_strata_keep_columns_of_a_stratum():
    scores = np.array([[10.0, 20, 11, 21], [10.5, 20.5, 11.5, 21.5]])
    (drawn,) = stratified([*"abab"])([scores], rng(), 300)
    assert drawn.shape == (300, 2, 4)
    assert ((drawn < 15).sum(axis=-1) == 2).all()


def test_a_set_of_tasks_drawn_twice_is_resampled_twice():
    # two sets of two tasks, in each a win and a loss: P is 0, 1/2, 1 (1/4, 1/2, 1/4) in either, so
    # the mean of two independent draws is Binomial(4, 1/2) / 4, whose 10 % quantile is 1/4 as
    # P(0) = 1/16; one resample for both draws of a set would have P(0) = 1/2 (1/4 + 1/16) = 0.16
    x, y = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    value, interval = improvement([(x, y)] * 2, rng(), level=0.8)
    assert value == 0.5
    assert interval == (0.25, 0.75)


def test_the_width_over_three_sets_of_twenty_tasks():
    # P within a set is a mean of 20 coins, and so is the mean over three independent draws of 60:
    # 2 * 1.96 * sqrt(1/4 / 60) = 0.253, less the share of sets that happen to differ
    x, y = np.tile([1.0, 0.0], 10)[None], np.tile([0.0, 1.0], 10)[None]
    _, (low, high) = improvement([(x, y)] * 3, rng())
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 60), abs=0.02)


def test_improvement_within_strata():
    # X wins the tasks of a and loses those of b: within strata there is nothing to resample
    x, y = np.array([[1.0, 0.0, 1.0, 0.0]]), np.full((1, 4), 0.5)
    assert improvement([(x, y)], rng(), strata=[[*"abab"]]) == (0.5, (0.5, 0.5))
    assert improvement([(x, y)], rng())[1] == (0.0, 1.0)
