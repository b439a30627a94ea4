import os
import signal
import threading
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from envs import SimulationError, UserError
from envs.backends.gymnasium.distribution import GymnasiumTasks
from envs.protocol import TaskDistribution, count_tasks
from envs.wrappers.task_observed import TaskObserved

HERE = __name__  # what worker processes import this module as
GRAVITIES = np.array([4.0, 9.81, 25.0])


class Gravity:
    """Pendulum's gravity."""

    def __init__(self, top=20.0):
        self.top = top

    def sample(self, num_tasks, rng):
        return {"gravity": rng.uniform(3.0, self.top, size=num_tasks)}

    def apply(self, env, task):
        env.g = float(task["gravity"])


class Walk(gymnasium.Env):
    """x moves by speed * (action - 2), action 1, 2 or 3; ends at |x| > 1, is cut off at a limit."""

    observation_space = spaces.Dict(
        position=spaces.Box(-np.inf, np.inf, (1, 1)), phase=spaces.Discrete(3)
    )
    action_space = spaces.Discrete(3, start=1)

    def __init__(self, start=0.0):
        self.start = start
        self.speed, self.limit, self.fault = 0.1, 1000, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.steps = self.start + self.np_random.uniform(-0.01, 0.01), 0
        return self._observation(), {}

    def step(self, action):
        assert action in self.action_space
        self.steps += 1
        if self.steps == 3 and self.fault == 1:
            raise ZeroDivisionError("the track\nis broken")
        if self.steps == 3 and self.fault == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        self.x += self.speed * (int(action) - 2)
        info = {"success": self.x > 0.5, "steps": self.steps, "note": "walking"}
        info["is_success"] = info["success"]
        ended, cut = abs(self.x) > 1, self.steps >= self.limit
        return self._observation(), self.x * self.speed, ended, cut, info

    def _observation(self):
        return {"position": np.array([[self.x]], np.float32), "phase": self.steps % 3}


class Speeds:
    """Walk's speed, time limit and fault."""

    name = "walk"

    def sample(self, num_tasks, rng):
        return walks(rng.uniform(0.1, 0.4, size=num_tasks))

    def apply(self, env, task):
        env.speed, env.limit = float(task["speed"]), int(task["limit"])
        env.fault = int(task["fault"])

    def finite_tasks(self):
        return walks([0.1, 0.3])

    def describe(self, task):
        return f"{task['speed']:g} m a step"


def walks(speeds, limits=1000, fault=(0,)):
    full = np.zeros(len(speeds), dtype=int)
    return {"speed": np.array(speeds), "limit": full + limits, "fault": full + np.array(fault)}


class Odd(gymnasium.Env):
    """Two-by-one actions; what it observes and how it is steered may change with the task."""

    def __init__(self, actions=None, observations=None):
        self.action_space = actions or spaces.Box(-0.5, 0.5, (2, 1))
        self.observation_space = observations or spaces.Box(-9.0, 9.0, (2,))
        self.size = 2

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(self.size, 0.25, np.float32), {}

    def step(self, action):
        assert action.shape == (2, 1)
        return action[:, 0], float(action[0, 0]), False, False, {}


class Sizes:
    """Tasks that spoil the spaces."""

    def sample(self, num_tasks, rng):
        return {"size": np.full(num_tasks, 2), "actions": np.full(num_tasks, 2)}

    def apply(self, env, task):
        env.size = int(task["size"])
        env.action_space = spaces.Box(-0.5, 0.5, (int(task["actions"]), 1))


gymnasium.register("Walk-v0", entry_point=f"{HERE}:Walk", max_episode_steps=50)
gymnasium.register("Odd-v0", entry_point=f"{HERE}:Odd")


def walk(**options):
    return GymnasiumTasks(f"{HERE}:Walk-v0", Speeds, **options)


def generators(count):
    return [np.random.default_rng([7, row]) for row in range(count)]


def run(distribution, tasks, slots, threads, steps=12):
    """Roll out random actions until every episode ended; the steps, and the environments."""
    env = distribution.make(count_tasks(tasks), slots, threads)
    env.set_tasks(tasks)
    shape = env.shape
    taken = [env.reset(generators(shape[0] * slots))]
    rng = np.random.default_rng(1)
    active = np.ones(shape, dtype=bool)
    for _ in range(steps):
        step = env.step(rng.integers(1, 3, size=shape), active)  # 2 or 3: never back
        taken.append(step)
        active = active & ~step.terminated & ~step.truncated
    return taken, env


