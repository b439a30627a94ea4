"""Commands and numbers as they are written to people."""

import sys
from pathlib import Path

import pytest

from maml_rl.wording import bracketed, command, counted, number_format, shown


@pytest.mark.parametrize(
    ("program", "python", "written"),
    [
        ("train.py", ".venv/bin/python", ".venv/bin/python evaluate.py run=a"),
        ("../train.py", "/usr/bin/python3", "python ../evaluate.py run=a"),
        ("/usr/lib/pytest", "/usr/bin/python3", "python evaluate.py run=a"),
        ("/usr/bin/maml-rl-train", "/usr/bin/python3", "maml-rl-evaluate run=a"),
    ],
)
def test_a_command_works_where_the_process_was_started(program, python, written, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program, "seed=1"])
    monkeypatch.setattr(sys, "executable", str(Path.cwd() / python))
    assert command("evaluate", "run=a") == written


def test_what_a_shell_would_read_is_quoted(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["maml-rl-train"])
    assert command("evaluate", "runs=[a,b]", "steps=1") == "maml-rl-evaluate 'runs=[a,b]' steps=1"


def test_paths_are_short_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a/b") == Path("a/b")
    assert shown(Path("/elsewhere/run")) == Path("/elsewhere/run")


def test_numbers():
    assert bracketed(1.25, (-0.5, 2.0), "{:.1f}") == "1.2 [-0.5, 2.0]"
    forms = [number_format(values) for values in ([-12.0, 3.0], [1.5], [0.2], [])]
    assert forms == ["{:.1f}", "{:.2f}", "{:.3f}", "{:.3f}"]
    assert [counted(number, "run") for number in (1, 2)] == ["1 run", "2 runs"]
