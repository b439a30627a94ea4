"""docs/new_task_distribution.md: its files and its commands, as they stand there."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from envs.checking import CHECKS, check_speed
from envs.tools.check import check_command
from tests.support.paths import ROOT
from tests.support.run_files import read_metrics

PAGE = (ROOT / "docs" / "new_task_distribution.md").read_text()
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.split("\n")
]
SMALL = (
    *("trainer.iterations=1", "trainer.num_tasks=2", "trainer.num_episodes=2"),
    *("trainer.validate_every=1", "trainer.validation_tasks=4", "trainer.validation_episodes=2"),
    *("trainer.test_tasks=4", "sampler.threads=1", "logger.tensorboard=false"),
    "logger.progress=false",
)


def of(program):
    """The page's commands of one program, as their arguments."""
    words = [shlex.split(line) for line in COMMANDS if line]
    found = [line[len(program) :] for line in words if line[: len(program)] == program]
    assert found, program
    return found


@pytest.fixture
def written(work):
    """The page's files, where its reader works."""
    _forget()
    for name, content in FILES.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(content)
    yield work
    _forget()


def _forget():
    """Unload modules of the page's names: other tests write some of the same."""
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_the_page_has_the_files_and_nothing_but_known_commands():
    assert set(FILES) == {
        *("my_tasks.py", "my_heavy_tasks.py", "test_my_tasks.py", "my_conf/env/backflip.yaml"),
        *("my_pendulum.py", "my_arm_tasks.py"),
    }
    assert len(FILES["my_tasks.py"].strip().splitlines()) <= 40
    programs = {" ".join(shlex.split(line)[:3]).split(" my_")[0] for line in COMMANDS if line}
    kinds = {re.match(r"python (-m \S+|\S+\.py)", program)[1] for program in programs}
    assert kinds == {
        *("-m envs.check", "-m envs.show", "-m pytest", "train.py", "evaluate.py"),
    }


def test_its_distributions_pass_the_checks(written, call, monkeypatch):
    monkeypatch.setitem(CHECKS, "speed", lambda own: check_speed(own, 0.01))
    for arguments in of(["python", "-m", "envs.check"]):
        outcome = call(check_command, *arguments)
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out.endswith("all is well\n")


def test_its_training_commands_run(written, train_cli, evaluate_cli):
    for arguments in of(["python", "train.py"]):
        outcome = train_cli(*arguments, *SMALL)
        assert (outcome.status, outcome.err) == (0, "")
        folder = next(part for part in arguments if part.startswith("hydra.run.dir="))
        run = written / folder.partition("=")[2]
        metrics = read_metrics(run)
        assert [line["iteration"] for line in metrics] == [1]
        assert metrics[-1]["inner/grad_norm"] > 0
    assert OmegaConf.load(written / "named/.hydra/config.yaml").env.horizon == 40
    tasks = json.loads((written / "out_of_range/tasks.json").read_text())
    assert all(0 <= velocity <= 2 for velocity in tasks["validation"]["velocity"])
    assert all(2 <= velocity <= 3 for velocity in tasks["test"]["velocity"])
    for arguments in of(["python", "evaluate.py"]):
        outcome = evaluate_cli(*arguments, "num_episodes=2", "threads=1")
        assert (outcome.status, outcome.err) == (0, "")
        assert "gain of the first step" in outcome.out


def test_its_test_passes(written):
    (arguments,) = of(["python", "-m", "pytest"])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=written,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"1\d passed", done.stdout)
