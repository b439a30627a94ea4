"""What the tests of the commands share: a folder to work in, calls in process, one trained run.

Imports that take seconds are in the fixtures: pytest-xdist's own process needs none of them.
"""

import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

# Where tests of a second and more lie. `make quick` leaves them out, and so all that run the
# commands.
SLOW_FIXTURES = {"call", "train_cli", "evaluate_cli", "trained_run", "run_copy"}
SLOW = (
    "tests/algorithm/inner_loop/test_learn2learn_loader.py",
    "tests/algorithm/outer_loop/test_references.py",
    "tests/algorithm/test_diagnostics.py",
    "tests/algorithm/test_probe.py",
    "tests/algorithm/test_shared_value_network.py",
    "tests/algorithm/test_value_network.py",
    "tests/benchmarks/",
    "tests/commands/",
    "tests/configuration/",
    "tests/docs/",
    "tests/envs/backends/test_gymnasium_env.py",
    "tests/envs/checking/",
    "tests/envs/tasks/test_metaworld.py",
    "tests/envs/tasks/test_random_parameters.py",
    "tests/envs/tools/",
    "tests/envs/wrappers/test_trials.py::Test",
    "tests/envs/wrappers/test_union.py",
    "tests/envs/wrappers/test_task_observed.py",
    "tests/evaluation/test_evaluation.py",
    "tests/evaluation/test_video.py",
    "tests/parallel/test_communicator.py::test_three",
    "tests/parallel/test_equality.py",
    "tests/parallel/test_launch.py",
    "tests/reporting/test_comparison.py",
    "tests/reporting/test_report.py",
    "tests/test_custom_parts.py",
    "tests/test_example.py",
    "tests/test_known_faults.py",
    "tests/test_wheel.py",
    "tests/test_wording.py",
    "tests/trained/",
    "tests/training/test_beginning.py",
    "tests/training/test_description.py",
    "tests/training/test_loggers.py",
    "tests/training/test_trainer.py",
)


def pytest_collection_modifyitems(items):
    """Mark the slow tests."""
    for item in items:
        if item.nodeid.startswith(SLOW) or SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


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


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Let torch compute in one thread, as the commands do."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def compiled_once():
    """Let processes that tests start keep the bytecode of our modules, as Python does."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(autouse=True, scope="session")
def nodes_read_once():
    """Let Hydra read each file of conf/, and of its own package, once: composing takes 40 % less.

    The nodes that a test writes, and those that it registers, are read as ever.
    """
    from hydra._internal.config_repository import ConfigRepository
    from hydra.core.object_type import ObjectType

    from maml_rl.commands.paths import config_directory

    lasting = {f"file://{config_directory()}", "pkg://conf", "pkg://hydra.conf"}
    load, read = ConfigRepository.load_config, {}

    def load_config(repository, config_path):
        source = repository._find_object_source(config_path, ObjectType.CONFIG)
        place = source and f"{source.scheme()}://{source.path}"
        if place not in lasting:
            return load(repository, config_path)
        if (place, config_path) not in read:
            read[place, config_path] = pickle.dumps(load(repository, config_path))
        return pickle.loads(read[place, config_path])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", load_config)
        yield


@pytest.fixture(autouse=True)
def plain_commands(monkeypatch):
    """Let hints name programs as the README does, wherever the tests run."""
    monkeypatch.setattr("maml_rl.wording._program", lambda name: ["python", f"{name}.py"])


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder of its own to work in, from which modules import too."""
    from hydra.core.global_hydra import GlobalHydra

    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    GlobalHydra.instance().clear()


@pytest.fixture
def call(work, capsys):
    """Run a command in process as the entry points do."""
    from maml_rl.commands.cli import status_of

    def run(command, *arguments):
        capsys.readouterr()
        status = status_of(lambda: command(list(arguments)))
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture
def train_cli(call):
    """Run train.py's command."""
    from maml_rl.commands.train import train_command

    return lambda *arguments: call(train_command, *arguments)


@pytest.fixture
def drawn():
    """Ask `evaluate_cli` for pictures."""


def _save_empty(figure, path, **options):
    """Write one pixel, since TensorBoard reads the picture back."""
    from PIL import Image

    Image.new("RGB", (1, 1)).save(path, "png")


@pytest.fixture
def evaluate_cli(call, request, monkeypatch):
    """Run evaluate.py's command; its pictures stay empty where a test does not ask for `drawn`."""
    from matplotlib.figure import Figure

    from maml_rl.commands.evaluate import evaluate_command

    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(Figure, "savefig", _save_empty)
        monkeypatch.setattr("maml_rl.evaluation.curves._keep_dollars", lambda figure: None)
        monkeypatch.setattr(
            "maml_rl.commands.evaluation_files.adaptation_plot",
            lambda path, title, result: _save_empty(None, path),
        )
    return lambda *arguments: call(evaluate_command, *arguments)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A smoke run of two iterations, as train.py leaves it; to be copied before it is changed."""
    from maml_rl.commands.train import train_command

    path = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        assert train_command(["experiment=smoke", f"hydra.run.dir={path}"]) == 0
    return path


@pytest.fixture
def run_copy(trained_run, work):
    """A copy of the trained run that a test may damage: ./run."""
    return Path(shutil.copytree(trained_run, work / "run"))
