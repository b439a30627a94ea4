"""The run folder: stored tasks, provenance, and files that appear whole or not at all."""

import json
import os
import sys

import numpy as np
import pytest
import torch

from envs import Splits, UserError
from maml_rl.files import replacing, write_json
from maml_rl.runs import provenance as run_provenance
from maml_rl.runs.folder import RunFolder
from maml_rl.runs.provenance import provenance
from tests.support.names import NO_SUCH_RUN
from tests.support.paths import ROOT

SPLITS = Splits(
    validation={"goal": np.array([[0.1, -0.2], [1 / 3, 2e-17]])},
    test={"goal": np.array([[np.pi, -0.0]])},
)


def test_tasks_come_back_to_the_bit(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_splits(SPLITS)
    back = folder.read_splits()
    for name in Splits._fields:
        written, read = getattr(SPLITS, name)["goal"], getattr(back, name)["goal"]
        assert written.tobytes() == read.tobytes()
        assert written.shape == read.shape


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "null", "{}", '{"validation": {}}', '{"validation": 1, "test": 2}'),
        '{"validation": {"a": [1]}, "test": {"a": ["x"]}}',
        '{"validation": {"a": [1]}, "test": {"a": [[1], [2, 3]]}}',
        '{"validation": {"a": [1]}, "test": {"a": [1], "b": [1, 2]}}',
        '{"validation": {"a": [1]}, "test": {"a": [NaN]}}',
        '{"validation": {"a": [1]}, "test": {"a": 1}}',
        '{"validation": {"a": [1]}, "test": {"a": []}}',
        '{"validation": {"a": [1]}, "test": {"a": [null]}}',
        '{"validation": {"a": [1]}, "test": [1]}',
    ],
)
def test_damaged_tasks_are_refused(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.tasks.write_text(text)
    with pytest.raises(UserError):
        folder.read_splits()


def test_provenance_says_what_produced_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "seed=3"])
    RunFolder(tmp_path).write_provenance(3, {"sampler_threads": 2})
    data = json.loads((tmp_path / "provenance.json").read_text())
    assert data["command"] == ["train.py", "seed=3"]
    assert data["seed"] == 3
    assert data["sampler_threads"] == 2
    assert data["torch_threads"] == torch.get_num_threads()
    release, _, build = torch.__version__.partition("+")
    assert data["versions"]["torch"] in (release, f"{release}+{build}")  # as its package is named
    assert data["versions"]["numpy"] == np.__version__
    assert set(data["versions"]) >= {"mujoco", "gymnasium", "hydra-core", "learn2learn", "maml_rl"}
    assert data["python"] == sys.version.split()[0]
    assert data["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert data["machine"]["processor"]
    assert isinstance(data["git_modified"], bool) == (ROOT / ".git").exists()


def test_provenance_needs_no_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    data = provenance(0)
    assert data["git_commit"] is None
    assert data["git_modified"] is None


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(path.parent) == ["x.json"]


def test_a_write_that_fails_leaves_the_old_file_and_no_half_one(tmp_path):
    path = tmp_path / "x.png"
    path.write_text("old")

    def half():
        with replacing(path) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.png"]


def test_names_of_checkpoints(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.checkpoint("last") == tmp_path / "checkpoints/last.pt"
    assert folder.checkpoint(50) == folder.checkpoint("50")
    assert folder.checkpoint(50) == tmp_path / "checkpoints/iteration_000050.pt"
    assert folder.checkpoint_names() == []
    (tmp_path / "checkpoints").mkdir()
    for name in ("last", "best", 50, 150, 1000):
        folder.checkpoint(name).touch()
    (tmp_path / "checkpoints" / "last.partial.pt").touch()
    assert folder.checkpoint_names() == ["best", "last", "50", "150", "1000"]


def test_an_existing_run_folder_has_a_configuration_and_tasks(tmp_path):
    for path, words in [
        ("no/where", "run=no/where: there is no such folder; give the folder of a run."),
        ("nowhere", f"run=nowhere: {NO_SUCH_RUN}"),
        (5, "run=5: there is no such folder"),
        (tmp_path, "is not a run folder: it has no .hydra/config.yaml."),
    ]:
        with pytest.raises(UserError) as caught:
            RunFolder.existing(path, "run")
        assert words in str(caught.value)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/config.yaml").touch()
    with pytest.raises(UserError, match=r"it has no tasks\.json"):
        RunFolder.existing(tmp_path, "run")
    (tmp_path / "tasks.json").touch()
    assert RunFolder.existing(tmp_path, "run").path == tmp_path


def test_a_folder_is_used_once_a_run_has_written_there(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not folder.is_used()
    folder.metrics.touch()
    assert folder.is_used()
    folder.metrics.unlink()
    (tmp_path / "checkpoints").mkdir()
    assert folder.is_used()


def test_only_one_process_trains_in_a_folder(tmp_path):
    folder = RunFolder(tmp_path)
    refused = pytest.raises(UserError, match="another process is training in")
    with folder.locked(), refused, RunFolder(tmp_path).locked():
        pass
    with folder.locked():  # free again
        pass


def test_provenance_names_no_commit_of_somebody_elses_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(run_provenance, "_git", lambda *a: None if a[0] == "ls-files" else "abc")
    found = run_provenance.provenance(3)
    assert (found["git_commit"], found["git_modified"]) == (None, None)
    monkeypatch.setattr(run_provenance, "_git", lambda *a: "" if a[0] == "status" else "abc")
    found = run_provenance.provenance(3)
    assert (found["git_commit"], found["git_modified"]) == ("abc", False)
