"""What planners and rules reach on bandits and tabular problems: `python -m benchmarks.players`.

The players of the tables of Duan et al. 2016 (RL^2): on Bernoulli bandits the finite-horizon
Gittins index, UCB1, Thompson sampling, greedy and random choice; on random tabular problems
posterior sampling (PSRL, Strens 2000; Osband et al. 2013), greedy and random choice. All know the
distribution that tasks are drawn from. Totals are over all pulls, or all episodes, of a task.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import cache

import numpy as np

from envs import MultiArmedBandit, RandomMDP
from envs.protocol import Array, Tasks

BanditPlayer = Callable[[Array, Array, int, np.random.Generator], Array]
"""player(successes [M, k], pulls [M, k], remaining, rng) scores the arms, [M, k].

The arm with the highest score is pulled; ties are broken at random.
"""


def random_choice(
    successes: Array, pulls: Array, remaining: int, rng: np.random.Generator
) -> Array:
    """Every arm with the same probability."""
    return np.zeros_like(successes)


def greedy(successes: Array, pulls: Array, remaining: int, rng: np.random.Generator) -> Array:
    """Posterior mean of each arm under the uniform prior, (s + 1) / (n + 2)."""
    return (successes + 1) / (pulls + 2)


def thompson_sampling(
    successes: Array, pulls: Array, remaining: int, rng: np.random.Generator
) -> Array:
    """A draw from each arm's posterior, Beta(s + 1, n - s + 1) (Thompson 1933)."""
    return rng.beta(successes + 1, pulls - successes + 1)


def ucb1(weight: float) -> BanditPlayer:
    """Mean + weight * sqrt(2 log t / n), arms not yet pulled first (Auer et al. 2002).

    Args:
        weight: 1 is the paper's, whose bound holds for any arms; less explores less.
    """

    def scores(successes: Array, pulls: Array, remaining: int, rng: np.random.Generator) -> Array:
        time = pulls.sum(-1, keepdims=True)
        tried = np.maximum(pulls, 1)
        bonus = np.sqrt(2 * np.log(np.maximum(time, 1)) / tried)
        return np.where(pulls == 0, np.inf, successes / tried + weight * bonus)

    return scores


def gittins(successes: Array, pulls: Array, remaining: int, rng: np.random.Generator) -> Array:
    """Finite-horizon Gittins index of each arm (Gittins 1979; Lattimore 2016)."""
    horizon = remaining + int(pulls[0].sum())
    table = gittins_indices(horizon)[remaining]
    return table[successes.astype(int), (pulls - successes).astype(int)]


@cache
def gittins_indices(horizon: int, levels: int = 501) -> list[Array]:
    """Indices of Bernoulli arms under the uniform prior.

    The index of an arm with s successes and f failures and m pulls left is the largest price per
    pull at which pulling it, with the right to stop at any time, is worth something:
    W(s, f, m) = max(0, p - price + p W(s + 1, f, m - 1) + (1 - p) W(s, f + 1, m - 1)) > 0.

    Args:
        horizon: n, pulls in all.
        levels: prices on [0, 1] that are tried.

    Returns:
        For each m from 0 to n, indices [n - m + 1, n - m + 1] by s and f (0 beyond s + f = n - m).
    """
    prices = np.linspace(0.0, 1.0, levels)
    tables = [np.zeros((horizon + 1, horizon + 1))]
    worth = np.zeros((horizon + 1, horizon + 1, levels), dtype=np.float32)
    for left in range(1, horizon + 1):
        size = horizon - left + 1
        s, f = np.arange(size)[:, None], np.arange(size)[None, :]
        mean = ((s + 1) / (s + f + 2))[..., None].astype(np.float32)
        later = mean * worth[1 : size + 1, :size] + (1 - mean) * worth[:size, 1 : size + 1]
        worth = np.maximum(mean - prices.astype(np.float32) + later, 0)
        count = (worth > 1e-6).sum(-1)
        tables.append(np.where(s + f <= horizon - left, prices[np.maximum(count - 1, 0)], 0.0))
    return tables


BANDIT_PLAYERS: dict[str, BanditPlayer] = {
    "random": random_choice,
    "greedy": greedy,
    "Thompson sampling": thompson_sampling,
    "UCB1": ucb1(1.0),
    "UCB1, a fifth of the bonus": ucb1(0.2),
    "Gittins index": gittins,
}


def play_bandits(
    player: BanditPlayer, probabilities: Array, pulls: int, rng: np.random.Generator
) -> Array:
    """Total rewards of a player, [M].

    Args:
        player: scores arms.
        probabilities: of success, [M, k].
        pulls: n, of each bandit.
        rng: of the rewards, of ties, and of what the player draws.
    """
    successes, counts = np.zeros_like(probabilities), np.zeros_like(probabilities)
    rows = np.arange(len(probabilities))
    for pull in range(pulls):
        scores = player(successes, counts, pulls - pull, rng)
        best = scores == scores.max(-1, keepdims=True)
        arms = np.where(best, rng.random(scores.shape), -1.0).argmax(-1)
        successes[rows, arms] += rng.random(len(rows)) < probabilities[rows, arms]
        counts[rows, arms] += 1
    total: Array = successes.sum(-1)
    return total


