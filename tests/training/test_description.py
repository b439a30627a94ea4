"""A trainer built from objects leaves a run folder as good as a command's."""

import re

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import maml_rl
from envs import HalfCheetahVel, Recorded, UserError
from envs.recorded import constructor_arguments
from envs.yaml_text import from_yaml
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import Adam
from maml_rl.algorithm.policies import GaussianMLP
from maml_rl.configuration.building import build_trainer
from maml_rl.runs.folder import RunFolder
from maml_rl.sampling import Sampler
from maml_rl.training.description import derived_configuration
from maml_rl.training.loggers import RunLogger
from maml_rl.training.trainer import Trainer
from tests.support.bandit import SignBandit
from tests.support.paths import ROOT
from tests.support.run_files import read_metrics, repeatable
from tests.support.smoke import smoke_config, trainer

PAGE = (ROOT / "docs/running.md").read_text()
EXAMPLE = re.search(r"## From objects\n.*?```python\n(.*?)```", PAGE, re.S)[1]

VARIANTS = [
    (),
    ("env=half_cheetah_vel", "env.preset=promp", "env.velocities=[0,3]", "inner=meta_sgd"),
    ("algorithm=rl2",),
    ("algorithm=oracle", "env=half_cheetah_dir", "device=cpu"),
    ("env=union", "env.weights=[3,1]", "algorithm=promp"),
    ("env=multi_armed_bandit", "baseline=value_network", "algorithm=anil"),
    ("baseline=shared_value_network", "baseline.task_returns=true", "algorithm=promp"),
    ("env=gymnasium", "env.id=Pendulum-v1", "env.set_task=tests.training.test_description.Gravity"),
    ("algorithm=kronecker", "trainer.iterations=null", "trainer.env_steps=9e3"),
]  # fmt: skip


class Gravity:
    """Tasks of a pendulum."""

    def sample(self, num_tasks, rng):
        return {"gravity": rng.uniform(5.0, 15.0, num_tasks)}

    def apply(self, env, task):
        env.g = float(task["gravity"])


def same(derived, composed, path=""):
    """Whether a composed node's values are all in the derived one; null leaves a default."""
    if isinstance(composed, dict):
        assert isinstance(derived, dict), path
        for key, value in composed.items():
            if value is not None and key != "_target_":
                same(derived[key], value, f"{path}.{key}")
        return
    assert derived == composed, path


@pytest.mark.parametrize("overrides", VARIANTS, ids=" ".join)
def test_the_configuration_derived_from_built_objects_is_the_one_they_were_built_from(
    overrides, tmp_path
):
    config = smoke_config(*overrides)
    text = derived_configuration(build_trainer(config, tmp_path))[0]["config.yaml"]
    derived = from_yaml(text)
    composed = OmegaConf.to_container(config, resolve=True)
    composed["requires"] = {}  # is checked before objects are built
    same(derived, composed)
    again = build_trainer(OmegaConf.create(text), tmp_path)
    assert derived_configuration(again)[0]["config.yaml"] == text
    for node in ("env", "policy", "inner", "outer", "algorithm", "baseline", "sampler", "logger"):
        assert (
            derived[node]["_target_"].rpartition(".")[2]
            == (composed[node]["_target_"].rpartition(".")[2])
        )


def test_a_run_of_objects_is_that_of_the_configuration(tmp_path):
    trainer(tmp_path / "a").begin()  # derived, for no configuration is given
    objects = trainer(tmp_path / "b")
    objects.run(objects.begin())
    rebuilt = build_trainer(OmegaConf.load(tmp_path / "a/.hydra/config.yaml"), tmp_path / "c")
    rebuilt.run(rebuilt.begin())
    assert repeatable(read_metrics(tmp_path / "b")) == repeatable(read_metrics(tmp_path / "c"))


def test_the_page_s_example_leaves_a_run_that_every_command_takes(work, train_cli, evaluate_cli):
    sizes = "num_tasks=3, num_episodes=4, validation_tasks=2, test_tasks=2,"
    code = EXAMPLE.replace("(64, 64)", "(8,)").replace("*(1, 3),", f"*(1, 2), {sizes}")
    code = code.replace("Sampler()", "Sampler(1)").replace("RunLogger()", "RunLogger(False, False)")
    names = {}
    exec(compile(code, "docs/running.md", "exec"), names)
    assert names["trained"].checkpoint == "best"
    assert names["trained"].learner.inner.step_size == 0.1
    outcome = evaluate_cli("run=run3", "steps=1", "num_episodes=2", "threads=1")
    assert (outcome.status, outcome.err) == (0, "")
    outcome = train_cli("resume=run3", "trainer.iterations=3")
    assert (outcome.status, len(read_metrics("run3"))) == (0, 3)
    config = from_yaml((work / "run3/.hydra/config.yaml").read_text())
    assert config["env"]["_target_"] == "envs.tasks.point.PointNavigation"
    assert config["env"]["horizon"] == 20
    assert config["trainer"]["num_tasks"] == 3


