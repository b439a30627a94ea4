"""evaluation.json: the result that it holds, of files of any age."""

import json
from dataclasses import replace

import numpy as np
import pytest

from maml_rl.evaluation.protocol import Course
from maml_rl.evaluation.result import Estimate, Grid
from maml_rl.evaluation.storage import from_json, to_json
from maml_rl.reporting.comparison import compared
from maml_rl.reporting.tables import (
    ROBUST,
    column_widths,
    comparison_tables,
    evaluation_lines,
    evaluation_table,
    evaluation_title,
    print_table,
)
from maml_rl.runs.data import read_run
from tests.support.paths import ROOT
from tests.support.written_runs import TWO, make_run, result_of

KEPT = sorted((ROOT / "results").glob("*/seed_0.json"))
COURSE = Course(TWO, np.array([[0.0] * 4, [20.0] * 4]), np.array([[0.0] * 4, [9.0, 8.0, 7.0, 6.0]]))


@pytest.mark.parametrize("path", KEPT, ids=[path.parent.name for path in KEPT])
def test_every_fact_of_a_kept_evaluation_comes_through(path):
    content = json.loads(path.read_text())["evaluation"]
    kind = "memory" if "rl2" in path.parent.name else "gradient"
    again = to_json(from_json(content))
    for point in again["curve"]:  # what follows from the returns, which older files do not hold
        shares = ["share_worse", "share_worse_ci95"] if point["step"] else []
        assert list(point)[-2 - len(shares) :] == ["return_cvar20", "return_cvar20_ci95", *shares]
    held = [{name: point[name] for name in kept} for point, kept in
            zip(again["curve"], content["curve"], strict=True)]  # fmt: skip
    assert again | {"curve": held} == content | {"kind": kind}


@pytest.mark.parametrize(
    "result",
    [
        result_of(TWO),
        result_of(TWO, success=TWO / 40, course=COURSE, strata=[*"abab"]),
        result_of(TWO, {"a": np.array([True, False, True, False])}, within=COURSE),
        replace(result_of(TWO), grid=Grid("velocity", [0.0, 1.0, 2.0, 3.0], [0.0, 2.0])),
        replace(result_of(TWO), optimal_return=[4.0] * 4, unstable_episodes=2.0),
    ],
    ids=["plain", "success", "memory", "grid", "optimum"],
)
def test_a_result_is_read_back_as_it_was_written(result):
    assert from_json(json.loads(json.dumps(to_json(result)))) == result


def test_the_kind_is_a_field_and_of_older_files_what_they_hold():
    gradient, memory = to_json(result_of(TWO)), to_json(result_of(TWO, within=COURSE))
    assert (gradient["kind"], memory["kind"]) == ("gradient", "memory")
    for content, kind in ((gradient, "gradient"), (memory, "memory")):
        del content["kind"]
        assert from_json(content).terms.kind == kind
    for content in (gradient | {"kind": "memory"}, memory | {"kind": "gradient"}):
        with pytest.raises(ValueError, match="the kind does not fit what is there"):
            from_json(content)
    with pytest.raises(ValueError, match="the kind is unknown"):
        from_json(gradient | {"kind": "other"})


