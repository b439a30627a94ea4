"""evaluate.py: the table, evaluation.json and the plot, and wrong inputs."""

import errno
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import maml_rl
from envs import UserError
from tests.support.hostile_pickles import OsSystem
from tests.support.names import NO_SUCH_RUN
from tests.support.processes import process
from tests.support.run_files import everything, load, png_size
from tests.support.smoke import QUIET, train_smoke

FAST = ("run=run", "num_episodes=2", "steps=2", "threads=1")


def result(path="run"):
    with open(f"{path}/evaluation/evaluation.json") as file:
        return json.load(file)


@pytest.fixture(scope="module")
def cheetah_run(tmp_path_factory):
    """A half-cheetah run of one iteration."""
    from maml_rl.commands.train import train_command

    path = tmp_path_factory.mktemp("cheetah") / "run"
    options = ("experiment=smoke", *QUIET, "env=half_cheetah_dir", "trainer.iterations=1")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        assert train_command([*options, f"hydra.run.dir={path}"]) == 0
    return path


def test_the_table_the_json_and_the_plot(run_copy, drawn, evaluate_cli):
    outcome = evaluate_cli("run=run", "num_episodes=3")
    assert (outcome.status, outcome.err) == (0, "")
    data = result()
    assert list(data) == [
        *("env", "algorithm", "kind", "checkpoint", "iteration", "trained_steps"),
        *("requested_checkpoint", "split", "num_tasks", "num_episodes", "later_scale", "seed"),
        *("curve", "gain_of_first_step", "groups", "strata"),
    ]
    assert data["kind"] == "gradient"
    assert data["env"] == "point_navigation"
    assert data["algorithm"] == "maml_trpo"
    assert (data["checkpoint"], data["split"]) == ("best", "test")
    assert data["iteration"] == load(run_copy / "checkpoints/best.pt")["iteration"]
    assert (data["num_tasks"], data["num_episodes"], data["seed"]) == (4, 3, 0)
    assert [point["step"] for point in data["curve"]] == [0, 1, 2, 3]  # trained with one
    own = maml_rl.load("run")
    rollouts = own.adapt(own.tasks("test"), steps=3, num_episodes=3).rollouts
    steps_taken = [float(rollout.mask.sum((1, 2)).mean()) for rollout in rollouts]
    for point in data["curve"]:
        assert len(point["per_task"]) == 4
        assert point["return_mean"] == pytest.approx(np.mean(point["per_task"]))
        low, high = point["return_ci95"]
        assert min(point["per_task"]) <= low <= point["return_mean"] <= high
        assert f"{point['return_mean']:.2f} [{low:.2f}, {high:.2f}]" in outcome.out
        # what a task had shown before: three episodes, of ten steps or to the goal, for each step
        earlier = data["curve"][: point["step"]]
        assert point["env_steps"] == pytest.approx(sum(steps_taken[: point["step"]]))
        assert 27 * point["step"] < point["env_steps"] + 1 <= 30 * point["step"] + 1
        assert point["cumulative_mean"] == pytest.approx(
            sum(3 * own["return_mean"] for own in earlier)
        )
    before, after = (np.array(data["curve"][step]["per_task"]) for step in (0, 1))
    assert data["gain_of_first_step"]["mean"] == pytest.approx((after - before).mean())
    lines = outcome.out.splitlines()
    assert lines[-3:] == [
        "plot: run/evaluation/adaptation.png",
        "tasks: run/evaluation/tasks.png",
        "trajectories: run/evaluation/trajectories.png",
    ]
    assert lines[-4] == "in brackets: 95 % bootstrap interval over tasks"
    assert [line.partition(":")[0] for line in lines[-6:-4]] == [
        "lower fifth of tasks",
        "share worse",
    ]
    assert lines[-7].startswith("gain of the first step: ")
    for point in data["curve"]:  # of four tasks the lower fifth is the lowest
        assert point["return_cvar20"] == min(point["per_task"])
    assert data["curve"][1]["share_worse"] == (after < before).mean()
    assert f"{data['curve'][1]['share_worse']:.2f} [" in outcome.out
    assert png_size(run_copy / "evaluation/adaptation.png") == (1800, 504)
    assert sorted(path.name for path in (run_copy / "evaluation").iterdir()) == [
        *("adaptation.png", "evaluation.json", "tasks.png", "trajectories.png")
    ]


