import json

import numpy as np
import pytest
from gymnasium import spaces

from envs import (
    AntHeading,
    CartPole,
    HalfCheetahDir,
    HalfCheetahVel,
    Pendulum,
    PointNavigation,
    UserError,
)
from envs.errors import NoGymnasiumFormError
from envs.protocol import (
    TaskDistribution,
    check_complete,
    check_distribution,
    count_tasks,
    draw_tasks,
    held_out,
    stored_tasks,
    take_tasks,
    task_at,
    tasks_from_json,
    tasks_to_json,
)


class Stub(TaskDistribution):
    """Three goals whose `sample` returns whatever it was built with."""

    name = "stub"
    observation_space = action_space = spaces.Box(-1.0, 1.0, (2,))
    horizon = 3

    def __init__(self, drawn=None):
        self.drawn = drawn

    def sample(self, num_tasks, rng):
        return self.drawn

    def finite_tasks(self):
        return {"goal": np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), "gear": np.array([7, 8, 9])}

    def describe(self, task):
        return str(task["goal"])

    def make(self, num_tasks, slots_per_task, threads=1):
        raise NotImplementedError


def test_a_distribution_has_a_default_for_all_but_its_tasks_and_environments():
    bare = type("HopperSpin", (TaskDistribution,), {"sample": Stub.sample, "make": Stub.make})()
    tasks = {"speed": np.array([0.12345, 2.0])}
    assert bare.name == "hopper_spin"
    assert bare.describe(task_at(tasks, 0)) == "speed=0.123"
    assert bare.applied(tasks["speed"]) is tasks["speed"]
    assert (bare.held_out, bare.finite_tasks(), bare.group_of(task_at(tasks, 0))) == (None,) * 3
    assert (bare.optimal_return(tasks), bare.trajectories(tasks, np.zeros(0), {})) == (None, None)
    assert (bare.markers(task_at(tasks, 0)), bare.presets, bare.preset_name) == ((), {}, None)
    assert held_out(bare) is bare
    with pytest.raises(NoGymnasiumFormError, match="hopper_spin has no Gymnasium form"):
        bare.single()


def test_each_finite_task_is_a_group_and_others_are_in_none():
    stub = Stub()
    tasks = stub.finite_tasks()
    assert stub.group_of(task_at(tasks, 1)) == "[0.3 0.4]"
    assert stub.group_of({"goal": tasks["goal"][1], "gear": np.array(7)}) == ""


def test_what_a_class_lacks_is_named_with_its_arguments():
    with pytest.raises(UserError) as error:
        check_complete(type("Mine", (TaskDistribution,), {}))
    assert str(error.value) == (
        "Mine must define make(num_tasks, slots_per_task, threads) and sample(num_tasks, rng)."
    )
    check_complete(Stub)
    check_complete(dict)


@pytest.mark.parametrize(
    ("built", "sentence"),
    [
        (
            None,
            "env must be a task distribution, not None: inherit from the base class, class "
            "Mine(envs.TaskDistribution), and write sample and make; all else has a default.",
        ),
        (
            type("Hopping", (), {})(),
            "env must be a task distribution, not a Hopping: inherit from the base class, class "
            "Hopping(envs.TaskDistribution), and write sample and make; all else has a default.",
        ),
    ],
)
def test_what_is_no_distribution_is_told_the_base_class(built, sentence):
    with pytest.raises(UserError) as error:
        check_distribution("env", built)
    assert str(error.value) == sentence


def test_shipped_distributions_are_named_after_their_classes():
    built = [HalfCheetahDir(), HalfCheetahVel(), PointNavigation()]
    assert all(isinstance(distribution, TaskDistribution) for distribution in built)
    assert [d.name for d in built] == [
        "half_cheetah_dir",
        "half_cheetah_vel",
        "point_navigation",
    ]


def test_tasks_are_counted_and_taken_as_copies():
    tasks = {"goal": np.arange(6.0).reshape(3, 2), "direction": np.array([1.0, -1.0, 1.0])}
    assert count_tasks(tasks) == 3
    taken = take_tasks(tasks, slice(1, 3))
    assert taken["goal"].tolist() == [[2.0, 3.0], [4.0, 5.0]]
    taken["goal"][:] = 99.0
    assert tasks["goal"][1].tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    "tasks", [{}, {"goal": np.zeros((3, 2)), "direction": np.array([1.0, -1.0])}]
)
def test_count_tasks_refuses_unequal_leading_sizes(tasks):
    with pytest.raises(UserError, match="arrays of one leading size"):
        count_tasks(tasks)


