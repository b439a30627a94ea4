"""evaluation.json: the result that it holds, of files of any age."""

import json
from dataclasses import replace

import numpy as np
import pytest

from maml_rl.evaluation.protocol import Course
from maml_rl.evaluation.result import Estimate, Grid
from maml_rl.evaluation.storage import from_json, to_json
from maml_rl.reporting.tables import (
    evaluation_lines,
    evaluation_table,
    evaluation_title,
    print_table,
)
from tests.support.paths import ROOT
from tests.support.written_runs import TWO, result_of

KEPT = sorted((ROOT / "results").glob("*/seed_0.json"))
COURSE = Course(TWO, np.array([[0.0] * 4, [20.0] * 4]), np.array([[0.0] * 4, [9.0, 8.0, 7.0, 6.0]]))


@pytest.mark.parametrize("path", KEPT, ids=[path.parent.name for path in KEPT])
def test_every_fact_of_a_kept_evaluation_comes_through(path):
    content = json.loads(path.read_text())["evaluation"]
    kind = "memory" if "rl2" in path.parent.name else "gradient"
    assert to_json(from_json(content)) == content | {"kind": kind}


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
    assert header == ["inner steps", "env steps", "return, all tasks", "success rate"]
    assert [row[2] for row in rows] == ["0.961 [0.961, 0.961]", "0.984 [0.984, 0.984]"]
    assert rows[0][3] == "0.25 [0.25, 0.25]"
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


def test_a_table_s_texts_are_printed_as_they_are(capsys):
    # rich's own markup would take the first for bold and refuse the second
    print_table((["[bold]", "[/m]"], [["a[left]", "[100, 100]"]]), "of [/m]\\")
    printed = capsys.readouterr().out
    for text in ("[bold]", "[/m]", "a[left]", "[100, 100]", "of [/m]\\"):
        assert text in printed