LABELS = """
import numpy as np
from envs import PointNavigation


class Sides(PointNavigation):
    def finite_tasks(self):
        return {"goal": np.array([[0.3, 0.0], [-0.3, 0.0]])}

    def sample(self, num_tasks, rng):
        return {"goal": self.finite_tasks()["goal"][rng.integers(2, size=num_tasks)]}

    def describe(self, task):
        return f"[{'right' if task['goal'][0] > 0 else 'left'}] [/m]"
"""


def test_labels_with_brackets_appear_as_they_are(work, train_cli, evaluate_cli):
    (work / "sides.py").write_text(LABELS)
    sides = ("env._target_=sides.Sides", "hydra.run.dir=run")
    assert train_cli("experiment=smoke", *QUIET, *sides).status == 0
    outcome = evaluate_cli(*FAST)
    assert (outcome.status, outcome.err) == (0, "")
    words = re.sub(r"[^\w\[\]/]+", " ", outcome.out)
    for label in ("return [right] [/m]", "return [left] [/m]"):
        assert label in words


def test_the_files_are_written_before_anything_is_printed(run_copy, evaluate_cli, monkeypatch):
    def broken(*arguments, **options):
        raise UserError("nothing can be printed")

    monkeypatch.setattr("maml_rl.commands.evaluate.print_table", broken)
    outcome = evaluate_cli(*FAST, "rollouts=true")
    assert (outcome.status, outcome.out) == (2, "")
    assert {path.name for path in (run_copy / "evaluation").iterdir()} == {
        *("adaptation.png", "evaluation.json", "rollouts.npz", "tasks.png", "trajectories.png")
    }


def test_nothing_but_the_evaluation_is_written(run_copy, evaluate_cli, work):
    before = everything(work)
    assert evaluate_cli(*FAST).status == 0
    added = everything(work).keys() - before.keys()
    others = {name for name in added if not name.startswith("run/evaluation")}
    assert {Path(name).name.split(".")[0] for name in others} <= {"events"}  # TensorBoard's, new
    assert {name: everything(work)[name] for name in before} == before


def test_it_repeats_and_the_seed_changes_it(run_copy, evaluate_cli):
    results = []
    for options in [(), ("threads=2",), ("seed=1",)]:
        assert evaluate_cli(*FAST, *options).status == 0
        results.append(result())
    assert results[0] == results[1]
    assert results[0]["curve"] != results[2]["curve"]
    assert results[2]["seed"] == 1


def test_checkpoint_split_and_number_of_tasks(run_copy, evaluate_cli):
    for options, expected in [
        (("checkpoint=last",), ("last", "test", 4)),
        (("checkpoint=2",), ("iteration_000002", "test", 4)),
        (("split=validation",), ("best", "validation", 2)),
        (("num_tasks=1",), ("best", "test", 1)),
    ]:
        assert evaluate_cli(*FAST, *options).status == 0
        data = result()
        assert (data["checkpoint"], data["split"], data["num_tasks"]) == expected
        assert len(data["curve"][0]["per_task"]) == expected[2]
    (run_copy / "checkpoints/best.pt").unlink()
    outcome = evaluate_cli(*FAST)
    assert outcome.status == 0
    assert result()["checkpoint"] == "last"
    assert outcome.out.splitlines()[-1] == (
        "note: the run has no best checkpoint, which validation makes: this is the last one, of "
        "iteration 2."
    )
    assert result()["requested_checkpoint"] == "best"


def test_what_an_evaluation_takes_the_place_of_is_said(run_copy, evaluate_cli, work):
    assert "takes the place" not in evaluate_cli(*FAST).out
    assert "takes the place" not in evaluate_cli(*FAST).out
    kept = (run_copy / "evaluation/evaluation.json").read_bytes()
    elsewhere = evaluate_cli(*FAST, "split=validation", "steps=1", "out=there/of_validation")
    assert elsewhere.status == 0
    assert "plot: there/of_validation/adaptation.png" in elsewhere.out
    assert (run_copy / "evaluation/evaluation.json").read_bytes() == kept
    there = json.loads((work / "there/of_validation/evaluation.json").read_text())
    assert (there["split"], len(there["curve"])) == ("validation", 2)
    outcome = evaluate_cli(*FAST, "split=validation", "steps=1")
    assert (
        "note: this takes the place of an evaluation with steps=2, split=test, num_tasks=4; "
        "out=<folder> writes elsewhere." in outcome.out
    )
    assert result() == there
    shutil.copytree(run_copy, work / "other")
    refused = evaluate_cli(*FAST, "out=other/evaluation")  # it would be taken for that run's own
    assert "out=other/evaluation lies in the folder of a run" in refused.error
    (work / "there/of_validation/rollouts.npz").touch()
    last = evaluate_cli("run=other", *FAST[1:], "checkpoint=last", "out=there/of_validation").out
    assert "takes the place of an evaluation with checkpoint=best, steps=1, " in last
    assert last.endswith("note: there/of_validation/rollouts.npz is of an earlier evaluation.\n")


