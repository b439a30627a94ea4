"""train.py: runs, run folders, resuming, signals, sweeps, and wrong inputs."""

import json
import pickle
import signal
import warnings
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from envs import SimulationError, UserError
from maml_rl.commands.cli import compose
from maml_rl.configuration.building import build_trainer
from maml_rl.configuration.stored import stored_config
from maml_rl.errors import CheckpointError, NonFiniteError
from maml_rl.runs.data import read_run
from maml_rl.runs.folder import RunFolder, apply_changes, changed_settings
from tests.support.hostile_pickles import OsSystem
from tests.support.names import NO_SUCH_RUN
from tests.support.paths import ROOT
from tests.support.processes import process
from tests.support.run_files import assert_same_meta, everything, load, read_metrics, repeatable
from tests.support.smoke import SMOKE

# What a run leaves.


def test_a_run_leaves_what_the_design_lists(trained_run):
    names = {path.name for path in trained_run.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == {
        *(".hydra", "checkpoints", "metrics.jsonl", "provenance.json", "tasks.json")
    }
    assert {path.name for path in (trained_run / ".hydra").iterdir()} == {
        *("config.yaml", "hydra.yaml", "overrides.yaml")
    }
    config = OmegaConf.load(trained_run / ".hydra/config.yaml")
    assert config.policy.hidden_sizes == [8]
    overrides = OmegaConf.load(trained_run / ".hydra/overrides.yaml")
    assert overrides == ["experiment=smoke"]
    assert [line["iteration"] for line in read_metrics(trained_run)] == [1, 2]
    assert json.loads((trained_run / "provenance.json").read_text())["seed"] == 0


def test_tensorboard_reads_the_same_metrics(trained_run):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(trained_run))
        events.Reload()
    lines = read_metrics(trained_run)
    assert set(events.Tags()["scalars"]) == lines[-1].keys() - {"env_steps"}
    for name in ("return/step_1", "outer/kl", "validation/return/step_0"):
        got = [(event.step, event.value) for event in events.Scalars(name)]
        assert got == [(line["env_steps"], pytest.approx(line[name])) for line in lines]


def test_the_default_folder_is_named_after_env_algorithm_and_time(train_cli, work):
    outcome = train_cli(*SMOKE, "algorithm=maml_adam", "trainer.iterations=1")
    assert (outcome.status, outcome.err) == (0, "")
    (folder,) = work.glob("outputs/point_navigation/maml_adam/20*-*-*_*-*-*")
    path = folder.relative_to(work)
    assert outcome.out.splitlines() == [
        f"run folder: {path}",
        f"done; python evaluate.py run={path} evaluates it.",
    ]


def test_progress_is_plain_lines_where_stdout_is_no_terminal(train_cli, work):
    outcome = train_cli("experiment=smoke", "logger.tensorboard=false", "hydra.run.dir=run")
    lines = outcome.out.splitlines()
    assert len(lines) == 5
    assert lines[1] == "point_navigation, maml_trpo, seed 0: iteration 1 of 2 is under way"
    assert lines[2].startswith("iteration 1 of 2  env steps 80  steps/s ")
    assert lines[3].endswith("left 0:00:00")
    assert "\x1b" not in outcome.out


def test_the_same_command_gives_the_same_run_and_another_seed_another(train_cli, work):
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        assert train_cli(*SMOKE, f"seed={seed}", f"hydra.run.dir={name}").status == 0
    a, b, c = (repeatable(read_metrics(name)) for name in "abc")
    assert a == b
    assert a[0]["return/step_0"] != c[0]["return/step_0"]


def test_multirun_gives_every_seed_a_folder(train_cli, work):
    outcome = train_cli(*SMOKE, "--multirun", "seed=3,4", "hydra.sweep.dir=sweep")
    assert (outcome.status, outcome.err) == (0, "")
    for number, seed in [("0", 3), ("1", 4)]:
        run = work / "sweep" / number
        assert OmegaConf.load(run / ".hydra/config.yaml").seed == seed
        assert json.loads((run / "provenance.json").read_text())["seed"] == seed
        assert len(read_metrics(run)) == 2
    returns = [read_metrics(work / "sweep" / n)[0]["return/step_0"] for n in "01"]
    assert returns[0] != returns[1]
    before = everything(work)
    outcome = train_cli(*SMOKE, "--multirun", "seed=3,4", "hydra.sweep.dir=sweep")
    assert outcome.status == 2
    assert outcome.error.startswith("error: sweep/0 holds a run already: resume=sweep/0 goes on")
    assert everything(work) == before


def test_one_wrong_job_of_a_sweep_stops_it_before_it_starts(train_cli, work):
    outcome = train_cli(*SMOKE, "--multirun", "trainer.num_tasks=2,0", "hydra.sweep.dir=sweep")
    assert outcome.status == 2
    assert outcome.error.startswith("error: trainer.num_tasks must be a whole number")
    assert everything(work) == {}


