"""Multi-armed bandits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

from envs.arguments import integer_at_least, one_of
from envs.backends.tabular import OUTLINE, BatchedTabular, TabularDistribution
from envs.protocol import Array, Step, Task, Tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class BanditPreset:
    """The sizes of a bandit."""

    arms: int  # k
    horizon: int  # n, pulls per episode


class MultiArmedBandit(TabularDistribution):
    """Bernoulli bandits (Duan et al. 2016, RL^2, section 3.1).

    The success probability of each of k arms is uniform on [0, 1]; a success pays 1. An episode is
    n pulls. The observation is a constant: learners that remember add what they did and got.

    Presets are the nine settings of RL^2's table, k of 5, 10, 50 by n of 10, 100, 500. The default
    `k5_n100` has the episodes of 100 steps of this library's other problems, enough for one
    episode to tell five arms apart.

    Args:
        preset: name of one of `presets`; None takes the first.
        arms: k; None takes the preset's.
        horizon: n, pulls per episode; None takes the preset's.
    """

    presets = {
        f"k{arms}_n{pulls}": BanditPreset(arms, pulls)
        for arms in (5, 10, 50)
        for pulls in (100, 10, 500)
    }

    def __init__(
        self, preset: str | None = None, arms: int | None = None, horizon: int | None = None
    ) -> None:
        name = next(iter(self.presets)) if preset is None else preset
        chosen = self.presets[one_of("preset", name, self.presets)]
        self.arms = integer_at_least("arms", chosen.arms if arms is None else arms)
        self.horizon = integer_at_least("horizon", chosen.horizon if horizon is None else horizon)
        self.observation_space = spaces.Box(0.0, 1.0, (1,), dtype=np.float64)
        self.action_space = spaces.Discrete(self.arms)

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw the arms' success probabilities, [M, k]."""
        return {"probabilities": rng.uniform(size=(num_tasks, self.arms))}

    def optimal_return(self, task: Task) -> Array:
        """Expected return of pulling the best arm, n max p: [...].

        Args:
            task: leaves with or without the leading M.
        """
        return self.horizon * np.asarray(task["probabilities"]).max(-1)

    def describe(self, task: Task) -> str:
        """Name of the best arm, with its probability."""
        probabilities = np.asarray(task["probabilities"])
        return f"best_arm={probabilities.argmax()}, p={probabilities.max():.3f}"

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedBandit:
        """Build M x B environments; they are array arithmetic on one thread."""
        return BatchedBandit(self, num_tasks, slots_per_task)

    def draw(self, figure: Figure, task: Task, observation: Array, action: int | None) -> None:
        """Draw the arms' probabilities as bars: the best green, the last one pulled outlined."""
        probabilities = np.asarray(task["probabilities"])
        axes = figure.subplots()
        best = probabilities == probabilities.max()
        bars = axes.bar(
            range(self.arms), probabilities, color=np.where(best, "tab:green", "tab:gray")
        )
        if action is not None:
            bars[action].set(**OUTLINE)
        axes.set(xlabel="arm", ylabel="success probability", ylim=(0, 1))
        axes.locator_params(axis="x", integer=True)
        axes.set(title="start" if action is None else f"arm {action} pulled")


class BatchedBandit(BatchedTabular):
    """M x B episodes of bandits."""

    def draw_chance(self, rng: np.random.Generator) -> Array:
        """Draw a uniform number for each pull, [T, 1]."""
        return rng.random((self.horizon, 1))

    def begin(self) -> Array:
        """Show the constant."""
        return np.ones((*self.shape, 1))

    def outcome(self, actions: Array, chance: Array, time: Array, active: Array) -> Step:
        """Pay 1 with the arm's probability; info holds the regret, max p less the arm's."""
        probabilities = self._tasks["probabilities"]
        chosen = np.take_along_axis(probabilities, actions, axis=1)
        return Step(
            observations=np.ones((*self.shape, 1)),
            rewards=(chance[..., 0] < chosen).astype(np.float64),
            terminated=np.zeros(self.shape, dtype=bool),
            info={"regret": probabilities.max(-1, keepdims=True) - chosen},
        )