def test_a_run_that_did_not_finish_is_said_to_be_that(run_copy, evaluate_cli, train_cli):
    config = run_copy / ".hydra/config.yaml"
    config.write_text(config.read_text().replace("  iterations: 2\n", "  iterations: 5\n"))
    outcome = evaluate_cli(*FAST)
    assert outcome.out.splitlines()[-1] == (
        "note: Training did not finish: 2 of 5 iterations; python train.py resume=run goes on."
    )
    assert train_cli("resume=run", "logger.tensorboard=false").status == 0
    assert "did not finish" not in evaluate_cli(*FAST).out


def test_a_run_trained_on_is_evaluated_anew_as_it_was(run_copy, evaluate_cli, train_cli):
    assert evaluate_cli(*FAST, "checkpoint=last", "seed=7").status == 0
    assert train_cli("resume=run", "trainer.iterations=3", "logger.tensorboard=false").status == 0
    outcome = evaluate_cli("runs=[run]")
    assert outcome.out.splitlines()[0] == (
        "run: the evaluation is of iteration 2, and last.pt is of iteration 3 by now: it is "
        "evaluated anew, with the same options."
    )
    data = result()
    assert (data["checkpoint"], data["iteration"], data["seed"]) == ("last", 3, 7)
    assert (data["num_episodes"], len(data["curve"])) == (2, 3)
    assert "by now" not in evaluate_cli("runs=[run]").out


def test_forward_and_backward_are_told_apart(cheetah_run, evaluate_cli, work):
    shutil.copytree(cheetah_run, work / "run")
    outcome = evaluate_cli(*FAST, "steps=1")
    assert (outcome.status, outcome.err) == (0, "")
    groups = result()["groups"]
    assert list(groups) == ["forward", "backward"]
    for step in (0, 1):  # the stored tasks are forward, backward, forward, backward
        per_task = result()["curve"][step]["per_task"]
        assert groups["forward"][step]["per_task"] == per_task[0::2]
        assert groups["backward"][step]["per_task"] == per_task[1::2]
    assert "return, forward" in outcome.out
    refused = evaluate_cli(*FAST, "num_tasks=3")
    assert (refused.status, refused.out) == (2, "")
    assert "half_cheetah_dir has 2 tasks, evaluated in equal counts" in refused.error


def test_a_run_trained_on_cuda_is_evaluated_anywhere(run_copy, evaluate_cli):
    config = run_copy / ".hydra/config.yaml"
    config.write_text(config.read_text().replace("device: cpu", "device: cuda"))
    outcome = evaluate_cli(*FAST)
    assert (outcome.status, outcome.err) == (0, "")


def test_help_lists_the_options(evaluate_cli, work):
    outcome = evaluate_cli("--help")
    assert outcome.status == 0
    for word in ("run=<run folder>", "checkpoint: best", "steps: 3", "video: false"):
        assert word in outcome.out


def test_several_runs_are_evaluated_where_needed_and_compared(run_copy, evaluate_cli, work):
    shutil.copytree(run_copy, work / "other")
    config = work / "other/.hydra/config.yaml"
    config.write_text(config.read_text().replace("name: maml_trpo", "name: mine"))
    assert evaluate_cli(*FAST).status == 0
    kept = (run_copy / "evaluation/evaluation.json").read_bytes()
    outcome = evaluate_cli("runs=[run,other]", *FAST[1:], "out=both")
    assert (outcome.status, outcome.err) == (0, "")
    for word in ("P(better", "maml_trpo)"):  # of a head that is folded
        assert word in outcome.out
    assert "P(better than maml_trpo) after 1 step |" in (work / "both/comparison.md").read_text()
    assert outcome.out.splitlines()[-1] == "comparison: both/comparison.md, .json and .png"
    data = json.loads((work / "both/comparison.json").read_text())
    assert [group["label"] for group in data["groups"]] == ["maml_trpo", "mine"]
    # the same weights on the same tasks with the same noise: every comparison is a tie
    assert data["groups"][1]["curve"][2]["improvement"] == 0.5
    assert (run_copy / "evaluation/evaluation.json").read_bytes() == kept
    shutil.rmtree(work / "other/evaluation")
    refused = evaluate_cli("runs=[run,other]")  # 20 episodes a step against run's 2
    assert refused.status == 2
    assert "other was evaluated with num_episodes=20, run with num_episodes=2" in refused.error
    assert evaluate_cli("runs=[run,other]", "num_episodes=3", "steps=1").status == 0
    assert result("run")["num_episodes"] == result("other")["num_episodes"] == 3


