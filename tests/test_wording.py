"""Commands and numbers as they are written to people."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from maml_rl import wording
from maml_rl.wording import bracketed, command, counted, number_format, option, shown
from tests.support.paths import ROOT

PROGRAM = wording._program  # which other tests replace


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Let the process have been started as a program, by a Python, with others found on PATH."""

    def start(program, python, path):
        monkeypatch.setattr(wording, "_program", PROGRAM)
        monkeypatch.setattr(sys, "argv", [program, "seed=1"])
        monkeypatch.setattr(sys, "executable", python)
        monkeypatch.setenv("PATH", path)

    return start


@pytest.mark.parametrize(
    ("program", "python", "written"),
    [
        ("train.py", "here/bin/python", "here/bin/python evaluate.py run=a"),
        ("../train.py", "/other/bin/python3", "/other/bin/python3 ../evaluate.py run=a"),
        ("/usr/lib/pytest", "/other/python", f"/other/python {ROOT / 'evaluate.py'} run=a"),
        ("/x/maml-rl-train", "here/bin/python", "here/bin/maml-rl-evaluate run=a"),
    ],
)
def test_a_command_works_where_the_process_was_started(
    program, python, written, started, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("evaluate.py", "../evaluate.py"):
        Path(name).touch()
    started(program, str(tmp_path / python), "/usr/bin")
    assert command("evaluate", {"run": "a"}) == written


def test_a_program_that_a_shell_finds_is_named_alone(started, tmp_path):
    (tmp_path / "python").touch(mode=0o755)
    started(str(ROOT / "train.py"), str(tmp_path / "python"), str(tmp_path))
    assert command("evaluate", {}) == f"python {ROOT / 'evaluate.py'}"


def test_a_hint_that_is_pasted_runs(started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    started("/usr/lib/pytest", sys.executable, "/usr/bin")
    pasted = command("evaluate", {"run": Path("no, where's {it}"), "num_episodes": 2})
    done = subprocess.run(pasted, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: run=no, where's {it}: there is no such folder")


@pytest.mark.parametrize(
    "text",
    [
        *("outputs/a_b/2026-11-25_10-00-00", ".", "..", "../x", "/var/run-1", "run"),
        *("1e3", "null", "True", "12", "-x", "a b", "a=1,b=2", "it's", "[a]", "{a}", "f(x)", "é"),
        *("a#b", "a;b", 'say "a"', "a\\'b", "${x}"),
    ],
)
def test_hydra_reads_a_path_as_it_is(text):
    (parsed,) = OverridesParser.create().parse_overrides([option("run", Path(text))])
    value = parsed.value()
    assert str(value) == text.replace("${", "\\${")  # which the configuration resolves to ${
    assert isinstance(value, str) or text == "."


def test_values_that_are_no_paths_are_written_as_they_are():
    assert command("train", {"runs": "[a,b]", "trainer.iterations": 4}) == (
        "python train.py 'runs=[a,b]' trainer.iterations=4"
    )


def test_paths_are_short_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a/b") == Path("a/b")
    assert shown(Path("/elsewhere/run")) == Path("/elsewhere/run")


def test_numbers():
    assert bracketed(1.25, (-0.5, 2.0), "{:.1f}") == "1.2 [-0.5, 2.0]"
    forms = [number_format(values) for values in ([-12.0, 3.0], [1.5], [0.2], [])]
    assert forms == ["{:.1f}", "{:.2f}", "{:.3f}", "{:.3f}"]
    assert [counted(number, "run") for number in (1, 2)] == ["1 run", "2 runs"]
