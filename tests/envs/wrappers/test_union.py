import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.backends.mujoco.single import Marker
from envs.checking import TaskDistributionContract
from envs.errors import UserError
from envs.protocol import TaskDistribution, held_out, stored_tasks
from envs.tasks.bandit import MultiArmedBandit
from envs.tasks.half_cheetah import HalfCheetahDir, HalfCheetahVel
from envs.tasks.point import PointNavigation
from envs.tasks.random_mdp import RandomMDP
from envs.wrappers.held_out import HeldOut
from envs.wrappers.task_observed import TaskObserved
from envs.wrappers.union import Union
from maml_rl.configuration.building import build_distribution
from maml_rl.evaluation.protocol import task_groups
from tests.support.smoke import smoke_config


class Wide(PointNavigation):
    """A point that arrives early, records where it is and shows its goal."""

    def terminated(self, state, task):
        return abs(state["qpos"] - task["goal"]).max(-1) < 0.3

    def info(self, before, action, after, task):
        return {"height": after["qpos"][..., 1], "far": after["qpos"][..., 0] > 0.05}

    def markers(self, task):
        return [Marker((*task["goal"], 0.0))]


class Timed(PointNavigation):
    """A point whose own clock cuts off its third step."""

    def make(self, num_tasks, slots_per_task, threads=1):
        env = super().make(num_tasks, slots_per_task, threads)
        env.elapsed, reset, step = 0, env.reset, env.step

        def timed_reset(rngs):
            env.elapsed = 0
            return reset(rngs)

        def timed_step(actions, active):
            env.elapsed += 1
            return step(actions, active)._replace(truncated=active & (env.elapsed == 3))

        env.reset, env.step = timed_reset, timed_step
        return env


def cheetahs(horizon=20):
    return [HalfCheetahDir(horizon=horizon), HalfCheetahVel(horizon=horizon)]