# A distribution of the user's own.

OWN = """
import numpy as np

from envs import PointNavigation


class OnTheLine(PointNavigation):
    def sample(self, num_tasks, rng):
        goal = rng.uniform(-0.5, 0.5, size=(num_tasks, 2))
        goal[:, 1] = 0.25
        return {"goal": goal}
"""


def test_a_distribution_in_a_file_where_one_works(train_cli, evaluate_cli, work):
    (work / "line_tasks.py").write_text(OWN)
    outcome = train_cli(*SMOKE, "env._target_=line_tasks.OnTheLine", "hydra.run.dir=run")
    assert (outcome.status, outcome.err) == (0, "")
    tasks = json.loads((work / "run/tasks.json").read_text())
    assert [goal[1] for goal in tasks["test"]["goal"]] == [0.25] * 4
    assert train_cli("resume=run", "trainer.iterations=3").status == 0
    outcome = evaluate_cli("run=run", "steps=1", "num_episodes=2")
    assert (outcome.status, outcome.err) == (0, "")
    assert json.loads((work / "run/evaluation/evaluation.json").read_text())["env"] == "on_the_line"


PLAIN = """
from envs import PointNavigation, TaskDistribution


class Plain(TaskDistribution):
    # A distribution of the bare base class, which takes nothing but a length.

    def __init__(self, steps=4):
        self.inner = PointNavigation(horizon=steps)
        self.name, self.horizon = "plain", steps
        self.observation_space = self.inner.observation_space
        self.action_space = self.inner.action_space

    def sample(self, num_tasks, rng):
        return self.inner.sample(num_tasks, rng)

    def finite_tasks(self):
        return {"goal": self.inner.sample(2, __import__("numpy").random.default_rng(0))["goal"]}

    def describe(self, task):
        return "left" if task["goal"][0] < 0.1 else "right"

    def make(self, num_tasks, slots_per_task, threads=1):
        return self.inner.make(num_tasks, slots_per_task, threads)
"""


def test_a_distribution_of_the_bare_base_class(train_cli, evaluate_cli, work, monkeypatch):
    (work / "plain_tasks.py").write_text(PLAIN)
    options = (*SMOKE, "hydra.run.dir=run")
    outcome = train_cli(*options, "env._target_=plain_tasks.Plain", "env.horizon=3")
    assert outcome.status == 2
    assert outcome.error == "error: env.horizon is unknown: the class of env takes steps."
    # the horizon that smoke pins is taken away by itself, as is what is null
    plain = ("env._target_=plain_tasks.Plain", "env.steps=3")
    outcome = train_cli(*options, *plain)
    assert (outcome.status, outcome.err) == (0, "")
    outcome = evaluate_cli("run=run", "num_episodes=2", "steps=1")
    assert (outcome.status, outcome.err) == (0, "")
    assert "return, left" in outcome.out
    monkeypatch.setenv("MUJOCO_GL", "egl")
    outcome = evaluate_cli("run=run", "video=true")
    assert outcome.status == 2
    assert outcome.error == (
        "error: plain has no Gymnasium form, which pictures and films are made of: its class needs "
        "a method single(task, render_mode)."
    )


def test_a_distribution_without_the_base_class_is_told_to_inherit(train_cli, work):
    (work / "duck_tasks.py").write_text(PLAIN.replace("Plain(TaskDistribution)", "Plain"))
    target = "env._target_=duck_tasks.Plain"
    outcome = train_cli(*SMOKE, target, "hydra.run.dir=run")
    assert outcome.status == 2
    assert outcome.error == (
        f"error: {target} must be a task distribution, not a Plain: inherit from the base class, "
        "class Plain(envs.TaskDistribution), and write sample and make; all else has a default."
    )
    assert not (work / "run").exists()


def test_a_distribution_that_lacks_a_method_is_told_which(train_cli, work):
    (work / "bare_tasks.py").write_text(PLAIN.replace("def make(", "def build("))
    outcome = train_cli(*SMOKE, "env._target_=bare_tasks.Plain", "hydra.run.dir=run")
    assert outcome.status == 2
    assert outcome.error == ("error: Plain must define make(num_tasks, slots_per_task, threads).")
    assert not (work / "run").exists()


def test_a_distribution_as_a_yaml_node_in_a_folder_of_one_s_own(train_cli, work):
    (work / "yaml_tasks.py").write_text(OWN)
    (work / "mine/env").mkdir(parents=True)
    (work / "mine/env/line.yaml").write_text("_target_: yaml_tasks.OnTheLine\nhorizon: 5\n")
    outcome = train_cli(*SMOKE, "--config-dir=mine", "env=line", "hydra.run.dir=run")
    assert (outcome.status, outcome.err) == (0, "")
    config = OmegaConf.load(work / "run/.hydra/config.yaml")
    assert config.env == {"_target_": "yaml_tasks.OnTheLine", "horizon": 10}  # smoke pins it
    outcome = train_cli(*SMOKE, "env=line", "hydra.run.dir=other")
    assert outcome.status == 2
    assert outcome.error.startswith("error: env=line is unknown; choose one of ant_dir, ")


