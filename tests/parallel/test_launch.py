"""`train.py ranks=2`: its processes, how they end, and what is refused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maml_rl.commands.ranks import number_of_ranks
from tests.support.paths import ROOT
from tests.support.processes import process
from tests.support.run_files import load, read_metrics, repeatable
from tests.support.smoke import smoke_config, train_smoke

SMOKE = ("experiment=smoke", "logger.tensorboard=false", "hydra.run.dir=run")
ENDLESS = (*SMOKE, "trainer.iterations=1000000", "ranks=2")


def ranks_of(launcher):
    """Process ids of a launcher's ranks, by their number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == launcher.pid:
            number = next((each for each in variables if each.startswith(b"RANK=")), None)
            if number is not None:
                found[int(number.partition(b"=")[2])] = int(path.name)
    return found


def is_over(pid):
    """Whether a process has ended, within a few seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def begun(work):
    """A run of two ranks that has finished an iteration: its launcher, and the ranks' ids."""
    launcher = process(*ENDLESS, cwd=work)
    for line in launcher.stdout:
        if line.startswith("iteration 1 "):
            break
    ranks = ranks_of(launcher)
    assert sorted(ranks) == [0, 1]
    return launcher, ranks


def assert_whole(work, tmp_path):
    """Assert that a run's files are those of a single process up to its last checkpoint."""
    done = load(work / "run" / "checkpoints" / "last.pt")["iteration"]
    lines = read_metrics(work / "run")
    assert len(lines) in (done, done + 1)  # the line is written before the checkpoint
    options = ("logger.progress=false", f"trainer.iterations={done}")
    train_smoke(tmp_path / "whole", *options)
    assert repeatable(lines[:done]) == repeatable(read_metrics(tmp_path / "whole"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_launcher_ends_every_rank(number, status, work, tmp_path):
    launcher, ranks = begun(work)
    launcher.send_signal(number)
    out, err = launcher.communicate(timeout=120)
    assert (launcher.returncode, err) == (status, "")
    last = out.splitlines()[-1]
    assert last.startswith(f"stopped by {number.name}; ")
    assert last.endswith(f" {ROOT / 'train.py'} resume=run goes on.")
    assert all(map(is_over, ranks.values()))
    assert_whole(work, tmp_path)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_the_others_with_one_sentence(rank, work, tmp_path):
    launcher, ranks = begun(work)
    os.kill(ranks[rank], signal.SIGKILL)
    _, err = launcher.communicate(timeout=120)
    assert (launcher.returncode, err) == (
        1,
        f"stopped: rank {rank} of 2 was ended by SIGKILL, and the others with it; the last "
        f"checkpoint is whole.\n",
    )
    assert all(map(is_over, ranks.values()))
    assert_whole(work, tmp_path)


BROKEN = """
import os
from envs import PointNavigation

class Broken(PointNavigation):
    def make(self, num_tasks, slots_per_task, threads=1):
        if os.environ.get("RANK") == "1" and (num_tasks, slots_per_task) == (1, 5):
            raise KeyError("radius")
        return super().make(num_tasks, slots_per_task, threads)
"""


def test_an_unforeseen_error_of_a_rank_has_a_trace_and_a_sentence(work):
    (work / "mine.py").write_text(BROKEN)
    options = ("env._target_=mine.Broken", "trainer.num_episodes=5", "ranks=2")
    launcher = process(*SMOKE, *options, cwd=work)
    _, err = launcher.communicate(timeout=120)
    lines = err.splitlines()
    assert launcher.returncode == 1
    assert "stopped: rank 1 failed with KeyError: 'radius'." in lines
    assert "KeyError: 'radius'" in lines
    assert len([line for line in lines if line.startswith("Traceback")]) == 1


def test_a_stop_of_one_rank_stops_all(work):
    launcher, ranks = begun(work)
    os.kill(ranks[1], signal.SIGTERM)
    out, err = launcher.communicate(timeout=120)
    assert (launcher.returncode, err) == (143, "")
    assert out.splitlines()[-1].startswith("stopped by SIGTERM; ")


def test_torchrun_and_a_sweep_of_ranks_train_as_one_process(work, tmp_path):
    quiet = ("logger.progress=false", "sampler.threads=1")
    arguments = [*SMOKE, *quiet, "trainer.validation_tasks=3"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run = subprocess.run(
        [*torchrun, str(ROOT / "train.py"), *arguments],
        cwd=work,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert [line.partition(" ")[0] for line in run.stdout.splitlines()] == ["run", "done;"]
    sweep = process(
        *(*arguments[:2], *quiet, "trainer.validation_tasks=3", "--multirun", "seed=0,1"),
        *("ranks=2", "hydra.sweep.dir=sweep"),
        cwd=work,
    )
    out, err = sweep.communicate(timeout=240)
    assert (sweep.returncode, err, out.count("done;")) == (0, "", 2)
    for seed, folder in ((0, "run"), (0, "sweep/0"), (1, "sweep/1")):
        single = tmp_path / f"single_{folder.replace('/', '_')}"
        train_smoke(single, "trainer.validation_tasks=3", f"seed={seed}")
        assert repeatable(read_metrics(work / folder)) == repeatable(read_metrics(single))


FEW = (
    "error: ranks=3 is more than trainer.num_tasks=2, of which every rank takes at least one: "
    "write ranks=2, or a larger trainer.num_tasks."
)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["ranks=3"], FEW),
        (
            ["ranks=3", "trainer.num_tasks=3"],
            FEW.replace("num_tasks", "validation_tasks"),
        ),
        (["ranks=1.5"], "error: ranks must be a whole number from 1, or auto, not 1.5."),
        (["ranks=0"], "error: ranks must be a whole number from 1, or auto, not 0."),
        (["ranks=all"], "error: ranks must be a whole number from 1, or auto, not 'all'."),
        (["ranks=null"], "error: ranks must be a whole number from 1, or auto, not None."),
        (
            ["ranks=1,2", "--multirun"],
            "error: a sweep has one number of ranks: leave ranks away, or give it one value.",
        ),
    ],
)
def test_what_is_refused_before_training(options, words, train_cli, work):
    outcome = train_cli("experiment=smoke", *options)
    assert (outcome.status, outcome.error) == (2, words)
    assert list(work.iterdir()) == []


def test_ranks_of_a_launcher_and_of_the_configuration(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for wanted in ("1", "2", "auto"):
        assert number_of_ranks(smoke_config(f"ranks={wanted}")) == 2
    with pytest.raises(ValueError, match="begun 2 of them: leave ranks away"):
        number_of_ranks(smoke_config("ranks=3"))
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=r"ranks=3 is more than trainer\.num_tasks=2"):
        number_of_ranks(smoke_config())


@pytest.mark.parametrize(("cores", "tasks", "ranks"), [(1, 9, 1), (4, 9, 4), (8, 3, 3)])
def test_auto_is_a_rank_a_core_and_at_most_one_a_task(cores, tasks, ranks, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(cores))
    config = smoke_config("ranks=auto", f"trainer.num_tasks={tasks}", "trainer.validation_tasks=12")
    assert number_of_ranks(config) == ranks