def generators(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


class TestUnionOfCheetahs(TaskDistributionContract):
    def build(self):
        return Union(cheetahs())


class TestUnionOfTables(TaskDistributionContract):
    def build(self):
        tables = (MultiArmedBandit(arms=3, horizon=6), RandomMDP(states=1, actions=3, horizon=6))
        return Union(tables, weights=[1, 2])


class TestHeldOut(TaskDistributionContract):
    def build(self):
        return HeldOut(HalfCheetahVel(horizon=9), HalfCheetahVel(horizon=9, velocities=(2.0, 3.0)))


class TestHeldOutOfUnions(TaskDistributionContract):
    def build(self):
        fast = HalfCheetahVel(horizon=9, velocities=(2.0, 3.0))
        return HeldOut(Union(cheetahs(9)), Union([HalfCheetahDir(horizon=9), fast]))


class TestUnionOfHeldOut(TaskDistributionContract):
    def build(self):
        split = HeldOut(PointNavigation(horizon=9), PointNavigation(horizon=9, goal_range=2.0))
        return Union([split, Wide(horizon=9)])


def test_a_task_is_a_member_s_and_says_nothing_of_the_others():
    union = Union(cheetahs(), weights=[3, 1])
    tasks = union.sample(2000, np.random.default_rng(0))
    assert sorted(tasks) == ["0/direction", "1/velocity", "member"]
    member = tasks["member"]
    # 2000 draws with probability 1/4: a standard error of 0.0097
    assert member.mean() == pytest.approx(0.25, abs=0.04)
    assert set(tasks["0/direction"][member == 0]) == {1.0, -1.0}
    assert abs(tasks["0/direction"][member == 0].mean()) < 0.11  # 4 / sqrt(1500)
    assert tasks["1/velocity"][member == 1].mean() == pytest.approx(1.0, abs=0.11)
    assert len(set(tasks["0/direction"][member == 1])) == 1
    assert len(set(tasks["1/velocity"][member == 0])) == 1
    again = Union(cheetahs(), weights=[0.75, 0.25]).sample(2000, np.random.default_rng(0))
    assert all(np.array_equal(leaf, again[name]) for name, leaf in tasks.items())
    only = Union(cheetahs(), weights=[1e9, 1e-9]).sample(5, np.random.default_rng(1))
    assert only["member"].tolist() == [0] * 5  # the other draws none


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_those_of_the_member_alone_to_the_bit(threads):
    union = Union([*cheetahs(8), HalfCheetahVel(horizon=8, control_cost=1.0)])
    tasks = {
        "member": np.array([1, 0, 2, 1]),
        "0/direction": np.array([1.0, -1.0, 1.0, 1.0]),
        "1/velocity": np.array([0.5, 9.0, 9.0, 1.5]),
        "2/velocity": np.array([9.0, 9.0, 0.25, 9.0]),
    }
    actions = np.random.default_rng(0).normal(scale=5.0, size=(8, 4, 3, 6))
    active = np.random.default_rng(1).random((8, 4, 3)) < np.linspace(1.2, 0.2, 8)[:, None, None]
    active = np.logical_and.accumulate(active)  # as rows end, one by one
    assert active[0].all()
    assert not active[-1].all()
    env = union.make(4, 3, threads)
    env.set_tasks(tasks)
    start = env.reset(generators(*range(12)))
    steps = [env.step(*now) for now in zip(actions, active, strict=True)]
    for m in range(4):
        member, own = union.member_of({name: leaf[m] for name, leaf in tasks.items()})
        alone = union.members[member].make(1, 3)
        alone.set_tasks({name: leaf[None] for name, leaf in own.items()})
        assert np.array_equal(alone.reset(generators(*range(3 * m, 3 * m + 3)))[0], start[m])
        for step, action, running in zip(steps, actions, active, strict=True):
            if not running[m].any():
                break
            found, on = alone.step(action[m : m + 1], running[m : m + 1]), running[m]
            assert np.array_equal(found.observations[0, on], step.observations[m, on])
            assert np.array_equal(found.rewards[0, on], step.rewards[m, on])
            assert np.array_equal(found.info["x_velocity"][0, on], step.info["x_velocity"][m, on])
            assert not step.terminated[m].any()
        alone.close()
    # the same body and numbers, another member: other rewards
    assert abs(steps[0].rewards[0] - steps[0].rewards[2]).min() > 0.01
    env.close()


def test_ends_are_the_member_s_and_what_a_member_does_not_record_is_left_out():
    union = Union([PointNavigation(horizon=5), Wide(horizon=5), Timed(horizon=5)])
    goal = np.tile([0.4, 0.2], (3, 1))
    env = union.make(3, 1)
    env.set_tasks({"member": np.arange(3), **{f"{member}/goal": goal for member in range(3)}})
    env.reset(generators(0, 1, 2))
    active, ended, cut = np.ones((3, 1), dtype=bool), [], []
    for _t in range(5):
        step = env.step(np.tile([1.0, 0.25], (3, 1, 1)), active)  # scaled by 0.1
        ended.append(step.terminated.ravel().tolist())
        cut.append(step.truncated.ravel().tolist() if step.truncated is not None else None)
        if active[1]:
            # after step t + 1 the point is at (0.1, 0.025) (t + 1)
            assert step.info == {}  # Wide alone records height and far
        active = active & ~step.terminated
        if step.truncated is not None:
            active = active & ~step.truncated
    # Wide ends within 0.3 in both, at 0.2; the others go on to (0.5, 0.125), which is not the goal
    assert [row[1] for row in ended][:2] == [False, True]
    assert not any(row[0] or row[2] for row in ended)
    assert cut[:3] == [[False] * 3, [False] * 3, [False, False, True]]
    assert cut[3:] == [None, None]  # the member with a clock is over


def test_what_every_member_records_is_recorded():
    union = Union([Wide(horizon=5), Wide(horizon=5)])
    env = union.make(2, 1)
    env.set_tasks({"member": np.arange(2), **{f"{m}/goal": np.full((2, 2), 0.4) for m in (0, 1)}})
    env.reset(generators(0, 1))
    step = env.step(np.array([[[1.0, 0.25]], [[-1.0, 0.5]]]), np.ones((2, 1), dtype=bool))
    assert step.info["height"].ravel() == pytest.approx([0.025, 0.05])  # scaled by 0.1
    assert step.info["far"].tolist() == [[True], [False]]


def test_observations_of_rows_not_stepped_stay_where_they_were():
    union = Union([PointNavigation(horizon=5), Wide(horizon=5)])
    env = union.make(2, 1)
    env.set_tasks(
        {"member": np.array([0, 1]), "0/goal": np.ones((2, 2)), "1/goal": np.ones((2, 2))}
    )
    env.reset(generators(0, 1))
    east = np.tile([1.0, 0.5], (2, 1, 1))
    env.step(east, np.ones((2, 1), dtype=bool))
    step = env.step(east, np.array([[False], [True]]))
    assert step.observations[:, 0] == pytest.approx(np.array([[0.1, 0.05], [0.2, 0.1]]))
    step.observations[:] = 77.0  # the caller's to write on
    step = env.step(east, np.array([[True], [False]]))
    assert step.observations[:, 0] == pytest.approx(np.array([[0.2, 0.1], [0.2, 0.1]]))


def test_equal_generators_are_not_used_twice():
    """A row's generator goes to its own member only, whatever the order of the members."""
    union = Union(cheetahs())
    env = union.make(2, 2)
    tasks = {"0/direction": np.ones(2), "1/velocity": np.ones(2)}
    starts = []
    for member in ([0, 1], [1, 0], [1, 1]):
        env.set_tasks({"member": np.array(member), **tasks})
        starts.append(env.reset(generators(4, 5, 6, 7)))
    assert np.array_equal(starts[0], starts[1])
    assert np.array_equal(starts[0], starts[2])
    assert len(np.unique(starts[0].reshape(4, -1), axis=0)) == 4


def test_wrong_numbers_of_tasks_are_refused():
    env = Union(cheetahs()).make(2, 1)
    with pytest.raises(UserError, match="expected 2 tasks, not 1"):
        env.set_tasks({"member": np.zeros(1), "0/direction": np.ones(1), "1/velocity": np.ones(1)})


def test_finite_tasks_are_those_that_are_equally_likely():
    directions = [HalfCheetahDir(), HalfCheetahDir(control_cost=1.0)]
    for weights in (None, [2, 2]):
        finite = Union(directions, weights).finite_tasks()
        assert finite["member"].tolist() == [0, 0, 1, 1]
        assert finite["0/direction"].tolist()[:2] == [1.0, -1.0]
        assert finite["1/direction"].tolist()[2:] == [1.0, -1.0]
        assert len(set(finite["0/direction"][2:])) == len(set(finite["1/direction"][:2])) == 1
    assert Union(directions, [1, 2]).finite_tasks() is None
    assert Union(cheetahs()).finite_tasks() is None
    nested = Union([Union(directions), HalfCheetahDir()])  # four tasks and two
    assert nested.finite_tasks() is None
    assert len(Union(nested.members, [2, 1]).finite_tasks()["member"]) == 6
    stored = stored_tasks(Union(directions), 8, np.random.default_rng(0))
    assert stored["member"].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_a_task_is_named_and_shown_as_its_member_says():
    union = Union([*cheetahs(), HalfCheetahDir(horizon=20)])
    assert isinstance(union, TaskDistribution)
    assert (union.name, union.horizon) == ("union_of_half_cheetah_dir_and_half_cheetah_vel", 20)
    task = {"member": 1, "0/direction": 1.0, "1/velocity": 1.25, "2/direction": -1.0}
    velocity = union.members[1].describe({"velocity": 1.25})
    assert union.describe(task) == f"half_cheetah_vel {velocity}"
    assert union.describe({**task, "member": 2}) == "half_cheetah_dir (2) backward"
    assert union.member_of(task) == (1, {"velocity": 1.25})
    points = Union([PointNavigation(), Wide()])
    goals = {"0/goal": np.array([0.25, 0.5]), "1/goal": np.array([-0.5, 0.125])}
    (marker,) = points.markers({"member": 1, **goals})
    assert marker.position == (-0.5, 0.125, 0.0)
    assert Union([MultiArmedBandit(), MultiArmedBandit()]).markers(
        {"member": 0, **{f"{i}/probabilities": np.ones(5) for i in range(2)}}
    ) == ()  # fmt: skip


def test_what_is_applied_is_what_all_members_apply():
    action = np.array([3.0, -30.0, 1.0, 0.5, 0.0, -2.0])
    wanted = [0.3, -1.0, 0.1, 0.05, 0.0, -0.2]  # a tenth, within [-1, 1]
    assert Union(cheetahs()).applied(action) == pytest.approx(wanted)
    mixed = Union([HalfCheetahDir(), HalfCheetahVel(action_scale=1.0)])
    with pytest.raises(UserError, match="apply actions differently"):
        mixed.applied(action)
    mixed.make(1, 1).close()  # the batched form applies each its own


def test_the_single_environment_is_that_of_the_task_s_member():
    union = Union(cheetahs(3))
    task = {"member": np.int64(1), "0/direction": np.float64(1.0), "1/velocity": np.float64(0.5)}
    env, own = union.single(task), HalfCheetahVel(horizon=3).single({"velocity": 0.5})
    seen, info = env.reset(seed=3)
    assert np.array_equal(seen, own.reset(seed=3)[0])
    assert info["task"] == task
    action = np.linspace(-1.0, 1.0, 6)
    for step in range(3):
        found, expected = env.step(action), own.step(action)
        assert np.array_equal(found[0], expected[0])
        assert found[1:4] == expected[1:4]
        assert found[3] is (step == 2)
        assert found[4]["x_velocity"] == expected[4]["x_velocity"]
        assert found[4]["task"] == task
    env.set_task({**task, "member": np.int64(0)})
    again = HalfCheetahDir(horizon=3).single({"direction": 1.0})
    assert np.array_equal(env.reset(seed=4)[0], again.reset(seed=4)[0])
    assert env.step(action)[1] == again.step(action)[1]
    env.reset(options={"task": task})
    assert env.step(action)[4]["task"]["member"] == 1
    env.close()


def test_the_single_environment_draws_members_and_is_determined_by_its_seed():
    union = Union([MultiArmedBandit(arms=3, horizon=4), RandomMDP(1, 3, 4)])
    check_env(union.single(), skip_render_check=True)
    runs = []
    for _ in range(2):
        env, run = union.single(render_mode="rgb_array", width=200, height=150), []
        for episode in range(12):
            _, info = env.reset(seed=9 if episode == 0 else None)
            rewards = [env.step(action)[1] for action in (0, 1, 2)]
            run.append((int(info["task"]["member"]), rewards))
        runs.append(run)
    assert runs[0] == runs[1]
    assert {member for member, _ in runs[0]} == {0, 1}
    for member, rewards in runs[0]:  # a bandit pays 0 or 1
        assert set(rewards) <= {0.0, 1.0} if member == 0 else not set(rewards) & {0.0, 1.0}
    assert env.render().shape == (150, 200, 3)
    assert env.metadata["render_modes"] == ["rgb_array"]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Union([]), r"members is empty"),
        (
            lambda: Union({"first": PointNavigation(), "second": None}),
            r"^members\.second must be a task distribution, not None",
        ),
        (
            lambda: Union({"first": PointNavigation(), "other": HalfCheetahDir()}),
            r"members\.first and members\.other must have the same observation_space, "
            r"but point_navigation has .*\(2,\).* and half_cheetah_dir has .*\(20,\)",
        ),
        (
            lambda: Union([MultiArmedBandit(arms=3), MultiArmedBandit(arms=4)]),
            r"members\.0 and members\.1 must have the same action_space, but .*"
            r"Discrete\(3\) and .* Discrete\(4\)",
        ),
        (
            lambda: Union([HalfCheetahDir(horizon=5), HalfCheetahVel(horizon=6)]),
            r"the same horizon, but half_cheetah_dir has 5 and half_cheetah_vel has 6",
        ),
        (
            lambda: Union(cheetahs(5), horizon=7),
            r"horizon=7 must be the horizon of the distributions combined, which is 5",
        ),
        (lambda: Union(cheetahs(), [1, 2, 3]), r"a number for each of 2 members, not 3 numbers"),
        (lambda: Union(cheetahs(), [1, -1]), r"weights must be a finite number above 0"),
        (
            lambda: HeldOut(HalfCheetahDir(), HalfCheetahVel()),
            r"^test has tasks of velocity \[\] and train of direction \[\]",
        ),
        (
            lambda: HeldOut(PointNavigation(horizon=5), PointNavigation()),
            r"^train and test must have the same horizon, but .* 5 and .* 100",
        ),
        (
            lambda: HeldOut(MultiArmedBandit(), MultiArmedBandit("k10_n100")),
            r"the same action_space",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_sentence(build, sentence):
    with pytest.raises(UserError, match=sentence):
        build()


def test_held_out_tasks_are_those_of_the_test_distribution():
    split = HeldOut(HalfCheetahVel(), HalfCheetahVel(velocities=(2.0, 3.0)))
    assert isinstance(split, TaskDistribution)
    assert (split.name, split.horizon) == ("half_cheetah_vel_held_out", 100)
    assert (split.distribution is split.train, split.action_scale) == (True, 0.1)
    train = split.sample(500, np.random.default_rng(0))["velocity"]
    test = stored_tasks(held_out(split), 500, np.random.default_rng(0))["velocity"]
    assert train == pytest.approx(2.0 * np.random.default_rng(0).random(500))
    assert test == pytest.approx(2.0 + np.random.default_rng(0).random(500))
    assert train.max() < 2.0 <= test.min()
    task = {"velocity": np.float64(2.5)}
    assert split.describe(task) == HalfCheetahVel().describe(task)
    assert split.finite_tasks() is None
    assert HeldOut(HalfCheetahDir(), HalfCheetahDir()).finite_tasks()["direction"].size == 2
    assert split.single({"velocity": 2.5}).reset(seed=0)[1]["task"]["velocity"] == 2.5
    with pytest.raises(AttributeError, match="colour"):
        split.colour  # noqa: B018


def test_training_s_environments_run_the_held_out_tasks():
    slow, fast = HalfCheetahVel(horizon=3), HalfCheetahVel(horizon=3, velocities=(2.0, 3.0))
    tasks = fast.sample(2, np.random.default_rng(1))
    actions, rewards = np.random.default_rng(2).normal(size=(3, 2, 2, 6)), []
    for env in (HeldOut(slow, fast).make(2, 2), fast.make(2, 2)):
        env.set_tasks(tasks)
        env.reset(generators(*range(4)))
        rewards.append([env.step(now, np.ones((2, 2), dtype=bool)).rewards for now in actions])
        env.close()
    assert np.array_equal(rewards[0], rewards[1])
    assert np.mean(rewards[0]) < -1.5  # still slow


def test_a_union_has_held_out_tasks_where_a_member_has():
    fast = HalfCheetahVel(horizon=20, velocities=(2.0, 3.0))
    direction, velocity = cheetahs()
    assert held_out(union := Union([direction, velocity])) is union
    union = Union([direction, HeldOut(velocity, fast)], weights=[1, 3])
    tasks = held_out(union).sample(400, np.random.default_rng(0))
    assert tasks["member"].mean() == pytest.approx(0.75, abs=0.09)  # standard error 0.022
    assert tasks["1/velocity"][tasks["member"] == 1].min() >= 2.0
    assert union.sample(400, np.random.default_rng(0))["1/velocity"].max() < 2.0


def test_the_oracle_sees_the_tasks_of_combinations():
    union = Union(cheetahs(4))
    observed = TaskObserved(union)
    assert observed.observation_space.shape == (23,)
    env = observed.make(2, 1)
    env.set_tasks(
        {"member": np.array([1, 0]), "0/direction": -np.ones(2), "1/velocity": np.array([0.5, 1.5])}
    )
    seen = env.reset(generators(0, 1))
    # "0/direction", "1/velocity", "member"
    assert seen[:, 0, 20:].tolist() == [[-1.0, 0.5, 1.0], [-1.0, 1.5, 0.0]]
    env.close()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Union([MultiArmedBandit(), MultiArmedBandit()], [1, 3]),
        lambda: HeldOut(MultiArmedBandit(), MultiArmedBandit()),
    ],
)
def test_they_survive_pickling(build):
    before, after = build(), pickle.loads(pickle.dumps(build()))
    one, other = (split.sample(6, np.random.default_rng(2)) for split in (before, after))
    assert all(np.array_equal(leaf, other[name]) for name, leaf in one.items())
    assert (after.name, after.horizon) == (before.name, 100)


