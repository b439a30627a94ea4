import pickle
import sys

import numpy as np
import pytest

from envs import UserError
from envs.protocol import TaskDistribution, held_out, task_at
from envs.tasks.metaworld import MetaworldEnv, MetaworldML1, MetaworldML10, MetaworldML45, _Bridged
from envs.wrappers.task_observed import TaskObserved
from envs.wrappers.union import Union

metaworld = pytest.importorskip("metaworld", reason="Meta-World is not installed")
SawyerBase = pytest.importorskip("metaworld.sawyer_xyz_env").SawyerMocapBase


@pytest.fixture(scope="module")
def benchmark():
    """Metaworld's own benchmark object, which needs the bridge to be built on this MuJoCo."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SawyerBase, "reset_mocap_welds", _Bridged.reset_mocap_welds)
        yield metaworld.ML1("push-v3", seed=5)


def vectors(tasks):
    """Read the goals out of Meta-World's own tasks."""
    return [tuple(pickle.loads(task.data)["rand_vec"]) for task in tasks]


def test_goals_are_those_of_metaworlds_benchmark(benchmark):
    distribution = MetaworldML1("push-v3", seed=5)
    train, test = vectors(benchmark.train_tasks), vectors(benchmark.test_tasks)
    assert len(set(train)) == len(set(test)) == 50
    assert not set(train) & set(test)
    for own, there in ((distribution, train), (held_out(distribution), test)):
        drawn = own.sample(600, np.random.default_rng(0))["rand_vec"]
        assert {tuple(row) for row in drawn} == set(there)


def test_an_episode_is_metaworlds_own_to_the_bit(benchmark):
    own = benchmark.train_classes["push-v3"]()
    own.set_task(benchmark.train_tasks[4])
    task = {"class": np.array(metaworld.ML1.ENV_NAMES.index("push-v3"))}
    task["rand_vec"] = np.array(vectors(benchmark.train_tasks)[4])
    single = MetaworldML1("push-v3").single(task)
    observation, _ = own.reset()
    assert np.array_equal(single.reset(seed=0)[0], observation)
    for action in np.random.default_rng(0).uniform(-1, 1, size=(25, 4)).astype(np.float32):
        observation, reward, _, _, info = own.step(action)
        found = single.step(action)
        assert np.array_equal(found[0], observation)
        assert found[1] == reward
        assert found[4]["success"] == info["success"]


@pytest.mark.filterwarnings("ignore:Constant.s. may be too high")  # the script's own
@pytest.mark.parametrize("name", ["reach-v3", "push-v3"])
def test_the_scripted_policy_solves_ml1(name):
    from metaworld.policies import ENV_POLICY_MAP

    policy, env = ENV_POLICY_MAP[name](), MetaworldML1(name).make(2, 1)
    tasks = MetaworldML1(name).sample(2, np.random.default_rng(1))
    env.set_tasks(tasks)
    observations = env.reset([np.random.default_rng(0)] * 2)
    assert not observations[..., -3:].any()  # the goal is hidden
    success = np.zeros((2, 1))
    for _ in range(100):
        observations[..., -3:] = tasks["rand_vec"][:, None, 3:]  # the script is told it
        actions = [[policy.get_action(observations[m, 0])] for m in range(2)]
        step = env.step(np.clip(actions, -1, 1), np.ones((2, 1), dtype=bool))
        observations, success = step.observations, np.maximum(success, step.info["success"])
    assert success.tolist() == [[1], [1]]
    assert step.rewards.min() > 5  # of 10


def test_ml10_runs_all_its_classes_side_by_side():
    distribution = MetaworldML10()
    assert isinstance(distribution, TaskDistribution)
    tasks = distribution.sample(11, np.random.default_rng(2))
    counts = np.unique(tasks["class"], return_counts=True)[1]
    assert sorted(counts.tolist()) == [1] * 9 + [2]
    env = distribution.make(11, 2)
    env.set_tasks(tasks)
    start = env.reset([np.random.default_rng(row) for row in range(22)])
    assert start.shape == (11, 2, 39)
    assert np.array_equal(start[:, 0], start[:, 1])
    action = np.random.default_rng(3).uniform(-1, 1, size=(11, 2, 4))
    for _ in range(3):
        step = env.step(action, np.ones((11, 2), dtype=bool))
    for m in (0, 4, 10):  # alone, not sharing a model with another row
        single = MetaworldEnv()
        single.set_task(task_at(tasks, m))
        single.reset(seed=0)
        for _ in range(3):
            observation, reward, *_ = single.step(action[m, 1].astype(np.float32))
        assert np.array_equal(observation, step.observations[m, 1])
        assert reward == step.rewards[m, 1]
    assert set(step.info) == {"success"}
    # its environments take the test tasks too
    tests = held_out(distribution).sample(11, np.random.default_rng(4))
    assert not set(tests["class"]) & set(tasks["class"])
    env.set_tasks(tests)
    assert np.isfinite(env.reset([np.random.default_rng(row) for row in range(22)])).all()


def test_ml45_has_45_classes_to_train_on_and_five_to_test_on(monkeypatch):
    monkeypatch.setattr("envs.tasks.metaworld.GOALS", 2)  # of each class: fifty take seconds
    distribution = MetaworldML45(seed=45)
    train = distribution.sample(90, np.random.default_rng(0))
    test = held_out(distribution).sample(10, np.random.default_rng(0))
    assert np.unique(train["class"], return_counts=True)[1].tolist() == [2] * 45
    assert np.unique(test["class"], return_counts=True)[1].tolist() == [2] * 5
    assert sorted({*train["class"], *test["class"]}) == list(range(50))
    assert train["rand_vec"].shape == (90, 6)
    assert (distribution.name, distribution.horizon) == ("metaworld_ml45", 500)


def test_a_task_is_named_by_its_class():
    task = {"class": np.array(0), "rand_vec": np.array([0.125, 0.5, 0.02, -0.1, 0.75, 0.0])}
    assert MetaworldML1().describe(task) == "assembly-v3 0.12 0.50 0.02 -0.10 0.75 0.00"


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: MetaworldML1("reach-v2"), "task=reach-v2 is unknown.*Did you mean reach-v3"),
        (lambda: MetaworldML1(horizon=501), "horizon must be at most Meta-World's 500"),
        (lambda: MetaworldML10(seed=-1), "seed must be a whole number of at least 0"),
    ],
)
def test_wrong_arguments_are_refused(build, sentence):
    with pytest.raises(UserError, match=sentence):
        build()


def test_where_metaworld_is_missing_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(UserError, match=r"Meta-World is not installed .*--no-deps metaworld==3"):
        MetaworldML10()


def test_the_measure_of_the_benchmarks_is_success():
    ml1 = MetaworldML1()
    assert [one.measure for one in (ml1, ml1.held_out, TaskObserved(ml1))] == ["success"] * 3
    assert Union([ml1, MetaworldML1(seed=1)]).measure == "success"
