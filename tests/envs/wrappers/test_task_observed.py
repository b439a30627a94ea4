"""The oracle's environments: each task's numbers are appended to what is observed."""

import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs import HalfCheetahDir, PointNavigation, Step, TaskDistribution
from envs.protocol import draw_tasks, stored_tasks
from envs.wrappers.task_observed import TaskObserved
from maml_rl.algorithm.policies import GaussianMLP
from maml_rl.configuration.building import build_distribution
from maml_rl.randomness import Key
from maml_rl.sampling.collector import Collector
from tests.support.run_files import read_metrics
from tests.support.smoke import smoke_config, train_smoke


class Leaves(TaskDistribution):
    """Tasks of several leaves and shapes; what is observed is counted up from the row's number."""

    name, horizon = "leaves", 3
    action_space = spaces.Box(-1.0, 1.0, (2,))

    def __init__(self, dtype=np.float64):
        self.observation_space = spaces.Box(-2.0, 5.0, (2,), dtype=dtype)
        self.dtype = dtype

    def sample(self, num_tasks, rng):
        return {
            "speed": rng.normal(size=num_tasks),
            "goal": rng.normal(size=(num_tasks, 2)),
            "Mass": rng.normal(size=(num_tasks, 2, 2)),
        }

    def describe(self, task):
        return f"speed {task['speed']:.1f}"

    def make(self, num_tasks, slots_per_task, threads=1):
        return BatchedLeaves(num_tasks, slots_per_task, threads, self.dtype)


class BatchedLeaves:
    def __init__(self, num_tasks, slots, threads, dtype):
        self.shape, self.threads, self.dtype = (num_tasks, slots), threads, dtype
        self.closed = False

    def set_tasks(self, tasks):
        self.tasks = tasks

    def reset(self, rngs):
        self.elapsed = 0
        return self._seen()

    def _seen(self):
        rows = np.arange(np.prod(self.shape)).reshape(self.shape)
        return np.stack([rows, np.full(self.shape, self.elapsed)], -1).astype(self.dtype)

    def step(self, actions, active):
        self.elapsed += 1
        reward = actions.sum(-1) * self.tasks["speed"][:, None]
        ended = np.broadcast_to(np.array([True, False])[:, None], self.shape)
        return Step(self._seen(), reward, ended, {"elapsed": np.full(self.shape, self.elapsed)})

    def close(self):
        self.closed = True


# "Mass" sorts before "goal", which sorts before "speed"; a leaf's numbers are in row-major order.
TASKS = {
    "speed": np.array([0.5, -3.0]),
    "goal": np.array([[10.0, 11.0], [20.0, 21.0]]),
    "Mass": np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]),
}
FEATURES = [[1.0, 2.0, 3.0, 4.0, 10.0, 11.0, 0.5], [5.0, 6.0, 7.0, 8.0, 20.0, 21.0, -3.0]]


@pytest.mark.parametrize("build", [Leaves, PointNavigation, HalfCheetahDir])
def test_it_is_a_task_distribution(build):
    assert isinstance(TaskObserved(build()), TaskDistribution)


@pytest.mark.parametrize(
    ("build", "size", "features"),
    [(PointNavigation, 2, 2), (HalfCheetahDir, 20, 1), (Leaves, 2, 7)],
)
def test_the_observation_space_has_room_for_the_task(build, size, features):
    own = build()
    observed = TaskObserved(own)
    assert own.observation_space.shape == (size,)
    assert observed.observation_space.shape == (size + features,)
    assert observed.action_space is own.action_space
    env = observed.make(2, 3)
    env.set_tasks(observed.sample(2, np.random.default_rng(0)))
    start = env.reset([np.random.default_rng(row) for row in range(6)])
    step = env.step(np.zeros((2, 3, own.action_space.shape[0])), np.ones((2, 3), dtype=bool))
    assert start.shape == step.observations.shape == (2, 3, size + features)
    env.close()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bounds_are_the_distribution_s_own_and_none_for_the_task(dtype):
    space = TaskObserved(Leaves(dtype)).observation_space
    assert space.low.tolist() == [-2.0, -2.0, *[-np.inf] * 7]
    assert space.high.tolist() == [5.0, 5.0, *[np.inf] * 7]
    assert space.dtype == dtype


