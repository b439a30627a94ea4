"""Experiment trackers: what they are given, that they harm nothing, and that runs go on in them."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from envs import UserError
from maml_rl.commands.cli import compose
from maml_rl.configuration.building import build_trainer, train
from maml_rl.configuration.stored import stored_config
from maml_rl.runs.folder import RunFolder
from maml_rl.training.loggers import MlflowLogger, WandbLogger
from tests.support.run_files import assert_same_meta, read_metrics, repeatable, scalars
from tests.support.written_runs import line

CHOICES = ("wandb", "mlflow")
NAMES = {"wandb": "Weights & Biases", "mlflow": "MLflow"}
SMOKE = ("experiment=smoke", "logger.progress=false", "sampler.threads=1")
SHORT = (*SMOKE, "trainer.iterations=1", "trainer.validate_every=9")


class Runs(dict):
    """What a tracker got, by run: its beginnings, logged (iteration, metrics), and ends."""

    fails = ""  # the call that raises: begin, log, close
    calls = 0

    def run(self, number):
        return self.setdefault(
            number, SimpleNamespace(begun=[], logged=[], ended=[], summary={}, artifacts=[])
        )

    def check(self, call):
        self.calls += 1
        if self.fails == call:
            raise ConnectionError("the server\nis away")

    @property
    def only(self):
        (one,) = self.values()
        return one


def fake_wandb(runs):
    class Run:
        def __init__(self, number):
            self.kept = runs.run(number)
            self.summary = self.kept.summary

        def log(self, metrics, step=None):
            runs.check("log")
            self.kept.logged.append((step, dict(metrics)))

        def finish(self, exit_code):
            runs.check("close")
            self.kept.ended.append(exit_code)

    def init(**options):
        runs.check("begin")
        runs.run(options["id"]).begun.append(options)
        return Run(options["id"])

    module = ModuleType("wandb")
    module.init, module.Settings = init, lambda **options: options
    module.Image, module.Video = Path, lambda path, format: (Path(path), format)
    return {"wandb": module}


def fake_mlflow(runs):
    class RefusalError(Exception):
        pass

    class Client:
        def __init__(self, tracking_uri):
            self.uri = tracking_uri

        def create_experiment(self, name, artifact_location):
            if name in self.experiments:
                raise RefusalError("exists")
            self.experiments[name] = artifact_location
            return "7"

        def get_experiment_by_name(self, name):
            assert name in self.experiments
            return SimpleNamespace(experiment_id="7")

        def create_run(self, experiment_id, run_name, tags):
            runs.check("begin")
            number = f"run{len(runs)}"
            own = {"experiment": experiment_id, "name": run_name, "uri": self.uri, "params": {}}
            own["tags"] = tags
            runs.run(number).begun.append(own)
            return SimpleNamespace(info=SimpleNamespace(run_id=number))

        def update_run(self, run_id, status):
            assert (run_id in runs, status) == (True, "RUNNING")

        def log_batch(self, run_id, metrics=(), params=()):
            if params:
                assert len(params) <= 100
                runs.run(run_id).begun[-1]["params"] |= dict(params)
                return
            runs.check("log")
            steps = {step for *_, step in metrics}
            values = {name: value for name, value, _, _ in metrics}
            runs.run(run_id).logged.append((*steps, values))

        def log_artifact(self, run_id, local_path, artifact_path):
            assert artifact_path == "evaluation"
            runs.run(run_id).artifacts.append(Path(local_path).name)

        def set_terminated(self, run_id, status):
            runs.check("close")
            runs.run(run_id).ended.append(("FINISHED", "FAILED").index(status))

    module, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    module.MlflowClient, module.MlflowException = Client, RefusalError
    Client.experiments = {}
    entities.Metric = lambda name, value, timestamp, step: (name, value, timestamp, step)
    entities.Param = lambda key, value: (key, value)
    others = {name: ModuleType(name) for name in ("sqlalchemy", "alembic")}
    return {"mlflow": module, "mlflow.entities": entities, **others}


@pytest.fixture
def runs(monkeypatch):
    """Stand-ins for both trackers; what they get."""
    kept = Runs()
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "")  # put back after the test
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "")
    for name, module in (fake_wandb(kept) | fake_mlflow(kept)).items():
        monkeypatch.setitem(sys.modules, name, module)
    return kept


def given(path):
    """What a tracker must have got of a run: (environment steps, metrics)."""
    return [(entry["env_steps"], entry) for entry in read_metrics(path)]


def iterations(run):
    """The iterations that a tracker got of a run."""
    return [metrics["iteration"] for _, metrics in run.logged]


def test_the_nodes_are_these_classes():
    assert compose("config", ["logger=wandb"]).logger == {
        "_target_": "maml_rl.training.loggers.WandbLogger",
        "tensorboard": True,
        "progress": True,
        "project": "maml_rl",
        "mode": "offline",
        "group": None,
        "tags": [],
    }
    assert compose("config", ["logger=mlflow"]).logger == {
        "_target_": "maml_rl.training.loggers.MlflowLogger",
        "tensorboard": True,
        "progress": True,
        "experiment": "maml_rl",
        "tracking_uri": None,
        "tags": {},
    }


@pytest.mark.parametrize("choice", CHOICES)
def test_a_tracker_gets_what_metrics_jsonl_has_and_changes_nothing_else(
    choice, runs, trained_run, work
):
    train(compose("config", [*SMOKE, f"logger={choice}"]), work / "run")
    assert repeatable(read_metrics("run")) == repeatable(read_metrics(trained_run))
    assert_same_meta("run/checkpoints/last.pt", trained_run / "checkpoints/last.pt")
    assert runs.only.logged == given("run")
    assert iterations(runs.only) == [1, 2]
    assert runs.only.ended == [0]
    events = scalars(work / "run", "return/step_1")
    returns = [entry["return/step_1"] for entry in read_metrics("run")]
    assert [step for step, _ in events] == [80, 160]  # 2 tasks x 2 episodes x 10 steps, twice
    assert [value for _, value in events] == pytest.approx(returns, rel=1e-6)  # float32


def test_weights_and_biases_is_begun_offline_in_the_run_folder(runs, work, train_cli):
    assert train_cli(*SHORT, "logger=wandb", "seed=7", "hydra.run.dir=my/run").status == 0
    (begun,) = runs.only.begun
    assert (begun["mode"], begun["project"], begun["name"]) == ("offline", "maml_rl", "my/run")
    assert os.path.samefile(begun["dir"], "my/run")
    assert begun["config"]["seed"] == 7
    assert begun["config"]["trainer"]["num_tasks"] == 2
    assert json.loads((work / "my/run/trackers.json").read_text()) == {"wandb": begun["id"]}
    assert begun["resume"] is None
    assert begun["settings"]["silent"]
    assert begun["group"] == "point_navigation, maml_trpo"
    assert begun["tags"] == ["point_navigation", "maml_trpo"]
    assert os.environ["WANDB_ERROR_REPORTING"] == ""  # what was set is left as it was


def test_mlflow_is_begun_in_a_database_in_the_run_folder(runs, work, train_cli):
    assert train_cli(*SHORT, "logger=mlflow", "seed=7", "hydra.run.dir=my/run").status == 0
    (begun,) = runs.only.begun
    assert begun["uri"] == f"sqlite:///{work}/my/run/mlflow.db"
    assert begun["name"] == "my/run"
    assert begun["params"]["seed"] == "7"
    assert begun["params"]["trainer.num_tasks"] == "2"
    assert begun["tags"] == {
        "environment": "point_navigation",
        "algorithm": "maml_trpo",
        "seed": "7",
        "group": "point_navigation, maml_trpo",
    }
    experiments = sys.modules["mlflow"].MlflowClient.experiments
    assert experiments == {"maml_rl": f"file://{work}/my/run/mlartifacts"}
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_mlflow_takes_a_server_and_an_experiment_that_is_there(runs, work):
    options = ("logger=mlflow", "logger.tracking_uri=http://there:5000", "logger.experiment=mine")
    for name in ("one", "two"):
        train(compose("config", [*SHORT, *options]), work / name)
    assert [run.begun[0]["uri"] for run in runs.values()] == ["http://there:5000"] * 2
    assert [run.begun[0]["experiment"] for run in runs.values()] == ["7", "7"]
    assert sys.modules["mlflow"].MlflowClient.experiments == {"mine": None}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_resumed_run_goes_on_in_the_same_run_of_the_tracker(choice, runs, work, train_cli):
    assert train_cli(*SMOKE, f"logger={choice}", "hydra.run.dir=run").status == 0
    assert train_cli("resume=run", "trainer.iterations=3").status == 0
    assert runs.only.logged == given("run")
    assert iterations(runs.only) == [1, 2, 3]
    assert runs.only.ended == [0, 0]
    # Weights & Biases opens a segment a session; MLflow's run keeps its first parameters
    assert len(runs.only.begun) == (2 if choice == "wandb" else 1)
    assert runs.only.begun[-1].get("resume") is None  # which it ignores offline, with a warning


def test_online_a_resumed_run_asks_for_the_one_that_is_there(runs, work, train_cli):
    options = ("logger=wandb", "logger.mode=online")
    assert train_cli(*SMOKE, *options, "hydra.run.dir=run").status == 0
    assert train_cli("resume=run", "trainer.iterations=3").status == 0
    assert [begun["resume"] for begun in runs.only.begun] == [None, "allow"]
    assert [begun["mode"] for begun in runs.only.begun] == ["online", "online"]


def test_a_run_begun_without_a_tracker_goes_on_with_one(runs, work, train_cli):
    assert train_cli(*SMOKE, "hydra.run.dir=run").status == 0
    choice = ("logger.project=mine", "logger=wandb")
    outcome = train_cli("resume=run", *choice, "trainer.iterations=4")
    assert (outcome.status, "iteration 3" in outcome.out) == (0, False)  # progress=false stays
    assert runs.only.logged == given("run")[2:]
    assert iterations(runs.only) == [3, 4]
    assert runs.only.begun[0]["project"] == "mine"


@pytest.mark.parametrize("choice", CHOICES)
def test_runs_of_a_sweep_are_runs_of_their_own(choice, runs, work, train_cli):
    options = (*SHORT, f"logger={choice}", "hydra.sweep.dir=sweep")
    assert train_cli("--multirun", "seed=1,2", *options).status == 0
    assert len(runs) == 2
    for number, run in enumerate(runs.values()):
        assert run.begun[0]["name"] == f"sweep/{number}"
        assert run.logged == given(f"sweep/{number}")
        assert run.ended == [0]


@pytest.mark.parametrize("fails", ["begin", "log", "close"])
@pytest.mark.parametrize("choice", CHOICES)
def test_a_tracker_that_fails_costs_a_line_and_nothing_else(choice, fails, runs, work, capsys):
    runs.fails = fails
    logger = {"wandb": WandbLogger, "mlflow": MlflowLogger}[choice](progress=False)
    with logger.open(work / "metrics.jsonl", 0, 0):
        logger.write(line(1))
        kept = logger.write(line(2))
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning == (
        f"warning: {NAMES[choice]} gets no more metrics of this run, metrics.jsonl does "
        "(ConnectionError: the server is away)."
    )
    assert read_metrics(work) == [line(1), line(2)]
    # begin: tried once; log: begun and a log; close: begun, two logs and a close
    assert runs.calls == {"begin": 1, "log": 2, "close": 4}[fails]
    assert scalars(work, "return/step_1") == [(160_000, 6.0), (320_000, 7.0)]
    runs.fails = ""  # opened again it is tried again
    with logger.open(work / "metrics.jsonl", 320_000, kept):
        logger.write(line(3))
    assert [run.logged[-1][0] for run in runs.values()][-1] == 480_000
    assert capsys.readouterr().err == ""


def test_training_goes_on_when_a_tracker_fails(runs, work, train_cli):
    runs.fails = "log"
    outcome = train_cli(*SMOKE, "logger=wandb", "hydra.run.dir=run")
    assert outcome.status == 0
    assert outcome.error.startswith("warning: Weights & Biases gets no more metrics of this run")
    assert [entry["iteration"] for entry in read_metrics("run")] == [1, 2]
    assert (work / "run/checkpoints/last.pt").is_file()


@pytest.mark.parametrize("choice", CHOICES)
def test_an_error_in_training_ends_the_tracker_s_run_as_failed(choice, runs, work):
    trainer = build_trainer(compose("config", [*SMOKE, f"logger={choice}"]), work / "run")

    def fail(metrics, fraction):
        raise KeyboardInterrupt

    trainer.logger.show = fail
    with pytest.raises(KeyboardInterrupt):
        trainer.run(trainer.begin())
    assert runs.only.ended == [1]
    assert runs.only.logged == given(work / "run")
    assert len(runs.only.logged) == 1


@pytest.mark.parametrize(
    ("choice", "module"),
    [("wandb", "wandb"), ("mlflow", "mlflow"), ("mlflow", "sqlalchemy"), ("mlflow", "alembic")],
)
def test_a_missing_package_is_named_with_its_extra(
    choice, module, runs, work, train_cli, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    outcome = train_cli(*SMOKE, f"logger={choice}", "hydra.run.dir=run")
    assert outcome.status == 2
    assert outcome.error == (
        f"error: logger={choice} needs the package {module}, which cannot be imported here: "
        f"pip install maml_rl[{choice}], or leave logger={choice} away."
    )
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("choice", CHOICES)
def test_a_run_is_read_where_the_package_is_missing(
    choice, runs, work, train_cli, evaluate_cli, monkeypatch
):
    assert train_cli(*SHORT, f"logger={choice}", "hydra.run.dir=run").status == 0
    monkeypatch.setitem(sys.modules, choice, None)
    assert stored_config(RunFolder(work / "run")).logger._target_.startswith(
        "maml_rl.training.loggers."
    )
    done = evaluate_cli("run=run", "num_episodes=1", "threads=1")
    assert done.status == 0
    assert done.error.startswith("warning: the evaluation was not logged: logger=")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WandbLogger(mode="on"), "mode=on is unknown; choose one of"),
        (lambda: WandbLogger(project=""), "project must be a text, such as"),
        (lambda: WandbLogger(project=3), "project must be a text, such as"),
        (lambda: WandbLogger(tags="mine"), "tags must be a list of texts, such as"),
        (lambda: WandbLogger(group=""), "group must be a text, such as"),
        (lambda: MlflowLogger(tags=["mine"]), "tags must name tags, such as"),
        (lambda: MlflowLogger(experiment=""), "experiment must be a text, such as"),
        (lambda: MlflowLogger(tracking_uri=5000), "tracking_uri must be a text, such as"),
    ],
)
def test_wrong_options_are_named(make, words, runs):
    with pytest.raises(UserError, match=words.replace("[", r"\[")):
        make()


def test_groups_and_tags_are_chosen(runs, work, train_cli, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_GROUP", "of the day")
    assert train_cli(*SHORT, "logger=wandb", "logger.tags=[mine]", "hydra.run.dir=a").status == 0
    assert train_cli(*SHORT, "logger=wandb", "logger.group=abc", "hydra.run.dir=b").status == 0
    assert train_cli(*SHORT, "logger=mlflow", "+logger.tags.by=me", "hydra.run.dir=c").status == 0
    one, other, mlflow = (run.begun[0] for run in runs.values())
    assert (one["group"], one["tags"][-1]) == ("of the day", "mine")
    assert other["group"] == "abc"
    assert (mlflow["tags"]["by"], mlflow["tags"]["seed"]) == ("me", "0")


@pytest.mark.parametrize("choice", CHOICES)
def test_an_evaluation_goes_to_the_tracker_too(choice, runs, work, train_cli, evaluate_cli):
    assert train_cli(*SMOKE, f"logger={choice}", "hydra.run.dir=run").status == 0
    trained = len(runs.only.logged)
    assert evaluate_cli("run=run", "checkpoint=last", "num_episodes=2", "threads=1").err == ""
    curve = json.loads(Path("run/evaluation/evaluation.json").read_text())["curve"]
    after_one = curve[1]["return_mean"]
    pictures = {"adaptation", "tasks", "trajectories"}
    if choice == "wandb":
        assert runs.only.summary["evaluation/return/step_1"] == after_one
        assert runs.only.summary["evaluation/env_steps"] == 160
        assert set(runs.only.logged[-1][1]) == {f"evaluation/{name}" for name in pictures}
        assert runs.only.begun[-1]["id"] == runs.only.begun[0]["id"]
    else:
        step, values = runs.only.logged[-1]
        assert (step, values["evaluation/return/step_1"]) == (160, after_one)
        assert {Path(name).stem for name in runs.only.artifacts} == pictures
        assert runs.only.ended == [0]  # its status stays
    assert len(runs.only.logged) == trained + 1
    gains = curve[1]["return_mean"] - curve[0]["return_mean"]
    events = scalars(work / "run", "evaluation/gain/step_1")
    assert events == [(160, pytest.approx(gains, rel=1e-5))]
    for name, key in (("share_worse", "share_worse"), ("return_lower_fifth", "return_cvar20")):
        events = scalars(work / "run", f"evaluation/{name}/step_1")
        assert events == [(160, pytest.approx(curve[1][key], rel=1e-5))]
    evaluate_cli("run=run", "num_episodes=1", "threads=1", "out=elsewhere")
    assert len(runs.only.logged) == trained + 1


def needs(module):
    return pytest.mark.skipif(
        importlib.util.find_spec(module) is None, reason=f"{module}, an extra, is not installed"
    )


@needs("wandb")
def test_the_real_weights_and_biases_offline(work, train_cli):
    """Its file holds every number, as JSON; a resumed run writes a second one of the same run."""
    assert train_cli(*SMOKE, "logger=wandb", "hydra.run.dir=run").err == ""
    assert train_cli("resume=run", "trainer.iterations=3").err == ""
    number = json.loads((work / "run/trackers.json").read_text())["wandb"]
    files = sorted((work / "run/wandb").glob(f"offline-run-*-{number}/run-{number}.wandb"))
    contents = [path.read_bytes() for path in files]
    assert len(contents) == 2
    for entry in read_metrics("run"):
        content = contents[entry["iteration"] > 2]
        for name in ("return/step_1", "outer/loss_after", "seconds"):
            assert name.encode() in content
            assert repr(entry[name]).encode() in content
    assert b"point_navigation" not in contents[0][:40]
    assert b"PointNavigation" in contents[0]  # of the configuration


@needs("mlflow")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_real_mlflow_in_its_database(work, train_cli):
    assert train_cli(*SMOKE, "logger=mlflow", "hydra.run.dir=run").err == ""
    assert train_cli("resume=run", "trainer.iterations=3").err == ""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{work}/run/mlflow.db")
    number = json.loads((work / "run/trackers.json").read_text())["mlflow"]
    run = client.get_run(number)
    assert run.info.status == "FINISHED"
    assert run.data.params["policy.hidden_sizes"] == "[8]"
    for name in ("return/step_1", "outer/gradient_cosine", "seconds/share_sampling"):
        history = [(one.step, one.value) for one in client.get_metric_history(number, name)]
        assert history == [(entry["env_steps"], entry[name]) for entry in read_metrics("run")]
    assert sorted(path.name for path in work.iterdir()) == ["run"]