def test_the_lower_fifth_and_the_share_of_tasks_made_worse():
    # of four tasks the lower fifth is the lowest: -4 of 1, 2, 3, -4, and 0 of 0, 3, 3, 5. The first
    # task is worse than before, the third the same: 1 of 4. A resample has Binomial(4, 1/4) worse
    # ones, of which P(0) = 0.32 and P(3 or 4) = 0.051: the quantiles are 0 and 3
    result = result_of([[1.0, 2.0, 3.0, -4.0], [0.0, 3.0, 3.0, 5.0], [2.0, 1.0, 2.0, -9.0]])
    assert [tail.mean for tail in result.lower_fifth] == [-4.0, 0.0, -9.0]
    # the lowest of four draws is -4 but for (3/4)^4 = 0.32, and above 1 with P (1/2)^4 = 0.0625
    assert result.lower_fifth[0].ci95 == (-4.0, 2.0)
    # of the second step against before all steps: 2 > 1, 1 < 2, 2 < 3, -9 < -4
    assert result.share_worse[0] is None
    assert [share.mean for share in result.share_worse[1:]] == [0.25, 0.75]
    assert [share.ci95 for share in result.share_worse[1:]] == [(0.0, 0.75), (0.25, 1.0)]
    first, second, _ = to_json(result)["curve"]
    assert (first["return_cvar20"], first["return_cvar20_ci95"]) == (-4.0, [-4.0, 2.0])
    assert (second["share_worse"], second["share_worse_ci95"]) == (0.25, [0.0, 0.75])
    assert "share_worse" not in first
    assert (
        "return_cvar20"
        not in to_json(result_of(TWO, {"a": np.array([True] * 4)}))["groups"]["a"][0]
    )


def test_the_lower_fifth_and_the_share_worse_are_within_strata():
    # the lowest of 0, 2 and 100, 102 is that of two draws of 0 and 2, and every task of b is worse,
    # none of a: without strata the share would be Binomial(4, 1/2) / 4, in [0, 1]
    result = result_of([[0.0, 100.0, 2.0, 102.0], [5.0, 60.0, 5.0, 60.0]], strata=[*"abab"])
    assert result.lower_fifth[0] == Estimate(0.0, (0.0, 2.0))
    assert result.share_worse[1] == Estimate(0.5, (0.5, 0.5))


def test_a_learner_with_memory_is_compared_with_its_first_episode():
    # after 2 episodes, and after 4: the third and the fifth of a trial, against the first
    episodes = np.array([[1.0, 5.0], [9.0, 9.0], [0.0, 6.0], [0.0, 0.0], [0.5, 4.0]])
    course = Course(episodes, episodes, episodes)
    result = result_of(episodes[::2], within=course)
    assert [share and share.mean for share in result.share_worse] == [None, 0.5, 1.0]
    result = replace(result, terms=replace(result.terms, num_episodes=2, trials=4))
    header, rows = evaluation_table(result)
    assert (header[0], header[4]) == ("episodes seen", "share worse")
    assert [(row[0], row[4][:4]) for row in rows] == [("0", "-"), ("2", "0.50"), ("4", "1.00")]


def test_of_the_initialization_alone_no_share_is_worse():
    alone = result_of(TWO[:1])
    assert alone.share_worse == (None,)
    assert evaluation_table(alone)[0][-1] == "lower fifth of tasks"


def test_returns_before_a_step_are_of_its_episodes():
    # 20 episodes of each task before the step, of mean returns 1, 2, 3 and -4
    assert result_of(TWO).earned.tolist() == [[0.0] * 4, [20.0, 40.0, 60.0, -80.0]]
    # of a learner with memory, every episode is one of the trial's: "within" has as many as it saw
    episodes = np.arange(21 * 4, dtype=float).reshape(21, 4)
    course = Course(episodes, episodes, episodes)
    assert result_of(TWO, within=course).earned[1].tolist() == episodes[:20].sum(axis=0).tolist()


def test_the_options_of_an_evaluation_give_it_again():
    terms = result_of(TWO).terms
    changed = replace(terms, checkpoint="iteration_000050", inner={"step_size": 0.1}, split="fresh")
    assert replace(result_of(TWO), terms=changed).options == {
        "checkpoint": "50",
        "steps": 1,
        "split": "test",
        "tasks": "fresh",
        "num_tasks": 4,
        "num_episodes": 20,
        "later_scale": 0.5,
        "seed": 0,
        "inner.step_size": 0.1,
    }


