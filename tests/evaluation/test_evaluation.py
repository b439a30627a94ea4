"""Adaptation curves and their intervals."""

import numpy as np
import pytest
import torch

from envs import HalfCheetahDir, PointNavigation
from maml_rl.configuration.building import build_learner
from maml_rl.evaluation.curves import adaptation_plot
from maml_rl.evaluation.protocol import Course, evaluate, task_groups, task_strata
from maml_rl.evaluation.result import Estimate
from maml_rl.evaluation.statistics import bootstrap_interval
from maml_rl.evaluation.storage import task_point_json, to_json
from maml_rl.evaluation.summary import curve_of, gain
from maml_rl.randomness import Key, Purpose
from maml_rl.sampling import Sampler
from tests.support.run_files import png_size
from tests.support.smoke import smoke_config
from tests.support.written_runs import result_of


def test_bootstrap_of_one_task_is_its_value():
    assert bootstrap_interval(np.array([3.5]), np.random.default_rng(0)) == (3.5, 3.5)


def test_bootstrap_of_two_tasks_is_their_range():
    # a resample's mean is 0, 1 or 2 with probability 1/4, 1/2, 1/4: the 2.5 % tails lie in the ends
    assert bootstrap_interval(np.array([0.0, 2.0]), np.random.default_rng(0)) == (0.0, 2.0)
    # at 40 % the tails are 30 %: more than the 25 % of either end
    assert bootstrap_interval(np.array([0.0, 2.0]), np.random.default_rng(0), level=0.4) == (1, 1)


def test_bootstrap_of_coins_against_the_binomial():
    # 10 tasks, 5 of them 1: a resample's sum is Binomial(10, 1/2), whose 2.5 % and 97.5 %
    # quantiles are 2 and 8 (P(X <= 1) = 0.011, P(X <= 2) = 0.055)
    values = np.array([0.0, 1.0] * 5)
    assert bootstrap_interval(values, np.random.default_rng(1)) == (0.2, 0.8)


def test_bootstrap_of_many_tasks_against_the_normal_approximation():
    values = np.random.default_rng(0).normal(10.0, 3.0, size=400)
    low, high = bootstrap_interval(values, np.random.default_rng(1))
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_bootstrap_against_a_loop():
    values = np.array([1.0, -4.0, 2.5, 7.0])
    rng, loop = np.random.default_rng(3), np.random.default_rng(3)
    got = bootstrap_interval(values, rng, level=0.8, resamples=101)
    index = loop.integers(4, size=(101, 4))
    means = sorted(sum(values[i] for i in row) / 4 for row in index)
    assert got == (means[10], means[90])  # of 101 sorted means, the 10 % and 90 % are whole ranks


def test_the_curve_s_objects():
    returns = np.array([[1.0, 3.0, 2.0], [2.0, 5.0, 5.0]])
    curve = curve_of(returns)
    assert [list(task_point_json(point)) for point in curve] == [
        ["step", "return_mean", "return_ci95", "per_task"]
    ] * 2
    assert [point.number for point in curve] == [0, 1]
    assert [point.mean for point in curve] == [2.0, 4.0]
    assert curve[1].per_task == (2.0, 5.0, 5.0)
    low, high = curve[0].ci95
    assert 1.0 <= low < 2.0 < high <= 3.0


def test_the_same_resamples_serve_every_step():
    returns = np.array([[1.0, 3.0, 2.0, 9.0]])
    curve = curve_of(np.concatenate([returns, returns + 5.0]))
    assert curve[1].ci95 == pytest.approx([x + 5.0 for x in curve[0].ci95])
    assert curve_of(returns) == curve_of(returns)


def test_the_gain_is_paired_by_task():
    # tasks differ by hundreds, but each gains 1, 2 or 3: the interval is of the gains
    gained = gain(np.array([[100.0, 0.0, -300.0], [101.0, 2.0, -297.0]]))
    assert gained == Estimate(2.0, (1.0, 3.0))


def test_groups_of_a_finite_set():
    tasks = {"direction": np.array([1.0, -1.0, -1.0, 1.0])}
    groups = task_groups(HalfCheetahDir(), tasks)
    assert {label: list(members) for label, members in groups.items()} == {
        "forward": [True, False, False, True],
        "backward": [False, True, True, False],
    }
    # a task that is not among them makes no group
    assert list(task_groups(HalfCheetahDir(), {"direction": np.array([1.0])})) == ["forward"]
    assert task_groups(PointNavigation(), {"goal": np.zeros((2, 2))}) == {}


