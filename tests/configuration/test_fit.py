"""Parts that do not fit together are refused before anything is sampled, in one sentence."""

import re

import pytest
import torch

from tests.support.paths import ROOT
from tests.support.run_files import everything, load
from tests.support.smoke import SMOKE

# (arguments, words that say what is wrong and where, words that say what to write instead)
WRONG = [
    # An algorithm is what its name says.
    ("algorithm=promp outer=trpo", "algorithm=promp", "outer=ppo"),
    ("algorithm=promp inner.loss=log_likelihood", "algorithm=promp", "inner.loss=likelihood_ratio"),
    ("algorithm=maml_ppo outer=adam", "algorithm=maml_ppo", "outer=ppo"),
    ("algorithm=maml_adam outer=trpo", "algorithm=maml_adam", "outer=adam"),
    ("algorithm=reptile outer=trpo", "algorithm=reptile", "outer=reptile"),
    ("algorithm=anil inner.adapted=null", "algorithm=anil", r"inner.adapted=\[head\], not null"),
    ("algorithm=anil inner.adapted=[body]", "algorithm=anil", r"inner.adapted=\[head\], not"),
    ("algorithm=cavia inner.adapted=null", "algorithm=cavia", r"inner.adapted=\[context\]"),
    ("algorithm=cavia policy.context_size=0", "context", "inner.adapted|policy.context_size"),
    ("algorithm=fomaml inner.first_order=false", "algorithm=fomaml", "inner.first_order=true"),
    ("algorithm=maml_dice inner.loss=loaded_dice", "algorithm=maml_dice", "inner.loss=dice"),
    ("algorithm=maml_loaded_dice inner.loss=dice", "maml_loaded_dice", "inner.loss=loaded_dice"),
    (
        "algorithm=maml_log_likelihood inner.loss=dice",
        "algorithm=maml_log_likelihood",
        "inner.loss=log_likelihood",
    ),
    ("algorithm=pretrained inner.steps=1", "algorithm=pretrained", "inner.steps=0"),
    ("algorithm=oracle inner.steps=2", "algorithm=oracle", "inner.steps=0"),
    ("algorithm=kronecker inner.transform=meta_curvature", "kronecker", "transform=kronecker"),
    ("algorithm=kronecker inner=sgd", "needs inner=learn2learn_gbml", "not InnerLoop"),
    ("algorithm=meta_sgd inner=sgd", "needs inner.update._target_=.*MetaSGD", "not null"),
    ("inner.dice_decay=0.5", "inner.dice_decay=0.5", "inner.loss=loaded_dice"),
    ("algorithm=oracle observe_task=false", "needs observe_task=true", "not false"),
    ("algorithm=random", "needs trainer.iterations=0", "not 2"),
    ("algorithm=rl2 policy.memory_size=0", "needs policy.memory_size above 0", "not 0"),
    ("algorithm=rl2 trial_episodes=null", "needs trial_episodes above 0", "not null"),
    ("algorithm=rl2 inner.steps=1", "needs inner.steps=0", "not 1"),
    ("trial_episodes=2", "trial_episodes=2 is for a policy with memory", "algorithm=rl2"),
    (
        "trial_episodes=2 policy.memory_size=4",
        "trial_episodes=2 is for a policy with memory that takes no inner steps",
        "inner.steps=0 with it",
    ),
    ("trial_episodes=0", "trial_episodes must be a whole number of at least 1", "not 0"),
    ("algorithm=promp outer.inner_kl_coefficient=0", "inner_kl_coefficient above 0", "not 0"),
    ("algorithm=e_maml algorithm.exploration_weight=0", "exploration_weight above 0", "not 0"),
    ("algorithm=e_maml inner.loss=dice", "needs inner.loss=log_likelihood", "not dice"),
    # Terms need what they are made of.
    ("algorithm=e_maml inner.steps=0", "needs inner.steps above 0", "not 0"),
    ("algorithm.exploration_weight=1", "exploration_weight", "inner.loss=log_likelihood"),
    ("inner.loss=dice algorithm.gae_lambda=0.9", "whole returns", "gae_lambda=1, or"),
    ("algorithm.normalize_returns=true", "standardized", "standardize_advantages=false"),
    (
        "baseline=shared_value_network algorithm.bootstrap_time_out=true",
        "algorithm.bootstrap_time_out=true needs values that do not depend on time",
        "algorithm.bootstrap_time_out=false, or baseline=linear_feature",
    ),
    (
        "baseline=shared_value_network baseline.fitted=null algorithm.held_out_baseline=true",
        "algorithm.held_out_baseline=true changes nothing with SharedValueNetwork",
        "algorithm.held_out_baseline=false",
    ),
    (
        "baseline=shared_value_network baseline.task_returns=true algorithm=rl2",
        "baseline.task_returns=true needs inner.steps of at least 1",
        "baseline.task_returns=false",
    ),
    ("baseline=shared_value_network baseline.fitted=7", "baseline.fitted must be", "a baseline"),
    ("algorithm.name=a/b", "algorithm.name must be a word", "such as maml"),
    ("+requires.outer=Adam", "needs outer=adam", "not trpo"),
    (
        "outer=ppo outer.inner_kl_coefficient=1 inner.loss=dice",
        "outer.inner_kl_coefficient",
        "inner.loss=likelihood_ratio instead of dice",
    ),
    (
        "outer=ppo outer.inner_kl_coefficient=1 inner.steps=0",
        "outer.inner_kl_coefficient",
        "inner.steps of at least 1",
    ),
    (
        "outer=ppo outer.target_inner_kl=0.01",
        "outer.target_inner_kl adapts a penalty that is 0",
        "outer.inner_kl_coefficient",
    ),
    ("inner=learn2learn_maml inner.first_order=true", "inner.first_order=true", "outer=adam"),
    # Reptile has no outer gradient.
    ("inner=meta_sgd outer=reptile", "outer=reptile.*cannot learn", "inner=sgd, or another"),
    ("inner=learn2learn_gbml outer=reptile", "outer=reptile.*cannot learn", "inner=sgd, or "),
    ("outer=reptile inner.adapted=[head]", "outer=reptile", "inner.adapted=null"),
    ("algorithm=anil outer=reptile", "outer=reptile", "inner.adapted"),
    ("outer=reptile policy.context_size=2", "outer=reptile", "policy.context_size=0"),
    ("algorithm=cavia outer=reptile", "outer=reptile", "inner.adapted"),
    ("outer=reptile algorithm.entropy_coefficient=1", "outer=reptile", "entropy_coefficient"),
    ("outer=reptile algorithm.exploration_weight=1", "outer=reptile", "exploration_weight"),
    # What adapts is a part, a name or a pattern.
    ("inner.adapted=[nothing]", "nothing.* matches no parameter", "head"),
    ("inner.adapted=[head,nothing]", "nothing.* matches no parameter", "head"),
    ("inner.adapted=[layers.9.*]", r"layers\.9\.\*.* matches no parameter", r"layers\.1\.bias"),
    ("inner.adapted=[5]", "must be a list of names", "head.*not .5."),
    ("inner.adapted=[]", "inner.adapted=.* adapts nothing", "such as .head."),
    ("inner.adapted=head", "inner.adapted must be a list", "such as .head., not 'head'"),
    ("inner.adapted=[context]", "the policy has none", "policy.context_size to 1 or more"),
    ("inner=learn2learn_maml inner.adapted=[nothing]", "matches no parameter", "head"),
    # Values that a part does not take.
    ("outer.schedule=foo", "outer.schedule=foo is unknown", "constant, cosine, linear"),
    ("outer=adam outer.schedule=foo", "outer.schedule=foo", "constant, cosine, linear"),
    ("outer=ppo outer.schedule=linaer", "outer.schedule=linaer", "Did you mean linear"),
    ("outer=reptile outer.schedule=foo", "outer.schedule=foo", "constant, cosine, linear"),
    ("outer=reptile outer.step_size=0", "outer.step_size", "above 0, not 0"),
    ("outer=ppo outer.clip=0", "outer.clip must be", "above 0, not 0"),
    ("outer=ppo outer.epochs=0", "outer.epochs must be", "at least 1, not 0"),
    ("outer=ppo outer.target_inner_kl=0", "outer.target_inner_kl must be", "above 0, not 0"),
    ("outer=ppo outer.inner_kl_coefficient=-1", "inner_kl_coefficient must be", "at least 0, not"),
    ("outer=ppo outer.max_grad_norm=0", "outer.max_grad_norm must be", "above 0, not 0"),
    ("outer=adam outer.max_grad_norm=-2", "outer.max_grad_norm must be", "above 0, not -2"),
    ("inner.dice_decay=2", "inner.dice_decay must be", "from 0 to 1, not 2"),
    ("inner.dice_decay=-0.5", "inner.dice_decay must be", "from 0 to 1, not -0.5"),
    ("inner=meta_sgd inner.update.per=foo", "inner.update.per=foo is unknown", "parameter, tensor"),
    ("inner=meta_sgd inner.update.positive=2", "inner.update.positive must be", "true or false"),
    ("inner=learn2learn_gbml inner.transform=foo", "inner.transform=foo", "kronecker, meta_curv"),
    ("observe_task=maybe", "observe_task must be true or false", "not 'maybe'"),
    ("observe_task=1", "observe_task must be true or false", "not 1"),
    ("baseline=shared_value_network baseline.epochs=0", "baseline.epochs must be", "at least 1"),
    ("baseline=shared_value_network baseline.batch_size=0", "baseline.batch_size must", "least 1"),
    ("baseline=shared_value_network baseline.step_size=0", "baseline.step_size must", "above 0"),
    ("baseline=shared_value_network baseline.hidden_sizes=[0]", "hidden_sizes must", "at least 1"),
    ("baseline=shared_value_network baseline.task_returns=2", "task_returns must", "true or false"),
    ("policy.context_size=-1", "policy.context_size must be", "at least 0, not -1"),
    ("policy.context_size=1.5", "policy.context_size must be", "at least 0, not 1.5"),
    ("policy.normalize_observations=2", "normalize_observations must be", "true or false, not 2"),
    ("algorithm.normalize_returns=2", "algorithm.normalize_returns must be", "true or false"),
    ("algorithm.held_out_baseline=2", "algorithm.held_out_baseline must be", "true or false"),
    ("algorithm.discounted_visits=2", "algorithm.discounted_visits must be", "true or false"),
    ("algorithm.entropy_coefficient=-1", "entropy_coefficient must be", "at least 0, not -1"),
    ("algorithm.exploration_weight=a", "exploration_weight must be", "at least 0, not 'a'"),
    ("trainer.iterations=-1", "trainer.iterations must be", "at least 0, not -1"),
]