def test_small_returns_keep_their_digits_in_the_table():
    # 1.0 with one decimal would be all of these
    small = replace(result_of([[0.961] * 2, [0.984] * 2], success=np.full((2, 2), 0.25)))
    header, rows = evaluation_table(small)
    assert header == [
        *("inner steps", "env steps", "return, all tasks"),
        *("lower fifth of tasks", "share worse", "success rate"),
    ]
    assert [row[2] for row in rows] == ["0.961 [0.961, 0.961]", "0.984 [0.984, 0.984]"]
    assert [row[3] for row in rows] == ["0.961 [0.961, 0.961]", "0.984 [0.984, 0.984]"]
    assert [row[4] for row in rows] == ["-", "0.00 [0.00, 0.00]"]
    assert rows[0][5] == "0.25 [0.25, 0.25]"
    assert evaluation_lines(small)[0] == "gain of the first step: 0.023 [0.023, 0.023]"
    best = replace(small, optimal_return=[0.9, 1.1])
    assert evaluation_lines(best)[-1] == "optimum: 1.00; share of it by step: 0.96, 0.98"
    large = result_of([[100.04] * 2, [200.26] * 2])
    assert [row[2] for row in evaluation_table(large)[1]][1] == "200.3 [200.3, 200.3]"


def test_the_title_names_what_is_another_than_in_training():
    result = result_of(np.concatenate([TWO, TWO, TWO]))
    assert evaluation_title(result) == (
        "point_navigation, maml_trpo, checkpoint best (iteration None): 4 test tasks, 20 episodes "
        "a step, steps after step 1 scaled by 0.5"
    )
    terms = replace(result.terms, inner={"steps": 3, "step_size": 0.2}, iteration=7)
    assert evaluation_title(replace(result, terms=terms)).endswith(
        "(iteration 7): 4 test tasks, 20 episodes a step, steps after step 3 scaled by 0.5, "
        "inner.steps=3, inner.step_size=0.2"
    )


def test_an_estimate_is_written_with_its_interval():
    assert Estimate(1.0, (0.5, 1.25)).written("{:.2f}") == "1.00 [0.50, 1.25]"


def test_a_table_wider_than_its_line_goes_on_below(capsys):
    # with borders 3 characters a column and 1: 5 + 3 + 2 * 43 + 1 = 95, another 43 are too many
    head = ["steps", *(f"a head of words {letter}" for letter in "abc")]
    print_table((head, [["0", "1" * 40, "2" * 40, "3" * 40]]), "a title")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 95
    first, second = (next(i for i, line in enumerate(lines) if digit in line) for digit in "13")
    assert first < second
    assert "2" * 40 in lines[first]
    assert [lines[number].split()[1] for number in (first, second)] == ["0", "0"]
    assert sum("a title" in line for line in lines) == 1


def test_heads_are_folded_to_their_cells_and_labels_to_thirty():
    table = (["algorithm", "interquartile mean after 1 step", "runs"], [["x" * 50, "1.0", "2"]])
    assert column_widths(table) == [30, len("interquartile"), len("runs")]


def test_a_usual_evaluation_and_comparison_fit_100_columns(tmp_path, capsys):
    wide = np.array([[-150.25] * 40, [-230.5] * 40])
    wide[:, ::2] += 60
    result = result_of(wide, success=np.full((2, 40), 0.5), strata=["a", "b"] * 20)
    print_table(evaluation_table(result), evaluation_title(result))
    runs = [
        read_run(
            make_run(tmp_path / name, wide + number, algorithm__name=name, goals=[[0, 0]] * 40)
        )
        for number, name in enumerate(("maml_trpo", "promp"))
    ]
    for table in comparison_tables(compared(runs)):
        print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert len([line for line in lines if "] " in line or "-" in line]) > 8
    assert max(map(len, [*evaluation_lines(result), *ROBUST])) <= 100


def test_a_table_s_texts_are_printed_as_they_are(capsys):
    # rich's own markup would take the first for bold and refuse the second
    print_table((["[bold]", "[/m]"], [["a[left]", "[100, 100]"]]), "of [/m]\\")
    printed = capsys.readouterr().out
    for text in ("[bold]", "[/m]", "a[left]", "[100, 100]", "of [/m]\\"):
        assert text in printed