def test_a_finite_set_is_stored_in_equal_counts_in_turn():
    tasks = stored_tasks(Stub(), 6, np.random.default_rng(0))
    assert tasks["gear"].tolist() == [7, 8, 9, 7, 8, 9]
    assert tasks["goal"][3:].tolist() == [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]
    directions = stored_tasks(HalfCheetahDir(), 4, np.random.default_rng(0))["direction"]
    assert directions.tolist() == [1.0, -1.0, 1.0, -1.0]


def test_a_finite_set_refuses_a_count_that_is_no_multiple():
    with pytest.raises(UserError) as error:
        stored_tasks(HalfCheetahDir(), 5, np.random.default_rng(0))
    assert str(error.value) == (
        "half_cheetah_dir has 2 tasks, evaluated in equal counts: "
        "ask for a multiple of 2 tasks, not 5."
    )


@pytest.mark.parametrize("build", [HalfCheetahVel, PointNavigation])
def test_other_sets_are_drawn_from_the_generator_and_nothing_else(build):
    def drawn(seed):
        (leaf,) = stored_tasks(build(), 5, np.random.default_rng(seed)).values()
        return leaf

    assert len(drawn(3)) == 5
    assert np.array_equal(drawn(3), drawn(3))
    assert not np.array_equal(drawn(3), drawn(4))


@pytest.mark.parametrize(
    "tasks",
    [
        {"goal": np.array([[0.1, 1 / 3], [-1e-17, np.pi]]), "gear": np.array([3, -4])},
        {"direction": np.array([1.0, -1.0])},
    ],
)
def test_tasks_survive_json_to_the_bit(tasks):
    back = tasks_from_json(json.loads(json.dumps(tasks_to_json(tasks))))
    assert back.keys() == tasks.keys()
    for name, leaf in tasks.items():
        assert np.array_equal(back[name], leaf)
        assert back[name].dtype == leaf.dtype


@pytest.mark.parametrize("leaf", [np.array([0.5, 0.7]), np.float64(0.5), np.ones((1, 3))])
def test_draw_tasks_names_the_distribution_whose_sample_is_wrong(leaf):
    with pytest.raises(UserError) as error:
        draw_tasks(Stub({"velocity": leaf}), 3, np.random.default_rng(0))
    assert str(error.value) == (
        f"stub.sample(3, rng) must return arrays of leading size 3, "
        f"but 'velocity' has shape {np.shape(leaf)}."
    )


def test_a_grid_of_velocities_spans_the_preset_or_what_is_asked_for():
    grid = HalfCheetahVel().grid(5)
    assert grid.parameter == "target velocity, m/s"
    assert grid.tasks["velocity"].tolist() == grid.values.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert HalfCheetahVel().grid(3, (2.0, 3.0)).values.tolist() == [2.0, 2.5, 3.0]


def test_a_grid_of_headings_goes_around_once():
    grid = AntHeading().grid(4)
    assert grid.values.tolist() == [0.0, 90.0, 180.0, 270.0]
    expected = [[1, 0], [0, 1], [-1, 0], [0, -1]]
    assert np.abs(grid.tasks["heading"] - expected).max() < 1e-15


def test_a_grid_of_any_scalar_spans_what_is_sampled():
    grid = Pendulum(gravity=(5.0, 15.0)).grid(11)
    assert grid.parameter == "gravity"
    assert 5.0 <= grid.values[0] < 5.05
    assert 14.95 < grid.values[-1] <= 15.0
    assert np.diff(grid.values) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("build", "told"),
    [(HalfCheetahDir, "direction []"), (PointNavigation, "goal [2]"), (CartPole, "pole_length []")],
)
def test_tasks_without_a_scalar_have_no_grid(build, told):
    with pytest.raises(UserError) as error:
        build().grid(5)
    assert str(error.value).startswith(f"{build().name} has no grid of tasks: they are told apart")
    assert told in str(error.value)
