"""Balanced draws: equal counts of finite tasks, one draw from each stratum of a range."""

import numpy as np
import pytest

from envs import AntDir, AntGoal, HalfCheetahDir, HalfCheetahVel, PointNavigation
from envs.balanced import StratifiedGenerator, draw_balanced_tasks


def drawn(distribution, count, seed=0):
    return draw_balanced_tasks(distribution, count, np.random.default_rng(seed))


@pytest.mark.parametrize("distribution", [HalfCheetahDir(), AntDir()])
def test_directions_come_in_equal_counts(distribution):
    for seed in range(5):
        assert drawn(distribution, 6, seed)["direction"].sum() == 0


def test_what_is_left_over_is_drawn_at_random():
    distribution = HalfCheetahDir()
    directions = [drawn(distribution, 3, seed)["direction"] for seed in range(400)]
    sums = np.sum(directions, axis=1)
    assert set(sums) == {-1.0, 1.0}
    assert np.mean(sums) == pytest.approx(0.0, abs=0.15)  # three standard errors


def test_velocities_come_one_from_each_stratum():
    velocities = drawn(HalfCheetahVel(), 8)["velocity"]
    np.testing.assert_array_equal(np.sort((velocities / 2.0 * 8).astype(int)), np.arange(8))


def test_goals_are_a_latin_hypercube():
    distribution = PointNavigation()
    goals = drawn(distribution, 10)["goal"]
    bound = distribution.preset.goal_range
    for column in ((goals + bound) / (2 * bound)).T:
        np.testing.assert_array_equal(np.sort((column * 10).astype(int)), np.arange(10))


def test_radii_on_a_disc_are_stratified_by_area():
    distribution = AntGoal()
    goals = drawn(distribution, 12)["goal"]
    share = (np.linalg.norm(goals, axis=1) / distribution.preset.goal_range) ** 2
    np.testing.assert_array_equal(np.sort((share * 12).astype(int)), np.arange(12))


def test_every_place_keeps_its_uniform_distribution():
    draws = np.stack(
        [StratifiedGenerator(np.random.default_rng(seed), 4).random(4) for seed in range(2000)]
    )
    for column in draws.T:
        counts = np.histogram(column, bins=8, range=(0.0, 1.0))[0]
        assert (abs(counts - 250) < 5 * 250**0.5).all()
    assert np.corrcoef(draws[:, 0], draws[:, 1])[0, 1] == pytest.approx(-1 / 3, abs=0.08)


def test_other_draws_are_as_ever():
    stratified = StratifiedGenerator(np.random.default_rng(3), 5)
    plain = np.random.default_rng(3)
    np.testing.assert_array_equal(stratified.normal(size=(5, 2)), plain.normal(size=(5, 2)))
    np.testing.assert_array_equal(stratified.random(7), plain.random(7))
    assert stratified.uniform(2.0, 5.0) == plain.uniform(2.0, 5.0)
    assert stratified.random() == plain.random()


def test_bounds_may_differ_by_column():
    low, high = np.array([0.0, 10.0]), np.array([1.0, 30.0])
    draws = StratifiedGenerator(np.random.default_rng(0), 20).uniform(low, high, (20, 2))
    for column, start, width in ((draws[:, 0], 0, 1), (draws[:, 1], 10, 20)):
        ranks = np.sort(((column - start) / width * 20).astype(int))
        np.testing.assert_array_equal(ranks, np.arange(20))
