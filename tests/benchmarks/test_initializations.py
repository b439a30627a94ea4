"""Keeping a run's initialization in pretrained/: what is written, refused, and how it is used."""

import json
import shutil

import pytest
import torch

import maml_rl
from benchmarks import initializations, results
from benchmarks.initializations import keep_initialization, learning_curve, stored_evaluation
from envs.errors import UserError
from maml_rl.commands.evaluate import evaluate_command
from maml_rl.commands.report import report_command
from maml_rl.evaluation.storage import to_json
from maml_rl.runs.checkpoint import digest
from maml_rl.runs.data import read_run
from tests.support.run_files import load
from tests.support.written_runs import make_run

EVALUATED = ("run=run", "num_episodes=2", "steps=1", "threads=1")


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder that stands in for pretrained/."""
    monkeypatch.setattr("maml_rl.runs.shipped.packaged", lambda name: tmp_path / name)
    return tmp_path / "pretrained"


@pytest.fixture(scope="module")
def evaluated_run(trained_run, tmp_path_factory):
    """A trained run with an evaluation."""
    path = shutil.copytree(trained_run, tmp_path_factory.mktemp("evaluated") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        assert evaluate_command(EVALUATED) == 0
    return path


@pytest.fixture
def evaluated(evaluated_run, work):
    """A copy of it: ./run."""
    return shutil.copytree(evaluated_run, work / "run")


def contents(folder):
    """Every file below a folder with its bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_is_kept_is_what_evaluation_needs(evaluated, shipped):
    place = keep_initialization(evaluated)
    assert place == shipped / "point_navigation"
    assert list(contents(place)) == [
        *(".hydra/config.yaml", ".hydra/overrides.yaml", "checkpoints/best.pt"),
        *("evaluation/evaluation.json", "metrics.jsonl", "provenance.json", "tasks.json"),
    ]
    best, copy = (load(folder / "checkpoints/best.pt") for folder in (evaluated, place))
    assert set(copy) == {"format", "sha256", "meta", "iteration", "env_steps", "best_validation"}
    assert all(torch.equal(copy["meta"][name], best["meta"][name]) for name in best["meta"])
    assert json.loads((place / "tasks.json").read_text()) == json.loads(
        (evaluated / "tasks.json").read_text()
    )
    assert stored_evaluation(place) == read_run(evaluated).evaluated
    origin = read_run(place).provenance
    assert origin.pop("parameters_sha256") == digest(best["meta"])
    assert origin["environment"] == read_run(evaluated).provenance["environment"]
    assert str(evaluated.parent).encode() not in b"".join(contents(place).values())
    assert read_run(place).faults == []


def test_it_is_used_as_any_run_and_only_read(evaluated, shipped, evaluate_cli, train_cli, call):
    place = keep_initialization(evaluated, "point")
    before = contents(shipped)
    assert evaluate_cli("run=point", *EVALUATED[1:], "rollouts=true").status == 0
    out = evaluated.parent / "outputs/pretrained/point"
    again = json.loads((out / "evaluation.json").read_text())
    assert again == to_json(stored_evaluation(place))
    assert {"adaptation.png", "rollouts.npz"} < {path.name for path in out.iterdir()}
    report = call(report_command, "point")
    assert (report.status, report.out) == (0, "report: outputs/pretrained/point/report.html\n")
    compared = evaluate_cli("runs=[run,point]", "num_episodes=3", "steps=1", "threads=1")
    assert compared.status == 0
    assert json.loads((out / "evaluation.json").read_text())["num_episodes"] == 3
    begun = train_cli("experiment=smoke", "trainer.iterations=0", "init_from=point",
                      "hydra.run.dir=begun")  # fmt: skip
    assert begun.status == 0
    inside = evaluate_cli("run=point", f"out={place}/there")
    assert f"out={place}/there lies in the folder of a run: leave out away" in inside.error
    assert contents(shipped) == before


def test_a_folder_of_the_same_name_goes_before_the_initialization(evaluated, shipped):
    keep_initialization(evaluated, "run")
    assert maml_rl.load("run").folder.path == evaluated.relative_to(evaluated.parent)


def test_it_cannot_be_resumed(evaluated, shipped, train_cli):
    keep_initialization(evaluated, "point")
    assert train_cli("resume=point").error == (
        "error: resume=point is an initialization that ships with the code, which keeps no state "
        "to go on from: init_from=point begins a new run from it."
    )


