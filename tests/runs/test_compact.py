"""Runs in one file."""

import json
import math

import pytest

from envs import UserError
from maml_rl.runs.compact import is_compact_run, read_compact_run, write_compact_run
from maml_rl.runs.data import find_runs, is_run, keep_run, read_run
from tests.support.paths import ROOT

ROWS = [
    {"iteration": 1.0, "env_steps": 400.0, "return/step_0": -1.25},
    {"iteration": 2.0, "env_steps": 800.0, "return/step_0": math.inf, "validation/x": 0.1},
]


def test_what_is_written_is_read_again_and_absent_metrics_stay_absent(tmp_path):
    content = {
        "config": {"env": {"horizon": 10}, "seed": 3},
        "overrides": ["seed=3"],
        "provenance": {},
        "evaluation": None,
        "metrics": ROWS,
    }
    path = tmp_path / "task" / "seed_3.json"
    write_compact_run(path, content)
    assert read_compact_run(path) == content
    assert "validation/x" not in read_compact_run(path)["metrics"][0]
    assert is_compact_run(path)
    # a line for the mark, each of four parts, "metrics" and each of its four columns
    assert len(path.read_text().splitlines()) == 1 + 4 + 1 + 4


def test_a_folder_s_run_and_its_file_are_the_same(run_copy, tmp_path):
    keep_run(run_copy, tmp_path / "kept.json", lambda line: line.replace("smoke", "tiny"))
    folder, file = read_run(run_copy), read_run(tmp_path / "kept.json")
    assert (file.config, file.metrics, file.faults) == (folder.config, folder.metrics, [])
    assert file.overrides[0] == "experiment=tiny"
    assert file.iterations == 2


def test_other_files_are_no_runs(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"curve": []}))
    assert not is_run(tmp_path / "a.json")
    assert not is_run(tmp_path / "missing.json")
    with pytest.raises(UserError, match="holds no run"):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    "text", ['{"maml_rl_run":1}', '{"maml_rl_run":2,"metrics":{}}', '{"maml_rl_run":1,"config":']
)
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "seed_0.json"
    path.write_text(text)
    run = read_run(path)
    assert run.faults == ["seed_0.json is damaged: it holds no run."]
    assert run.metrics == []


def test_kept_runs_are_found_alone_in_folders_and_by_globs():
    folder = ROOT / "results" / "half_cheetah_dir"
    files = [folder / f"seed_{seed}.json" for seed in range(3)]
    assert find_runs([folder]) == files
    assert find_runs([files[1]]) == [files[1]]
    assert find_runs([f"{folder}/*.json"]) == files