def test_a_distribution_in_the_working_directory_of_a_process(tmp_path):
    (tmp_path / "my_tasks.py").write_text(OWN)
    run = process(*SMOKE, "env._target_=my_tasks.OnTheLine", "hydra.run.dir=run", cwd=tmp_path)
    out, err = run.communicate(timeout=100)
    assert (run.returncode, err) == (0, "")
    last = out.splitlines()[-1]
    assert last.startswith("done; ")
    assert last.endswith(f" {ROOT / 'evaluate.py'} run=run evaluates it.")


def test_a_reward_that_is_not_finite_is_a_failed_run(train_cli, work):
    (work / "later_nan_tasks.py").write_text(
        OWN + "\n    calls = 0\n"  # of the object that is trained on, not of its copies
        "    def reward(self, before, action, after, task):\n"
        "        self.calls += 1\n"
        "        value = super().reward(before, action, after, task).copy()\n"
        "        value[-1, -1] = np.nan if self.calls > 25 else value[-1, -1]\n"
        "        return value\n"
    )
    outcome = train_cli(
        *(*SMOKE, "env._target_=later_nan_tasks.OnTheLine", "trainer.validate_every=9"),
        *("trainer.iterations=4", "hydra.run.dir=run"),
    )
    assert outcome.status == 1
    assert outcome.error == (
        "stopped: iteration 2: on_the_line: the reward of task 1, episode 1, step 5 is not finite; "
        "the last good checkpoint is kept."
    )
    assert load("run/checkpoints/last.pt")["iteration"] == 1
    assert len(read_metrics("run")) == 1


# Resuming.


@pytest.mark.parametrize("algorithm", ["maml_trpo", "maml_adam", "rl2"])
def test_a_resumed_run_is_the_run_never_interrupted(algorithm, train_cli, work):
    options = [*SMOKE, "hydra.run.dir=whole", "trainer.iterations=4"]
    assert train_cli(*options, f"algorithm={algorithm}").status == 0
    options[-2:] = ["hydra.run.dir=parts", "trainer.iterations=2"]
    assert train_cli(*options, f"algorithm={algorithm}").status == 0
    hydra = everything(work / "parts/.hydra")
    with (work / "parts/metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "env_steps": 100}\n{"iter')
    outcome = train_cli("resume=parts", "trainer.iterations=4")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0] == "resuming parts at iteration 2"
    assert repeatable(read_metrics("parts")) == repeatable(read_metrics("whole"))
    for name in ("last", "best"):
        assert_same_meta(f"parts/checkpoints/{name}.pt", f"whole/checkpoints/{name}.pt")
    assert everything(work / "parts/.hydra") == hydra


def test_what_may_change_when_resuming(run_copy, train_cli):
    steps = read_metrics(run_copy)[-1]["env_steps"]
    outcome = train_cli(
        *("resume=run", "trainer.iterations=null", f"trainer.env_steps={steps + 1}"),
        *("sampler.threads=2", "logger.tensorboard=false", "logger.progress=false"),
    )
    assert (outcome.status, outcome.err) == (0, "")
    assert len(read_metrics(run_copy)) == 3
    assert len(list(run_copy.glob("events.out.tfevents*"))) == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed=1", "seed cannot change when a run is resumed"),
        ("env=half_cheetah_dir", "env cannot change"),
        ("trainer.num_tasks=3", "trainer.num_tasks cannot change"),
        ("trainer.iterationsx=3", "trainer.iterationsx cannot change"),
        ("inner.step_size=0.2", "inner.step_size cannot change"),
        ("hydra.run.dir=other", "hydra.run.dir cannot change"),
        ("experiment=smoke", "experiment cannot change"),
        ("init_from=run", "init_from cannot change"),
        ("sampler=batch", "sampler cannot change"),
        ("logger=nothing", "choose one of default, mlflow, wandb"),
        ("logger=default,wandb", "a resumed run takes one value"),
        ("~logger", "a resumed run takes one value"),
        ("trainer.iterations=-1", "trainer.iterations must be a whole number of at least 0"),
        ("trainer.iterations=abc", "trainer.iterations must be a whole number"),
        ("trainer.iterations=null", "trainer.iterations=null and trainer.env_steps=null: set"),
        ("trainer.iterations=3,4", "a resumed run takes one value"),
        ("~trainer.env_steps", "a resumed run takes one value"),
        ("sampler.threads=0", "sampler.threads must be a whole number of at least 1, not 0."),
        ("logger.colour=1", "logger.colour is unknown; logger has tensorboard, progress."),
        ("logger.progress=maybe", "logger.progress must be true or false, not 'maybe'."),
        ("--multirun", "resume takes one run"),
    ],
)
def test_what_may_not_change_when_resuming_is_named(override, words, run_copy, train_cli):
    before = everything(run_copy)
    outcome = train_cli("resume=run", override)
    assert outcome.status == 2
    assert words in outcome.error
    assert everything(run_copy) == before