WRONG = [
    ((), "run is missing: write run=<run folder>, or runs=[<folder>,<folder>]."),
    (("runs=nowhere",), f"runs=nowhere: {NO_SUCH_RUN}"),
    (("runs=no*",), "runs=no* matches nothing; give the folders of runs."),
    (("runs=",), "runs names no folder: write runs=<folder>, or . for this one."),
    (("runs=[run]", "out="), "out must name a folder, as in out=comparison."),
    (("run=run", "out=run"), "out=run lies in the folder of a run: leave out away to evaluate"),
    (("run=run", "out=run/checkpoints"), "out=run/checkpoints lies in the folder of a run: leave"),
    (("run=run", "out=/proc/there"), "/proc/there cannot be written: an evaluation goes into"),
    (("runs=[]",), "runs is empty: give the folders of runs, as in runs=[a,b], or a glob."),
    (("runs=[run]", "run=run"), "run and runs were both given: write one of them."),
    (("runs=[run]", "tasks=grid"), "tasks=grid is of one run: write run=<run folder>."),
    (("run=null",), "run is missing"),
    (("run=nowhere",), f"run=nowhere: {NO_SUCH_RUN}"),
    (("run=5",), "run=5: there is no such folder"),
    (("run=.",), "run=. holds runs and is none: write run=run, or runs=. to compare all in it."),
    (("run=run/metrics.jsonl",), "there is no such folder"),
    (("run=run", "steps=-1"), "steps must be a whole number of at least 0, not -1."),
    (("run=run", "steps=abc"), "steps must be a whole number of at least 0, not 'abc'."),
    (("runs=[run]", "steps=0"), "steps=0 is of one run: write run=<run folder>."),
    (("run=run", "steps=0", "tasks=grid"), "steps=0 leaves nothing to draw on a grid"),
    (("run=run", "inner.step_size=0"), "inner.step_size must be a finite number above 0, not 0."),
    (("run=run", "inner.steps=-1"), "inner.steps must be a whole number of at least 0, not -1."),
    (("run=run", "inner.loss=dice"), "inner.loss is unknown; "),
    (("run=run", "tasks=fresh", "num_tasks=0"), "num_tasks must be a whole number of at least 1"),
    (("run=run", "tasks=fresh", "split=validation"), "split=validation is of stored tasks: leave"),
    (("run=run", "tasks=fresh", "range=[0,1]"), "range=[0.0, 1.0] is of a grid: add tasks=grid."),
    (("run=run", "num_tasks=5"), "num_tasks=5: the run stored 4 test tasks; ask for at most 4."),
    (("run=run", "num_tasks=0"), "num_tasks must be a whole number of at least 1, not 0."),
    (("run=run", "num_episodes=-2"), "num_episodes must be a whole number of at least 1, not -2."),
    (("run=run", "seed=-1"), "seed must be a whole number of at least 0, not -1."),
    (("run=run", "threads=0"), "threads must be a whole number of at least 1, not 0."),
    (("run=run", "split=train"), "split=train is unknown; choose one of test, validation."),
    (("run=run", "checkpoint=foo"), "checkpoint=foo is unknown; write last, best, or the number"),
    (("run=run", "checkpoint=-1"), "checkpoint=-1 is unknown"),
    (("run=run", "checkpoint=../last"), "checkpoint=../last is unknown"),
    (("run=run", "checkpoint=77"), "iteration_000077.pt; it has best, last, 2."),
    (("run=run", "video=maybe"), "video must be true, false or auto, not 'maybe'."),
    (("run=run", "num_epsiodes=3"), "num_epsiodes is unknown; did you mean num_episodes?"),
    (
        ("run=run", "foo=3"),
        "foo is unknown; there is checkpoint, inner, later_scale, num_episodes, ",
    ),
    (("run=run", "later_scale=2"), "later_scale must be a finite number above 0 and of at most 1"),
    (("run=run", "steps"), "cannot read 'steps': write key=value"),
    (("run=run", "steps=1,2"), "steps=1,2 gives several values"),
    (("run=run", "--multirun"), "cannot read '--multirun': write key=value"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_a_wrong_input_is_one_sentence_and_leaves_nothing(
    arguments, words, run_copy, evaluate_cli, work
):
    before = everything(work)
    outcome = evaluate_cli(*arguments)
    assert outcome.status == 2
    assert outcome.error.startswith("error: ")
    assert words in outcome.error
    assert len(outcome.error) < 260
    assert outcome.out == ""
    assert everything(work) == before


def damages(path):
    """Yield wrong contents of a checkpoint file."""
    whole = path.read_bytes()
    weight = load(path)["meta"]["layers.0.weight"].numpy().tobytes()
    for share in (0.0, 0.02, 0.5, 0.98):
        yield whole[: int(share * len(whole))]
    for offset in (0, len(weight) // 2, len(weight) - 1):
        flipped = bytearray(whole)
        flipped[whole.index(weight) + offset] ^= 4
        yield bytes(flipped)
    yield np.random.default_rng(0).bytes(2000)
    yield pickle.dumps({"meta": OsSystem(), "sha256": "0" * 64})


def test_a_damaged_checkpoint_is_refused(run_copy, evaluate_cli, work):
    path = run_copy / "checkpoints/best.pt"
    for content in list(damages(path)):
        path.write_bytes(content)
        before = everything(work)
        outcome = evaluate_cli("run=run")
        assert outcome.status == 2
        assert outcome.error.startswith("error: run/checkpoints/best.pt is ")
        assert everything(work) == before
    assert evaluate_cli(*FAST, "checkpoint=last").status == 0
    assert not (work / "ran").exists()


def test_a_checkpoint_of_another_architecture_is_refused(run_copy, cheetah_run, evaluate_cli):
    shutil.copy(cheetah_run / "checkpoints/last.pt", run_copy / "checkpoints/best.pt")
    outcome = evaluate_cli("run=run")
    assert outcome.status == 2
    assert outcome.error == (
        "error: run/checkpoints/best.pt is of another architecture: for log_std it holds [6], "
        "and the policy and inner loop expect [2]."
    )


def test_damaged_or_foreign_tasks_are_refused(run_copy, cheetah_run, evaluate_cli, work):
    for content in (
        *("", "{", "[]", '{"validation": {}, "test": {}}'),
        '{"validation": {"goal": [[0, 0]]}, "test": {"goal": [["a", 0]]}}',
        '{"validation": {"goal": [[0, 0]]}, "test": {"goal": [0.5]}}',
        (cheetah_run / "tasks.json").read_text(),
    ):
        (run_copy / "tasks.json").write_text(content)
        outcome = evaluate_cli("run=run")
        assert outcome.status == 2
        assert outcome.error.startswith("error: ")
        assert not (run_copy / "evaluation").exists()
    (run_copy / "tasks.json").unlink()
    assert evaluate_cli("run=run").error == (
        "error: run=run is not a run folder: it has no tasks.json."
    )


def test_in_a_process(run_copy, work):
    run = process(*FAST, cwd=work, program="evaluate.py")
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "trajectories: run/evaluation/trajectories.png"


def test_a_grid_of_tasks_is_evaluated_in_order(work, drawn, evaluate_cli):
    train_smoke(work / "run", "env=half_cheetah_vel")
    before = everything_in(work / "run/checkpoints")
    options = ("run=run", "tasks=grid", "num_tasks=5", "range=[0,4]", "num_episodes=3", "steps=2")
    outcome = evaluate_cli(*options, "threads=1")
    assert (outcome.status, outcome.err) == (0, "")
    result = json.loads((work / "run/evaluation/grid.json").read_text())
    assert result["grid"] == {
        "parameter": "target velocity, m/s",
        "values": [0.0, 1.0, 2.0, 3.0, 4.0],
        "trained_range": [0.0, 2.0],
    }
    # a policy that hardly moves: ten steps cost ten times the target velocity, and a little
    for point in result["curve"]:
        assert np.diff(point["per_task"]) == pytest.approx([-10.0] * 4, abs=6.0)
    written = {path.name for path in (work / "run/evaluation").iterdir()}
    assert written == {"grid.json", "grid.png", "grid_trajectories.png"}
    assert (work / "run/evaluation/grid.png").stat().st_size > 10_000
    assert everything_in(work / "run/checkpoints") == before  # evaluating changes no checkpoint


def test_the_share_of_an_optimum_that_is_known(work, evaluate_cli):
    train_smoke(work / "run", "env=multi_armed_bandit", "env.preset=k5_n10")
    outcome = evaluate_cli("run=run", "num_episodes=3", "steps=1", "threads=1")
    assert (outcome.status, outcome.err) == (0, "")
    found = result()
    stored = json.loads((work / "run/tasks.json").read_text())["test"]["probabilities"]
    best = 10 * np.max(stored, axis=1)  # ten pulls of the best arm
    assert found["optimal_return"] == pytest.approx(best.tolist())
    shares = [f"{point['return_mean'] / best.mean():.2f}" for point in found["curve"]]
    said = f"optimum: {best.mean():.2f}; share of it by step: {', '.join(shares)}"
    assert said in outcome.out.splitlines()


def test_tasks_of_many_numbers_are_said_not_to_be_drawn(work, evaluate_cli):
    train_smoke(work / "run", "env=multi_armed_bandit", "env.preset=k10_n10")
    outcome = evaluate_cli("run=run", "num_episodes=1", "steps=1", "threads=1")
    lines = outcome.out.splitlines()
    assert lines[-1] == "tasks: not drawn, a task has 10 numbers (at most 6)"
    assert not (work / "run/evaluation/tasks.png").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["tasks=grid"], "point_navigation has no grid of tasks: they are told apart by goal [2]"),
        (["range=[0,1]"], "range=[0.0, 1.0] is of a grid: add tasks=grid."),
        (
            ["tasks=grdi"],
            "tasks=grdi is unknown; choose one of fresh, grid, stored. Did you mean grid?",
        ),
        (["tasks=grid", "range=[0,.inf]"], "range=[0.0, inf] spans no grid: write two finite"),
        (["tasks=grid", "range=[1,1]"], "range=[1.0, 1.0] spans no grid: write two finite"),
        (["tasks=grid", "split=validation"], "split=validation is of stored tasks: leave it out"),
        (["tasks=grid", "range=3"], "range must be two numbers in brackets, the lower one first"),
    ],
)
def test_a_wrong_grid_is_one_sentence(options, sentence, run_copy, evaluate_cli):
    outcome = evaluate_cli("run=run", *options)
    assert outcome.status == 2
    assert outcome.error.startswith(f"error: {sentence}")
    assert not (run_copy / "evaluation").exists()


