"""Players of bandits and tabular problems against arithmetic, enumeration, published totals."""

import numpy as np
import pytest

from benchmarks.players import (
    BANDIT_PLAYERS,
    MDP_PLAYERS,
    Posterior,
    gittins,
    gittins_indices,
    play_bandits,
    play_mdps,
    ucb1,
)
from envs import RandomMDP


def test_the_index_with_one_pull_left_is_the_posterior_mean():
    table = gittins_indices(5)[1]
    for successes, failures in [(0, 0), (1, 0), (2, 1), (0, 4)]:
        mean = (successes + 1) / (successes + failures + 2)
        assert table[successes, failures] == pytest.approx(mean, abs=0.003)


def test_the_index_with_two_pulls_left_by_hand():
    """At price x: 1/2 - x + 1/2 (2/3 - x) = 0, where a failure ends it, so x = 5/9."""
    assert gittins_indices(2)[2][0, 0] == pytest.approx(5 / 9, abs=0.003)


def test_an_untried_arm_is_worth_more_the_more_pulls_are_left():
    tables = gittins_indices(20)
    values = [tables[left][0, 0] for left in (1, 2, 5, 10, 20)]
    assert values == sorted(values)
    assert values[-1] > 0.7


def bayes_optimal(arms, left):
    """The value of the best policy under the prior, by enumeration of all posteriors."""
    if left == 0:
        return 0.0
    values = []
    for arm, (wins, losses) in enumerate(arms):
        mean = (wins + 1) / (wins + losses + 2)
        won = [*arms[:arm], (wins + 1, losses), *arms[arm + 1 :]]
        lost = [*arms[:arm], (wins, losses + 1), *arms[arm + 1 :]]
        values.append(
            mean * (1 + bayes_optimal(won, left - 1)) + (1 - mean) * bayes_optimal(lost, left - 1)
        )
    return max(values)


def test_the_gittins_player_earns_what_the_best_policy_does():
    best = bayes_optimal([(0, 0), (0, 0)], 6)
    probabilities = np.random.default_rng(0).uniform(size=(40_000, 2))
    totals = play_bandits(gittins, probabilities, 6, np.random.default_rng(1))
    assert totals.mean() == pytest.approx(best, abs=0.03)
    greedy = play_bandits(BANDIT_PLAYERS["random"], probabilities, 6, np.random.default_rng(1))
    assert greedy.mean() == pytest.approx(3.0, abs=0.03)


def test_ucb1_scores_by_hand():
    scores = ucb1(0.5)(np.array([[3.0, 1.0, 0.0]]), np.array([[4.0, 2.0, 0.0]]), 9, None)
    log = np.log(6)
    expected = [3 / 4 + 0.5 * np.sqrt(2 * log / 4), 1 / 2 + 0.5 * np.sqrt(2 * log / 2), np.inf]
    np.testing.assert_allclose(scores[0], expected)


@pytest.mark.parametrize(
    ("player", "published"), [("Gittins index", 6.6), ("Thompson sampling", 5.7), ("greedy", 6.6)]
)
def test_totals_are_those_of_the_paper(player, published):
    """Duan et al. 2016, table 1: five arms, ten pulls."""
    probabilities = np.random.default_rng(0).uniform(size=(4000, 5))
    totals = play_bandits(BANDIT_PLAYERS[player], probabilities, 10, np.random.default_rng(1))
    assert totals.mean() == pytest.approx(published, abs=0.25)


def test_the_posterior_by_hand():
    posterior = Posterior(RandomMDP(states=2, actions=1), 1)
    posterior.visits[0, 0, 0] = [2.0, 1.0]
    posterior.reward_sums[0, 0, 0] = 7.0
    mean = posterior.mean(np.random.default_rng(0))
    np.testing.assert_allclose(mean["transitions"][0, 0, 0], [3 / 5, 2 / 5])
    np.testing.assert_allclose(mean["rewards"][0, :, 0], [(1 + 7) / (1 + 3), 1.0])
    draws = [posterior.draw(np.random.default_rng(seed)) for seed in range(4000)]
    drawn = np.array([draw["rewards"][0, 0, 0] for draw in draws])
    assert drawn.mean() == pytest.approx(2.0, abs=0.03)
    assert drawn.std() == pytest.approx(0.5, abs=0.02)  # one over the root of 1 + 3
    share = np.array([draw["transitions"][0, 0, 0, 0] for draw in draws])
    assert share.mean() == pytest.approx(0.6, abs=0.01)


def test_players_of_random_problems_keep_their_order():
    distribution = RandomMDP()
    tasks = distribution.sample(300, np.random.default_rng(0))
    totals = {
        label: play_mdps(player, distribution, tasks, 10, np.random.default_rng(1)).mean()
        for label, player in MDP_PLAYERS.items()
    }
    assert totals["random"] == pytest.approx(100.0, abs=3)  # 10 episodes x 10 steps x mean reward 1
    assert totals["greedy"] > 140
    assert 125 < totals["PSRL"] < 145  # explores longer than ten episodes last
