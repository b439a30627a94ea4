"""learn2learn without gym, torchvision and qpth; whole where it imports; refused if absent."""

import importlib.util
import re
import subprocess
import sys
import tomllib

import pytest

from envs import UserError
from maml_rl.algorithm.inner_loop import learn2learn_loader
from maml_rl.configuration.building import build_trainer
from tests.support.paths import ROOT
from tests.support.smoke import smoke_config


def python(code, *path):
    """Run code in a fresh interpreter, with folders before everything else on its path."""
    lines = [f"import sys; sys.path[:0] = {[*map(str, path), str(ROOT)]!r}", code]
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_needed_subpackages_import_without_the_dead_dependencies():
    code = """
from maml_rl.algorithm.inner_loop.learn2learn_loader import load_learn2learn
maml = load_learn2learn("algorithms.maml").MAML
sgd = load_learn2learn("algorithms.meta_sgd").MetaSGD
gbml = load_learn2learn("algorithms.gbml").GBML
load_learn2learn("optim"); load_learn2learn("nn")
assert load_learn2learn("utils").clone_module
import learn2learn
assert learn2learn.clone_module is learn2learn.utils.clone_module
assert not {"gym", "torchvision", "qpth"} & set(sys.modules), "dead dependencies"
import torch
model = torch.nn.Linear(2, 1, bias=False)
torch.nn.init.ones_(model.weight)
clone = maml(model, lr=0.5).clone()
clone.adapt(clone(torch.tensor([[1.0, 2.0]])).sum())  # the gradient is the input
print(clone.module.weight.tolist())
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[[0.5, 0.0]]"


def test_a_full_installation_is_used_as_it_is(tmp_path):
    package = tmp_path / "learn2learn"
    (package / "algorithms").mkdir(parents=True)
    (package / "__init__.py").write_text("WHOLE = True\nfrom learn2learn import algorithms\n")
    (package / "algorithms/__init__.py").touch()
    (package / "algorithms/maml.py").write_text("MAML = 'the full one'\n")
    code = """
from maml_rl.algorithm.inner_loop.learn2learn_loader import load_learn2learn
print(load_learn2learn("algorithms.maml").MAML)
import learn2learn
print(learn2learn.WHOLE)
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["the full one", "True"]


def test_a_package_that_fails_to_import_is_not_left_half_imported(tmp_path):
    package = tmp_path / "learn2learn"
    (package / "algorithms").mkdir(parents=True)
    (package / "__init__.py").write_text("from learn2learn import algorithms\nimport no_gym_here\n")
    (package / "algorithms/__init__.py").write_text("BROKEN = True\n")
    (package / "algorithms/maml.py").write_text("MAML = 'alone'\n")
    (package / "utils.py").write_text("def clone_module(module):\n    return module\n")
    code = """
from maml_rl.algorithm.inner_loop.learn2learn_loader import load_learn2learn
print(load_learn2learn("algorithms.maml").MAML)
import learn2learn
print(hasattr(sys.modules["learn2learn.algorithms"], "BROKEN"), learn2learn.clone_module(4))
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["alone", "False 4"]


@pytest.fixture
def without_learn2learn(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "learn2learn"]:
        monkeypatch.delitem(sys.modules, name)
    found = importlib.util.find_spec

    class Hidden:
        def find_spec(self, name, path=None, target=None):
            if name == "learn2learn":
                raise ModuleNotFoundError("No module named 'learn2learn'", name=name)

    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "learn2learn" else found(name)
    )


def test_without_it_the_sentence_says_how_to_install_it(without_learn2learn, tmp_path):
    (version,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"][
        "learn2learn"
    ]
    sentence = (
        "learn2learn is not installed: run `make setup`, or `pip install --no-deps "
        f"--config-settings=--build-option=build_ext {version}` (it needs gcc)."
    )
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        learn2learn_loader.load_learn2learn("algorithms.maml")
    for inner in ("learn2learn_maml", "learn2learn_meta_sgd"):
        with pytest.raises(UserError, match="run `make setup`"):
            build_trainer(smoke_config(f"inner={inner}"), tmp_path)
    build_trainer(smoke_config("inner=meta_sgd"), tmp_path)