def test_a_place_that_cannot_be_written_is_found_before_anything_is_collected(
    run_copy, evaluate_cli, monkeypatch
):
    def collected(*arguments):
        raise AssertionError("episodes were collected")

    monkeypatch.setattr("maml_rl.commands.evaluate.evaluate", collected)
    (run_copy / "evaluation").write_text("a file")
    outcome = evaluate_cli("run=run")
    assert outcome.status == 2
    assert outcome.error.startswith("error: run/evaluation cannot be written: an evaluation goes")


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 1), (errno.ENOENT, None)])
def test_a_full_disk_is_one_sentence_and_a_missing_file_a_fault_of_ours(
    number, status, run_copy, evaluate_cli, monkeypatch
):
    def full(path, data):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("maml_rl.commands.evaluation_files.write_json", full)
    if status is None:
        with pytest.raises(FileNotFoundError):
            evaluate_cli(*FAST)
        return
    outcome = evaluate_cli(*FAST)
    assert outcome.status == status
    assert outcome.error == (
        "error: run/evaluation/evaluation.json cannot be written: No space left on device."
    )


def everything_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_schedule_scales_later_steps_in_turn(run_copy, evaluate_cli):
    def curve(*options):
        assert (
            evaluate_cli("run=run", "steps=3", "num_episodes=2", "threads=1", *options).status == 0
        )
        return [point["per_task"] for point in result()["curve"]]

    halved, listed = curve("later_scale=0.5"), curve("later_scale=[0.5]")
    assert listed == halved  # the last entry holds on
    finer = curve("later_scale=[0.5,0.01]")
    assert finer[:3] == halved[:3]  # the third step alone is another
    assert finer[3] != halved[3]