def test_an_unknown_name_lists_those_there_are(evaluated, shipped, evaluate_cli):
    with pytest.raises(UserError, match=r"run=mine: .*folder of a run\.$"):
        maml_rl.load("mine")
    for name in ("point", "ant"):
        keep_initialization(evaluated, name)
    assert evaluate_cli("run=mine").error == (
        "error: run=mine: there is no such folder; give the folder of a run, or the name of a "
        "trained initialization: ant, point."
    )


def test_the_same_name_is_replaced(evaluated, shipped):
    place = keep_initialization(evaluated, "point")
    (place / "old.txt").touch()
    keep_initialization(evaluated, "point")
    assert not (place / "old.txt").exists()
    assert [path.name for path in shipped.iterdir()] == ["point"]


def edited(name, change):
    """A function that changes the content of a JSON file of a run."""

    def edit(run):
        content = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(content | change))

    return edit


def foreign(run):
    config = run / ".hydra/config.yaml"
    config.write_text(config.read_text().replace("envs.PointNavigation", "mine.Tasks"))


def unfinished(run):
    config = run / ".hydra/config.yaml"
    config.write_text(config.read_text().replace("iterations: 2", "iterations: 50"))


REFUSED = [
    (lambda run: shutil.rmtree(run / "evaluation"), "it was not evaluated; python evaluate.py run"),
    (edited("evaluation/evaluation.json", {"iteration": 1000}), "the evaluation is of iteration"),
    (edited("evaluation/evaluation.json", {"split": "validation"}), "its evaluation is not of the"),
    (edited("evaluation/evaluation.json", {"inner": {"step_size": 1.0}}), "its evaluation is not"),
    (unfinished, "Training did not finish: 2 of 50 iterations; python train.py resume="),
    (foreign, "its configuration names mine.Tasks, which another clone does not have."),
    (lambda run: (run / "stopped.json").touch(), "numbers that are not finite ended its training."),
    (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl is missing."),
    (
        edited("provenance.json", {"environment": {"horizon": 9}}),
        "its environment has changed: horizon was 9 and is 10 now.",
    ),
]


@pytest.mark.parametrize(("damage", "words"), REFUSED)
def test_a_run_that_is_not_done_is_refused(damage, words, evaluated, shipped, call):
    damage(evaluated)
    outcome = call(results.results_command, "--keep", "run")
    assert outcome.status == 2
    error = outcome.err.splitlines()[-1]
    assert error.startswith(f"error: run cannot be kept: {words}")
    assert not shipped.exists()


def test_a_name_that_is_no_name_is_refused(evaluated, shipped, call):
    outcome = call(results.results_command, "--keep", "run", "--name", "../mine")
    assert outcome.error == (
        "error: --name ../mine: write letters, digits and underscores, as in ant_dir_rl2."
    )


def test_one_command_keeps_it_and_lists_it(evaluated, shipped, call, tmp_path, monkeypatch):
    page = tmp_path / "results.md"
    page.write_text("# Results\n\n<!-- initializations pretrained -->\n\n<!-- end -->\n")
    monkeypatch.setattr(results, "PAGE", page)
    monkeypatch.setattr(results, "OTHER_PAGES", [])
    outcome = call(results.results_command, "--keep", "run", "--name", "point")
    assert outcome.status == 0
    assert "pretrained/point (" in outcome.out
    (row,) = [line for line in page.read_text().splitlines() if line.startswith("| `point` |")]
    assert row.startswith("| `point` | point_navigation | maml_trpo | ")
    assert row.count("[") == 2  # before adaptation and after one step
    assert initializations.outcome(shipped / "point") in outcome.out


def test_the_learning_curve_is_of_a_hundred_iterations(tmp_path):
    # 250 iterations at 100 places from 0 to 249: the 2nd is round(249 / 99) = 3, the last 249
    rows = learning_curve(read_run(make_run(tmp_path / "run", iterations=250)))
    assert len(rows) == 100
    assert [row["iteration"] for row in rows[:3]] == [1, 4, 6]
    assert rows[-1] == {
        "iteration": 250,
        "env_steps": 250_000,
        "return/step_0": -250.0,
        "return/step_1": 2500.0,
    }
