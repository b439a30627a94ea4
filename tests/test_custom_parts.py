"""examples/custom_parts.py: its run trains, is read back and adapts."""

import runpy

import pytest

import maml_rl
from envs import UserError
from tests.support.paths import ROOT
from tests.support.run_files import read_metrics
from tests.support.smoke import QUIET

SMALL = (*QUIET, "trainer.iterations=2", "trainer.num_tasks=3", "trainer.num_episodes=4",
         "trainer.validation_tasks=2", "trainer.test_tasks=2", "env.horizon=10")  # fmt: skip


def test_the_example_trains_and_adapts(work, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    main = runpy.run_path(str(ROOT / "examples" / "custom_parts.py"))["main"]
    assert main("run", *SMALL) == 0
    first, last = read_metrics("run")
    trained = maml_rl.load("run", "last")
    assert type(trained.learner.policy).__name__ == "SkipPolicy"
    assert trained.learner.inner.loss_name == "EntropyBonus"
    assert trained.learner.inner.loss.coefficient == 0.02
    assert trained.meta["skip"].abs().max() > 0  # it is learned
    adapted = trained.adapt(trained.tasks("test"), steps=1, num_episodes=4)
    assert (adapted.params["skip"][0] != trained.meta["skip"]).any()  # and adapts
    assert first["return/step_1"] != last["return/step_1"]


def test_a_stored_loss_or_activation_that_could_run_other_code_is_refused(run_copy):
    config = run_copy / ".hydra" / "config.yaml"
    whole = config.read_text()
    for old, new, words in [
        ("loss: likelihood_ratio", "loss: {_target_: os.system}", "inner.loss._target_=os.system"),
        ("activation: tanh", "activation: os.system", "policy.activation._target_=os.system"),
        ("loss: likelihood_ratio", "loss: {_target_: torch.Tensor.add}", "which is no class"),
    ]:
        assert old in whole
        config.write_text(whole.replace(old, new))
        with pytest.raises(UserError, match=words):
            maml_rl.load("run")