@pytest.mark.parametrize(("arguments", "wrong", "instead"), WRONG, ids=[case[0] for case in WRONG])
def test_what_does_not_fit_is_refused_in_a_sentence(arguments, wrong, instead, train_cli, work):
    outcome = train_cli(*SMOKE, *arguments.split())
    assert outcome.status == 2
    sentence = outcome.error  # one line
    assert re.fullmatch(r"error: .*[.?]", sentence)
    assert len(sentence) < 300
    assert re.search(wrong, sentence), sentence
    assert re.search(instead, sentence), sentence
    assert not re.search(r"Error\b|Exception|Traceback|<|object at", sentence)
    assert outcome.out == ""
    assert everything(work) == {}


FITTING = [
    "algorithm=promp inner.steps=2",
    "algorithm=cavia outer=adam",
    "inner.adapted=[layers.0.*]",
    "algorithm=reptile inner.steps=0",
    "outer=reptile inner=learn2learn_maml",
    "algorithm=e_maml outer=ppo algorithm.entropy_coefficient=0.1",
    "algorithm=pretrained outer=ppo",
    "algorithm=rl2 outer=trpo ~outer.step_size ~outer.epochs ~outer.clip policy.hidden_sizes=[3]",
    "algorithm=rl2 env=multi_armed_bandit trial_episodes=1",
    "algorithm=rl2 observe_task=true policy.normalize_observations=true",
    "algorithm=maml_trpo policy.memory_size=4",
    "algorithm=rl2 baseline=shared_value_network",
    "baseline=shared_value_network algorithm.held_out_baseline=true inner.steps=2 "
    "trainer.num_episodes_before=3",
    "baseline=shared_value_network baseline.hidden_sizes=[] baseline.task_returns=true",
]


