"""examples/adapt.py and the code of docs/python.md, as they stand there."""

import re
import runpy
import sys

import numpy as np
import pytest
import torch

import maml_rl
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text()
TRAINS = "maml_rl.train("  # its block has a test of its own, which trains for a smaller experiment
BLOCKS = [own for own in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if TRAINS not in own]


def test_the_example_adapts_and_exports(run_copy, capsys):
    main = runpy.run_path(str(ROOT / "examples" / "adapt.py"))["main"]
    main("run")
    trained = maml_rl.load("run")
    policy = trained.adapt(trained.tasks("test"))[0]
    name = trained.distribution.describe(policy.task)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"point_navigation, task {name}:"
    before, after = (f"{value:.1f}" for value in policy.returns)
    assert lines[1] == f"  mean return before adaptation {before}, after one step {after}"
    # the point moves by the mean action from 0, and is paid minus its distance from the goal
    position, total = np.zeros(2), 0.0
    for _ in range(10):
        position = position + policy.act(position)
        total -= np.linalg.norm(position - policy.task["goal"])
    assert float(lines[2].removeprefix("  return of the mean action ")) == pytest.approx(
        total, abs=0.05 + 1e-3
    )
    assert lines[3:] == ["exported: adapted_policy.pt2"]
    program = torch.export.load("adapted_policy.pt2").module()
    rows = np.array([[0.1, -0.2], [0.0, 0.3]], dtype=np.float32)
    np.testing.assert_allclose(program(torch.from_numpy(rows)), policy.act(rows), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "required: run"), (["nowhere"], "error: run=nowhere: there is no such folder")],
)
def test_the_example_called_wrongly_says_so(arguments, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = str(ROOT / "examples" / "adapt.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(path, run_name="__main__")
    assert words in f"{exit_.value.code}{capsys.readouterr().err}"


def test_the_pages_first_block_is_five_lines():
    assert len([line for line in BLOCKS[0].splitlines() if line]) == 5


def test_the_pages_code_runs(run_copy, capsys, monkeypatch, tmp_path):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    code, count = re.subn(r'load\("outputs/[^"]*"\)', 'load("run")', "\n".join(BLOCKS))
    assert count == 1
    names = {}
    exec(compile(code, "docs/python.md", "exec"), names)
    trained, adapted = names["trained"], names["adapted"]
    assert adapted.returns.shape == (2, 4)
    assert str(adapted.returns.mean(axis=1)) in capsys.readouterr().out
    assert trained.distribution.action_space.contains(names["action"])
    assert names["policy"].returns.shape == (2,)
    assert names["actions"].shape == (5, 2)
    with np.load("rollouts.npz", allow_pickle=False) as file:
        assert file["rewards"].shape == (2, 4, 10, 20)
        listed = set(re.findall(r"^\| `([\w/<>]+)` \| `\[", PAGE, re.MULTILINE))
        named = {re.sub("/.*", "/<name>", name) for name in file.files} | {"info/<name>"}
        assert listed == named
    assert (tmp_path / "datasets/half_cheetah_dir/adapted-v0").is_dir()