MDPPlayer = Callable[["Posterior", np.random.Generator], Tasks]
"""player(posterior, rng) names the tasks [M, ...] for which the next episode is planned."""


class Posterior:
    """What M players know of their random problems: counts of what happened.

    The prior is the distribution's: flat Dirichlet transitions, mean rewards normal with mean 1 and
    standard deviation 1, rewards normal around them with standard deviation 1.
    """

    def __init__(self, distribution: RandomMDP, num_tasks: int) -> None:
        shape = (num_tasks, distribution.states, distribution.actions)
        self.visits = np.zeros((*shape, distribution.states))
        self.reward_sums = np.zeros(shape)

    def reward_mean(self) -> Array:
        """Posterior mean of the mean rewards, [M, S, A]."""
        return (1.0 + self.reward_sums) / (1.0 + self.visits.sum(-1))

    def mean(self, rng: np.random.Generator) -> Tasks:
        """The mean problem: a greedy player plans for it."""
        counts = 1.0 + self.visits
        return {
            "transitions": counts / counts.sum(-1, keepdims=True),
            "rewards": self.reward_mean(),
        }

    def draw(self, rng: np.random.Generator) -> Tasks:
        """A problem drawn from the posterior: PSRL plans for it."""
        gammas = rng.gamma(1.0 + self.visits)
        deviation = (1.0 + self.visits.sum(-1)) ** -0.5
        return {
            "transitions": gammas / gammas.sum(-1, keepdims=True),
            "rewards": self.reward_mean() + deviation * rng.standard_normal(deviation.shape),
        }

    def nothing(self, rng: np.random.Generator) -> Tasks:
        """A problem whose rewards are noise: its plan is a random policy."""
        return {**self.mean(rng), "rewards": rng.standard_normal(self.reward_sums.shape)}


MDP_PLAYERS: dict[str, MDPPlayer] = {
    "random": Posterior.nothing,
    "greedy": Posterior.mean,
    "PSRL": Posterior.draw,
}


def play_mdps(
    player: MDPPlayer,
    distribution: RandomMDP,
    tasks: Tasks,
    episodes: int,
    rng: np.random.Generator,
) -> Array:
    """Total rewards of a player over all episodes of a task, [M].

    Args:
        player: plans each episode.
        distribution: of the tasks.
        tasks: transitions [M, S, A, S] and mean rewards [M, S, A].
        episodes: of each task.
        rng: of what happens, and of what the player draws.
    """
    num_tasks = len(tasks["rewards"])
    posterior, total = Posterior(distribution, num_tasks), np.zeros(num_tasks)
    rows, thresholds = np.arange(num_tasks), tasks["transitions"].cumsum(-1)[..., :-1]
    for _ in range(episodes):
        plan = distribution.optimal_action_values(player(posterior, rng)).argmax(-1)  # [M, T, S]
        states = np.zeros(num_tasks, dtype=int)
        for time in range(distribution.horizon):
            actions = plan[rows, time, states]
            rewards = tasks["rewards"][rows, states, actions] + rng.standard_normal(num_tasks)
            chance = rng.random((num_tasks, 1))
            following = (thresholds[rows, states, actions] <= chance).sum(-1)
            posterior.visits[rows, states, actions, following] += 1
            posterior.reward_sums[rows, states, actions] += rewards
            total += rewards
            states = following
    return total


def bandit_totals(num_tasks: int, seed: int = 0) -> dict[str, dict[str, list[float]]]:
    """Mean total and its standard error, by setting (k5_n10, ...) and player."""
    results: dict[str, dict[str, list[float]]] = {}
    for pulls in (10, 100):
        for arms in (5, 10, 50):
            name = f"k{arms}_n{pulls}"
            distribution = MultiArmedBandit(preset=name)
            tasks = distribution.sample(num_tasks, np.random.default_rng([seed, arms, pulls]))
            results[name] = {
                label: _summary(
                    play_bandits(
                        player, tasks["probabilities"], pulls, np.random.default_rng([seed, 1])
                    )
                )
                for label, player in BANDIT_PLAYERS.items()
            }
    return results


def mdp_totals(num_tasks: int, seed: int = 0) -> dict[str, dict[str, list[float]]]:
    """Mean total and its standard error, by number of episodes and player."""
    distribution = RandomMDP()
    tasks = distribution.sample(num_tasks, np.random.default_rng(seed))
    results: dict[str, dict[str, list[float]]] = {}
    for episodes in (10, 25):
        results[f"{episodes} episodes"] = {
            label: _summary(
                play_mdps(player, distribution, tasks, episodes, np.random.default_rng([seed, 1]))
            )
            for label, player in MDP_PLAYERS.items()
        }
        best = episodes * distribution.optimal_return(tasks)
        results[f"{episodes} episodes"]["optimum"] = _summary(best)
    return results


def _summary(totals: Array) -> list[float]:
    return [float(totals.mean()), float(totals.std(ddof=1) / len(totals) ** 0.5)]


def main() -> None:
    """Print the totals as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000, help="bandits, and random problems")
    tasks = parser.parse_args().tasks
    print(json.dumps({"bandits": bandit_totals(tasks), "random MDPs": mdp_totals(tasks)}, indent=1))


if __name__ == "__main__":
    main()
