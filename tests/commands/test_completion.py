"""Completion in a shell: it answers without heavy imports, whatever Python is called."""

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT


def completed(line, python):
    """What bash offers after `line`, and what it prints."""
    script = f"""
        eval "$({sys.executable} train.py -sc install=bash)"
        COMP_LINE="{line}"; COMP_POINT={len(line)}; COMP_CWORD=2
        hydra_bash_completion
        echo "${{COMPREPLY[@]}}"
    """
    folder = os.path.dirname(python)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize("called", ["python", sys.executable])
def test_tab_offers_choices_after_any_python(called):
    choices, errors = completed(f"{called} train.py algorithm=fo", sys.executable)
    assert (choices, errors) == (["algorithm=fomaml"], "")


def test_completion_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['train.py', '-sc', 'query=bash']; "
        "from maml_rl.commands.main import train_main; train_main(); "
        "print({'torch', 'numpy', 'mujoco', 'gymnasium', 'matplotlib'} & set(sys.modules))"
    )
    line = "python train.py seed"
    environment = {"PYTHONPATH": str(ROOT), "COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["seed=", "set()"]
