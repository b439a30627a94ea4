"""From configuration to objects; a stored configuration must not run other code."""

import pytest
import torch
from omegaconf import OmegaConf

from envs import PointNavigation, UserError
from maml_rl.configuration.building import (
    build_distribution,
    build_learner,
    build_run,
    build_trainer,
    train,
    trained_initialization,
)
from maml_rl.configuration.stored import stored_config
from maml_rl.errors import CheckpointError
from maml_rl.runs.checkpoint import save_checkpoint
from maml_rl.runs.folder import RunFolder
from tests.support.smoke import smoke_config, train_smoke


def test_train_returns_its_metrics_and_can_be_called_again(tmp_path):
    first = train(smoke_config("trainer.iterations=1"), tmp_path / "a")
    second = train(smoke_config("trainer.iterations=1"), tmp_path / "b")
    assert first["iteration"] == second["iteration"] == 1
    assert first["return/step_1"] == second["return/step_1"]
    other = train(smoke_config("trainer.iterations=1", "seed=5"), tmp_path / "c")
    assert other["return/step_1"] != first["return/step_1"]


def test_arguments_reach_the_objects(tmp_path):
    trainer = build_trainer(
        smoke_config("inner.step_size=0.25", "outer.max_kl=0.5", "env.horizon=7", "seed=3"),
        tmp_path,
    )
    assert trainer.learner.inner.step_size == 0.25
    assert trainer.learner.outer.max_kl == 0.5
    assert trainer.distribution.horizon == 7
    assert trainer.seed == 3
    assert trainer.sampler.threads == 1
    assert trainer.learner.policy.widest == 8
    assert isinstance(trainer.distribution, PointNavigation)


def test_requirements_of_a_run_are_read_where_they_once_were(tmp_path):
    config = smoke_config("algorithm=anil")
    requires = OmegaConf.to_container(config.requires)
    assert requires == {"inner.adapted": ["head"]}
    del config.requires
    OmegaConf.set_struct(config, False)
    config.algorithm.requires = requires
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(config, tmp_path / ".hydra" / "config.yaml")
    read = stored_config(RunFolder(tmp_path))
    assert OmegaConf.to_container(read.requires) == requires
    assert "requires" not in read.algorithm


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["~env"], "env must name a class in env._target_"),
        (["env._target_=nowhere.X"], "cannot be imported"),
        (["env._target_=maml_rl.algorithm.inner_loop.losses.nothing"], "cannot be imported"),
        (["env._target_=os.path.sep"], "is no class"),
        (["+policy.depth=3"], "policy.depth is unknown: GaussianMLP takes hidden_sizes"),
        (["policy.hidden_sizes=5"], "policy.hidden_sizes must be a list"),
        (["policy.activation=gleu"], "policy.activation=gleu is unknown"),
        (["policy.activation=torch.argsort"], "must give each number its own value"),
        (["policy.activation=torch.zeros"], "policy.activation=torch.zeros is no activation"),
        (["policy.activation=torch.nothing"], "policy.activation=torch.nothing is no activation"),
        (["algorithm.standardize_advantages=1"], "must be true or false, not 1"),
        (["inner=meta_sgd", "+inner.update.foo=1"], "inner.update.foo is unknown"),
        (["outer._target_=maml_rl.algorithm.inner_loop.update_rules.SGD",
          "~outer.max_kl", "~outer.cg_iterations", "~outer.fisher_share",
          "~outer.damping", "~outer.line_search_steps", "~outer.backtrack_ratio",
          "~outer.schedule"],
         "does not fit there: it has no check"),
    ],
)  # fmt: skip
def test_a_wrong_node_is_refused_in_words(overrides, words, tmp_path):
    with pytest.raises(UserError) as caught:
        build_trainer(smoke_config(*overrides), tmp_path)
    assert words in str(caught.value)


def test_a_distribution_with_another_kind_of_space_is_refused(work):
    (work / "odd_tasks.py").write_text(
        "from gymnasium import spaces\nfrom envs import PointNavigation\n\n\n"
        "class Pair(PointNavigation):\n"
        "    def _action_space(self):\n        return spaces.MultiDiscrete([3, 2])\n"
    )
    config = smoke_config("env._target_=odd_tasks.Pair")
    with pytest.raises(
        UserError, match=r"pair\.action_space must be a gymnasium\.spaces\.Box of shape"
    ):
        build_distribution(config)


def test_init_from_takes_the_best_checkpoint_else_the_last(trained_run, run_copy):
    learner = build_learner(smoke_config(), PointNavigation(horizon=10))
    best = torch.load(trained_run / "checkpoints/best.pt", weights_only=True)["meta"]
    got = trained_initialization(str(run_copy), learner)
    assert all(torch.equal(got[name], best[name]) for name in best)
    (run_copy / "checkpoints/best.pt").unlink()
    last = torch.load(trained_run / "checkpoints/last.pt", weights_only=True)["meta"]
    got = trained_initialization(str(run_copy), learner)
    assert all(torch.equal(got[name], last[name]) for name in last)


def test_init_from_starts_training_from_that_initialization(trained_run, tmp_path):
    config = smoke_config(f"init_from={trained_run}", "trainer.iterations=1")
    trainer, initialization = build_run(config, tmp_path / "run")
    progress = trainer.begin(initialization)
    best = torch.load(trained_run / "checkpoints/best.pt", weights_only=True)["meta"]
    assert all(torch.equal(progress.meta[name], best[name]) for name in best)
    fresh = trainer.learner.initialize(0)
    assert not torch.equal(fresh["layers.0.weight"], best["layers.0.weight"])
    assert (progress.iteration, progress.env_steps) == (0, 0)


