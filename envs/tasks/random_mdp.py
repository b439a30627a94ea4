"""Random Markov decision processes (Duan et al. 2016, RL^2).

Letters beyond the library's: S states; A here counts the actions, which are numbered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

from envs.arguments import integer_at_least
from envs.backends.tabular import OUTLINE, BatchedTabular, TabularDistribution
from envs.protocol import Array, Step, Task, Tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RandomMDP(TabularDistribution):
    """Random Markov decision processes (Duan et al. 2016, RL^2, section 3.2).

    The mean reward of every state and action is normal with mean 1 and standard deviation 1. The
    reward of a step is normal around it with standard deviation 1. The probabilities of the next
    state are from a flat Dirichlet distribution, and every episode begins in state 0. The state is
    observed as a one-hot row.

    Args:
        states: S.
        actions: A.
        horizon: steps per episode.
    """

    def __init__(self, states: int = 10, actions: int = 5, horizon: int = 10) -> None:
        self.states = integer_at_least("states", states)
        self.actions = integer_at_least("actions", actions)
        self.horizon = integer_at_least("horizon", horizon)
        self.observation_space = spaces.Box(0.0, 1.0, (self.states,), dtype=np.float64)
        self.action_space = spaces.Discrete(self.actions)

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw transitions [M, S, A, S] and mean rewards [M, S, A]."""
        shape = (num_tasks, self.states, self.actions)
        return {
            "transitions": rng.dirichlet(np.ones(self.states), shape),
            "rewards": rng.normal(1.0, 1.0, shape),
        }

    def optimal_action_values(self, task: Task) -> Array:
        """Q_t(s, a) = r(s, a) + E max_a' Q_{t+1}(s', a'), Q_T = 0: [..., T, S, A].

        Args:
            task: leaves with or without the leading M.
        """
        rewards = task["rewards"]
        tables = [rewards]
        while len(tables) < self.horizon:
            following = (task["transitions"] * tables[-1].max(-1)[..., None, None, :]).sum(-1)
            tables.append(rewards + following)
        return np.stack(tables[::-1], axis=-3)

    def optimal_return(self, task: Task) -> Array:
        """Expected return of the best policy, which knows the task: [...]."""
        return self.optimal_action_values(task)[..., 0, 0, :].max(-1)

    def describe(self, task: Task) -> str:
        """Expected return of the best policy."""
        return f"optimal_return={self.optimal_return(task):.3f}"

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedRandomMDP:
        """Build M x B environments; they are array arithmetic on one thread."""
        return BatchedRandomMDP(self, num_tasks, slots_per_task)

    def draw(self, figure: Figure, task: Task, observation: Array, action: int | None) -> None:
        """Draw the table of mean rewards, with the most likely next state in each cell.

        The state the episode is in is outlined.
        """
        from matplotlib.patches import Rectangle

        axes = figure.subplots()
        rewards, transitions = np.asarray(task["rewards"]), np.asarray(task["transitions"])
        colours = axes.imshow(rewards, cmap="viridis", aspect="auto")
        figure.colorbar(colours, label="mean reward")
        likely = transitions.argmax(-1)
        dark = rewards < (rewards.min() + rewards.max()) / 2
        size = float(np.clip(80 / self.states, 3, 9))
        for state, choice in np.ndindex(*rewards.shape):
            text = f"to {likely[state, choice]}: {transitions[state, choice].max():.2f}"
            colour = "white" if dark[state, choice] else "black"
            axes.text(choice, state, text, color=colour, ha="center", va="center", fontsize=size)
        corner = (-0.5, float(observation.argmax()) - 0.5)
        shape = Rectangle(corner, self.actions, 1, fill=False, clip_on=False, zorder=3, **OUTLINE)
        axes.add_patch(shape)
        axes.set(xlabel="action", ylabel="state", xticks=range(self.actions))
        title = "start" if action is None else f"after action {action}"
        axes.set(yticks=range(self.states), title=title)


class BatchedRandomMDP(BatchedTabular):
    """M x B episodes of random MDPs."""

    def __init__(self, distribution: RandomMDP, num_tasks: int, slots: int) -> None:
        super().__init__(distribution, num_tasks, slots)
        self.distribution = distribution

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the task of every task's slots; leaves [M, ...]."""
        super().set_tasks(tasks)
        self._cumulative = self._tasks["transitions"].cumsum(-1)[..., :-1]
        values = self.distribution.optimal_action_values(self._tasks)
        self._regrets = values.max(-1, keepdims=True) - values  # [M, T, S, A]

    def draw_chance(self, rng: np.random.Generator) -> Array:
        """Draw the rewards' noise and a uniform number for each transition, [T, 2]."""
        return np.stack([rng.standard_normal(self.horizon), rng.random(self.horizon)], axis=-1)

    def begin(self) -> Array:
        """Begin in state 0."""
        self._states = np.zeros(self.shape, dtype=np.int64)
        return self._seen()

    def outcome(self, actions: Array, chance: Array, time: Array, active: Array) -> Step:
        """Pay and move; info holds the regret against the best policy."""
        task, states = np.arange(self.shape[0])[:, None], self._states
        rewards = self._tasks["rewards"][task, states, actions] + chance[..., 0]
        passed = self._cumulative[task, states, actions] <= chance[..., 1:]
        self._states = np.where(active, passed.sum(-1), states)
        return Step(
            observations=self._seen(),
            rewards=rewards,
            terminated=np.zeros(self.shape, dtype=bool),
            info={"regret": self._regrets[task, time, states, actions]},
        )

    def _seen(self) -> Array:
        return np.eye(self.distribution.states)[self._states]
