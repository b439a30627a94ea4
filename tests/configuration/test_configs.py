"""Every YAML node composes, builds and runs; every experiment composes and builds."""

import tomllib

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from maml_rl.commands.cli import compose
from maml_rl.commands.paths import config_directory
from maml_rl.configuration.building import build_trainer, train
from tests.support.paths import ROOT
from tests.support.run_files import read_metrics
from tests.support.smoke import smoke_config

NODES = sorted(
    (path.parent.name, path.stem)
    for path in (ROOT / "conf").glob("*/*.yaml")
    if path.parent.name != "experiment"
)
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


def test_groups_and_experiments_are_those_the_design_names():
    assert config_directory() == ROOT / "conf"
    assert {group for group, _ in NODES} == {
        *("env", "policy", "baseline", "sampler", "algorithm", "inner", "outer", "trainer"),
        "logger",
    }
    assert {
        *("half_cheetah_dir", "half_cheetah_dir_full", "half_cheetah_vel", "point_navigation"),
        "smoke",
    } <= set(EXPERIMENTS)


EXTRA = {  # what a node must be told: ten steps show no reward, there are more tasks than two
    "point_navigation_corners": [
        *("env.quiet=0", "trainer.validation_tasks=4", "trainer.test_tasks=4")
    ],
    "point_navigation_half_circle": ["env.sparse=false"],
    "categorical_mlp": ["env=multi_armed_bandit"],
    "gymnasium": ["env.id=Pendulum-v1", "env.set_task=envs.Pendulum"],
}


@pytest.mark.parametrize(("group", "name"), NODES, ids=[f"{group}={name}" for group, name in NODES])
def test_every_node_trains_for_one_iteration(group, name, tmp_path):
    if name == "random":
        pytest.skip("never trained; tests/test_options.py has its run")
    if group == "logger" and name != "default":
        pytest.importorskip(name)  # an extra; tests/test_loggers.py does with a stand-in
    sizes = ["trainer.iterations=1", "trainer.validate_every=9"]
    if group == "env":
        sizes += ["trainer.test_tasks=2"]
    if group not in ("algorithm", "outer"):  # whose trust region has the iterations of its node
        sizes += ["outer.cg_iterations=1"]
    config = smoke_config(f"{group}={name}", *sizes, *EXTRA.get(name, []))
    text = (ROOT / "conf" / group / f"{name}.yaml").read_text()
    lines = (line.strip() for line in text.splitlines())
    own = [line.split(": ")[1] for line in lines if line.startswith("_target_:")]
    target = (
        own[0] if own else "maml_rl.algorithm.meta_learner.MetaLearner"
    )  # inherited from maml_trpo
    assert config[group]._target_ == target
    assert isinstance(get_class(target), type)
    metrics = train(config, tmp_path / "run")
    assert metrics["iteration"] == 1
    if name in ("pretrained", "oracle", "rl2"):
        assert "inner/grad_norm" not in metrics  # no inner loop
    else:
        assert metrics["inner/grad_norm"] > 0
    if "env" not in group and group != "trainer":
        assert metrics["env_steps"] <= 2 * 2 * 10 * 2  # steps + 1 collections of M * B * T
    line = read_metrics(tmp_path / "run")[-1]
    assert {key: metrics[key] for key in line} == line
    added = metrics.keys() - line.keys()  # the validation at the end of the run, if any
    assert all(key.startswith("validation/") for key in added)


def test_the_papers_size_and_the_default_size():
    full = compose("config", ["experiment=half_cheetah_dir_full"])
    assert (full.trainer.num_tasks, full.trainer.num_episodes) == (40, 20)
    half = compose("config", ["experiment=half_cheetah_dir_finn2017"])
    assert (half.trainer.num_tasks, half.trainer.num_episodes) == (20, 20)
    # 20 tasks x 20 episodes x 100 steps, before and after adaptation
    assert half.trainer.iterations * 20 * 20 * 100 * 2 == 12_000_000
    assert full.trainer.iterations * 40 * 20 * 100 * 2 >= 40_000_000


def test_without_an_experiment_the_numbers_are_those_of_finn_et_al():
    plain = OmegaConf.to_container(compose("config", []))
    finn = compose("config", ["experiment=half_cheetah_dir_finn2017"])
    assert plain == OmegaConf.to_container(finn)


