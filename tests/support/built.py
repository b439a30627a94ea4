"""Learner, collector and experience that the commands build, and references in numpy."""

import json

import numpy as np
import torch
from torch.distributions import Independent, Normal

from envs.protocol import draw_tasks
from maml_rl.configuration.building import build_distribution, build_learner
from maml_rl.randomness import Key
from maml_rl.sampling import Sampler
from tests.support.smoke import smoke_config


class Built:
    """What the commands build from experiment=smoke and overrides, and a first experience."""

    def __init__(self, *overrides, distribution=None, num_tasks=3, num_episodes=4, tasks=None):
        self.config = smoke_config(*overrides)
        self.distribution = distribution or build_distribution(self.config)
        self.learner = build_learner(self.config, self.distribution)
        self.meta = self.learner.initialize(3)
        self.num_tasks, self.num_episodes = num_tasks, num_episodes
        self.tasks = tasks or draw_tasks(self.distribution, num_tasks, np.random.default_rng(5))
        self.collector = Sampler(1).collector(
            self.distribution, self.learner.policy, num_tasks, num_episodes
        )

    def collect(self, meta=None, steps=None, key=0, later_scale=1.0):
        steps = self.learner.inner.steps if steps is None else steps
        return self.learner.collect(
            self.collector, meta or self.meta, self.tasks, steps, Key(key), later_scale
        )

    def outer_step(self, experience, meta=None, state=None):
        return self.learner.outer_step(meta or self.meta, state or {}, experience)

    def log_probs(self, params, rollout):
        """Log densities of the rollout's actions, by torch's own distribution."""
        mean, log_std = self.learner.policy.distribution(params, rollout.observations)[0]
        return Independent(Normal(mean, log_std.exp()), 1).log_prob(rollout.actions)


def first_moments(update):
    """Adam's first moments after one step: a tenth of the gradient, as one vector."""
    states = update.state["state"]
    return torch.cat([states[index]["exp_avg"].flatten() for index in sorted(states)])


def numpy_features(rollout):
    """Features of Duan et al. 2016 of episodes that begin with the rollout, [M, T, B, F]."""
    seen = np.clip(rollout.observations.double().numpy(), -10, 10)
    time = np.broadcast_to(np.arange(seen.shape[1])[None, :, None], seen.shape[:3]) / 100.0
    ones = np.ones_like(time)
    powers = np.stack([time, time**2, time**3, ones], -1)
    return np.concatenate([seen, seen**2, powers], -1)


def read_tasks(folder, split):
    stored = json.loads((folder / "tasks.json").read_text())[split]
    return {name: np.asarray(leaf) for name, leaf in stored.items()}


def to_go(rollout, discount):
    """Discounted returns to go of single episodes, [M, T, B], by a loop."""
    rewards, mask = rollout.rewards.double().numpy(), rollout.mask.numpy()
    returns, carry = np.zeros_like(rewards), np.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        carry = mask[:, t] * (rewards[:, t] + discount * carry)
        returns[:, t] = carry
    return returns