def test_resuming_a_finished_run_does_no_harm(run_copy, train_cli):
    before, steps = everything(run_copy), read_metrics(run_copy)[-1]["env_steps"]
    outcome = train_cli("resume=run", "logger.tensorboard=false")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == (
        f"the run is finished, at iteration 2 and {steps} environment steps: python train.py "
        f"resume=run trainer.iterations=4 goes on for longer.\n"
    )
    assert everything(run_copy) == before
    both = train_cli("resume=run", f"trainer.env_steps={steps}")
    more = f"trainer.iterations=4 trainer.env_steps={2 * steps}"
    assert f"resume=run {more} goes on for longer." in both.out
    none = train_cli("resume=run", "trainer.iterations=0", "trainer.env_steps=null")
    assert "resume=run trainer.iterations=4 goes on for longer." in none.out


def test_a_limit_can_be_changed_back(run_copy, train_cli):
    # as if a session to a hundred thousand had been killed in its first iteration
    origin = json.loads((run_copy / "provenance.json").read_text())
    session = {"iteration": 2, "changed": {"trainer.iterations": 100_000}}
    (run_copy / "provenance.json").write_text(json.dumps({**origin, "resumed": [session]}))
    assert read_run(run_copy).unfinished == "2 of 100000 iterations"
    assert "the run is finished" in train_cli("resume=run", "trainer.iterations=2").out
    assert read_run(run_copy).unfinished is None
    assert "the run is finished" in train_cli("resume=run").out


def test_a_run_that_another_process_trained_meanwhile_is_not_overwritten(run_copy):
    config = stored_config(RunFolder(run_copy))
    config.trainer.iterations = 3
    config.logger.tensorboard = config.logger.progress = False
    first, second = (build_trainer(config, run_copy) for _ in range(2))
    progress, stale = first.resume(), second.resume()
    first.run(progress)
    with pytest.raises(UserError, match="another process has trained in"):
        second.run(stale)
    assert [row["iteration"] for row in read_metrics(run_copy)] == [1, 2, 3]


def test_what_a_resumed_session_changes_holds_for_the_next_one(run_copy, train_cli):
    hydra = everything(run_copy / ".hydra")
    options = ("resume=run", "logger.tensorboard=false", "sampler.threads=1")
    assert train_cli(*options, "trainer.iterations=3").status == 0
    # one that is to have five, and stops after the fourth: the next session knows of five
    soon = f"trainer.env_steps={read_metrics(run_copy)[-1]['env_steps'] + 1}"
    assert train_cli("resume=run", "trainer.iterations=5", soon).status == 0
    assert "the run is finished, at iteration 4" in train_cli("resume=run").out
    assert train_cli("resume=run", "trainer.env_steps=null").status == 0
    assert [row["iteration"] for row in read_metrics(run_copy)] == [1, 2, 3, 4, 5]
    assert everything(run_copy / ".hydra") == hydra
    origin = json.loads((run_copy / "provenance.json").read_text())
    changes = [(session["iteration"], session["changed"]) for session in origin["resumed"]]
    assert changes == [
        (2, {"logger.tensorboard": False, "sampler.threads": 1, "trainer.iterations": 3}),
        (3, {"trainer.iterations": 5, "trainer.env_steps": int(soon.partition("=")[2])}),
        (4, {"trainer.env_steps": None}),
    ]
    assert origin["resumed"][0]["versions"] == origin["versions"]
    config = read_run(run_copy).config
    assert (config["trainer"]["iterations"], config["sampler"]["threads"]) == (5, 1)
    (run_copy / "provenance.json").write_text('{"resumed": [1]}')
    assert "provenance.json is damaged" in train_cli("resume=run").error
    assert "what was changed on resuming is unknown" in read_run(run_copy).faults[0]


def test_a_logger_chosen_on_resuming_is_kept(run_copy, train_cli):
    changes = [("logger.progress=false",), ("logger=default",), ("logger.progress=true",), ()]
    progress = []
    for number, options in enumerate(changes, start=3):
        assert train_cli("resume=run", *options, f"trainer.iterations={number}").status == 0
        progress.append(read_run(run_copy).config["logger"]["progress"])
    assert progress == [False, False, True, True]
    assert len(read_metrics(run_copy)) == 6