def test_leaves_of_every_shape_are_appended_in_the_order_of_their_names():
    env = TaskObserved(Leaves()).make(2, 3)
    env.set_tasks(TASKS)
    start = env.reset([None] * 6)
    step = env.step(np.ones((2, 3, 2)), np.ones((2, 3), dtype=bool))
    for elapsed, seen in enumerate((start, step.observations)):
        for m in range(2):
            for b in range(3):
                assert seen[m, b].tolist() == [3 * m + b, elapsed, *FEATURES[m]]
    # the order in which a dictionary was filled says nothing
    env.set_tasks({name: TASKS[name] for name in sorted(TASKS, reverse=True)})
    assert np.array_equal(env.reset([None] * 6), start)


def test_all_but_the_observation_is_the_environment_s_own():
    env = TaskObserved(Leaves()).make(2, 3, threads=5)
    env.set_tasks(TASKS)
    env.reset([None] * 6)
    step = env.step(np.full((2, 3, 2), 0.25), np.ones((2, 3), dtype=bool))
    assert step.rewards.tolist() == [[0.25] * 3, [-1.5] * 3]
    assert step.terminated.tolist() == [[True] * 3, [False] * 3]
    assert step.info["elapsed"].tolist() == [[1] * 3] * 2
    assert (env._env.threads, env._env.closed) == (5, False)
    env.close()
    assert env._env.closed


def test_new_tasks_replace_the_old_ones():
    env = TaskObserved(Leaves()).make(2, 1)
    for tasks in (TASKS, {name: leaf[::-1] + 1.0 for name, leaf in TASKS.items()}):
        env.set_tasks(tasks)
        seen = env.reset([None] * 2)
        assert seen[:, 0, -1].tolist() == tasks["speed"].tolist()
        assert seen[:, 0, 6:8].tolist() == tasks["goal"].tolist()


def test_a_task_changed_by_its_owner_does_not_change_what_is_seen():
    tasks = {name: leaf.copy() for name, leaf in TASKS.items()}
    env = TaskObserved(Leaves()).make(2, 1)
    env.set_tasks(tasks)
    before = env.reset([None] * 2)
    before[:] = 77.0  # the caller's to write on
    tasks["goal"][:] = 99.0
    assert env.reset([None] * 2)[:, 0, 2:].tolist() == FEATURES


@pytest.mark.parametrize("build", [PointNavigation, HalfCheetahDir])
def test_everything_else_is_left_to_the_distribution(build):
    own = build(horizon=7)
    observed = TaskObserved(own)
    assert (observed.name, observed.horizon) == (own.name, 7)
    assert (observed.distribution, observed.action_scale) == (own, own.action_scale)
    tasks = own.sample(3, np.random.default_rng(4))
    drawn = observed.sample(3, np.random.default_rng(4))
    assert all(np.array_equal(drawn[name], leaf) for name, leaf in tasks.items())
    task = {name: leaf[0] for name, leaf in tasks.items()}
    assert observed.describe(task) == own.describe(task)
    finite = observed.finite_tasks()
    assert (finite is None) == (own.finite_tasks() is None)
    if finite is not None:
        assert finite["direction"].tolist() == [1.0, -1.0]
        assert stored_tasks(observed, 4, np.random.default_rng(0))["direction"].tolist() == [
            *(1.0, -1.0, 1.0, -1.0)
        ]
    assert set(draw_tasks(observed, 5, np.random.default_rng(0))) == set(tasks)
    with pytest.raises(AttributeError, match="colour"):
        observed.colour  # noqa: B018


def test_the_step_is_the_one_of_the_distribution_to_the_bit():
    own = HalfCheetahDir()
    tasks = {"direction": np.array([1.0, -1.0])}
    envs = [distribution.make(2, 2) for distribution in (own, TaskObserved(own))]
    actions = np.random.default_rng(0).normal(size=(4, 2, 2, 6))
    results = []
    for env in envs:
        env.set_tasks(tasks)
        seen = [env.reset([np.random.default_rng(row) for row in range(4)])]
        steps = [env.step(action, np.ones((2, 2), dtype=bool)) for action in actions]
        results.append((seen + [step.observations for step in steps], steps))
        env.close()
    for plain, observed in zip(results[0][0], results[1][0], strict=True):
        assert np.array_equal(observed[..., :20], plain)
        assert observed[..., 20].tolist() == [[1.0, 1.0], [-1.0, -1.0]]
    for plain, observed in zip(results[0][1], results[1][1], strict=True):
        assert np.array_equal(observed.rewards, plain.rewards)
        assert np.array_equal(observed.info["x_velocity"], plain.info["x_velocity"])


