"""What the tests of the commands share: a folder to work in, calls in process, one trained run."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from maml_rl.commands.cli import status_of
from maml_rl.commands.evaluate import evaluate_command
from maml_rl.commands.train import train_command

torch.set_num_threads(1)  # as the commands do


@dataclass
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def error(self):
        """The one line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture(autouse=True)
def plain_commands(monkeypatch):
    """Let hints name programs as the README does, wherever the tests run."""
    monkeypatch.setattr("maml_rl.wording._program", lambda name: ["python", f"{name}.py"])


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder of its own to work in, from which modules import too."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    GlobalHydra.instance().clear()


@pytest.fixture
def call(work, capsys):
    """Run a command in process as the entry points do."""

    def run(command, *arguments):
        capsys.readouterr()
        status = status_of(lambda: command(list(arguments)))
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture
def train_cli(call):
    """Run train.py's command."""
    return lambda *arguments: call(train_command, *arguments)


@pytest.fixture
def evaluate_cli(call):
    """Run evaluate.py's command."""
    return lambda *arguments: call(evaluate_command, *arguments)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A smoke run of two iterations, as train.py leaves it; to be copied before it is changed."""
    path = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        assert train_command(["experiment=smoke", f"hydra.run.dir={path}"]) == 0
    return path


@pytest.fixture
def run_copy(trained_run, work):
    """A copy of the trained run that a test may damage: ./run."""
    return Path(shutil.copytree(trained_run, work / "run"))