def by_hand(path, distribution=None, inner=None, baseline=None):
    distribution = distribution or SignBandit()
    size = distribution.observation_space.shape[0]
    policy = GaussianMLP(size, distribution.action_space.shape[0], (4,))
    learner = MetaLearner(
        policy, baseline or LinearFeatureBaseline(), inner or InnerLoop(1, 0.3), Adam(0.05)
    )
    return Trainer(
        *(distribution, learner, Sampler(1), RunLogger(False, False), RunFolder(path)),
        *(3, 2),
        num_tasks=2,
        num_episodes=3,
        validation_tasks=2,
        test_tasks=2,
    )


class Local(SignBandit):
    """A class that cannot be imported by its path."""


def test_a_run_that_no_file_can_describe_is_used_from_python(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Local, "__module__", "__main__")  # as a notebook's cell has it
    run = by_hand(tmp_path / "run", Local())
    run.run(run.begin())
    words = (
        "env is of the class Local, which cannot be imported: write it into a file, such as "
        "my_parts.py, and import it from there."
    )
    assert capsys.readouterr().out.startswith(
        "note: maml_rl.load(trainer) and trainer.resume() alone can use this run, for its folder "
        f"has no configuration: {words}"
    )
    with pytest.raises(UserError) as error:
        maml_rl.load(tmp_path / "run")
    path = tmp_path / "run"
    assert str(error.value) == (
        f"run={path} was trained from Python and has no configuration: {words}"
    )
    trained = maml_rl.load(run)
    assert trained.checkpoint == "best"
    adapted = trained.adapt(trained.tasks("test"), steps=1, num_episodes=2)
    assert adapted.returns.shape == (2, 2)
    again = by_hand(path, Local())
    progress = again.resume()
    assert progress.iteration == 2
    assert torch.equal(progress.meta["log_std"], maml_rl.load(again, "last").meta["log_std"])


class Unrecorded:
    """A baseline that keeps its arguments to itself."""

    def __init__(self, scale):
        self.baseline = LinearFeatureBaseline(scale)

    def fit(self, rollout, returns, bootstrap=None):
        return self.baseline.fit(rollout, returns, bootstrap)

    def values(self, weights, rollout):
        return self.baseline.values(weights, rollout)


class Kept(Recorded, Unrecorded):
    """The same, recorded."""

    def __init__(self, scale=1.0, *, names=("a",)):
        super().__init__(scale)


def test_objects_that_cannot_be_written_down_are_named_with_what_to_write(tmp_path):
    function = InnerLoop(loss=lambda *given: 0)
    for parts, words in [
        (
            {"baseline": Unrecorded(1.0)},
            "baseline is of the class Unrecorded, whose argum",
        ),
        ({"inner": function}, "inner.loss is the function .*<lambda>: give an object"),
    ]:
        files, reason = derived_configuration(by_hand(tmp_path, **parts))
        assert files == {}
        assert re.match(words, reason)
    files, reason = derived_configuration(by_hand(tmp_path, baseline=Kept(np.float32(0.5))))
    assert reason is None
    described = from_yaml(files["config.yaml"])
    assert described["baseline"] == {"_target_": f"{__name__}.Kept", "scale": 0.5, "names": ["a"]}


def test_constructors_record_what_they_were_given_and_no_base_class_s_arguments():
    assert constructor_arguments(Kept(2.0)) == {"scale": 2.0, "names": ("a",)}
    assert constructor_arguments(Unrecorded(2.0)) is None
    vel = HalfCheetahVel(velocities=[1.0, 2.0])
    assert constructor_arguments(vel) == {
        "preset": None, "horizon": None, "action_scale": None, "velocities": [1.0, 2.0]
    }  # fmt: skip
    inner = InnerLoop(2, 0.3).varied(step_size=0.1)
    assert constructor_arguments(inner)["step_size"] == 0.1
    assert constructor_arguments(inner)["steps"] == 2
    with pytest.raises(TypeError, match="unexpected keyword argument 'sted'"):
        InnerLoop(sted=1)
