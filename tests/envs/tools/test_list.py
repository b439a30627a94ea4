"""`python -m envs.list`."""

import re

import pytest

from envs.registry import SHIPPED
from envs.tools.arguments import status_of
from envs.tools.list import list_command


@pytest.fixture
def run(work, capsys):
    def call(*arguments):
        status = status_of(lambda: list_command(arguments))
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return call


def few(monkeypatch, *names, **others):
    """Let these alone be shipped."""
    shipped = {**{name: SHIPPED[name] for name in names}, **others}
    monkeypatch.setattr("envs.tools.list.SHIPPED", shipped)
    monkeypatch.setattr("envs.registry.SHIPPED", shipped)


def test_every_distribution_is_a_row(run, monkeypatch):
    few(
        monkeypatch,
        "half_cheetah_dir",
        "ant_goal",
        "multi_armed_bandit",
        other="no_such_package.tasks:Other",
    )
    status, out, err = run()
    assert (status, err) == (0, [])
    rows = [re.split(r"\s{2,}", line.strip()) for line in out]
    assert rows[0] == ["name", "observations", "actions", "steps", "task", "presets"]
    # 8 positions without x, 9 velocities, the torso's 3 coordinates
    assert rows[1] == [
        "half_cheetah_dir",
        "20 observations",
        "6 actions",
        "100",
        "direction from -1 to 1 (2 tasks)",
        "deleu, finn2017, promp",
    ]
    assert rows[2][:4] == ["ant_goal", "29 observations", "8 actions", "100"]
    assert re.fullmatch(r"goal \[2\] from -2\.\d+ to 2\.\d+", rows[2][4])
    assert rows[2][5].startswith("promp, finn2017")
    assert rows[3][2] == "5 numbered actions"
    last = next(row for row in rows if row[0] == "other")
    assert last[1:5] == ["-", "-", "-", "not installed: it needs the package"]


def test_a_distribution_that_cannot_be_built_does_not_hide_the_others(run, monkeypatch, work):
    (work / "my_broken.py").write_text("class Own:\n    def __init__(self):\n        1 / 0\n")
    few(monkeypatch, "random_mdp", mine="my_broken:Own", text="os:name")
    status, out, _ = run()
    assert status == 0
    assert any(line.startswith("random_mdp") for line in out)
    text = " ".join(" ".join(out).split())
    assert "mine cannot be built (ZeroDivisionError: division by zero)." in text
    assert "text is no class." in text


def test_one_distribution_with_its_presets_side_by_side(run):
    status, out, err = run("half_cheetah_vel", "preset=promp")
    assert (status, err) == (0, [])
    assert out[0] == "half_cheetah_vel: envs.tasks.half_cheetah.HalfCheetahVel"
    assert "17 observations, 6 actions, 100 steps an episode" in out
    cells = [[part.strip() for part in re.split("[│┃]", line)[1:-1]] for line in out]
    assert ["argument", "deleu", "finn2017", "promp"] in cells
    assert ["frame_skip", "5", "1", "5"] in cells
    assert ["action_scale", "0.1", "1.0", "0.1"] in cells
    assert ["torso_position", "true", "true", "false"] in cells


def test_presets_of_another_kind(run):
    _, out, _ = run("multi_armed_bandit")
    cells = [[part.strip() for part in re.split("[│┃]", line)[1:-1]] for line in out]
    arms = next(row for row in cells if row and row[0] == "arms")
    assert sorted(arms[1:], key=int) == ["5"] * 3 + ["10"] * 3 + ["50"] * 3


def test_without_presets_the_arguments_are_shown(run):
    _, out, _ = run("random_mdp", "states=3")
    assert "3 observations, 5 numbered actions, 10 steps an episode" in out
    cells = [[part.strip() for part in re.split("[│┃]", line)[1:-1]] for line in out]
    assert ["states", "10"] in cells
    assert ["actions", "5"] in cells


def test_arguments_of_the_base_classes_are_shown_too(run, work):
    (work / "my_gravity.py").write_text(
        "from envs import GymnasiumTaskDistribution\n\n\n"
        "class Gravity(GymnasiumTaskDistribution):\n"
        "    def __init__(self, id='Pendulum-v1', **options):\n"
        "        super().__init__(id, **options)\n\n"
        "    def sample(self, num_tasks, rng):\n"
        "        return {'gravity': rng.uniform(5, 15, num_tasks)}\n\n"
        "    def apply(self, env, task):\n"
        "        env.g = task['gravity']\n"
    )
    _, out, err = run("my_gravity.Gravity", "horizon=7")
    assert err == []
    assert "3 observations, 1 actions, 7 steps an episode" in out
    cells = [[part.strip() for part in re.split("[│┃]", line)[1:-1]] for line in out]
    for row in (["id", "Pendulum-v1"], ["horizon", "null"], ["action_scale", "1.0"]):
        assert row in cells


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ant_gaol"], "Did you mean ant_goal?"),
        (["preset=promp"], "error: give one name, or none to list all"),
        (["ant_goal", "ant_dir"], "error: give one name, or none to list all"),
    ],
)
def test_wrong_input_is_one_sentence_and_2(run, arguments, sentence):
    status, out, err = run(*arguments)
    assert (status, out, len(err)) == (2, [], 1)
    assert sentence in err[0]


def test_help(run):
    status, out, _ = run("-h")
    assert (status, out[0]) == (
        0,
        "usage: python -m envs.list [name or target] [argument=value ...]",
    )
