"""Names, targets, and what installed packages publish."""

import sys

import pytest

from envs import UserError
from envs.protocol import snake_case
from envs.registry import SHIPPED, build, missing_package, published, resolve
from envs.tasks.half_cheetah import HalfCheetahVel
from envs.tools.check import check_command

METADATA = "Metadata-Version: 2.1\nName: fake-tasks\nVersion: 1.0\n"
ENTRY_POINTS = """
[maml_rl.task_distributions]
jogging = fake_tasks:Jogging
half_cheetah_vel = fake_tasks:Jogging
absent = fake_tasks:Absent
"""
MODULE = """
from envs.tasks.half_cheetah import HalfCheetahVel

class Jogging(HalfCheetahVel):
    pass
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is installed: its module, and beside it what pip writes."""
    info = tmp_path / "fake_tasks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "fake_tasks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("fake_tasks", None)


def test_names_are_the_classes_names_in_snake_case():
    for name, target in SHIPPED.items():
        assert name == snake_case(target.partition(":")[2])
    assert list(SHIPPED) == sorted(SHIPPED)


def test_what_a_package_publishes_is_found_by_its_name(package):
    assert {"jogging", "absent"} <= published().keys()
    assert resolve("jogging").__module__ == "fake_tasks"
    assert build("jogging", {"preset": "promp"}).name == "jogging"


def test_a_shipped_name_cannot_be_taken(package):
    assert "half_cheetah_vel" not in published()
    assert resolve("half_cheetah_vel") is HalfCheetahVel


def test_what_is_published_and_missing_is_one_sentence(package):
    with pytest.raises(UserError, match=r"^absent cannot be imported \(AttributeError: .*Absent"):
        resolve("absent")
    with pytest.raises(UserError, match=r"Did you mean jogging\?"):
        resolve("joggin")


def test_a_published_distribution_is_checked_by_name(package, capsys, monkeypatch):
    monkeypatch.setattr("envs.checking.contract.CHECKS", {})
    assert check_command(["jogging"]) == 0
    assert capsys.readouterr().out.startswith("jogging, preset deleu")


def test_without_the_package_its_names_are_unknown():
    with pytest.raises(UserError, match="name=jogging is unknown"):
        resolve("jogging")


@pytest.mark.parametrize(
    "target", ["envs.tasks.half_cheetah.HalfCheetahVel", "envs.tasks.half_cheetah:HalfCheetahVel"]
)
def test_targets(target):
    assert resolve(target) is HalfCheetahVel


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(UserError) as error:
        build("random_mdp", {"sates": 3})
    assert str(error.value) == (
        "random_mdp: got an unexpected keyword argument 'sates'; its arguments are states, "
        "actions, horizon."
    )
    with pytest.raises(UserError, match="states must be a whole number"):
        build("random_mdp", {"states": 0})


def test_a_missing_package_is_told_from_other_errors():
    with pytest.raises(UserError) as error:
        resolve("no_such_package.tasks.Own")
    assert missing_package(error.value) == "no_such_package"
    with pytest.raises(UserError) as error:
        resolve("envs.no_such_module.Own")
    assert missing_package(error.value) is None
    assert missing_package(ValueError("other")) is None