def test_a_node_chosen_anew_is_without_what_was_changed_in_the_one_before():
    sessions = [
        {"logger": {"_target_": "W", "progress": True}, "logger.project": "foo"},
        {"logger.progress": False, "trainer.iterations": 3},
        {"logger": {"_target_": "L", "progress": True}},
        {"logger.progress": True, "trainer.iterations": 4},
    ]
    origin = {"resumed": [{"changed": changed} for changed in sessions]}
    changed = changed_settings(origin)
    assert list(changed.items()) == [
        ("logger", {"_target_": "L", "progress": True}),
        ("logger.progress", True),
        ("trainer.iterations", 4),
    ]
    config = {"logger": {"progress": False, "project": 1}, "trainer": {"iterations": 2}}
    changed["logger.progress"] = False
    apply_changes(config, changed)
    assert config == {"logger": {"_target_": "L", "progress": False}, "trainer": {"iterations": 4}}
    assert changed["logger"] == {"_target_": "L", "progress": True}  # is not written into
    lists = {"sizes": [1, 2], "logger": {"tags": None}}
    apply_changes(lists, {"sizes.1": 3, "logger.tags.by": "me"})
    assert lists == {"sizes": [1, 3], "logger": {"tags": {"by": "me"}}}
    with pytest.raises(UserError, match=r"sizes.x=1, which it says was changed on resuming"):
        apply_changes({"sizes": [1]}, {"sizes.x": 1})


def test_resuming_what_is_damaged_is_refused(run_copy, train_cli):
    last = run_copy / "checkpoints/last.pt"
    whole = last.read_bytes()
    weight = load(last)["meta"]["layers.0.weight"].numpy().tobytes()
    flipped = bytearray(whole)
    flipped[whole.index(weight) + 5] ^= 1
    evil = pickle.dumps({"meta": OsSystem(), "sha256": ""})
    for content in (b"", whole[:100], whole[: len(whole) // 2], bytes(flipped), b"noise", evil):
        last.write_bytes(content)
        before = everything(run_copy)
        outcome = train_cli("resume=run", "trainer.iterations=3")
        assert outcome.status == 2
        assert outcome.error.startswith("error: run/checkpoints/last.pt is ")
        assert everything(run_copy) == before
    last.write_bytes(whole)
    (run_copy / "metrics.jsonl").unlink()
    outcome = train_cli("resume=run", "trainer.iterations=3")
    assert outcome.status == 2
    assert "metrics.jsonl is shorter than at the last checkpoint" in outcome.error
    (run_copy / "tasks.json").write_text("{")
    (run_copy / "metrics.jsonl").write_bytes(b" " * 10**5)
    outcome = train_cli("resume=run", "trainer.iterations=3")
    assert outcome.status == 2
    assert outcome.error == "error: run/tasks.json is damaged: it should hold the run's tasks."
    last.unlink()
    outcome = train_cli("resume=run", "trainer.iterations=3")
    assert outcome.error == (
        "error: there is no checkpoint run/checkpoints/last.pt. "
        "To go on from an earlier one, copy it over last.pt; there is best, 2."
    )
    assert not Path("ran").exists()


# Starting from a trained initialization.


def test_init_from_starts_from_the_trained_initialization(run_copy, train_cli, work):
    options = (*SMOKE, "init_from=run", "trainer.iterations=1", "hydra.run.dir=new")
    assert train_cli(*options).status == 0
    first = read_metrics("new")[0]
    fresh = read_metrics("run")[0]
    assert first["iteration"] == 1
    assert first["return/step_0"] != fresh["return/step_0"]
    assert train_cli(*options[:-1], "hydra.run.dir=again").status == 0
    assert repeatable(read_metrics("again")) == repeatable(read_metrics("new"))


def test_init_from_of_another_architecture_leaves_nothing(run_copy, train_cli, work):
    before = everything(work)
    outcome = train_cli(*SMOKE, "init_from=run", "policy.hidden_sizes=[9]", "hydra.run.dir=new")
    assert outcome.status == 2
    assert outcome.error == (
        "error: run/checkpoints/best.pt is of another architecture: for layers.0.weight it holds "
        "[8, 2], and the policy and inner loop expect [9, 2]."
    )
    assert everything(work) == before


# Signals.


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_after_its_checkpoint(number, status, tmp_path, train_cli, work):
    options = ("experiment=smoke", "logger.tensorboard=false", "trainer.iterations=1000000")
    run = process(*options, "hydra.run.dir=run", cwd=work)
    lines = [run.stdout.readline() for _ in range(3)]
    assert lines[2].startswith("iteration 1 ")
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (status, "")
    last = out.splitlines()[-1]
    assert last.startswith(f"stopped by {number.name}; ")
    assert last.endswith(f" {ROOT / 'train.py'} resume=run goes on.")
    done = load("run/checkpoints/last.pt")["iteration"]
    assert done >= 1
    assert len(read_metrics("run")) == done
    outcome = train_cli("resume=run", f"trainer.iterations={done + 1}")
    assert (outcome.status, outcome.err) == (0, "")
    assert len(read_metrics("run")) == done + 1


def test_a_run_that_was_killed_goes_on_to_the_bit(work, train_cli):
    options = ("experiment=smoke", "logger.tensorboard=false", "trainer.validate_every=3")
    run = process(*options, "trainer.iterations=1000000", "hydra.run.dir=run", cwd=work)
    lines = [run.stdout.readline() for _ in range(4)]
    assert lines[3].startswith("iteration 2 ")
    run.kill()
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    done = load("run/checkpoints/last.pt")["iteration"]
    assert train_cli("resume=run", f"trainer.iterations={done + 2}").status == 0
    options = (*options, f"trainer.iterations={done + 2}")
    assert train_cli(*options, "hydra.run.dir=whole").status == 0
    assert repeatable(read_metrics("run")) == repeatable(read_metrics("whole"))
    assert_same_meta("run/checkpoints/last.pt", "whole/checkpoints/last.pt")
    assert_same_meta("run/checkpoints/best.pt", "whole/checkpoints/best.pt")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("write 3."), 2, "error: write 3."),
        (CheckpointError("it is\ndamaged."), 2, "error: it is damaged."),
        (NonFiniteError("task 3"), 1, "stopped: task 3."),
        (SimulationError("task 3"), 1, "stopped: task 3."),
    ],
)
def test_how_errors_end(error, status, words, call):
    def fail(arguments):
        raise error

    outcome = call(fail)
    assert (outcome.status, outcome.error) == (status, words)


