"""How runs begin and end: locks, used folders, stop requests, the last validation, disks."""

import errno
import fcntl
import json
import resource
import signal

import pytest
import torch

from envs import SimulationError, UserError
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.configuration.building import build_trainer, train
from maml_rl.errors import NonFiniteError
from maml_rl.runs import folder as folder_module
from maml_rl.runs.checkpoint import save_checkpoint
from maml_rl.runs.folder import RunFolder
from tests.support.run_files import load, read_metrics, repeatable
from tests.support.smoke import smoke_config, trainer


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_used_folder_is_refused_and_nothing_in_it_changes(tmp_path):
    train(smoke_config(), tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(UserError) as caught:
        train(smoke_config("seed=1"), tmp_path / "run")
    path = tmp_path / "run"
    assert str(caught.value) == (
        f"{path} holds a run already: resume={path} goes on with it, another folder begins a new "
        f"one."
    )
    assert contents(tmp_path) == before


def test_of_two_that_begin_in_one_folder_one_is_refused(tmp_path):
    first, second = (trainer(tmp_path / "run", f"seed={seed}") for seed in (0, 1))
    progress = first.begin()
    with pytest.raises(UserError, match="holds a run already"):
        second.begin()
    first.run(progress)
    assert json.loads((tmp_path / "run/provenance.json").read_text())["seed"] == 0
    stored = json.loads((tmp_path / "run/tasks.json").read_text())["test"]["goal"]
    assert stored == first.splits.test["goal"].tolist()
    assert stored != second.splits.test["goal"].tolist()


def test_who_does_not_get_the_lock_writes_nothing(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    with (
        RunFolder(path).locked(),
        pytest.raises(UserError, match="another process is training in"),
    ):
        trainer(path).begin()
    assert list(path.iterdir()) == []


def test_a_beginning_that_fails_leaves_a_folder_that_can_be_used(tmp_path, monkeypatch):
    run = trainer(tmp_path / "run")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run.session, "save", full)
        with pytest.raises(OSError, match="No space left"):
            run.begin(configuration={"config.yaml": "seed: 0\n"})
    assert list((tmp_path / "run").iterdir()) == []
    assert run.begin().iteration == 0


def test_a_stop_request_is_of_one_run(tmp_path):
    run = trainer(tmp_path, "trainer.iterations=4")
    progress, show = run.begin(), run.logger.show

    def stop_after_two(metrics, fraction):
        show(metrics, fraction)
        if metrics["iteration"] == 2 and not stopped:
            stopped.append(True)
            signal.raise_signal(signal.SIGINT)

    stopped = []
    run.logger.show = stop_after_two
    run.run(progress)
    assert (progress.iteration, run.stop.requested) == (2, signal.SIGINT)
    assert run.run(progress)["iteration"] == 4  # it was {}, with nothing trained
    assert run.stop.requested is None
    assert [row["iteration"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("iterations", [0, 2])
def test_every_finished_run_has_a_best_checkpoint(iterations, tmp_path):
    sizes = (f"trainer.iterations={iterations}", "trainer.validate_every=9")
    metrics = train(smoke_config(*sizes), tmp_path)
    best = load(tmp_path / "checkpoints/best.pt")
    assert best["iteration"] == iterations
    assert best["best_validation"] == metrics["validation/return/step_1"]
    assert not any(name.startswith("validation") for row in read_metrics(tmp_path) for name in row)


def test_the_last_validation_does_not_change_a_run_resumed_for_longer(tmp_path):
    every = "trainer.validate_every=3"
    train(smoke_config("trainer.iterations=4", every), tmp_path / "whole")
    train(smoke_config("trainer.iterations=2", every), tmp_path / "parts")
    again = trainer(tmp_path / "parts", "trainer.iterations=4", every)
    again.run(again.resume())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert repeatable(read_metrics(parts)) == repeatable(read_metrics(whole))
    for name in ("best", "last"):
        one, other = (load(run / f"checkpoints/{name}.pt") for run in (whole, parts))
        assert one["best_validation"] == other["best_validation"]
        assert all(torch.equal(one["meta"][leaf], other["meta"][leaf]) for leaf in one["meta"])


@pytest.mark.parametrize("kind", [SimulationError, NonFiniteError])
def test_an_error_keeps_its_kind(kind, tmp_path, monkeypatch):
    run = trainer(tmp_path)
    progress = run.begin()

    def fail(*arguments, before):
        raise kind("worker 1 died")

    monkeypatch.setattr(MetaLearner, "collect", fail)
    with pytest.raises(kind) as caught:
        run.run(progress)
    assert type(caught.value) is kind
    assert str(caught.value) == "iteration 1: worker 1 died"
    assert caught.value.__notes__ == ["the last good checkpoint is kept"]


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, capsys):
    def flock(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_module.fcntl, "flock", flock)
    assert fcntl.flock is flock
    train(smoke_config(), tmp_path)
    assert capsys.readouterr().err.splitlines() == [folder_module.NO_LOCK_WARNING] * 2
    assert len(read_metrics(tmp_path)) == 2


def test_a_checkpoint_that_does_not_fit_is_an_error_of_the_disk(tmp_path):
    path = tmp_path / "last.pt"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            save_checkpoint(path, {"meta": {"w": torch.arange(1000.0)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert list(tmp_path.iterdir()) == []


def test_stored_tasks_of_a_finite_set_are_rounded_up(tmp_path, capsys):
    config = smoke_config("env=half_cheetah_dir", "trainer.validation_tasks=5")
    run = build_trainer(config, tmp_path)
    run.begin()
    assert list(run.splits.validation["direction"]) == [1.0, -1.0] * 3
    assert capsys.readouterr().out == (
        "note: validation_tasks=5 is rounded up to 6: half_cheetah_dir has 2 tasks, which "
        "are stored in equal counts.\n"
    )