@pytest.mark.parametrize("scale", ["[]", "[0.5,2]", "half"])
def test_a_wrong_schedule_is_one_sentence(scale, run_copy, evaluate_cli):
    outcome = evaluate_cli("run=run", f"later_scale={scale}")
    assert outcome.status == 2
    assert outcome.error.startswith("error: later_scale")


# Learners with memory.


@pytest.fixture(scope="module")
def recurrent_run(tmp_path_factory):
    """A run of two iterations on trials of two episodes."""
    from maml_rl.commands.train import train_command

    path = tmp_path_factory.mktemp("recurrent") / "run"
    options = ("experiment=smoke", *QUIET, "algorithm=rl2", "policy.memory_size=5")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        assert train_command([*options, f"hydra.run.dir={path}"]) == 0
    return path


@pytest.fixture
def recurrent(recurrent_run, work):
    return shutil.copytree(recurrent_run, work / "run")


def test_a_learner_with_memory_is_followed_through_trials(recurrent, evaluate_cli):
    outcome = evaluate_cli("run=run", "num_episodes=3", "steps=2", "trials=2", "threads=1")
    assert (outcome.status, outcome.err) == (0, "")
    data = result()
    assert (data["trials"], data["trained_episodes"], data["trained_steps"]) == (2, 2, 0)
    assert data["kind"] == "memory"
    within = data["within"]
    assert [point["episode"] for point in within] == list(range(7))  # 2 x 3 seen, and one after
    assert [point["env_steps"] for point in within] == [10 * episode for episode in range(7)]
    # the curve holds the episodes that gradient steps would be followed by
    for step, point in enumerate(data["curve"]):
        same = within[3 * step]
        assert point["per_task"] == same["per_task"]
        assert point["env_steps"] == same["env_steps"] == 30 * step
        earned = np.sum([own["per_task"] for own in within[: 3 * step]], axis=0).mean()
        assert point["cumulative_mean"] == pytest.approx(earned)
        assert point["cumulative_mean"] == same["cumulative_mean"]
    assert "2 trials of 7 episodes" in " ".join(outcome.out.split())
    assert "gain of the first 3 episodes" in outcome.out
    assert (recurrent / "evaluation/trajectories.png").is_file()
    again = evaluate_cli("run=run", "num_episodes=3", "steps=2", "trials=2", "threads=2")
    assert again.status == 0
    assert result() == data