def test_the_nodes_compose_others():
    config = smoke_config("env=held_out")
    split = build_distribution(config)
    assert (split.name, split.horizon) == ("half_cheetah_vel_held_out", 10)
    assert (split.train.preset.velocities, split.held_out.preset.velocities) == ((0, 2), (2, 3))
    wider = smoke_config("env=held_out", "env.test.velocities=[3,4]", "env.horizon=7")
    assert build_distribution(wider).held_out.preset.velocities == (3.0, 4.0)
    assert build_distribution(wider).held_out.horizon == 7
    union = build_distribution(smoke_config("env=union", "env.weights=[3,1]"))
    assert union.name == "union_of_half_cheetah_dir_and_half_cheetah_vel"
    assert (union.horizon, union.weights.tolist()) == (10, [0.75, 0.25])


def test_other_members_are_chosen_on_the_command_line():
    chosen = ["env@env.train=point_navigation", "env@env.test=point_navigation"]
    without = ["~env.train.velocities", "~env.test.velocities", "env.test.goal_range=2.0"]
    split = build_distribution(smoke_config("env=held_out", *chosen, *without))
    assert (split.name, split.horizon) == ("point_navigation_held_out", 10)
    assert (split.train.preset.goal_range, split.held_out.preset.goal_range) == (0.5, 2.0)
    third = ["+env@env.members.third=half_cheetah_vel", "+env.members.third.horizon=10"]
    union = build_distribution(smoke_config("env=union", *third))
    assert [own.name for own in union.members] == [
        *("half_cheetah_dir", "half_cheetah_vel", "half_cheetah_vel"),
    ]
    bandits = [f"env@env.members.{name}=multi_armed_bandit" for name in ("first", "second")]
    config = smoke_config("env=union", *bandits, "env.members.second.preset=k5_n500")
    assert config.policy._target_ == "maml_rl.algorithm.policies.CategoricalMLP"
    assert build_distribution(config).action_space.n == 5


