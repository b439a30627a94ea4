"""Reading runs, grouping them, and comparing them on equal terms."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from envs.errors import UserError
from maml_rl.errors import NonFiniteError
from maml_rl.evaluation.comparison_curves import Overlay, comparison_figure
from maml_rl.evaluation.result import Estimate, Point
from maml_rl.evaluation.statistics import bootstrap_interval, probability_of_improvement
from maml_rl.evaluation.storage import to_json
from maml_rl.reporting.comparison import compared, mean_learning_curve, smoothed
from maml_rl.reporting.comparison_files import compare
from maml_rl.reporting.groups import grouped, task_set
from maml_rl.reporting.problems import outdated
from maml_rl.reporting.tables import comparison_tables, markdown
from maml_rl.runs.checkpoint import save_checkpoint
from maml_rl.runs.data import find_runs, read_run
from tests.support.paths import ROOT
from tests.support.run_files import png_size
from tests.support.written_runs import AFTER, TWO, make_run, result_of, write_evaluation


def runs_of(*paths):
    return [read_run(path) for path in paths]


def test_a_run_is_read(tmp_path):
    run = read_run(make_run(tmp_path / "a", seed=4))
    assert (run.env, run.algorithm, run.seed) == ("point_navigation", "maml_trpo", 4)
    assert (run.iterations, run.env_steps, run.faults) == (3, 3000, [])
    assert run.overrides == ["experiment=mine", "seed=4"]
    assert run.evaluated.returns.tolist() == TWO.tolist()
    key, env_steps, values = run.learning_curve()
    assert (key, env_steps.tolist()) == ("return/step_1", [1000, 2000, 3000])
    assert values.tolist() == [14, 24, 34]
    assert read_run(make_run(tmp_path / "b", None)).env == "point_navigation"  # by its class


def test_runs_kept_in_results_are_read():
    run = read_run(ROOT / "results/half_cheetah_dir/seed_0.json")
    assert (run.env, run.algorithm, run.seed) == ("half_cheetah_dir", "maml_trpo", 0)
    assert (run.iterations, run.env_steps) == (150, 12_000_000)
    assert run.evaluated.returns.shape == (4, 40)
    assert run.evaluated.returns[1].mean() == pytest.approx(223.105, abs=1e-3)
    assert run.faults == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (".hydra/config.yaml", "a: [", ".hydra/config.yaml cannot be read as YAML."),
        (".hydra/config.yaml", "- 1", ".hydra/config.yaml cannot be read as YAML."),
        ("metrics.jsonl", '{"iteration": 1', "metrics.jsonl is damaged at line 1; what follows"),
        ("metrics.jsonl", '{"iteration": 1}', "metrics.jsonl is damaged at line 1"),
        ("metrics.jsonl", "[]", "metrics.jsonl is damaged at line 1"),
        ("evaluation/evaluation.json", "{", "evaluation.json is damaged: it holds no JSON"),
        ("evaluation/evaluation.json", '{"env": "a"}', "evaluation.json is damaged: it does not"),
        ("provenance.json", "7", "provenance.json is damaged: it holds no JSON object."),
    ],
)
def test_damage_is_named_and_left_out(tmp_path, name, text, fault):
    path = make_run(tmp_path / "a")
    (path / name).write_text(text)
    run = read_run(path)
    assert len(run.faults) == 1
    assert fault in run.faults[0]
    (path / "metrics.jsonl").unlink()
    assert "metrics.jsonl is missing." in read_run(path).faults


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["curve"][0]["per_task"].pop(),
        lambda data: data["curve"][1].update(return_mean=math.nan),
        lambda data: data["curve"][1]["per_task"].__setitem__(2, math.inf),
        lambda data: data["curve"].pop(),
        lambda data: data["curve"].reverse(),
        lambda data: data.update(num_tasks=5),
        lambda data: data.update(groups={"left": [{}]}),
        lambda data: data.pop("num_episodes"),
        lambda data: data.update(groups=[]),
        lambda data: data.update(trained_steps="one"),
    ],
)
def test_an_evaluation_that_is_none_is_not_used(tmp_path, change):
    path = make_run(tmp_path / "a")
    data = json.loads((path / "evaluation/evaluation.json").read_text())
    change(data)
    (path / "evaluation/evaluation.json").write_text(json.dumps(data))
    run = read_run(path)
    assert run.evaluation is None
    assert run.faults == ["evaluation.json is damaged: it does not hold an evaluation."]


def test_a_configuration_that_was_cut_is_named(tmp_path):
    path = make_run(tmp_path / "a")
    text = (path / ".hydra/config.yaml").read_text()
    (path / ".hydra/config.yaml").write_text(text[: text.index("algorithm:")])
    assert read_run(path).faults == [".hydra/config.yaml is not whole: it has no algorithm."]
    with pytest.raises(UserError, match=r"a: .hydra/config.yaml is not whole"):
        compare([path], tmp_path / "out")


def test_a_comparison_is_written_whole_or_not_at_all(tmp_path):
    runs, out = [make_run(tmp_path / "a")], tmp_path / "out"
    out.write_text("a file")
    with pytest.raises(UserError, match=r"out cannot be made or written to: name another folder."):
        compare(runs, out)
    assert out.read_text() == "a file"
    out.unlink()
    (out / "comparison.md").mkdir(parents=True)  # in the way of the page
    with pytest.raises(UserError, match="out cannot be made or written to: Is a directory"):
        compare(runs, out)
    assert [path.name for path in out.iterdir()] == ["comparison.md"]


def test_a_run_that_stops_while_it_is_evaluated_is_named(tmp_path):
    def evaluate(folder):
        raise NonFiniteError("the action of task 0, episode 1, step 2 is not finite")

    with pytest.raises(NonFiniteError, match=r"/a: the action of task 0, episode 1, step 2 is not"):
        compare([make_run(tmp_path / "a", None)], tmp_path / "out", evaluate)


def test_metrics_before_the_damage_are_kept(tmp_path):
    path = make_run(tmp_path / "a")
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "env')
    assert read_run(path).iterations == 3
    assert read_run(path).faults[0].startswith("metrics.jsonl is damaged at line 4")


def test_runs_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("sweep/10", "sweep/2", "alone", "deep/er/one"):
        make_run(tmp_path / name)
    (tmp_path / "sweep" / "notes").mkdir()

    def found(*places):
        return [str(path) for path in find_runs(places)]

    assert found("alone") == ["alone"]
    assert found("sweep") == ["sweep/2", "sweep/10"]  # a multirun, by number
    assert found("sweep/*") == ["sweep/2", "sweep/10"]
    assert found("deep", "sweep/2", "sweep") == ["deep/er/one", "sweep/2", "sweep/10"]
    assert len(found(".")) == 4
    for places, words in [
        (["nowhere"], "runs=nowhere: there is no such folder"),
        (["no*"], r"runs=no\* matches nothing"),
        (["sweep/notes"], "runs=sweep/notes holds no run: a run's folder has .hydra/config.yaml"),
        ([], "runs is empty"),
    ]:
        with pytest.raises(UserError, match=words):
            find_runs(places)


def test_seeds_are_one_group_and_other_settings_make_another(tmp_path):
    paths = [
        make_run(tmp_path / "a", seed=1, outer__max_kl=0.02, sampler__threads=1),
        make_run(tmp_path / "b", seed=2, algorithm__name="anil"),
        make_run(tmp_path / "c", seed=2, outer__max_kl=0.01),
        make_run(tmp_path / "d", seed=3, outer__max_kl=0.02, trainer__checkpoint_every=9),
    ]
    groups = grouped(runs_of(*paths))
    assert [(group.label, [run.seed for run in group.runs]) for group in groups] == [
        ("maml_trpo, outer.max_kl=0.02", [1, 3]),
        ("anil", [2]),
        ("maml_trpo, outer.max_kl=0.01", [2]),
    ]
    assert groups[0].settings == {"outer.max_kl": 0.02}
    assert groups[0].returns(1).shape == (2, 4)


def test_null_false_and_absent_are_one_setting_and_paths_of_init_from_too(tmp_path):
    first = make_run(tmp_path / "a", init_from="runs/1")
    second = make_run(tmp_path / "b", seed=1, init_from="runs/2", inner__first_order=False)
    third = make_run(tmp_path / "c", seed=2)
    labels = [group.label for group in grouped(runs_of(first, second, third))]
    assert labels == ["maml_trpo, init_from=a run", "maml_trpo, init_from=null"]


def test_a_class_of_the_project_is_one_by_either_of_its_names(tmp_path):
    long = {"env___target_": "envs.tasks.point.PointNavigation"}
    other = {"env___target_": "mine.PointNavigation"}
    paths = [make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=1, **long)]
    (group,) = grouped(runs_of(*paths))
    assert len(group.runs) == 2
    assert compared(runs_of(*paths)).to_json()["env"] == "point_navigation"
    with pytest.raises(UserError, match="runs of different environments cannot be overlaid"):
        compared(runs_of(paths[0], make_run(tmp_path / "c", **other)))


def test_labels_are_short_unless_only_the_rest_tells_groups_apart(tmp_path):
    more = {f"algorithm__{name}": 1 for name in "abc"}
    same = [make_run(tmp_path / "a", **more, algorithm__d=5), make_run(tmp_path / "b")]
    labels = [group.label for group in grouped(runs_of(*same))]
    assert labels[0] == "maml_trpo, algorithm.a=1, algorithm.b=1, algorithm.c=1"
    third = make_run(tmp_path / "c", **more, algorithm__d=6)
    labels = [group.label for group in grouped(runs_of(*same, third))]
    assert labels[0].endswith("algorithm.c=1, algorithm.d=5")
    assert labels[2].endswith("algorithm.c=1, algorithm.d=6")


def test_the_files_and_the_numbers(tmp_path):
    better = [[0.0, 2, 4, -2], [11.0, 19, 31, 41]]
    paths = [
        make_run(tmp_path / "a0"),
        make_run(tmp_path / "a1", TWO + 2, seed=1, goals=np.eye(4, 2).tolist()),
        make_run(tmp_path / "b", better, algorithm__name="promp"),
    ]
    compare(paths, tmp_path / "out" / "comparison")
    folder = tmp_path / "out" / "comparison"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("comparison.json", "comparison.md", "comparison.png")
    ]
    data = json.loads((folder / "comparison.json").read_text())
    assert (data["env"], data["num_tasks"], data["num_episodes"]) == ("point_navigation", 4, 20)
    first, second = data["groups"]
    assert (first["label"], first["seeds"], first["env_steps"]) == ("maml_trpo", [0, 1], 3000)
    # a0 has a mean of 25 after the step, a1 of 27; before it 0.5 and 2.5
    point = first["curve"][1]
    assert point["return_mean"] == 26
    assert point["return_per_run"] == [25, 27]
    assert first["gain_of_first_step"]["mean"] == pytest.approx(24.5)
    both = np.stack([AFTER, np.array(AFTER) + 2])
    assert point["return_iqm"] == pytest.approx(stats.trim_mean(both, 0.25, axis=None))
    low, high = point["return_ci95"]
    assert 10 < low < 20 < 31 < high < 42
    assert "improvement" not in point
    # each run's lowest of four: 10 and 12 after the step, -4 and -2 before it; none is worse
    assert [point["return_cvar20"] for point in first["curve"]] == [-3, 11]
    assert (point["share_worse"], point["share_worse_ci95"]) == (0, [0, 0])
    assert "share_worse" not in first["curve"][0]
    # promp against 10 and 12, 20 and 22, 30 and 32, 40 and 42: wins of 1, 0, 1, 1 of two
    over = second["curve"][1]
    assert over["improvement"] == 3 / 8
    assert over["improvement"] == probability_of_improvement(np.array(better)[1:], both)
    text = (folder / "comparison.md").read_text()
    assert text.startswith("# point_navigation: 3 runs, 2 groups\n")
    assert f"| maml_trpo | 2 | 0.003 | 1.5 [{first['curve'][0]['return_ci95'][0]:.1f}, " in text
    assert "| 26.0 [" in text
    assert "P(better than maml_trpo) after 1 step |" in text
    assert "| lower fifth of tasks after 1 step |" in text
    assert "| share worse after 1 step |" in text
    assert "Lower fifth of tasks: mean of the fifth of a run's tasks with the lowest" in text
    assert "| 0.38 [" in text
    assert "- One run alone, so that the interval is over tasks only: promp." in text
    width, height = png_size(folder / "comparison.png")
    assert (width, height) == (1440, 588)


def test_the_same_runs_give_the_same_files(tmp_path):
    paths = [make_run(tmp_path / "a"), make_run(tmp_path / "b", TWO - 1, seed=1)]
    texts = []
    for name in ("x", "y"):
        compare(paths, tmp_path / name)
        texts.append((tmp_path / name / "comparison.json").read_text())
    assert texts[0] == texts[1]


def test_runs_of_other_tasks_are_compared_with_those_that_met_theirs(tmp_path):
    # seed 1's tasks are 100 harder; within each seed promp is better on 3 of 4 tasks
    lift = np.array([1.0, 1, -1, 1])
    paths = [
        make_run(tmp_path / "a0", seed=0),
        make_run(tmp_path / "a1", TWO - 100, seed=1),
        make_run(tmp_path / "b0", TWO + lift, seed=0, algorithm__name="promp"),
        make_run(tmp_path / "b1", TWO + lift - 100, seed=1, algorithm__name="promp"),
    ]
    result = compared(runs_of(*paths)).to_json()
    assert [point["improvement"] for point in result["groups"][1]["curve"]] == [0.75, 0.75]
    assert any("Test tasks are drawn by each run's seed" in note for note in result["notes"])
    for path in paths:
        (path / "tasks.json").write_text("{}")
    # without stored tasks, the seed says which they are
    again = compared(runs_of(*paths)).to_json()
    assert again["groups"][1]["curve"][1]["improvement"] == 0.75
    assert [task_set(run) for run in runs_of(*paths)] == ["seed 0", "seed 1", "seed 0", "seed 1"]
    assert task_set(read_run(ROOT / "results/half_cheetah_dir/seed_1.json")) == "finite"
    # of other seeds alone nothing can be said: seed 0's tasks are easier by 100
    apart = compared(runs_of(paths[1], paths[2]))
    assert "improvement" not in apart.to_json()["groups"][1]["curve"][1]
    (_, _), (_, rows) = comparison_tables(apart)
    assert [row[-1] for row in rows] == ["-", "-"]
    assert (
        "Met none of the test tasks of maml_trpo, so that there is no probability of improvement "
        "on them: promp." in apart.to_json()["notes"]
    )


def test_the_tasks_made_worse_are_a_share_over_runs_and_tasks(tmp_path):
    # one of four in the first run, three in the second: whole runs and tasks are resampled together
    worse = [[1.0, 1, 1, 1], [0.0, 2, 2, 2]], [[1.0, 1, 1, 1], [0.0, 0, 0, 2]]
    runs = [make_run(tmp_path / str(seed), returns, seed) for seed, returns in enumerate(worse)]
    (statistics,) = compared(runs_of(*runs)).statistics
    before, after = statistics.curve
    assert before.share_worse is None
    assert after.share_worse.mean == 0.5
    # a resample of both runs and tasks: at least P(two times the first run, no first task) = 8 %
    assert after.share_worse.ci95 == (0.0, 1.0)
    single = [read_run(run).evaluated for run in runs]
    for step in (0, 1):
        tails = [result.lower_fifth[step].mean for result in single]
        assert statistics.curve[step].lower_fifth.mean == pytest.approx(np.mean(tails))


def test_success_rates_where_all_groups_have_them(tmp_path):
    rates = to_json(result_of(TWO, success=TWO / 40))["success"]
    paths = [
        make_run(tmp_path / "a", evaluation={"success": rates}),
        make_run(tmp_path / "b", algorithm__name="anil", evaluation={"success": rates}),
    ]
    (_, _), (header, rows) = comparison_tables(compared(runs_of(*paths)))
    assert header[-1] == "success rate after 1 step"
    assert rows[1][-1].startswith("0.62 [")  # (10 + 20 + 30 + 40) / 160 = 0.625
    (paths[1] / "evaluation").rename(tmp_path / "old")
    write_evaluation(paths[1], TWO, {})
    assert comparison_tables(compared(runs_of(*paths)))[1][0][-1].startswith("P(better")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"evaluation": {"env": "ant_dir"}},
            "runs of different environments cannot be overlaid: a is of point_navigation, "
            "b of ant_dir.",
        ),
        (
            {"env__horizon": 200},
            "runs of different environments cannot be overlaid: a has env.horizon=null, "
            "b env.horizon=200.",
        ),
        (
            {"evaluation": {"num_episodes": 5}},
            "b was evaluated with num_episodes=5, a with num_episodes=20: python evaluate.py "
            "run=b num_episodes=20 evaluates it alike.",
        ),
        ({"returns": TWO[:, :3]}, "b was evaluated with num_tasks=3, a with num_tasks=4: "),
        ({"evaluation": {"split": "validation"}}, "b was evaluated with split=validation, a with"),
        ({"returns": None}, "b has neither an evaluation nor a checkpoint: leave it out"),
    ],
)
def test_unequal_terms_are_refused(tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)
    make_run(Path("a"))
    make_run(Path("b"), **{"algorithm__name": "anil", **changes})
    with pytest.raises(UserError) as error:
        compare([Path("a"), Path("b")], Path("out"))
    assert words in str(error.value)
    assert not Path("out").exists()


def test_later_scale_matters_only_beyond_the_steps_trained_with(tmp_path):
    first = make_run(tmp_path / "a")
    other = make_run(tmp_path / "b", seed=1, evaluation={"later_scale": 1.0})
    assert len(compared(runs_of(first, other)).groups) == 1
    three = np.concatenate([TWO, TWO[1:] + 1])
    longer = make_run(tmp_path / "c", three, seed=2)
    with pytest.raises(UserError, match=r"evaluated with later_scale=0.5, .*later_scale=1.0"):
        compared(runs_of(other, longer))
    schedule = make_run(tmp_path / "d", three, seed=3, evaluation={"later_scale": [0.5, 0.25]})
    with pytest.raises(UserError, match=r"run=\S+/c 'later_scale=\[0.5,0.25\]' evaluates it"):
        compared(runs_of(schedule, longer))
    alone = markdown(compared(runs_of(schedule)))
    assert "Steps beyond the trained are scaled by [0.5, 0.25]." in alone
    comparison = compared(runs_of(first, longer))
    assert [point["step"] for point in comparison.to_json()["groups"][0]["curve"]] == [0, 1]
    assert (
        "Some runs were evaluated for more than 1 step; those are left out."
        in (comparison.to_json()["notes"])
    )


def test_a_run_without_evaluation_is_evaluated_or_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(Path("a"))
    make_run(Path("b"), None, seed=1)
    Path("b/checkpoints").mkdir()
    Path("b/checkpoints/last.pt").touch()
    with pytest.raises(UserError, match=r"b: it was not evaluated; python evaluate.py run=b"):
        compare([Path("a"), Path("b")], Path("out"))
    asked = []

    def evaluate(run):
        asked.append(run.path)
        write_evaluation(run.path, TWO + 1, {})

    other = make_run(Path("other"), None, env___target_="envs.HalfCheetahDir")
    for first, words in [
        (Path("a"), "a has env=PointNavigation, other env=HalfCheetahDir"),
        (Path("b"), "b is of point_navigation, other of half_cheetah_dir"),
    ]:
        with pytest.raises(UserError, match=words):
            compare([first, other], Path("out"), evaluate)
    assert asked == []  # runs that cannot be compared are not evaluated
    comparison = compare([Path("a"), Path("b")], Path("out"), evaluate)
    assert asked == [Path("b")]
    compare([Path("a"), Path("b")], Path("out"), evaluate, again=True)
    assert asked == [Path("b"), Path("a"), Path("b")]
    assert comparison.to_json()["groups"][0]["curve"][1]["return_per_run"] == [25, 26]
    Path("b/evaluation/evaluation.json").write_text("{}]")
    with pytest.raises(UserError, match=r"b: evaluation.json is damaged: it holds no JSON object;"):
        compare([Path("a"), Path("b")], Path("out"))
    Path("a/.hydra/config.yaml").write_text("[")
    with pytest.raises(UserError, match=r"a: .hydra/config.yaml cannot be read as YAML"):
        compare([Path("a")], Path("out"))
    Path("taken").touch()
    make_run(Path("b2"))
    with pytest.raises(UserError, match="out=taken cannot be made"):
        compare([Path("b2")], Path("taken"))


def test_a_run_trained_on_since_it_was_evaluated_is_evaluated_anew(tmp_path):
    path = make_run(tmp_path / "a", evaluation={"iteration": 3})

    def train_to(iteration):
        save_checkpoint(path / "checkpoints/best.pt", {"iteration": iteration, "meta": {}})

    train_to(3)
    asked = []

    def evaluate(run):
        asked.append(run.evaluation.terms.iteration)
        write_evaluation(path, TWO, {"iteration": 4})

    compare([path], tmp_path / "out", evaluate)
    assert asked == []
    train_to(4)
    why = "the evaluation is of iteration 3, and best.pt is of iteration 4 by now"
    assert outdated(read_run(path)) == why
    with pytest.raises(UserError, match=f"a: {why}; .*evaluate.py run="):
        compare([path], tmp_path / "out")
    compare([path], tmp_path / "out", evaluate)
    assert asked == [3]
    assert outdated(read_run(path)) is None
    (path / "checkpoints/best.pt").write_bytes(b"cut short")  # the report says so of the checkpoint
    assert outdated(read_run(path)) is None


def test_runs_that_did_not_finish_are_noted(tmp_path):
    paths = [make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=1, iterations=2)]
    notes = compared(runs_of(*paths)).to_json()["notes"]
    assert "Training has not finished: maml_trpo, seed 1, 2 of 3 iterations." in notes


def test_a_seed_twice_and_unequal_training_are_noted(tmp_path):
    paths = [make_run(tmp_path / "a"), make_run(tmp_path / "b"), make_run(tmp_path / "c", seed=1)]
    notes = compared(runs_of(*paths[:2])).to_json()["notes"]
    assert notes == [
        "Few runs, so that their part of the interval is too narrow (by a factor of 0.7 with two, "
        "0.8 with three): maml_trpo, 2.",
        "maml_trpo has a seed more than once: its interval is too narrow if that is the same run "
        "twice.",
    ]
    shorter = make_run(tmp_path / "d", seed=5, iterations=2, evaluation={"checkpoint": "last"})
    notes = compared(runs_of(paths[0], shorter)).to_json()["notes"]
    assert "The runs were not trained for the same number of environment steps." in notes
    assert "The runs were evaluated at different checkpoints: best, last." in notes


def test_learning_curves_are_running_means_and_their_mean(tmp_path):
    run = read_run(make_run(tmp_path / "a", iterations=12))
    _, values = smoothed(run)
    # returns are 10, 20, ..., 120: (10), (10 + 20) / 2, and of the last ten (30 + ... + 120) / 10
    assert values[[0, 1, 9, 11]].tolist() == [10, 15, 55, 75]
    shorter = read_run(make_run(tmp_path / "b", iterations=4, seed=2))
    grid, mean = mean_learning_curve([run, shorter])
    assert (grid[0], grid[-1]) == (1000, 4000)
    # at 4000 steps: (10 + 20 + 30 + 40) / 4 = 25, and 2 more
    assert mean[[0, -1]].tolist() == [11, 26]
    untrained = read_run(make_run(tmp_path / "c", iterations=0))
    assert mean_learning_curve([untrained]) is None
    assert len(compared([untrained]).overlays()[0].runs) == 0


def test_what_lies_far_from_the_others_leaves_the_frame():
    def overlay(label, *means):
        curve = [Point(mean, (mean - 1, mean + 1), number=step) for step, mean in enumerate(means)]
        return Overlay(label, [], None, curve)

    # quartiles of 0 1 2 3 4 10 11 12 13 -900: 1.25 and 10.75, so the fence is at 1.25 - 3 * 9.5
    near = [overlay(f"near {i}", i, 10 + i) for i in range(4)]
    right = comparison_figure([*near, overlay("far", 4, -900)], "all").axes[1]
    assert right.get_title() == "evaluation (beyond the frame: far)"
    assert right.get_ylim()[0] == -27.25
    right = comparison_figure([*near, overlay("as well", 4, 9)], "all").axes[1]
    assert right.get_title() == "evaluation"
    assert right.get_ylim()[0] > -3


def test_returns_against_environment_steps_are_drawn_where_they_say_something_new():
    def overlay(label, env_steps=None, within=None):
        sums = None if env_steps is None else Estimate(1.0, (0.0, 2.0))
        point = Point(1.0, (0.0, 2.0), number=0, env_steps=env_steps, cumulative=sums)
        return Overlay(label, [], None, [point], within and [point])

    def names(*overlays):
        figure = comparison_figure(list(overlays), "all")
        return [axes.get_ylabel().partition(" (")[0] for axes in figure.axes]

    learned, taken = "return after the inner steps trained with", "return"
    earned = "returns earned before it"
    assert names(overlay("a")) == [learned, taken]
    # of gradient learners, the return against environment steps is that against inner steps
    assert names(overlay("a", 0.0), overlay("b", 0.0)) == [learned, taken, earned]
    both = names(overlay("a", 0.0), overlay("b", 0.0, within=True))
    assert both == [learned, taken, "return of an episode", earned]


def test_runs_of_results_are_compared(tmp_path):
    places = [ROOT / "results/half_cheetah_dir", ROOT / "results/half_cheetah_dir_promp"]
    compare(find_runs(places), tmp_path)
    text = (tmp_path / "comparison.md").read_text()
    # the mean of the three runs' own evaluations, 223.1, 236.0 and 232.9
    assert "| maml_trpo | 3 | 12 | -1.5 [-2.7, -0.3] | 230.7 [222.4, 238.0] |" in text
    # 263.5, 219.3 and 286.9, of configurations written before and after a change of theirs
    assert "| promp | 3 | 12 | -0.8 [-3.1, 1.4] | 256.5 [" in text


DIRECTIONS = ROOT / "results" / "half_cheetah_dir" / "seed_1.json"


def test_the_interval_of_two_directions_is_within_each():
    # forward -45.2 [-45.8, -44.6] and backward 42.4 [41.6, 43.1]: half of the sum of independent
    # halves has half widths of sqrt(0.6**2 + 0.75**2) / 2 = 0.48 around -1.4
    run = read_run(DIRECTIONS)
    before, after = (point.ci95 for point in run.evaluation.curve[:2])
    assert before == pytest.approx([-1.9, -0.9], abs=0.05)
    assert after == pytest.approx([232.1, 239.7], abs=0.3)
    assert run.evaluation.strata == ["forward", "backward"] * 20


def test_an_evaluation_from_before_strata_is_given_them(tmp_path):
    run = read_run(DIRECTIONS)
    old = to_json(run.evaluation)
    del old["strata"], old["kind"]
    for point in old["curve"]:
        point["return_ci95"] = [-15.0, 12.0]
        point["cumulative_ci95"] = [-15.0, 12.0]
    old["gain_of_first_step"]["ci95"] = [0.0, 1.0]
    path = make_run(tmp_path / "run")
    (path / "evaluation" / "evaluation.json").write_text(json.dumps(old))
    assert read_run(path).evaluation == run.evaluation


def test_one_run_has_one_interval_in_its_evaluation_and_in_a_comparison(tmp_path):
    returns = np.random.default_rng(0).normal(size=(3, 40))
    strata = ["left", "right"] * 20
    evaluation = to_json(result_of(returns, strata=strata))
    run = read_run(make_run(tmp_path / "run", returns, evaluation={**evaluation, "seed": 7}))
    (group,) = compared([run]).to_json()["groups"]
    for point, of_run in zip(group["curve"], evaluation["curve"], strict=True):
        names = {name for name in of_run if name.startswith(("return_", "share_"))}
        assert {name: point[name] for name in names} == {name: of_run[name] for name in names}
    assert group["gain_of_first_step"] == evaluation["gain_of_first_step"]
    gains = returns[1] - returns[0]
    assert run.evaluation.gain.ci95 == bootstrap_interval(gains, strata=strata)


def test_runs_whose_tasks_stand_in_another_order_are_resampled_by_stratum(tmp_path):
    # 0 or 2 to the left and 100 or 102 to the right, whichever way round
    left, right = [0.0, 2.0], [100.0, 102.0]
    runs = []
    for number, (values, strata) in enumerate(
        ([[*left, *right], [*"llrr"]], [[*right, *left], [*"rrll"]])
    ):
        summed = to_json(result_of([values] * 2, strata=strata))
        path = tmp_path / str(number)
        runs.append(read_run(make_run(path, [values] * 2, number, evaluation=summed)))
    (group,) = compared(runs).to_json()["groups"]
    assert group["curve"][0]["return_ci95"] == [50.0, 52.0]