def test_a_grid_of_tasks_and_rollouts_with_memory(recurrent, evaluate_cli):
    options = ("run=run", "num_episodes=1", "steps=1", "threads=1", "num_tasks=2", "rollouts=true")
    assert evaluate_cli(*options).status == 0
    with np.load(recurrent / "evaluation/rollouts.npz") as arrays:
        # before, and after an episode; 2 tasks, 10 steps, 4 trials, and the point's own observation
        assert arrays["observations"].shape == (2, 2, 10, 4, 2)
        returns = (arrays["rewards"] * arrays["mask"]).sum(axis=2).mean(axis=2)
    found = np.array([point["per_task"] for point in result()["curve"]])
    assert found == pytest.approx(returns, rel=1e-5)


def test_films_are_of_single_episodes(recurrent, evaluate_cli):
    outcome = evaluate_cli("run=run", "video=true")
    assert (outcome.status, outcome.out) == (2, "")
    assert "rl2 adapts by what it remembers of the episodes before" in outcome.error


def test_learners_with_and_without_memory_are_compared_on_the_same_steps(
    recurrent, trained_run, evaluate_cli, work
):
    shutil.copytree(trained_run, work / "steps")
    options = ("num_episodes=2", "steps=2", "threads=1")
    outcome = evaluate_cli("runs=[steps,run]", *options)
    assert (outcome.status, outcome.err) == (0, "")
    with open("comparison/comparison.json") as file:
        compared = json.load(file)
    gradient, memory = compared["groups"]
    assert [point["env_steps"] for point in gradient["curve"]] == [0, 20, 40]
    assert [point["env_steps"] for point in memory["curve"]] == [0, 20, 40]
    assert [point["env_steps"] for point in memory["within"]] == [0, 10, 20, 30, 40]
    assert "within" not in gradient
    for group, place in ((gradient, "steps"), (memory, "run")):
        own = result(place)
        for point, single in zip(group["curve"], own["curve"], strict=True):
            assert point["cumulative_mean"] == pytest.approx(single["cumulative_mean"])
    assert memory["within"][3]["cumulative_mean"] == pytest.approx(
        result()["within"][3]["cumulative_mean"]
    )
    assert "seen as many episodes, 2 for each step: rl2" in outcome.out
    assert "Trained without inner steps" not in outcome.out


def test_a_policy_with_memory_in_python(recurrent):
    import maml_rl
    from envs import UserError

    trained = maml_rl.load(recurrent)
    adapted = trained.adapt(trained.tasks("test"), steps=0, num_episodes=2)
    assert adapted.returns.shape == (1, 4)
    assert adapted.rollouts[0].episode_returns().shape == (4, 2, 2)
    for call in (lambda: adapted[0].act(np.zeros(6)), lambda: adapted[0].export("policy.pt2")):
        with pytest.raises(UserError, match="this policy acts by what it remembers of a trial"):
            call()
    task = {"goal": np.array([0.2, 0.1])}
    alone = trained.adapt(trained.distribution.single(task), steps=0, num_episodes=2)
    assert alone.returns.shape == (1,)


# Another adaptation than in training.