def test_the_single_environment_shows_the_task_too():
    observed = TaskObserved(HalfCheetahDir(horizon=3))
    task = {"direction": np.float64(-1.0)}
    single, batch = observed.single(task), observed.make(1, 1)
    own = HalfCheetahDir(horizon=3).single(task)
    seen, _ = single.reset(seed=3)
    assert seen[:20].tolist() == own.reset(seed=3)[0].tolist()
    assert single.observation_space.shape == seen.shape == (21,)
    assert seen in single.observation_space
    batch.set_tasks({name: leaf[None] for name, leaf in task.items()})
    assert batch.reset([np.random.default_rng(3)])[0, 0].tolist() == seen.tolist()
    action = np.linspace(-1.0, 1.0, 6)
    for step in range(3):
        found, expected = single.step(action), own.step(action)
        assert found[0][20] == -1.0
        assert found[0][:20].tolist() == expected[0].tolist()
        assert found[1:4] == expected[1:4]
        assert found[3] is (step == 2)
    batch.close()


def test_it_survives_pickling():
    observed = pickle.loads(pickle.dumps(TaskObserved(Leaves())))
    assert (observed.name, observed.horizon) == ("leaves", 3)
    assert observed.observation_space.shape == (9,)
    env = observed.make(2, 1)
    env.set_tasks(TASKS)
    assert env.reset([None] * 2)[:, 0, 2:].tolist() == FEATURES


def test_each_policy_of_a_rollout_sees_its_own_task():
    observed = TaskObserved(PointNavigation(horizon=4))
    tasks = {"goal": np.array([[0.5, -0.25], [-0.125, 0.375]])}
    policy = GaussianMLP(4, 2, (5,))
    params = policy.initialize(torch.Generator().manual_seed(0))
    rows = {name: torch.stack([leaf, leaf]) for name, leaf in params.items()}
    collector = Collector(observed, policy, 2, 3)
    rollout = collector.collect(rows, tasks, Key(0))
    collector.close()
    assert rollout.observations.shape == (2, 4, 3, 4)
    for m in range(2):
        assert rollout.observations[m, ..., 2:].unique(dim=1).shape == (4, 1, 2)
        assert rollout.observations[m, 0, 0, 2:].tolist() == tasks["goal"][m].tolist()
        assert rollout.final_observations[m, :, 2:].tolist() == [tasks["goal"][m].tolist()] * 3
        assert rollout.observations[m, 0, :, :2].tolist() == [[0.0, 0.0]] * 3
    # the same weights, another task in view: other actions are preferred
    means = policy.distribution(rows, rollout.observations[:, :1])[0].mean
    assert (means[0] - means[1]).abs().max() > 0.01


def test_the_configuration_decides():
    assert type(build_distribution(smoke_config())) is PointNavigation
    assert type(build_distribution(smoke_config("algorithm=pretrained"))) is PointNavigation
    assert type(build_distribution(smoke_config("algorithm=oracle"))) is TaskObserved
    assert type(build_distribution(smoke_config("observe_task=true"))) is TaskObserved


@pytest.mark.parametrize("overrides", [("algorithm=oracle",), ("observe_task=true",)])
def test_it_trains_for_an_iteration(overrides, tmp_path):
    metrics = train_smoke(tmp_path, *overrides, "trainer.iterations=1", "env=half_cheetah_dir")
    steps = 0 if overrides == ("algorithm=oracle",) else 1
    assert metrics["env_steps"] == 2 * 2 * 10 * (steps + 1)
    assert np.isfinite(metrics[f"validation/return/step_{steps}"])
    assert read_metrics(tmp_path)[-1] == metrics