@pytest.mark.parametrize("arguments", FITTING)
def test_what_fits_is_not_refused(arguments, train_cli, work):
    """The refusals above are not too many: neighbours of what is refused train."""
    options = ("trainer.iterations=1", "trainer.validate_every=9", "env.horizon=3")
    outcome = train_cli(*SMOKE, *arguments.split(), *options)
    assert (outcome.status, outcome.err) == (0, "")


def test_the_outer_optimizer_of_the_docs_trains(train_cli, work):
    """docs/algorithms.md, "Adding one": its code and its command, as they stand there."""
    page = (ROOT / "docs" / "algorithms.md").read_text().partition("## Adding one")[2]
    (work / "mine.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    (work / "my_conf/outer").mkdir(parents=True)
    (work / "my_conf/outer/sign_sgd.yaml").write_text("_target_: mine.SignSGD\nstep_size: 1.0e-3\n")
    command = page.partition("train.py ")[2].partition("`")[0].split()
    assert command == ["--config-dir", "my_conf", "outer=sign_sgd", "algorithm.name=maml_sign"]
    ends = []
    for iterations in (1, 2):
        run = f"run_{iterations}"
        options = (f"trainer.iterations={iterations}", f"hydra.run.dir={run}")
        outcome = train_cli(*command, *SMOKE, *options)
        assert (outcome.status, outcome.err) == (0, "")
        ends.append(load(f"{run}/checkpoints/last.pt")["meta"])
    for name, leaf in ends[1].items():  # up or down by a thousandth
        moved = (leaf - ends[0][name]).abs()
        assert torch.all(((moved - 1e-3).abs() < 1e-6) | (moved == 0)), name
    assert max(float((ends[1][name] - leaf).abs().max()) for name, leaf in ends[0].items()) > 9e-4
