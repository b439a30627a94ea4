"""`python -m envs.check`: a line for each check, an exit status, one sentence for wrong input."""

import subprocess
import sys

import numpy as np
import pytest

from envs import UserError
from envs.checking import CHECKS, check_speed
from envs.tools.arguments import read, status_of
from envs.tools.check import check_command
from envs.tools.list import list_command
from envs.tools.show import show_command
from tests.support.paths import ROOT

MINE = """
import numpy as np
from envs.tasks.half_cheetah import HalfCheetahVel

class Good(HalfCheetahVel):
    pass

class WrongSize(HalfCheetahVel):
    def sample(self, num_tasks, rng):
        return {"velocity": rng.uniform(size=num_tasks + 1)}

class WrongReward(HalfCheetahVel):
    def reward(self, before, action, after, task):
        return -self.control_cost(action).sum(-1)

class Lengths:
    def __init__(self, low=0.5):
        self.low = low

    def sample(self, num_tasks, rng):
        return {"length": rng.uniform(self.low, 1.5, size=num_tasks)}

    def apply(self, env, task):
        env.l = float(task["length"])

class Raising(HalfCheetahVel):
    def observe(self, state):
        return state["no_such_field"]
"""


@pytest.fixture
def run(work, capsys, monkeypatch):
    (work / "my_tasks.py").write_text(MINE)
    monkeypatch.setitem(CHECKS, "speed", lambda own: check_speed(own, 0.01))
    monkeypatch.delitem(sys.modules, "my_tasks", raising=False)

    def call(*arguments):
        status = status_of(lambda: check_command(arguments))
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return call


def test_a_shipped_name_with_arguments_for_its_constructor(run):
    status, out, err = run("half_cheetah_vel", "preset=promp", "horizon=7")
    assert (status, err) == (0, [])
    assert out[0] == "half_cheetah_vel, preset promp"
    # promp observes 8 positions and 9 velocities
    assert out[1] == "  ok      spaces        17 observations, 6 actions, horizon 7"
    assert [line.split()[0] for line in out[1:-1]].count("ok") == len(CHECKS) - 1
    assert out[-1] == "all is well"


def test_a_target_from_where_one_works(run):
    status, out, _ = run("my_tasks.Good")
    assert (status, out[0], out[-1]) == (0, "my_tasks.Good, preset deleu", "all is well")


def test_a_wrong_leading_size_is_named_and_the_other_checks_go_on(run):
    status, out, err = run("my_tasks.WrongSize")
    assert (status, err) == (1, [])
    assert out[3] == (
        "  wrong   tasks         wrong_size.sample(5, rng) must return arrays of leading size 5, "
        "but 'velocity' has shape (6,)."
    )
    assert out[4] == "  skipped sampling      for the same reason as above"
    assert out[-1] == "1 of the checks went wrong"


def test_a_wrong_shape_names_the_method_and_the_shape(run):
    status, out, _ = run("my_tasks.WrongReward")
    assert status == 1
    wrong = [line for line in out if line.startswith("  wrong")]
    assert wrong[0].startswith(
        "  wrong   shapes        wrong_reward.reward(before, action, after, task) must return an "
        "array of shape (3, 2), not (3,)"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "error: give one name or target, and there is none: python -m envs.check"),
        (["a", "b"], "error: give one name or target, not a b: python -m envs.check"),
        (["half_cheetah_vell"], "Did you mean half_cheetah_vel?"),
        (["no_tasks.Hopper"], "No module named 'no_tasks'"),
        (["my_tasks.Hopper"], "error: my_tasks.Hopper cannot be imported (AttributeError: "),
        (
            ["my_tasks.Raising"],
            "error: raising.observe(state) reads 'no_such_field', which is not in the state: ",
        ),
        (["my_tasks.np"], "error: my_tasks.np is no class."),
        (
            ["random_mdp", "stats=3"],
            "unexpected keyword argument 'stats'; its arguments are states",
        ),
        (["gymnasium"], "error: set_task is missing: name a class with sample("),
        (["gymnasium", "set_task={low: 3}"], "error: set_task is missing: name a class with"),
        (
            ["gymnasium", "id=Pendulum-v1", "set_task={_target_: my_tasks.Lengths, hi: 3}"],
            "cannot be built (TypeError: Lengths.__init__() got an unexpected keyword argument",
        ),
        (["half_cheetah_vel", "heel=3"], "argument 'heel'; its arguments are preset, horizon,"),
        (["half_cheetah_vel", "preset=finn"], "error: preset=finn is unknown; choose one of"),
        (["half_cheetah_vel", "horizon=[1"], "error: cannot read 'horizon=[1': write key=value"),
        (["half_cheetah_vel", "--fast"], "error: --fast is unknown; write options as key=value"),
        (["all", "horizon=3"], "error: all takes no arguments: they differ between distributions."),
    ],
)
def test_wrong_input_is_one_sentence_and_2(run, arguments, sentence):
    status, out, err = run(*arguments)
    assert (status, out, len(err)) == (2, [], 1)
    assert sentence in err[0]


