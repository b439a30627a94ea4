"""The wheel holds every file that the programs read, and works away from the repository."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.support.paths import ROOT

DATA = ("conf", "pretrained")  # folders that are installed inside maml_rl
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "maml_rl", "envs", *DATA)
ENTRY = """
import sys
from importlib.metadata import entry_points
(program,) = {each.value: each for each in entry_points(name=sys.argv[1])}.values()
sys.argv = sys.argv[1:]
sys.exit(program.load()())
"""


def process(*arguments, cwd, **environment):
    """Run the interpreter to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def python(*arguments, cwd, **environment):
    """Run the interpreter without its working folder on the path, as an entry point does."""
    done = process("-P", *arguments, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "would be ignored" not in done.stderr  # setuptools' warning, which pip shows
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel's content, as pip lays it into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in SOURCES:
        source, copy = ROOT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    python("-c", build, cwd=folder / "source")
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site-packages")
    return folder / "site-packages"


def test_the_wheel_holds_every_file(installed):
    files = {
        path.relative_to(ROOT).as_posix()
        for package in ("maml_rl", "envs", *DATA)
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected = {f"maml_rl/{name}" if name.split("/")[0] in DATA else name for name in files}
    held = {
        path.relative_to(installed).as_posix()
        for package in ("maml_rl", "envs")
        for path in (installed / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected


OTHER = "raise SystemExit('another envs')\n"


def test_an_installed_copy_trains_and_evaluates(installed, tmp_path):
    """Beside another envs/ too, which neither the programs nor their workers import."""
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/__init__.py").write_text(OTHER)
    (tmp_path / "gravities.py").write_text(
        "class Gravity:\n"
        "    def sample(self, num_tasks, rng):\n"
        "        return {'gravity': rng.uniform(5, 15, size=num_tasks)}\n"
        "    def apply(self, env, task):\n"
        "        env.g = float(task['gravity'])\n"
    )
    site = str(installed)
    where = "import envs, maml_rl; print(envs.__file__, maml_rl.__file__)"
    for path in python("-c", where, cwd=tmp_path, PYTHONPATH=site).split():
        assert path.startswith(site)
    own = ("env=gymnasium", "env.id=Pendulum-v1", "env.set_task=gravities.Gravity")
    sizes = ("trainer.iterations=1", "sampler.threads=2", "hydra.run.dir=run")
    options = ("experiment=smoke", *own, *sizes)
    python("-c", ENTRY, "maml-rl-train", *options, cwd=tmp_path, PYTHONPATH=site)
    (line,) = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["iteration"] == 1
    evaluation = ("run=run", "num_episodes=2", "steps=1", "threads=1")
    python("-c", ENTRY, "maml-rl-evaluate", *evaluation, cwd=tmp_path, PYTHONPATH=site)
    result = json.loads((tmp_path / "run/evaluation/evaluation.json").read_text())
    assert result["env"] == "gravity"


def test_an_installed_copy_loads_an_initialization_by_its_name(installed, tmp_path):
    code = "import maml_rl; trained = maml_rl.load('half_cheetah_dir'); print(trained.folder.path)"
    printed = python("-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).strip()
    assert printed == str(installed / "maml_rl/pretrained/half_cheetah_dir")


def test_another_envs_in_front_of_ours_is_named(tmp_path):
    """In a script's folder, or where `python -m` runs: Python looks there first."""
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/__init__.py").write_text(OTHER)
    sentence = (
        f"maml_rl needs the package envs that is installed with it, and `import envs` gives "
        f"{tmp_path / 'envs'}: rename that folder, or work in another one."
    )
    for arguments in (("-c", "import maml_rl"), ("-m", "maml_rl.commands.report")):
        done = process(*arguments, cwd=tmp_path, PYTHONPATH=str(ROOT))
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == f"ImportError: {sentence}"


def test_an_envs_without_python_files_is_in_nobody_s_way(tmp_path):
    (tmp_path / "envs/assets").mkdir(parents=True)
    done = process("-c", "import maml_rl", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert (done.returncode, done.stderr) == (0, "")
