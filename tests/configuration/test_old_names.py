"""Run folders made before modules moved."""

import pkgutil

from omegaconf import OmegaConf

from maml_rl.configuration.old_names import MOVED, SPLIT, current_name, rename
from maml_rl.configuration.stored import stored_config
from maml_rl.runs.folder import RunFolder


def test_every_new_place_exists_and_no_old_one_does():
    for old, new in MOVED.items():
        assert pkgutil.resolve_name(new).__name__ == new
        assert old not in MOVED.values()
    for old, new in SPLIT.items():
        assert pkgutil.resolve_name(new).__name__ == old.rpartition(".")[2]


def test_nested_targets_are_renamed_and_others_left():
    config = OmegaConf.create(
        {
            "env": {
                "_target_": "envs.combined.Union",
                "members": [{"_target_": "envs.ant.AntDir"}, {"_target_": "envs.AntGoal"}],
            },
            "inner": {"update": {"_target_": "maml_rl.update_rules.MetaSGD"}, "steps": 1},
            "policy": {"_target_": "mine.Policy"},
        }
    )
    rename(config)
    assert config.env._target_ == "envs.wrappers.union.Union"
    assert [own._target_ for own in config.env.members] == ["envs.tasks.ant.AntDir", "envs.AntGoal"]
    assert (
        config["inner"]["update"]["_target_"] == "maml_rl.algorithm.inner_loop.update_rules.MetaSGD"
    )
    assert config.policy._target_ == "mine.Policy"
    assert current_name("maml_rl.outer_loop.TRPO") == "maml_rl.algorithm.outer_loop.TRPO"


def test_a_run_folder_of_before_the_move_loads(run_copy):
    file = run_copy / ".hydra" / "config.yaml"
    text = file.read_text()
    for old, new in MOVED.items():
        text = text.replace(f"_target_: {new}.", f"_target_: {old}.")
    assert "maml_rl.meta_learner.MetaLearner" in text
    file.write_text(text)
    config = stored_config(RunFolder(run_copy))
    assert config.algorithm._target_ == "maml_rl.algorithm.meta_learner.MetaLearner"
