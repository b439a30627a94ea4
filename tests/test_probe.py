"""Learning on a probe with a known answer, in seconds."""

import pytest
import torch

from maml_rl.baselines import LinearFeatureBaseline
from maml_rl.evaluation import evaluate
from maml_rl.inner_loop import InnerLoop
from maml_rl.logging import RunLogger
from maml_rl.meta_learner import MetaLearner
from maml_rl.outer_loop import TRPO, Adam
from maml_rl.policies import GaussianMLP
from maml_rl.randomness import Key
from maml_rl.run_folder import RunFolder
from maml_rl.sampling import Sampler
from maml_rl.trainer import Trainer
from tests.bandit import SignBandit


@pytest.mark.parametrize("loss", ["likelihood_ratio", "log_likelihood"])
@pytest.mark.parametrize("outer", [TRPO(max_kl=0.05), Adam(step_size=0.03)])
def test_one_inner_step_learns_to_find_the_sign(tmp_path, loss, outer):
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
        iterations=60,
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
