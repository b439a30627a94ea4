"""maml_rl.train: its run is as good as a command's; what is stored stands by itself."""

import json
import re
import sys

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

import maml_rl
from envs import PointNavigation, UserError
from tests.support.paths import ROOT
from tests.support.run_files import assert_same_meta, load, read_metrics, repeatable

SMALL = ("logger.tensorboard=false", "logger.progress=false", "sampler.threads=1")
SHORT = ("trainer.iterations=1", "trainer.validate_every=9", "env.horizon=3")
EXAMPLE = re.search(r"## Train\n\n```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.S)


def test_the_page_s_example_runs_and_its_run_is_a_command_s(work, train_cli, evaluate_cli):
    code = EXAMPLE[1].replace("experiment=half_cheetah_dir", "experiment=smoke")
    code = code.replace('"seed=1"', ", ".join(map(repr, ("seed=1", *SMALL))))
    values = {}
    exec(compile(code, "python.md", "exec"), values)
    assert values["trained"].checkpoint == "best"
    assert train_cli("experiment=smoke", *SMALL, "seed=1", "hydra.run.dir=command").status == 0
    assert repeatable(read_metrics("run2")) == repeatable(read_metrics("command"))
    for name in ("last", "best"):
        assert_same_meta(f"run2/checkpoints/{name}.pt", f"command/checkpoints/{name}.pt")
    one, other = (OmegaConf.load(f"{run}/.hydra/config.yaml") for run in ("run2", "command"))
    assert one == other
    outcome = evaluate_cli("run=run2", "steps=1", "num_episodes=2", "threads=1")
    assert (outcome.status, outcome.err) == (0, "")
    assert train_cli("resume=run2", "trainer.iterations=3").status == 0
    assert maml_rl.train("resume=run2", "trainer.iterations=4").folder.path.name == "run2"
    assert len(read_metrics("run2")) == 4
    outcome = evaluate_cli("runs=[run2,command]", "steps=1", "num_episodes=2", "threads=1")
    assert (outcome.status, outcome.err) == (0, "")


def test_a_used_folder_and_a_wrong_option_are_refused(run_copy):
    with pytest.raises(UserError, match="run holds a run already: resume=run goes on with it"):
        maml_rl.train("experiment=smoke", folder="run")
    with pytest.raises(UserError, match=r"did you mean trainer\.iterations"):
        maml_rl.train("trainer.iteratons=3")
    with pytest.raises(UserError, match="gives several values"):
        maml_rl.train("seed=1,2")


def test_interpolations_are_stored_as_they_were_resolved(
    work, train_cli, evaluate_cli, monkeypatch
):
    monkeypatch.setenv("H", "4")
    options = ("experiment=smoke", *SMALL, "hydra.run.dir=run")
    number = "'${oc.decode:${oc.env:H}}'"
    assert train_cli(*options, f"env.horizon={number}").status == 0
    assert OmegaConf.load("run/.hydra/config.yaml").env.horizon == 4
    monkeypatch.setenv("H", "9")
    outcome = evaluate_cli("run=run", "steps=1", "num_episodes=2", "threads=1")
    assert (outcome.status, outcome.err) == (0, "")
    monkeypatch.delenv("H")
    assert maml_rl.load("run").distribution.horizon == 4
    text = (work / "run/.hydra/config.yaml").read_text()
    (work / "run/.hydra/config.yaml").write_text(text.replace("seed: 0", "seed: ${oc.env:H}"))
    with pytest.raises(UserError, match="holds an interpolation that has no value here"):
        maml_rl.load("run")


HOP = """
from envs import PointNavigation
from envs.tasks.point import PointPreset


class Far(PointNavigation):
    presets = {{"mine": PointPreset(frame_skip=1, horizon={horizon}, action_scale=0.1)}}
"""


def test_another_environment_than_the_run_began_with(work, train_cli, evaluate_cli):
    source = type(next(iter(PointNavigation.presets.values()))).__name__
    text = HOP.replace("PointPreset", source)
    (work / "far_tasks.py").write_text(text.format(horizon=5))
    options = ("experiment=smoke", *SMALL, "hydra.run.dir=run", "env.horizon=null")
    own = ("env._target_=far_tasks.Far", "env.preset=mine", "trainer.iterations=1")
    outcome = train_cli(*options, *own)
    assert (outcome.status, outcome.err) == (0, "")
    numbers = json.loads((work / "run/provenance.json").read_text())["environment"]
    assert (numbers["horizon"], numbers["preset"]["horizon"]) == (5, 5)
    assert train_cli("resume=run", "trainer.iterations=2").status == 0
    sys.modules.pop("far_tasks")
    (work / "far_tasks.py").write_text(text.format(horizon=60))
    words = "horizon was 5 and is 60 now, preset.horizon was 5 and is 60 now"
    outcome = train_cli("resume=run", "trainer.iterations=4")
    assert (outcome.status, outcome.error) == (
        2,
        f"error: run began with another environment: {words}. Restore the code that it began with, "
        f"or begin a new run with init_from=run.",
    )
    outcome = evaluate_cli("run=run", "steps=1", "num_episodes=2", "threads=1")
    assert outcome.status == 0
    assert outcome.error == f"warning: run was trained in another environment: {words}."
    sys.modules.pop("far_tasks")


def test_jobs_of_a_sweep_that_would_share_a_folder_are_refused(work, train_cli):
    sweep = ("experiment=smoke", *SMALL, "--multirun", "seed=1,2")
    outcome = train_cli(*sweep, "hydra.sweep.subdir=x")
    assert outcome.status == 2
    assert outcome.error == (
        "error: jobs 0 and 1 of the sweep would both be x: leave hydra.sweep.subdir away, or name "
        "in it what differs, as in hydra.sweep.subdir='seed_${seed}'."
    )
    assert list(work.iterdir()) == []
    names = ("hydra.sweep.dir=sw", "hydra.sweep.subdir=seed_${seed}")
    assert train_cli(*sweep, *names, *SHORT).status == 0
    assert sorted(path.name for path in (work / "sw").iterdir() if path.is_dir()) == [
        "seed_1",
        "seed_2",
    ]


LAUNCHER = """
import multiprocessing

from hydra._internal.core_plugins.basic_launcher import BasicLauncher


class ForkingLauncher(BasicLauncher):
    # Runs a batch in a child process, as joblib's and submitit's do.

    def launch(self, job_overrides, initial_job_idx):
        reader, writer = multiprocessing.Pipe()

        def work():
            writer.send(super(ForkingLauncher, self).launch(job_overrides, initial_job_idx))

        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        results = reader.recv()
        child.join()
        return results
"""


@pytest.mark.parametrize(("values", "status"), [("2,4", 1), ("2,3", 0)])
def test_a_failed_job_in_another_process_fails_the_sweep(
    values, status, work, train_cli, monkeypatch
):
    from hydra.core.plugins import Plugins

    (work / "hydra_plugins").mkdir()  # a namespace package: Hydra takes launchers from there alone
    (work / "hydra_plugins/forking.py").write_text(LAUNCHER)
    (work / "mine/hydra/launcher").mkdir(parents=True)
    name = "hydra_plugins.forking.ForkingLauncher"
    (work / "mine/hydra/launcher/forking.yaml").write_text(f"_target_: {name}\n")
    from hydra_plugins import forking

    plugins = Plugins.instance()
    monkeypatch.setitem(plugins.class_name_to_class, name, forking.ForkingLauncher)
    (work / "nan_tasks.py").write_text(NAN)
    outcome = train_cli(
        *("experiment=smoke", *SMALL, *SHORT, "--config-dir=mine", "hydra/launcher=forking"),
        *("--multirun", "env._target_=nan_tasks.Nan", "hydra.sweep.dir=sw"),
        f"trainer.num_tasks={values}",
    )
    assert outcome.status == status
    for module in ("nan_tasks", "hydra_plugins.forking"):
        sys.modules.pop(module, None)


NAN = """
import numpy as np

from envs import PointNavigation


class Nan(PointNavigation):
    def reward(self, before, action, after, task):
        value = super().reward(before, action, after, task).copy()
        return np.full_like(value, np.nan) if value.ndim and len(value) == 4 else value
"""


def test_the_objective_of_a_sweep_is_the_validation_return_after_adaptation(work, monkeypatch):
    from maml_rl.commands import train as module

    returned = []
    original = module.run_single

    def run(parsed, job):
        original(parsed, lambda config: returned.append(job(config)) or returned[-1])

    monkeypatch.setattr(module, "run_single", run)
    sizes = ("trainer.iterations=3", "trainer.validate_every=2", "hydra.run.dir=run")
    for algorithm in ("maml_trpo", "pretrained"):
        options = ("experiment=smoke", *SMALL, f"algorithm={algorithm}")
        run_dir = f"hydra.run.dir={algorithm}"
        assert module.train_command([*options, *sizes[:2], run_dir]) == 0
        best = load(f"{algorithm}/checkpoints/best.pt")["best_validation"]
        assert returned.pop() == best < 0  # a gain would be about 0


def test_a_configuration_can_ask_for_a_sweep(work):
    """Hydra's own switch; a run that sets none is run without asking Hydra again."""
    from maml_rl.commands.train import check

    modes = [
        check(["experiment=smoke", *more], None).mode for more in ([], ["hydra.mode=MULTIRUN"])
    ]
    assert modes == [None, RunMode.MULTIRUN]


def test_glob_and_interval_sweeps(work, train_cli):
    sweep = ("experiment=smoke", *SMALL, *SHORT, "--multirun", "hydra.sweep.dir=sw")
    assert train_cli(*sweep, "algorithm=glob(maml_*)").status == 0
    names = [
        str(OmegaConf.load(path / ".hydra/config.yaml").algorithm.name)
        for path in sorted(work.glob("sw/[0-9]*"))
    ]
    assert names == sorted(path.stem for path in (ROOT / "conf/algorithm").glob("maml_*.yaml"))
    outcome = train_cli(*sweep, "inner.step_size=interval(0.1,0.2)")
    assert outcome.error == (
        "error: inner.step_size=interval(0.1,0.2) names no values: write inner.step_size=1,2,3 or "
        "=range(1,4), or choose a sweeper that draws from intervals."
    )
    outcome = train_cli(*sweep, "algorithm=glob(zzz*)")
    assert outcome.error.startswith("error: algorithm=glob(zzz*) matches nothing")


def test_a_name_too_long_for_a_file_system(work, train_cli):
    outcome = train_cli("experiment=smoke", f"hydra.run.dir={'a' * 256}")
    assert (outcome.status, outcome.error) == (
        2,
        f"error: hydra.run.dir: the name {'a' * 40}... has 256 bytes and file systems take 255; "
        f"give a shorter one.",
    )
    assert list(work.iterdir()) == []


def test_a_typo_beside_a_node_of_one_s_own_is_named(work, train_cli):
    (work / "myconf/env").mkdir(parents=True)
    (work / "myconf/env/arm.yaml").write_text("_target_: envs.PointNavigation\nhorizon: 5\n")
    outcome = train_cli("--config-dir=myconf", "env=arm", "trainer.iteratons=3")
    assert (outcome.status, outcome.error) == (
        2,
        "error: trainer.iteratons is unknown; did you mean trainer.iterations?",
    )


def test_a_closed_standard_output(work):
    import subprocess

    line = " ".join(
        [sys.executable, str(ROOT / "train.py"), "experiment=smoke", *SMALL, "hydra.run.dir=run"]
    )
    done = subprocess.run(f"{line} >&-", shell=True, cwd=work, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert load(work / "run/checkpoints/last.pt")["iteration"] == 2


def test_a_class_of_one_s_own_takes_its_arguments_from_python_too(work):
    (work / "near_goals.py").write_text(
        "from envs import PointNavigation\n\n\n"
        "class Near(PointNavigation):\n"
        "    def __init__(self, reach_of_goals=0.1):\n"
        "        super().__init__(horizon=4, goal_range=reach_of_goals)\n"
    )
    options = ("experiment=smoke", "env._target_=near_goals.Near", "env.reach_of_goals=0.2")
    trained = maml_rl.train(*options, "logger.progress=false", folder="run")
    assert trained.distribution.horizon == 4
    assert 0.1 < abs(trained.sample_tasks(200)["goal"]).max() <= 0.2