def test_rows_are_bit_identical_to_gymnasiums_own_environment():
    distribution = GymnasiumTasks("Pendulum-v1", Gravity, action_scale=3.0)
    assert isinstance(distribution, TaskDistribution)
    assert (distribution.name, distribution.horizon) == ("gravity", 200)
    env = distribution.make(3, 2)
    env.set_tasks({"gravity": GRAVITIES})
    start = env.reset(generators(6))
    actions = np.random.default_rng(0).normal(size=(15, 3, 2, 1))
    steps = [env.step(action, np.ones((3, 2), dtype=bool)) for action in actions]
    for row, rng in enumerate(generators(6)):
        own = gymnasium.make("Pendulum-v1", g=GRAVITIES[row // 2])
        observation, _ = own.reset(seed=int(rng.integers(2**31)))
        assert np.array_equal(observation, start[row // 2, row % 2])
        for action, step in zip(actions, steps, strict=True):
            torque = np.clip(3.0 * action[row // 2, row % 2], -2.0, 2.0).astype(np.float32)
            observation, reward, *_ = own.step(torque)
            assert np.array_equal(observation, step.observations[row // 2, row % 2])
            assert reward == step.rewards[row // 2, row % 2]
    assert steps[0].info == {}
    assert not steps[-1].terminated.any()
    assert not steps[-1].truncated.any()


def test_dictionaries_are_flattened_and_numbered_actions_begin_at_the_spaces_start():
    distribution = walk(record=["success", "steps"], kwargs={"start": 0.3})
    assert distribution.observation_space.shape == (4,)
    assert distribution.action_space == spaces.Discrete(3)
    assert distribution.horizon == 50
    env = distribution.make(2, 1)
    env.set_tasks(walks([0.25, 0.5], limits=[1000, 2]))
    start = env.reset(generators(2))
    seeds = [int(rng.integers(2**31)) for rng in generators(2)]
    x = np.array([0.3 + np.random.default_rng(seed).uniform(-0.01, 0.01) for seed in seeds])
    assert start[:, 0, 1:].tolist() == [[1, 0, 0]] * 2  # after the position the phase, one-hot
    assert start[:, 0, 0] == pytest.approx(x, abs=1e-7)
    # action number 2 is the space's 3: forward by the speed; number 0 is 1: back
    step = env.step(np.array([[2], [0]]), np.ones((2, 1), dtype=bool))
    x += [0.25, -0.5]
    assert step.observations[:, 0, 1:].tolist() == [[0, 1, 0]] * 2
    assert step.observations[:, 0, 0] == pytest.approx(x, abs=1e-6)
    assert step.rewards[:, 0] == pytest.approx(x * [0.25, 0.5], abs=1e-6)
    assert step.info["success"][:, 0].tolist() == [1, 0]  # about 0.55 and -0.2
    step = env.step(np.array([[2], [0]]), np.ones((2, 1), dtype=bool))  # about 0.8 and -0.7
    assert step.terminated.tolist() == [[False], [False]]
    assert step.truncated.tolist() == [[False], [True]]  # its own limit of two steps
    step = env.step(np.array([[2], [0]]), np.array([[True], [False]]))  # 1.05: over
    assert step.terminated[0, 0]
    assert step.info["steps"].tolist() == [[3], [2]]  # the second was left alone


def test_boxes_of_any_shape_are_scaled_then_clipped():
    distribution = GymnasiumTasks("Odd-v0", Sizes, horizon=5, action_scale=0.5)
    assert distribution.action_space.shape == (2,)
    env = distribution.make(1, 2)
    env.set_tasks(distribution.sample(1, None))
    env.reset(generators(2))
    step = env.step(np.array([[[0.6, -3.0], [0.2, 0.8]]]), np.ones((1, 2), dtype=bool))
    assert step.observations.tolist() == np.float32([[[0.3, -0.5], [0.1, 0.4]]]).tolist()


def go_on(env, steps=3):
    """Step all rows with action number 1."""
    for _ in range(steps):
        env.step(np.ones(env.shape), np.ones(env.shape, dtype=bool))


def alike(taken, others):
    """Compare what two runs gave, to the bit."""
    assert np.array_equal(taken[0], others[0])
    for step, other in zip(taken[1:], others[1:], strict=True):
        for name in ("observations", "rewards", "terminated", "truncated"):
            assert np.array_equal(getattr(step, name), getattr(other, name)), name
        assert np.array_equal(step.info["steps"], other.info["steps"])


def test_results_do_not_depend_on_the_number_of_processes_and_their_errors_are_named():
    distribution, tasks = walk(record="steps"), walks([0.1, 0.4, 0.25], limits=[1000, 1000, 7])
    taken, _ = run(distribution, tasks, 3, threads=1)
    assert taken[-1].info["steps"].max() == 12
    assert taken[-1].info["steps"].min() < 7
    others, env = run(distribution, tasks, 3, threads=2)  # five rows and four
    alike(taken, others)
    for process in env._vector.processes:
        os.kill(process.pid, signal.SIGINT)  # Ctrl-C reaches every process of a terminal
    env.set_tasks(walks([0.1, 0.1, 0.1], fault=[0, 0, 1]))
    env.reset(generators(9))
    with pytest.raises(SimulationError) as error:
        go_on(env)
    line = 1 + Path(__file__).read_text().splitlines().index(
        '            raise ZeroDivisionError("the track\\nis broken")'
    )
    assert str(error.value) == (
        f"walk: worker 2 of 2: task 2, episode 0, step raised ZeroDivisionError: the track is "
        f"broken ({Path(__file__).name}, line {line})"
    )
    assert not any(process.is_alive() for process in env._vector.processes)
    env.close()


def test_a_killed_process_is_named_and_the_others_are_ended():
    distribution, tasks = walk(record="steps"), walks([0.1, 0.4, 0.25], limits=[1000, 1000, 7])
    taken, _ = run(distribution, tasks, 1, threads=1)
    others, env = run(distribution, tasks, 1, threads=3)
    alike(taken, others)
    env.set_tasks(walks([0.1, 0.1, 0.1], fault=[0, 2, 0]))
    env.reset(generators(3))
    began = time.monotonic()
    with pytest.raises(SimulationError) as error:
        go_on(env)
    assert str(error.value) == (
        "walk: worker 2 of 3 (task 1) was killed by SIGKILL, perhaps because memory ran out"
    )
    assert time.monotonic() - began < 10
    assert not any(process.is_alive() for process in env._vector.processes)
    env.close()


def test_an_error_in_this_process_names_task_and_episode():
    env = walk().make(2, 2)
    env.set_tasks(walks([0.1, 0.2], fault=[0, 1]))
    env.reset(generators(4))
    with pytest.raises(SimulationError, match=r"^walk: task 1, episode 0, step raised Zero"):
        go_on(env)


def test_what_cannot_be_sent_to_a_process_is_told():
    tasks = Gravity()
    tasks.lock = threading.Lock()
    with pytest.raises(UserError, match=r"^gravity cannot be sent to worker processes \(TypeError"):
        GymnasiumTasks("Pendulum-v1", tasks).make(2, 1, threads=2)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (
            {"size": 3, "actions": 2},
            "sizes.apply(env, task) must leave observations of shape (2,), not (3,): all tasks "
            "share one observation space.",
        ),
        (
            {"size": 2, "actions": 4},
            "sizes.apply(env, task) must leave actions of Box(-0.5, 0.5, (2, 1), float32), not "
            "Box(-0.5, 0.5, (4, 1), float32): all tasks share one action space.",
        ),
    ],
)
def test_spaces_that_differ_between_tasks_are_told(task, sentence):
    env = GymnasiumTasks("Odd-v0", Sizes, horizon=5).make(2, 1)
    env.set_tasks({name: np.array([2, value]) for name, value in task.items()})
    with pytest.raises(UserError) as error:
        env.reset(generators(2))
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "set_task is missing: name a class with sample"),
        ({"set_task": Gravity}, "id is missing: name a Gymnasium environment"),
        ({"id": "Pendulum-v7", "set_task": Gravity}, "id=Pendulum-v7 cannot be found .*v1"),
        ({"id": "no_such:A-v0", "set_task": Gravity}, "id=no_such:A-v0 cannot be found"),
        ({"id": "Odd-v0", "set_task": Sizes}, "Odd-v0 has no time limit of its own: give hor"),
        ({"id": "Odd-v0", "set_task": "nowhere.Sizes"}, "set_task=nowhere.Sizes cannot be im"),
        ({"id": "Odd-v0", "set_task": dict}, r"must define sample\(num_tasks, rng\)"),
        (
            {"id": "Odd-v0", "set_task": Sizes, "horizon": 5, "kwargs": {"colour": 1}},
            "id=Odd-v0 cannot be built .*colour",
        ),
        (
            {
                "id": "Odd-v0",
                "set_task": Sizes,
                "horizon": 5,
                "kwargs": {"actions": spaces.MultiDiscrete([2, 3])},
            },
            r"actions of Odd-v0 are MultiDiscrete\(\[2 3\]\), but must be",
        ),
        (
            {
                "id": "Odd-v0",
                "set_task": Sizes,
                "horizon": 5,
                "kwargs": {"observations": spaces.Sequence(spaces.Discrete(2))},
            },
            "observations of Odd-v0 cannot be flattened",
        ),
    ],
)
def test_wrong_arguments_are_answered_in_one_sentence(arguments, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        GymnasiumTasks(**arguments)
    assert "\n" not in str(error.value)


def test_a_missing_record_names_what_there_is():
    env = walk(record=["score"]).make(1, 1)
    env.set_tasks(walks([0.1]))
    env.reset(generators(1))
    with pytest.raises(UserError, match=r"names score, .*; it has is_success, note, steps, su"):
        env.step(np.array([[1]]), np.ones((1, 1), dtype=bool))


def test_a_dotted_path_an_object_and_a_class_name_the_same_tasks():
    named = GymnasiumTasks("Walk-v0", f"{HERE}.Speeds")
    built = GymnasiumTasks("Walk-v0", Speeds())
    for distribution in (named, built, walk()):
        assert distribution.name == "walk"
        drawn = distribution.sample(3, np.random.default_rng(5))["speed"]
        assert drawn == pytest.approx(np.random.default_rng(5).uniform(0.1, 0.4, size=3))
        assert distribution.finite_tasks()["speed"].tolist() == [0.1, 0.3]
        assert distribution.describe({"speed": 0.3}) == "0.3 m a step"
    plain = GymnasiumTasks("Pendulum-v1", Gravity)
    assert plain.finite_tasks() is None
    assert plain.describe({"gravity": 9.80665}) == "gravity=9.807"


def test_the_gymnasium_form_equals_the_batched_form():
    distribution = GymnasiumTasks("Pendulum-v1", Gravity, horizon=4)
    single = distribution.single({"gravity": np.array(7.0)})
    env = distribution.make(1, 1)
    env.set_tasks({"gravity": np.array([7.0])})
    observation, info = single.reset(seed=11)
    assert np.array_equal(observation, env.reset([np.random.default_rng(11)])[0, 0])
    assert info["task"]["gravity"] == 7.0
    for number, action in enumerate([0.5, -5.0, 1.5, 0.25], start=1):
        step = env.step(np.array([[[action]]]), np.ones((1, 1), dtype=bool))
        observation, reward, terminated, truncated, _ = single.step(np.array([action]))
        assert np.array_equal(observation, step.observations[0, 0])
        assert reward == step.rewards[0, 0]
        assert (terminated, truncated) == (False, number == 4)
    _, info = single.reset(options={"task": {"gravity": 12.0}})
    assert info["task"]["gravity"] == single.env.unwrapped.g == 12.0


def test_the_gymnasium_form_draws_a_task_at_every_reset():
    single = walk().single(width=64, height=48)
    speeds = [single.reset(seed=seed)[1]["task"]["speed"] for seed in (1, 2, 1)]
    assert speeds[0] == speeds[2] != speeds[1]
    assert single.env.unwrapped.speed == speeds[2]
    assert single.render() is None
    with pytest.warns(UserWarning, match="infinity"):
        check_env(walk().single(), skip_render_check=True)


def test_the_oracle_sees_the_task():
    observed = TaskObserved(walk())
    assert observed.observation_space.shape == (7,)
    env = observed.make(2, 1)
    env.set_tasks(walks([0.25, 0.125]))
    start = env.reset(generators(2))
    assert start[:, 0, 4:].tolist() == [[0, 1000, 0.25], [0, 1000, 0.125]]  # by name


def test_is_success_is_kept_as_success():
    distribution = walk(record=["is_success", "steps"], kwargs={"start": 0.6})
    env = distribution.make(1, 1)
    env.set_tasks(distribution.sample(1, np.random.default_rng(0)))
    env.reset([np.random.default_rng(0)])
    step = env.step(np.array([[1]]), np.ones((1, 1), dtype=bool))
    assert list(step.info) == ["success", "steps"]
    assert step.info["success"].tolist() == [[1.0]]  # it stands at 0.6, and 0.5 is success
    env.close()
