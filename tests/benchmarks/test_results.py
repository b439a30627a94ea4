"""docs/results.md is what the kept run data say."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from benchmarks import results
from benchmarks.published import PUBLISHED
from envs.errors import UserError
from maml_rl.evaluation.curves import DPI, words
from maml_rl.runs.data import read_run
from tests.support.run_files import png_size
from tests.support.written_runs import make_run

FLAT = np.full((3, 4), 5.0)  # two inner steps, four tasks


def rows(block: str) -> list[list[str]]:
    """Read the cells of a block's Markdown tables, without heads and rules."""
    lines = [line[2:-2].split(" | ") for line in block.splitlines() if line.startswith("|")]
    return [
        line
        for line, below in zip(lines, [*lines[1:], [""]], strict=True)
        if not {"---"} & {line[0], below[0]}
    ]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Keep made-up runs in a folder that stands in for results/."""
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")

    def keep(name, *arguments, **settings):
        results.keep(make_run(tmp_path / "runs" / name, *arguments, **settings), name)
        return tmp_path / "results" / f"{name}.json"

    return keep


def test_the_page_is_made_from_the_kept_data():
    page = results.PAGE.read_text()
    assert len(results.BLOCK.findall(page)) >= 12
    assert results.renewed(page) == page, "run `make results`"


def test_figures_of_the_page_are_kept():
    shown = [task for _, name, task, _ in results.BLOCK.findall(results.PAGE.read_text())
             if name == "comparison"]  # fmt: skip
    assert shown[0] == "half_cheetah_dir"
    for task in shown:
        figure = results.figure_of(task)
        width, height = (round(DPI * inches) for inches in figure.get_size_inches())
        path = results.IMAGES / f"{task}.png"
        assert png_size(path) == pytest.approx((width, height), abs=1), "run `make figures`"
        with Image.open(path) as drawn:
            assert drawn.text["Description"] == words(figure), "run `make figures`"


def test_the_readme_s_picture_is_of_the_kept_run(tmp_path):
    results.draw_first_run(tmp_path)
    drawn, kept = (
        np.asarray(Image.open(folder / "adaptation.png").convert("L"), dtype=float)
        for folder in (tmp_path, results.IMAGES)
    )
    assert drawn.shape == kept.shape
    assert np.abs(drawn - kept).mean() < 0.5  # of 255; letters may differ by a version's hinting


def test_what_is_kept_of_a_run_can_be_compared_and_holds_no_weights(tmp_path, kept):
    folder = kept("task/seed_3", seed=3)
    (tmp_path / "runs" / "task" / "seed_3" / "checkpoints").mkdir()
    (tmp_path / "runs" / "task" / "seed_3" / "checkpoints" / "last.pt").write_bytes(b"weights")
    results.keep(tmp_path / "runs" / "task" / "seed_3", "task/seed_3")
    assert [path.name for path in folder.parent.iterdir()] == ["seed_3.json"]
    assert b"weights" not in folder.read_bytes()
    run = read_run(folder)
    assert run.seed == 3
    assert run.faults == []
    np.testing.assert_allclose(run.evaluated.returns[1], [10, 20, 30, 40])


def test_no_path_of_the_machine_is_kept(tmp_path, kept):
    run = make_run(tmp_path / "runs" / "own")
    command = ["train.py", "hydra.run.dir=/some/where/run_0", "env.velocities=[0,3]", "a=out/b"]
    (run / "provenance.json").write_text(json.dumps({"command": command}))
    results.keep(run, "task/own")
    found = read_run(results.RESULTS / "task/own.json").provenance["command"]
    assert found == ["train.py", "hydra.run.dir=run_0", "env.velocities=[0,3]", "a=out/b"]


def test_a_comparison_has_a_row_for_each_algorithm_and_those_published(kept, monkeypatch):
    kept("task/seed_0", FLAT, seed=0)
    kept("task/seed_1", FLAT + 2, seed=1)
    kept("task_promp/seed_0", FLAT * 2, algorithm__name="promp")
    kept("task/seed_1_max_kl_0.01", FLAT * 9, seed=1)  # no seed of the comparison
    other = results.PUBLISHED["ant_dir"][0]._replace(source="MAML, others", returns=(None, 7.2))
    monkeypatch.setitem(PUBLISHED, "task", (other,))
    found = rows(results.comparison_block("task"))
    # MAML: the mean of 5 and 7 everywhere; ProMP: 10; the published one after one step only
    assert found[0][:2] == ["MAML, TRPO", "2"]
    assert found[0][3].startswith("6.0")
    assert found[1][0] == "ProMP"
    assert found[1][4] == "10.0 [10.0, 10.0]"
    assert [cell.strip() for cell in found[2]] == ["*MAML, others*", "", "", "", "7.20", ""]
    assert found[4][0] == "ProMP"
    assert found[4][-1] == "1.00 [1.00, 1.00]"  # better than MAML on the same seed's every task


def test_runs_and_training_have_a_number_for_each_run(kept):
    kept("task/seed_0", FLAT, seed=0)
    kept("task/seed_1", FLAT + 2, seed=1)
    found = rows(results.runs_block("task"))
    assert [row[:3] for row in found[::3]] == [
        ["seed 0", "before adaptation", "5.00 [5.00, 5.00]"],
        ["seed 1", "before adaptation", "7.00 [7.00, 7.00]"],
    ]
    assert found[5][1] == "after 2 steps"


def test_a_learning_table_interpolates_the_running_means_of_each_seed():
    # a running mean of 10 at 1M and 30 at 3M is 20 at 2M; a run that ends at 1.5M has no such cell
    curves = [(np.array([1e6, 3e6]), np.array([10.0, 30.0])), (np.array([1e6, 1.5e6]), FLAT[0, :2])]
    assert results._at(curves, 2) == "20"
    assert results._at(curves, 1) == "10, 5"


def test_an_optimum_gives_shares(kept):
    # 5 of an optimum of (8 + 12) / 2
    kept("task/seed_0", FLAT, evaluation=[("optimal_return", [8.0, 12.0])])
    (row,) = rows(results.optimum_block("task"))
    assert row[-3:] == ["10.0", "0.50", "0.50"]


def test_only_blocks_are_rewritten_and_unknown_ones_refused(kept):
    kept("task/seed_0", FLAT)
    page = "before 5\n<!-- runs task -->\nold\n<!-- end -->\nafter\n"
    renewed = results.renewed(page)
    assert renewed.startswith("before 5\n<!-- runs task -->\n\n| run |")
    assert renewed.endswith("\n\n<!-- end -->\nafter\n")
    assert "old" not in renewed
    assert results.renewed(renewed) == renewed
    with pytest.raises(UserError, match="<!-- tables task --> is no block: comparison,"):
        results.renewed(page.replace("runs", "tables"))
    with pytest.raises(UserError, match="results/other holds no run"):
        results.renewed(page.replace("task", "other"))


def test_no_kept_file_names_a_folder_of_a_machine():
    files = [*results.RESULTS.rglob("*.json"), *(results.ROOT / "pretrained").rglob("*.json")]
    assert len(files) > 100
    for path in files:
        assert not re.search(r'[="]/\w+/', path.read_text()), path