@pytest.mark.parametrize("problem", ["half_cheetah_dir", "half_cheetah_vel", "ant_dir", "ant_goal"])
def test_what_the_papers_used_is_a_preset(problem):
    tuned, finn, promp = (
        compose("config", [f"experiment={problem}{paper}"])
        for paper in ("", "_finn2017", "_promp2019")
    )
    assert tuned.env == finn.env == promp.env
    assert (finn.algorithm.name, promp.algorithm.name) == ("maml_trpo", "promp")
    assert (finn.algorithm.gae_lambda, finn.algorithm.discount) == (1.0, 0.99)
    assert finn.inner.step_size == 0.1
    assert (promp.outer.step_size, promp.outer.epochs, promp.outer.clip) == (1e-3, 5, 0.3)
    assert promp.outer.inner_kl_coefficient == 5e-4
    for paper in (finn, promp):
        assert (paper.trainer.num_tasks, paper.trainer.num_episodes) == (20, 20)
        assert paper.trainer.task_sampling == "independent"
    assert tuned.trainer.num_tasks < 20
    assert tuned.trainer.task_sampling == "balanced"


def test_the_long_run_of_half_cheetah_is_the_short_one_with_a_schedule():
    short, long = (
        OmegaConf.to_container(compose("config", [f"experiment=half_cheetah_dir{name}"]))
        for name in ("", "_long")
    )
    assert long["trainer"]["env_steps"] == 12_000_000
    assert (short["outer"]["schedule"], long["outer"]["schedule"]) == ("constant", "linear")
    long["outer"]["schedule"] = "constant"
    for name in ("env_steps", "validate_every"):
        long["trainer"][name] = short["trainer"][name]
    assert long == short


def test_an_algorithm_sets_inner_and_outer_together_and_the_command_line_wins():
    assert smoke_config("algorithm=maml_adam").outer._target_ == "maml_rl.algorithm.outer_loop.Adam"
    config = smoke_config("algorithm=maml_adam", "outer=trpo", "inner=meta_sgd")
    assert config.outer._target_ == "maml_rl.algorithm.outer_loop.TRPO"
    assert config.inner["update"]._target_ == "maml_rl.algorithm.inner_loop.update_rules.MetaSGD"
    assert config.algorithm.name == "maml_adam"
    assert smoke_config("algorithm=anil", "inner.adapted=[body]").inner.adapted == ["body"]


def test_nodes_hold_what_their_classes_take_by_default():
    """A node's numbers are its class's defaults, so that Python and YAML tell one story."""
    import inspect

    for group, name in NODES:
        if group == "algorithm":
            continue
        node = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / group / f"{name}.yaml"))
        parameters = inspect.signature(get_class(node.pop("_target_"))).parameters
        node.pop("defaults", None)
        for key, value in node.items():
            if key not in parameters:  # a preset's number, or a base class's option: it is built
                continue
            default = parameters[key].default
            if not isinstance(value, dict):
                same = list(default) if isinstance(default, tuple) else default
                assert same == value, (group, name, key)


def test_an_experiment_can_set_the_seed(work):
    (work / "own/experiment").mkdir(parents=True)
    (work / "own/experiment/mine.yaml").write_text("# @package _global_\nseed: 7\n")
    search = f"hydra.searchpath=[file://{work / 'own'}]"
    assert compose("config", ["experiment=mine", search]).seed == 7


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_builds_and_runs_an_iteration(name, work):
    config = compose("config", [f"experiment={name}"])
    trainer = build_trainer(config, work / "run")
    assert (
        trainer.learner.policy.observation_size == trainer.distribution.observation_space.shape[0]
    )
    assert not (work / "run").exists()
    sizes = {"iterations": 1, "num_tasks": 2, "num_episodes": 2, "validate_every": 1}
    sizes |= {"validation_tasks": 2, "validation_episodes": 1, "test_tasks": 2}
    if name.endswith("_random"):
        sizes["iterations"] = 0
    config.env.horizon = 5
    config.trainer.update(sizes)
    if "cg_iterations" in config.outer:
        config.outer.cg_iterations = 1
    metrics = train(config, work / "run")
    if name.endswith("_random"):  # the initialization is all there is
        assert {key.partition("/")[0] for key in metrics} == {"validation"}
        assert (work / "run/checkpoints/best.pt").is_file()
        assert (work / "run/checkpoints/last.pt").is_file()
        return
    last = config.inner.steps  # 0 without an inner loop
    assert metrics["iteration"] == 1
    # tasks, episodes, collections (episodes of a trial), steps
    assert metrics["env_steps"] == 2 * 2 * (config.trial_episodes or last + 1) * 5
    assert {f"return/step_{last}", f"validation/return/step_{last}"} <= metrics.keys()


def test_every_group_is_packaged():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    groups = {path.parent.name for path in (ROOT / "conf").glob("*/*.yaml")}
    assert {f"maml_rl.conf.{name}" for name in groups} < set(packages)