def test_strata_are_the_tasks_of_a_finite_set():
    tasks = {"direction": np.array([1.0, -1.0, -1.0, 1.0])}
    strata = ["forward", "backward", "backward", "forward"]
    assert task_strata(HalfCheetahDir(), tasks) == strata
    assert task_strata(HalfCheetahDir(), {"direction": np.array([0.5, -1.0])}) == ["", "backward"]
    assert task_strata(PointNavigation(), {"goal": np.zeros((2, 2))}) is None


def test_every_interval_of_a_summary_is_within_strata():
    # forward 0 or 2, backward 100 or 102: within each, the mean of two draws is 0, 1 or 2 above the
    # lower one, so the mean of all lies in [50, 52]; exchangeable tasks would give [0, 102]
    returns = np.array([[0.0, 100.0, 2.0, 102.0], [0.0, 200.0, 2.0, 202.0]])
    course = Course(returns, returns, returns)
    strata = ["forward", "backward"] * 2
    result = result_of(returns, success=returns, course=course, within=course, strata=strata)
    before, after = (50.0, 52.0), (100.0, 102.0)
    for curve in (result.curve, result.success, result.within):
        assert [point.ci95 for point in curve] == [before, after]
    for curve in (result.curve, result.within):
        assert [point.cumulative.ci95 for point in curve] == [before, after]
    assert result.gain == Estimate(50.0, (50.0, 50.0))
    assert result.strata == strata


def run_evaluation(tasks, steps, seed=0, inner="sgd", threads=1):
    distribution = PointNavigation(horizon=6)
    learner = build_learner(smoke_config(f"inner={inner}"), distribution)
    meta = learner.initialize(1)
    before = {name: leaf.clone() for name, leaf in meta.items()}
    key = Key(seed, (Purpose.TEST,))
    result = evaluate(learner, meta, distribution, tasks, steps, 3, Sampler(threads), key)
    assert all(torch.equal(meta[name], before[name]) for name in meta)
    return result


GOALS = {"goal": np.array([[0.4, 0.4], [-0.3, 0.2], [0.0, -0.5]])}


def test_evaluation_takes_more_steps_than_training_did():
    result = run_evaluation(GOALS, steps=3)  # the learner was built with one
    assert result.returns.shape == (4, 3)
    assert result.returns.dtype == np.float64
    assert (result.returns < 0).all()
    assert len(np.unique(result.returns)) == 12
    assert result.groups == {}
    shorter = run_evaluation(GOALS, steps=1)
    assert np.array_equal(shorter.returns, result.returns[:2])


def test_evaluation_repeats_and_depends_on_the_seed_alone():
    result = run_evaluation(GOALS, steps=2)
    assert np.array_equal(run_evaluation(GOALS, steps=2, threads=2).returns, result.returns)
    assert not np.array_equal(run_evaluation(GOALS, steps=2, seed=1).returns, result.returns)


def test_a_task_s_returns_do_not_depend_on_the_tasks_after_it():
    first = run_evaluation({"goal": GOALS["goal"][:2]}, steps=1).returns
    assert np.allclose(first, run_evaluation(GOALS, steps=1).returns[:, :2], rtol=1e-5)


def result_of_groups(groups):
    returns = [[1.0, 3.0, 2.0, 0.0, -1.0], [2.0, 5.0, 5.0, 4.0, 6.0]]
    return result_of(returns, {f"group {i}": np.arange(5) == i for i in range(groups)})


def test_the_result_holds_curve_gain_and_groups():
    result = result_of_groups(2)
    assert list(to_json(result))[-4:] == ["curve", "gain_of_first_step", "groups", "strata"]
    assert [point.per_task for point in result.groups["group 1"]] == [(3.0,), (5.0,)]
    assert result.gain.mean == pytest.approx(3.4)  # 1, 2, 3, 4, 7 over 5


@pytest.mark.parametrize("groups", [0, 2, 5])
def test_the_plot_is_a_png_with_every_group(groups, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    scatter = Axes.scatter
    monkeypatch.setattr(
        Axes, "scatter", lambda *a, **k: drawn.append((a[1:], k["label"])) or scatter(*a, **k)
    )
    path = tmp_path / "evaluation" / "adaptation.png"
    adaptation_plot(path, "a title", result_of_groups(groups))
    assert png_size(path) == (1200, 504)
    assert [p.name for p in path.parent.iterdir()] == ["adaptation.png"]
    if groups:
        assert drawn == [
            (((b,), (a,)), f"group {i}")
            for i, (b, a) in enumerate([(1, 2), (3, 5), (2, 5), (0, 4), (-1, 6)][:groups])
        ]
    else:
        assert drawn == [(((1, 3, 2, 0, -1), (2, 5, 5, 4, 6)), "all tasks")]