def test_the_step_size_of_an_evaluation_is_what_is_stepped_with(run_copy, evaluate_cli):
    assert evaluate_cli(*FAST).status == 0
    usual = result()
    outcome = evaluate_cli(*FAST, "inner.step_size=0.003", "inner.steps=2")
    assert "inner.step_size=0.003" in " ".join(outcome.out.split())
    changed = result()
    assert (changed["inner"], changed["trained_steps"]) == ({"step_size": 0.003, "steps": 2}, 1)
    assert "inner" not in usual
    means = [[point["return_mean"] for point in data["curve"]] for data in (usual, changed)]
    assert means[0][0] == means[1][0]  # before adaptation
    assert means[0][1] != means[1][1]
    # both steps in full size, from Python: later steps are not halved
    trained = maml_rl.load("run")
    trained = trained.varied(step_size=0.003, steps=2)
    found = trained.adapt(trained.tasks("test"), steps=2, num_episodes=2, later_scale=0.5)
    np.testing.assert_allclose(means[1], found.returns.mean(1))
    # the plain inner step: parameters less 0.003 of the gradient, a tenth of 0.03's move
    own = maml_rl.load("run")
    moves = [
        own.adapt(own.tasks("test"), num_episodes=2, step_size=size).params["layers.0.weight"]
        - own.meta["layers.0.weight"]
        for size in (0.003, 0.03)
    ]
    np.testing.assert_allclose(10 * moves[0], moves[1], rtol=1e-2, atol=1e-6)


def test_an_evaluation_with_other_steps_is_compared_on_equal_terms_only(run_copy, evaluate_cli):
    shutil.copytree("run", "other")
    assert evaluate_cli(*FAST).status == 0
    assert evaluate_cli("run=other", *FAST[1:], "inner.step_size=0.003").status == 0
    refused = evaluate_cli("runs=[run,other]")
    assert refused.status == 2
    assert "other was evaluated with inner.step_size=0.003, run with inner.step_size=None" in (
        refused.error
    )
    assert "inner.step_size=null" in refused.error
    both = ("runs=[run,other]", *FAST[1:], "inner.step_size=0.003")
    assert evaluate_cli(*both).status == 0
    assert result("run")["inner"] == result("other")["inner"] == {"step_size": 0.003}


def test_fresh_tasks_are_no_tasks_of_the_run(run_copy, evaluate_cli):
    shutil.copytree("run", "other")
    assert evaluate_cli(*FAST, "tasks=fresh", "num_tasks=7", "rollouts=true").status == 0
    data = result()
    assert (data["split"], data["num_tasks"]) == ("fresh", 7)
    trained = maml_rl.load("run")
    with np.load("run/evaluation/rollouts.npz") as file:
        goals = file["task/goal"]
    np.testing.assert_array_equal(goals, trained.fresh_tasks(7)["goal"])
    assert goals.shape == (7, 2)
    assert (trained.fresh_tasks(7, seed=1)["goal"] != goals).any()
    for split in ("test", "validation"):
        stored = trained.tasks(split)["goal"]
        assert not (goals[:, None] == stored[None]).all(-1).any()
    # another run has the same ones, and one on stored tasks is no match
    assert evaluate_cli("run=other", *FAST[1:]).status == 0
    refused = evaluate_cli("runs=[run,other]")
    assert "other was evaluated with split=test, run with split=fresh" in refused.error
    assert "tasks=fresh" in refused.error
    assert evaluate_cli("runs=[run,other]", *FAST[1:], "tasks=fresh", "num_tasks=6").status == 0
    assert result("other")["split"] == "fresh"


def test_without_steps_the_initialization_alone_is_evaluated(run_copy, evaluate_cli):
    assert evaluate_cli(*FAST).status == 0
    kept = (run_copy / "evaluation/evaluation.json").read_bytes()
    outcome = evaluate_cli(*FAST, "steps=0")
    assert (outcome.status, outcome.err) == (0, "")
    assert "gain" not in outcome.out
    assert (run_copy / "evaluation/evaluation.json").read_bytes() == kept
    data = json.loads((run_copy / "evaluation/initialization.json").read_text())
    (point,) = data["curve"]
    assert point["per_task"] == json.loads(kept)["curve"][0]["per_task"]
    assert "gain_of_first_step" not in data


def test_learned_step_sizes_are_not_replaced(train_cli, evaluate_cli):
    options = ("experiment=smoke", *QUIET, "inner=meta_sgd", "trainer.iterations=1")
    assert train_cli(*options, "hydra.run.dir=run").status == 0
    refused = evaluate_cli("run=run", "inner.step_size=0.1")
    assert refused.error.startswith("error: inner.step_size=0.1 changes nothing here: the step si")
    assert evaluate_cli(*FAST, "inner.steps=2").status == 0
