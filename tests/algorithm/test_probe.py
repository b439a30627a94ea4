"""Learning on a probe with a known answer, in seconds."""

import pytest
import torch

from envs import MultiArmedBandit, Trials
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import PPO, TRPO, Adam
from maml_rl.algorithm.policies import CategoricalMLP, GaussianMLP
from maml_rl.evaluation.protocol import evaluate
from maml_rl.randomness import Key
from maml_rl.runs.folder import RunFolder
from maml_rl.sampling import Sampler
from maml_rl.training.loggers import RunLogger
from maml_rl.training.trainer import Trainer
from tests.support.bandit import SignBandit


@pytest.mark.parametrize("loss", ["likelihood_ratio", "log_likelihood"])
@pytest.mark.parametrize(
    ("outer", "iterations"), [(TRPO(max_kl=0.05), 20), (Adam(step_size=0.03), 60)]
)
def test_one_inner_step_learns_to_find_the_sign(tmp_path, loss, outer, iterations):
    torch.set_num_threads(1)
    learner = MetaLearner(
        GaussianMLP(1, 1, (16,)), LinearFeatureBaseline(), InnerLoop(1, 0.1, loss), outer
    )
    trainer = Trainer(
        SignBandit(),
        learner,
        Sampler(threads=1),
        RunLogger(tensorboard=False, progress=False),
        RunFolder(tmp_path),
        seed=1,
        iterations=iterations,
        num_tasks=10,
        num_episodes=40,
    )
    progress = trainer.begin()

    def returns_of(meta):
        sampler, key = Sampler(threads=1), Key(7)
        tasks = trainer.splits.test
        return evaluate(learner, meta, trainer.distribution, tasks, 1, 40, sampler, key).returns

    untrained = returns_of(progress.meta)
    trainer.run(progress)
    trained = returns_of(progress.meta)
    # Equal counts of both signs: what does not know the sign earns 0 on average.
    assert abs(untrained[0].mean()) < 0.1
    assert untrained[1].mean() < 0.4  # one step of a random initialization finds little

    assert abs(trained[0].mean()) < 0.15  # still no way to know the sign before adaptation
    assert (trained[1] > 0.85).all()  # both signs found by every test task


def test_a_memory_learns_to_find_the_better_arm(tmp_path):
    """Two arms, five pulls an episode, two episodes a trial.

    Whoever pulls at random earns 5 / 2. The best of two arms pays 2 / 3 on average: 3.33 an episode
    is the most that the second one can hold, and a memory gets near it.
    """
    torch.set_num_threads(1)
    trials = Trials(MultiArmedBandit("k5_n10", arms=2, horizon=5), 2)
    policy = CategoricalMLP(1 + 2 + 2, 2, (), memory_size=12)
    learner = MetaLearner(
        policy,
        LinearFeatureBaseline(),
        InnerLoop(0),
        PPO(step_size=1e-2, epochs=6, clip=0.2),
        gae_lambda=0.9,
    )
    trainer = Trainer(
        trials,
        learner,
        Sampler(threads=1),
        RunLogger(tensorboard=False, progress=False),
        RunFolder(tmp_path),
        seed=1,
        iterations=60,
        num_tasks=60,
        num_episodes=8,
        validate_every=100,
        test_tasks=200,
    )
    progress = trainer.begin()

    def returns_of(meta):
        sampler, tasks = Sampler(threads=1), trainer.splits.test
        return evaluate(learner, meta, trials, tasks, 1, 1, sampler, Key(7), num_trials=10).returns

    chance = trainer.splits.test["probabilities"].mean() * 5
    best = trainer.splits.test["probabilities"].max(1).mean() * 5
    untrained = returns_of(progress.meta).mean(axis=1)
    metrics = trainer.run(progress)
    first, second = returns_of(progress.meta).mean(axis=1)
    assert abs(untrained - chance).max() < 0.15
    assert first > chance + 0.35 * (best - chance)
    assert second > chance + 0.6 * (best - chance)
    assert second > first + 0.1
    assert metrics["return/last_episode"] > metrics["return/first_episode"]
    assert metrics["return/step_0"] == pytest.approx(
        (metrics["return/first_episode"] + metrics["return/last_episode"]) / 2, rel=1e-5
    )
