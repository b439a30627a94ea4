"""A rank's share of the tasks: collecting for it, and the metrics of all ranks' tasks."""

from __future__ import annotations

import re
from itertools import pairwise

from envs.errors import SimulationError
from envs.protocol import TaskDistribution, Tasks, take_tasks
from maml_rl.algorithm.adaptation import Experience
from maml_rl.algorithm.diagnostics import (
    mean_returns,
    success_rates,
    trial_returns,
    unstable_episodes,
)
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import OuterUpdate
from maml_rl.algorithm.rollout import Params
from maml_rl.errors import NonFiniteError
from maml_rl.parallel import Communicator
from maml_rl.randomness import Key
from maml_rl.sampling import Collector, Sampler
from maml_rl.training.loggers import Metrics


class Share:
    """Collects for this rank's tasks.

    Args:
        distribution: of the tasks.
        learner: adapts.
        sampler: steps the environments.
        ranks: those that share the tasks.
    """

    def __init__(
        self,
        distribution: TaskDistribution,
        learner: MetaLearner,
        sampler: Sampler,
        ranks: Communicator,
    ) -> None:
        self.distribution, self.learner = distribution, learner
        self.sampler, self.ranks = sampler, ranks

    def collector(self, num_tasks: int, num_episodes: int) -> Collector:
        """Collection loop for this rank's share of M tasks."""
        parts = self.distribution, self.learner.policy
        if self.ranks.size == 1:
            return self.sampler.collector(*parts, num_tasks, num_episodes)
        numbers = self.ranks.mine(num_tasks)
        return self.sampler.collector(*parts, len(numbers), num_episodes, numbers)

    def experience(
        self,
        collector: Collector,
        meta: Params,
        tasks: Tasks,
        key: Key,
        before: Collector | None = None,
    ) -> Experience:
        """Experience of this rank's share of `tasks`, leaves [M, ...]; see `MetaLearner.collect`.

        Raises:
            NonFiniteError: naming the task by its number among all.
            SimulationError: the same.
        """
        rank, size, steps = self.ranks.rank, self.ranks.size, self.learner.inner.steps
        mine = take_tasks(tasks, slice(rank, None, size))
        try:
            return self.learner.collect(collector, meta, mine, steps, key, before=before)
        except (NonFiniteError, SimulationError) as error:
            words = re.sub(
                r"\btask (\d+)", lambda name: f"task {int(name[1]) * size + rank}", str(error)
            )
            raise type(error)(words) from error

    def returns(self, experience: Experience, prefix: str) -> Metrics:
        """Returns and success of all tasks before and after each inner step."""
        rollouts = experience.rollouts
        return {
            **mean_returns(rollouts, prefix, self.ranks),
            **trial_returns(rollouts[-1], prefix, self.ranks),
            **unstable_episodes(rollouts, prefix, self.ranks),
            **success_rates(rollouts, prefix, self.ranks),
        }

    def metrics(self, experience: Experience, update: OuterUpdate) -> Metrics:
        """Returns before and after each inner step, their gains, and the parts' diagnostics."""
        returns = self.returns(experience, "")
        steps = range(len(experience.steps))
        after_steps = [returns[f"return/step_{step}"] for step in steps]
        return {
            **returns,
            "adaptation_gain": after_steps[-1] - after_steps[0],
            **{
                f"gain/step_{step}": after - before
                for step, (before, after) in enumerate(pairwise(after_steps), start=1)
            },
            **self.learner.diagnostics(update.meta, experience, self.ranks),
            **update.metrics,
        }
