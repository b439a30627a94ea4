"""Classes of a person's own in a node of the configuration."""

import textwrap

import pytest
from omegaconf import OmegaConf

from envs import HalfCheetahVel, UserError
from envs.backends.gymnasium.distribution import GymnasiumTaskDistribution
from envs.registry import arguments
from maml_rl import train
from maml_rl.algorithm.outer_loop import Adam

MINE = """
    import numpy as np

    from envs import ASSETS, MujocoTaskDistribution, Preset
    from maml_rl.algorithm.outer_loop import Adam


    class Hop(MujocoTaskDistribution):
        xml = ASSETS / "hopper.xml"
        presets = {"mine": Preset(frame_skip=4, horizon=6)}

        def __init__(self, lengths=(1.0, 2.0), **options):
            super().__init__(**options)
            self.lengths = lengths

        def sample(self, num_tasks, rng):
            return {"velocity": rng.uniform(*self.lengths, size=num_tasks)}

        def observe(self, state):
            return np.concatenate([state["qpos"][..., 1:], state["qvel"]], axis=-1)

        def reward(self, before, action, after, task):
            return -abs(after["qvel"][..., 0] - task["velocity"])


    class Fixed(Hop):
        def __init__(self, scale=3):
            super().__init__(horizon=5)


    class Summed(Hop):
        def reward(self, before, action, after, task):
            return super().reward(before, action, after, task) - 0.01 * (action**2).sum()


    class Blind(Hop):
        def reward(self, before, action, after, task):
            return after["qvel"][..., 0]


    class Lengths:
        def sample(self, num_tasks, rng):
            return {"length": rng.uniform(0.5, 1.5, size=num_tasks)}

        def apply(self, env, task):
            env.l = float(task["length"])


    class Flipped(Adam):
        def __init__(self, step_size=0.01, flips=2):
            super().__init__(step_size)
            self.flips = flips
"""
SMOKE = ("experiment=smoke", "trainer.iterations=1", "logger.progress=false", "hydra.run.dir=run")


@pytest.fixture
def mine(work, monkeypatch):
    """A module of classes to plug in, a new one for each test."""
    (work / "parts_of_mine.py").write_text(textwrap.dedent(MINE))
    yield work
    monkeypatch.delitem(__import__("sys").modules, "parts_of_mine", raising=False)


def node(work, name):
    return OmegaConf.load(work / "run" / ".hydra" / "config.yaml")[name]


def test_arguments_pass_through_options_to_the_base_classes():
    class Corridor(GymnasiumTaskDistribution):
        def __init__(self, id="Corridor-v0", **options):
            super().__init__(id, **options)

    taken = arguments(Corridor)
    assert taken.plain["id"] == "Corridor-v0"
    assert taken.plain["action_scale"] == 1.0
    assert {"horizon", "kwargs", "record"} < set(taken.defaults)
    assert not taken.any_name


def test_the_numbers_of_a_distribution_s_presets_are_arguments():
    taken = arguments(HalfCheetahVel)
    assert taken.plain["velocities"] is None
    assert taken.plain["control_cost"] is None
    assert "velocities" not in arguments(Adam).defaults


def test_functions_and_classes_without_a_constructor():
    assert arguments(lambda speed, tries=3: None).plain == {"speed": None, "tries": 3}
    assert arguments(type("Empty", (), {})) == ({}, False)


def test_an_environment_of_one_s_own_takes_its_own_arguments(mine, train_cli):
    options = ("env._target_=parts_of_mine.Hop", "env.lengths=[0.4,0.5]", "env.horizon=7")
    outcome = train_cli(*SMOKE, *options)
    assert (outcome.status, outcome.err) == (0, "")
    assert node(mine, "env").lengths == [0.4, 0.5]
    assert node(mine, "env").horizon == 7


def test_numbers_that_the_class_does_not_take_are_taken_away(mine, train_cli):
    # experiment=smoke pins env.horizon, which Fixed sets itself; trpo's numbers are not Flipped's
    outcome = train_cli(*SMOKE, "env._target_=parts_of_mine.Fixed", "env.scale=4")
    assert (outcome.status, outcome.err) == (0, "")
    assert "horizon" not in node(mine, "env")
    options = ("outer._target_=parts_of_mine.Flipped", "outer.flips=3", "hydra.run.dir=other")
    assert train_cli(*SMOKE, *options).status == 0
    outer = OmegaConf.load(mine / "other" / ".hydra" / "config.yaml").outer
    assert outer == {"_target_": "parts_of_mine.Flipped", "flips": 3}


def test_a_name_that_the_class_does_not_take_is_refused_with_those_it_takes(mine, train_cli):
    outcome = train_cli(*SMOKE, "outer._target_=parts_of_mine.Flipped", "outer.flip=3")
    assert outcome.status == 2
    assert outcome.error == (
        "error: outer.flip is unknown: the class of outer takes step_size, flips. "
        "Did you mean outer.flips?"
    )
    assert not (mine / "run").exists()


def test_a_null_is_taken_away_and_an_empty_dictionary_filled(work, train_cli):
    assert train_cli(*SMOKE, "~env.goal_range").status == 0
    outcome = train_cli(*SMOKE, "~env.no_such", "hydra.run.dir=other")
    assert "env.no_such is unknown" in outcome.error
    options = ("env=gymnasium", "env.kwargs={g:5.0}", "env.id=Pendulum-v1")
    outcome = train_cli("experiment=smoke", *options, "hydra.run.dir=other")
    assert outcome.error.startswith("error: env.set_task is missing")  # the kwargs were taken


def test_a_class_that_sets_tasks_is_no_environment(mine, train_cli):
    for more in ((), ("env.id=Pendulum-v1",)):
        outcome = train_cli(*SMOKE, "env._target_=parts_of_mine.Lengths", *more)
        assert outcome.status == 2
        assert outcome.error == (
            "error: env._target_=parts_of_mine.Lengths sets the tasks of a Gymnasium environment: "
            "write env=gymnasium env.id=Pendulum-v1 env.set_task=parts_of_mine.Lengths, with the "
            "environment's id."
        )
    node = mine / "nodes" / "env" / "mine.yaml"
    node.parent.mkdir(parents=True)
    node.write_text("_target_: parts_of_mine.Lengths\n")
    outcome = train_cli(*SMOKE, "env=mine", "--config-dir=nodes")
    assert "sets the tasks of a Gymnasium environment" in outcome.error


def test_a_reward_that_sums_over_the_batch_begins_no_training(mine, train_cli):
    outcome = train_cli(*SMOKE, "env._target_=parts_of_mine.Summed")
    assert outcome.status == 2
    assert "summed.make(2, 2) lets a row depend on the others' actions or states" in outcome.error
    assert not (mine / "run").exists()
    with pytest.raises(UserError, match="lets a row depend on the others' actions"):
        train(*SMOKE[:3], "env._target_=parts_of_mine.Summed", folder="run")
    assert not (mine / "run").exists()


def test_a_reward_that_no_task_changes_is_warned_of_once(mine, train_cli):
    many = ("seed=0,1", "--multirun", "hydra.sweep.dir=sweep")
    outcome = train_cli(*SMOKE[:3], "env._target_=parts_of_mine.Blind", *many)
    assert (outcome.status, outcome.error) == (
        0,
        "warning: 8 tasks of blind gave equal rewards and observations over 10 steps of the same "
        "actions: rewards may be that sparse; otherwise let the reward or the dynamics read the "
        "task.",
    )