def test_ctrl_c_outside_a_run_is_130(call):
    def fail(arguments):
        raise KeyboardInterrupt

    assert call(fail).status == 130


# Wrong inputs.

WRONG = [
    ("env=nope", "env=nope is unknown; choose one of ant_dir, ant_goal, ant_heading, "),
    ("env=half_cheeta_dir", "Did you mean half_cheetah_dir?"),
    ("env=3", "env=3 is no choice; choose one of ant_dir, "),
    ("env=null", "env=null is no choice; choose one of ant_dir, "),
    ("~env", "env must name a class in env._target_"),
    ("env.preset=nope", "env.preset=nope is unknown; choose one of finn2017, pearl."),
    ("experiment=nope", "experiment=nope is unknown; choose one of ant_dir, ant_dir_finn2017, "),
    ("inner=nope", "choose one of learn2learn_gbml, learn2learn_maml, learn2learn_meta_sgd, meta_"),
    ("hydra/launcher=nope", "hydra/launcher=nope is unknown; choose one of basic."),
    ("trainer.iteratons=3", "trainer.iteratons is unknown; did you mean trainer.iterations?"),
    ("num_tasks=3", "num_tasks is unknown; there is algorithm, baseline, "),
    ("env.foo=3", "env.foo is unknown; there is env.action_scale, env.arrival, env.frame_skip, "),
    ("~trainer.colour", "trainer.colour is unknown; "),
    ("+policy.depth=3", "policy.depth is unknown: GaussianMLP takes hidden_sizes, activation, "),
    ("env._target_=nowhere.X", "env._target_=nowhere.X cannot be imported"),
    ("env._target_=5", "env must name a class"),
    ("trainer.num_tasks=0", "trainer.num_tasks must be a whole number of at least 1, not 0."),
    ("trainer.num_episodes=-1", "trainer.num_episodes must be a whole number of at least 1, no"),
    ("trainer.iterations=-1", "trainer.iterations must be"),
    ("trainer.env_steps=1.5", "trainer.env_steps must be a whole number of at least 1, not 1.5"),
    (
        "trainer.iterations=null",
        "trainer.iterations=null and trainer.env_steps=null: set one of them",
    ),
    ("trainer.iterations={a:1}", "trainer.iterations must be a whole number"),
    ("env.horizon=0", "env.horizon must be a whole number of at least 1, not 0."),
    ("env.horizon=abc", "env.horizon must be a whole number of at least 1, not 'abc'."),
    ("env.action_scale=-1", "env.action_scale must be a finite number above 0, not -1."),
    ("env.action_scale=nan", "env.action_scale must be a finite number above 0, not nan."),
    ("inner.steps=-1", "inner.steps must be"),
    ("inner.step_size=abc", "inner.step_size must be a finite number above 0, not 'abc'."),
    ("inner.step_size=nan", "inner.step_size must be a finite number above 0, not nan."),
    ("inner.step_size=inf", "inner.step_size must be a finite number above 0, not inf."),
    ("inner.step_size=null", "inner.step_size must be a finite number above 0, not None."),
    ("inner.loss=dise", "inner.loss=dise is unknown; choose one of dice, likelihood_ratio, loade"),
    ("inner.loss=5", "inner.loss=5 is unknown"),
    ("inner.first_order=maybe", "inner.first_order must be true or false, not 'maybe'."),
    ("algorithm.standardize_advantages=2", "must be true or false, not 2."),
    ("algorithm.discount=2", "discount"),
    ("algorithm.gae_lambda=abc", "lambda"),
    ("outer.max_kl=-1", "outer.max_kl must be a finite number above 0, not -1."),
    ("outer.backtrack_ratio=1", "outer.backtrack_ratio must be a finite number above 0 and of at"),
    ("outer.step_size=1", "outer.step_size is unknown"),
    ("policy.hidden_sizes=5", "policy.hidden_sizes must be a list in brackets, such as [5], "),
    ("policy.hidden_sizes=[0]", "policy.hidden_sizes must be a whole number of at least 1, not 0"),
    ("policy.hidden_sizes=[a]", "policy.hidden_sizes must be a whole number of at least 1, not"),
    (
        "policy.activation=gleu",
        "policy.activation=gleu is unknown; choose one of elu, gelu, relu, ",
    ),
    ("policy.initial_std=0", "policy.initial_std must be a finite number above 0, not 0."),
    ("baseline.ridge=-1", "baseline.ridge must be a finite number above 0, not -1."),
    ("sampler.threads=0", "sampler.threads must be a whole number of at least 1, not 0."),
    ("sampler.threads=many", "sampler.threads must be a whole number of at least 1, not 'many'."),
    ("seed=-1", "seed must be a whole number of at least 0, not -1."),
    ("seed=abc", "seed must be a whole number of at least 0, not 'abc'."),
    ("seed=1.5", "seed must be a whole number of at least 0, not 1.5."),
    ("seed=${nope}", "seed: Interpolation key 'nope' not found"),
    ("seed=1,2", "seed=1,2 gives several values: --multirun runs each; a list is key=[a,b]."),
    ("logger.tensorboard=maybe", "logger.tensorboard must be true or false, not 'maybe'."),
    ("device=bogus", "device=bogus is unknown; choose one of cpu, cuda."),
    ("resume=nowhere", f"resume=nowhere: {NO_SUCH_RUN}"),
    ("resume=5", "resume=5: there is no such folder"),
    ("resume=taken/..", "resume=taken/.. is not a run folder: it has no .hydra/config.yaml."),
    ("init_from=nowhere", f"init_from=nowhere: {NO_SUCH_RUN}"),
    ("init_from=taken", "init_from=taken is not a run folder: it has no .hydra/config.yaml."),
    ("init_from={a:1}", "there is no such folder"),
    ("hydra.run.dir=taken", "taken holds a run already: resume=taken goes on with it, another"),
    ("hydra.run.dir=file/run", "hydra.run.dir=file/run cannot be made: "),
    ("hydra.run.dir=${nope}", "hydra.run.dir: Interpolation key 'nope' not found"),
    ("trainer.iterations", "cannot read 'trainer.iterations': write key=value, and quote"),
    ("=3", "cannot read '=3': write key=value."),
    ("seed=[1", "cannot read 'seed=[1': write key=value"),
    ("resume=a=b", "cannot read 'resume=a=b': write key=value, and quote a value that holds"),
    ("--colour", "unrecognized arguments: --colour; --help lists what there is."),
    ("--config-dir=nowhere", "--config-dir=nowhere: there is no such folder."),
    ("--config-name=mine", "--config-dir=<folder> adds files to its groups"),
    ("trainer.test_tasks=0", "trainer.test_tasks must be a whole number of at least 1, not 0."),
]