@pytest.mark.parametrize("name", ["gymnasium", "envs.GymnasiumTasks"])
@pytest.mark.parametrize(
    ("given", "low"), [("my_tasks.Lengths", 0.5), ("{_target_: my_tasks.Lengths, low: 1.4}", 1.4)]
)
def test_a_gymnasium_environment_and_the_class_that_sets_its_tasks(run, name, given, low):
    status, out, err = run(name, "id=Pendulum-v1", f"set_task={given}", "horizon=9")
    assert (status, err, out[0], out[-1]) == (0, [], name, "all is well")
    assert out[1] == "  ok      spaces        3 observations, 1 actions, horizon 9"
    drawn = np.random.default_rng(0).uniform(low, 1.5, size=200)
    assert out[3].endswith(f"length from {drawn.min():.3g} to {drawn.max():.3g}")


@pytest.mark.parametrize("command", [check_command, list_command, show_command])
def test_a_class_that_sets_tasks_is_told_how_it_is_named(run, capsys, command):
    status = status_of(lambda: command(["my_tasks.Lengths", "id=Pendulum-v1", "horizon=3"]))
    assert status == 2
    assert capsys.readouterr().err == (
        "error: my_tasks.Lengths sets the tasks of a Gymnasium environment and is no distribution "
        "by itself: write gymnasium id=Pendulum-v1 set_task=my_tasks.Lengths horizon=3 for it.\n"
    )


def test_all_passes_over_what_is_not_installed(run, monkeypatch):
    shipped = {
        "random_mdp": "envs.tasks.random_mdp:RandomMDP",
        "other": "no_such_package.tasks:Other",
    }
    monkeypatch.setattr("envs.tools.check.SHIPPED", shipped)
    monkeypatch.setattr("envs.registry.SHIPPED", shipped)
    status, out, err = run("all")
    assert (status, err) == (0, [])
    assert out[0] == "random_mdp"
    assert "other: passed over, it needs the package no_such_package" in out


def test_values_are_read_as_yaml():
    names, options = read(["name", "a=1", "b=1e-3", "+c=[0.5, 2]", "d=promp", "e=null", "f=true"])
    assert names == ["name"]
    assert options == {"a": 1, "b": 0.001, "c": [0.5, 2], "d": "promp", "e": None, "f": True}
    with pytest.raises(UserError, match=r"cannot read 'a=\{': write key=value"):
        read(["a={"])


def test_help(run):
    status, out, _ = run("--help")
    assert (status, out[0]) == (
        0,
        "usage: python -m envs.check <name or target> [argument=value ...]",
    )


def test_in_a_process(work):
    (work / "my_tasks.py").write_text(MINE)
    done = subprocess.run(
        [sys.executable, "-m", "envs.check", "my_tasks.Missing"],
        cwd=work,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: my_tasks.Missing cannot be imported (AttributeError: module 'my_tasks' has no "
        "attribute 'Missing').\n"
    )