def test_init_from_of_another_architecture_is_refused(trained_run, tmp_path):
    config = smoke_config(f"init_from={trained_run}", "policy.hidden_sizes=[9]")
    with pytest.raises(CheckpointError, match=r"of another architecture: for layers\.0\.weight"):
        build_run(config, tmp_path)
    config = smoke_config(f"init_from={trained_run}", "inner=meta_sgd")
    with pytest.raises(CheckpointError, match="of another architecture: for update/"):
        build_run(config, tmp_path)


MARK = "ran_code"
EVIL = {
    "system": {"env": {"_target_": "os.system", "command": f"touch {MARK}"}},
    "popen": {"env": {"_target_": "subprocess.Popen", "args": ["touch", MARK]}},
    "eval": {"env": {"_target_": "builtins.eval", "_args_": [f"open('{MARK}', 'w')"]}},
    "torch_load": {"policy": {"_target_": "torch.load", "f": "run/x.pt", "weights_only": False}},
    "class_of_another_kind": {"env": {"_target_": "maml_rl.sampling.Sampler"}},
    "own_function": {"env": {"_target_": "maml_rl.runs.checkpoint.save_checkpoint"}},
    "module_through_ours": {
        "env": {"_target_": "maml_rl.commands.main.os.system", "command": MARK}
    },
    "nested": {"env": {"_target_": "envs.PointNavigation",
                       "preset": {"_target_": "os.system", "command": f"touch {MARK}"}}},
    "in_a_list": {"policy": {"hidden_sizes": [{"_target_": "os.mkdir", "path": MARK}]}},
    "hidden_node": {"extra": {"_target_": "os.system", "command": f"touch {MARK}"}},
    "made_by_interpolation": {
        "env": f"${{oc.create:{{_target_:os.system,command:'touch {MARK}'}}}}"
    },
    "interpolated_name": {"evil": "os.system",
                          "env": {"_target_": "${evil}", "command": f"touch {MARK}"}},
}  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_a_malicious_configuration_is_not_called(name, run_copy, train_cli, evaluate_cli):
    path = run_copy / ".hydra/config.yaml"
    config = OmegaConf.merge(OmegaConf.load(path), {})
    for key, value in EVIL[name].items():
        config[key] = OmegaConf.merge(config[key], value) if key == "policy" else value
    path.write_text(OmegaConf.to_yaml(config))
    for outcome in (evaluate_cli("run=run"), train_cli("resume=run")):
        assert outcome.status == 2
        assert "run/.hydra/config.yaml names " in outcome.error
    assert not list(run_copy.parent.rglob(MARK))


@pytest.mark.parametrize("text", ["", "[1, 2]", "{:", "a: b", "\x00\x01", "just words"])
def test_a_damaged_configuration_is_refused(text, run_copy, train_cli, evaluate_cli):
    (run_copy / ".hydra/config.yaml").write_text(text)
    for outcome in (evaluate_cli("run=run"), train_cli("resume=run")):
        assert outcome.status == 2
        assert outcome.error.startswith("error: run/.hydra/config.yaml is ")


def test_an_interpolation_without_a_value_is_refused(run_copy, train_cli, evaluate_cli):
    (run_copy / ".hydra/config.yaml").write_text("env: ${nope}")
    for outcome in (evaluate_cli("run=run"), train_cli("resume=run")):
        assert outcome.status == 2
        assert outcome.error == (
            "error: run/.hydra/config.yaml holds an interpolation that has no value here "
            "(Interpolation key 'nope' not found): write the value that the run had in its place."
        )


def test_a_configuration_that_is_no_text_is_refused(run_copy, evaluate_cli):
    (run_copy / ".hydra/config.yaml").write_bytes(bytes(range(128, 256)))
    outcome = evaluate_cli("run=run")
    assert outcome.status == 2
    assert "cannot be read as YAML" in outcome.error


def test_a_stored_configuration_may_name_a_distribution_of_the_user_s(work):
    (work / "own_tasks.py").write_text(
        "from envs import PointNavigation\n\n\nclass Own(PointNavigation):\n    pass\n"
    )
    train_smoke(work / "run", "env._target_=own_tasks.Own", "trainer.iterations=1")
    folder = RunFolder(work / "run")
    assert build_distribution(stored_config(folder)).name == "own"


def test_a_checkpoint_of_another_kind_of_content_is_refused(trained_run, tmp_path):
    save_checkpoint(tmp_path / "x.pt", {"meta": [1, 2]})
    from maml_rl.runs.checkpoint import load_checkpoint

    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        load_checkpoint(tmp_path / "x.pt")


def test_first_order_through_learn2learn_needs_an_outer_without_fisher_products():
    from maml_rl.algorithm.baselines import LinearFeatureBaseline
    from maml_rl.algorithm.inner_loop.learn2learn import Learn2LearnMAML
    from maml_rl.algorithm.meta_learner import MetaLearner
    from maml_rl.algorithm.outer_loop import TRPO, Adam
    from maml_rl.algorithm.policies import GaussianMLP

    parts = (GaussianMLP(2, 1), LinearFeatureBaseline(), Learn2LearnMAML(first_order=True))
    with pytest.raises(UserError, match="use outer=adam, or inner=sgd"):
        MetaLearner(*parts, TRPO())
    assert MetaLearner(*parts, Adam()).inner.first_order