@pytest.mark.parametrize(("argument", "words"), WRONG, ids=[argument for argument, _ in WRONG])
def test_a_wrong_input_is_one_sentence_and_leaves_nothing(argument, words, train_cli, work):
    (work / "taken").mkdir()
    (work / "taken/metrics.jsonl").write_text("{}\n")
    (work / "file").touch()
    before = everything(work)
    outcome = train_cli("experiment=smoke", argument)
    assert outcome.status == 2
    assert outcome.error.startswith("error: ")
    assert words in outcome.error
    assert len(outcome.error) < 280
    assert outcome.out == ""
    assert everything(work) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_without_one(train_cli, work):
    outcome = train_cli("experiment=smoke", "device=cuda")
    assert outcome.status == 2
    assert outcome.error == ("error: device=cuda: torch finds no CUDA device here; use device=cpu.")
    assert everything(work) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_the_outer_loop_runs_on_cuda(train_cli, work):
    for device in ("cpu", "cuda"):
        assert train_cli(*SMOKE, f"device={device}", f"hydra.run.dir={device}").status == 0
    one, other = read_metrics("cpu")[0], read_metrics("cuda")[0]
    assert one["return/step_1"] == other["return/step_1"]
    assert one["outer/loss"] == pytest.approx(other["outer/loss"], abs=1e-4)
    assert load("cuda/checkpoints/last.pt")["meta"]["log_std"].device.type == "cpu"
    assert train_cli("resume=cuda", "trainer.iterations=3").status == 0


def test_a_run_that_fails_before_it_begins_spares_what_was_in_its_folder(
    train_cli, work, monkeypatch
):
    """The check passes and the job fails: only what the call made goes away."""
    from maml_rl.commands import train as module
    from maml_rl.configuration.building import UserError

    def fail(*arguments):
        raise UserError("not now.")

    monkeypatch.setattr(module, "_train_job", fail)
    (work / "mine").mkdir()
    (work / "mine/notes.txt").write_text("keep")
    outcome = train_cli(*SMOKE, "hydra.run.dir=mine")
    assert (outcome.status, outcome.error) == (2, "error: not now.")
    assert set(everything(work)) == {"mine", "mine/notes.txt"}
    assert train_cli(*SMOKE, "hydra.run.dir=a/b/c").status == 2
    assert set(everything(work)) == {"mine", "mine/notes.txt"}