def test_held_out_tasks_must_run_as_they_would_in_their_own_environments():
    costly = HalfCheetahVel(velocities=[2.0, 3.0], control_cost=5.0)
    with pytest.raises(UserError) as error:
        HeldOut(HalfCheetahVel(), costly)
    assert str(error.value).startswith(
        "train and test do not differ in the range of their tasks alone: of a test task "
        "stepped by train, task 0, episode 0 has other rewards in step 1"
    )


def test_results_of_a_union_are_grouped_by_member():
    union = Union([PointNavigation(horizon=5), Wide(horizon=5)])
    tasks = union.sample(6, np.random.default_rng(0))
    groups = task_groups(union, tasks)
    assert set(groups) == {"point_navigation", "wide"}
    assert groups["point_navigation"].tolist() == (tasks["member"] == 0).tolist()


def test_members_of_one_class_are_told_apart_by_their_keys():
    slow, fast = (HalfCheetahVel(horizon=5, velocities=own) for own in ((0.0, 1.0), (2.0, 3.0)))
    union = Union({"slow": slow, "fast": fast, "way": HalfCheetahDir(horizon=5)})
    titles = ["half_cheetah_vel (slow)", "half_cheetah_vel (fast)", "half_cheetah_dir"]
    assert union.titles == titles
    tasks = union.sample(9, np.random.default_rng(0))
    groups = task_groups(union, tasks)
    assert set(groups) == set(titles)
    assert groups[titles[1]].tolist() == (tasks["member"] == 1).tolist()
    first = {name: leaf[tasks["member"] == 1][0] for name, leaf in tasks.items()}
    assert union.describe(first).startswith("half_cheetah_vel (fast) ")
    assert Union([slow, fast]).titles == ["half_cheetah_vel (0)", "half_cheetah_vel (1)"]
    kept = held_out(Union({"a": slow, "b": HeldOut(slow, fast)}))
    assert kept.titles == ["half_cheetah_vel (a)", "half_cheetah_vel (b)"]


def test_the_gymnasium_form_needs_an_episode_before_it_steps_or_draws():
    env = Union([PointNavigation(horizon=5), Wide(horizon=5)]).single()
    for call in (env.render, lambda: env.step(np.zeros(2))):
        with pytest.raises(gymnasium.error.ResetNeeded, match="call reset\\(\\) first"):
            call()
    env.reset(seed=0)
    assert env.step(np.zeros(2, dtype=np.float32))[3] is False