def test_a_wrong_input_in_a_process(tmp_path):
    run = process("experiment=smoke", "env.preset=nope", cwd=tmp_path)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (2, "")
    assert err == "error: env.preset=nope is unknown; choose one of finn2017, pearl.\n"
    assert list(tmp_path.iterdir()) == []


# Help.


def test_help_and_the_configuration_can_be_printed(train_cli, work):
    outcome = train_cli("--help")
    assert outcome.status == 0
    assert "half_cheetah_dir" in outcome.out
    outcome = train_cli("--cfg", "job", "experiment=smoke")
    assert outcome.status == 0
    assert "_target_: envs.PointNavigation" in outcome.out
    outcome = train_cli("--cfg", "job", "env=nope")
    assert outcome.status == 2
    assert outcome.error.startswith("error: env=nope is unknown; choose one of ")
    assert everything(work) == {}


# Distributions that an installed package publishes.


# Gymnasium environments, stepped in processes.


GRAVITIES = """
import multiprocessing
import os


class Gravity:
    def __init__(self, low=5.0, high=15.0):
        self.low, self.high = low, high

    def sample(self, num_tasks, rng):
        return {"gravity": rng.uniform(self.low, self.high, size=num_tasks)}

    def apply(self, env, task):
        env.g = float(task["gravity"])


class Fatal(Gravity):
    calls = 0

    def apply(self, env, task):
        Fatal.calls += multiprocessing.parent_process() is not None
        if Fatal.calls > 20:
            os._exit(3)
        super().apply(env, task)
"""
PENDULUM = (*SMOKE, "env=gymnasium", "env.id=Pendulum-v1", "hydra.run.dir=run")


def test_runs_of_gymnasium_environments_lie_under_their_ids(work, train_cli):
    (work / "gravities.py").write_text(GRAVITIES)
    node = ("env=gymnasium", "env.set_task=gravities.Gravity")
    for given, folder in (("Pendulum-v1", "Pendulum-v1"), ("gravities:ALE/Pong-v5", "ALE_Pong-v5")):
        composed = compose("config", [*node, f"env.id={given}"], with_hydra=True)
        assert composed.hydra.run.dir.startswith(f"outputs/{folder}/maml_trpo/")
    assert train_cli(*SMOKE, *node, "env.id=Pendulum-v1").status == 0
    assert len(list(Path("outputs/Pendulum-v1/maml_trpo").iterdir())) == 1


def test_a_node_that_sets_tasks_trains_evaluates_and_resumes(work, train_cli, evaluate_cli):
    (work / "gravities.py").write_text(GRAVITIES)
    node = "env.set_task={_target_: gravities.Gravity, low: 7, high: 8}"
    assert train_cli(*PENDULUM, node).status == 0
    tasks = json.loads((work / "run/tasks.json").read_text())["test"]["gravity"]
    assert all(7 <= gravity <= 8 for gravity in tasks)
    outcome = evaluate_cli("run=run", "steps=1", "num_episodes=2", "threads=1")
    assert (outcome.status, outcome.err) == (0, "")
    assert train_cli("resume=run", "trainer.iterations=3").status == 0
    assert len(read_metrics("run")) == 3


def test_a_stored_class_that_sets_no_tasks_is_not_called(work, train_cli, evaluate_cli):
    (work / "gravities.py").write_text(GRAVITIES)
    assert train_cli(*PENDULUM, "env.set_task=gravities.Gravity").status == 0
    config = work / "run/.hydra/config.yaml"
    config.write_text(config.read_text().replace("gravities.Gravity", "collections.Counter"))
    outcome = evaluate_cli("run=run")
    assert outcome.status == 2
    assert "collections.Counter, which is no class for that node: it was not called" in outcome.err


def test_a_worker_that_dies_stops_the_run_with_its_checkpoint(tmp_path):
    (tmp_path / "gravities.py").write_text(GRAVITIES)
    sizes = ("trainer.iterations=9", "trainer.validate_every=99", "sampler.threads=2")
    run = process(*PENDULUM, "env.set_task=gravities.Fatal", *sizes, cwd=tmp_path)
    _out, err = run.communicate(timeout=240)
    assert run.returncode == 1
    assert len(err.splitlines()) == 1, err
    assert "fatal: worker" in err
    assert err.endswith("the last good checkpoint is kept.\n")
    kept = load(tmp_path / "run/checkpoints/last.pt")["iteration"]
    # a worker steps 2 of the 4 rows: it sets 2 tasks in a collection, of which an iteration has 2
    assert kept == len(read_metrics(tmp_path / "run")) >= 1
