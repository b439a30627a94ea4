import gymnasium
import numpy as np
import pytest

from envs import HalfCheetahDir, HalfCheetahVel

ALL_PRESETS = ("deleu", "finn2017", "promp")


def generators(seeds):
    return [np.random.default_rng(seed) for seed in seeds]


def run(distribution, tasks, actions, threads=1):
    """Step `actions` [T, M, B, A]; return the steps and what reset observed."""
    num_tasks, slots = actions.shape[1:3]
    env = distribution.make(num_tasks, slots, threads)
    env.set_tasks(tasks)
    start = env.reset(generators(range(num_tasks * slots)))
    active = np.ones((num_tasks, slots), dtype=bool)
    steps = [env.step(action, active) for action in actions]
    env.close()
    return start, steps


def test_every_row_is_gymnasiums_half_cheetah_bit_for_bit(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs Gymnasium's deprecated MJCF to the current folder
    distribution = HalfCheetahDir()
    direction = np.array([1.0, -1.0])
    actions = np.random.default_rng(5).normal(scale=8.0, size=(100, 2, 2, 6))  # some get clipped
    start, steps = run(distribution, {"direction": direction}, actions)
    assert np.abs(0.1 * actions).max() > 1.0
    for row in range(4):
        task, slot = divmod(row, 2)
        reference = gymnasium.make("HalfCheetah-v5").unwrapped
        observation, _ = reference.reset(seed=row)
        assert np.array_equal(start[task, slot, :17], observation)
        assert np.array_equal(start[task, slot, 17:], reference.data.body("torso").xpos)
        for t, step in enumerate(steps):
            applied = np.clip(0.1 * actions[t, task, slot], -1.0, 1.0)
            observation, _, _, _, info = reference.step(applied)
            torso = reference.data.body("torso").xpos
            assert np.array_equal(step.observations[task, slot, :17], observation)
            assert np.array_equal(step.observations[task, slot, 17:], torso)
            assert step.info["x_velocity"][task, slot] == info["x_velocity"]
            reward = direction[task] * info["x_velocity"] - 0.05 * np.sum(applied * applied)
            assert step.rewards[task, slot] == pytest.approx(reward, rel=1e-14)
            assert not step.terminated[task, slot]
        reference.close()


# qpos x goes from 0.10 to 0.16 (forward) and to 0.07 (backward). |a|^2 = 0.25 + 0.04 = 0.29.
# deleu, promp: dt = 5 * 0.01 = 0.05 s, v = 0.06 / 0.05 = 1.2 and -0.03 / 0.05 = -0.6 m/s.
# finn2017:     dt = 1 * 0.01 = 0.01 s, v = 0.06 / 0.01 = 6.0 and -0.03 / 0.01 = -3.0 m/s.
# The control cost is 0.05 * 0.29 = 0.0145.
BEFORE = {"qpos": np.array([[0.10] + [0.3] * 8, [0.10] + [0.5] * 8])}
AFTER = {"qpos": np.array([[0.16] + [0.7] * 8, [0.07] + [0.9] * 8])}
ACTION = np.array([[0.5, -0.2, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0, 0.0, 0.2]])


@pytest.mark.parametrize(
    ("preset", "forward", "backward"),
    [
        ("deleu", 1.2 - 0.0145, 0.6 - 0.0145),
        ("promp", 1.2 - 0.0145, 0.6 - 0.0145),
        ("finn2017", 6.0 - 0.0145, 3.0 - 0.0145),
    ],
)
def test_direction_reward_by_hand(preset, forward, backward):
    task = {"direction": np.array([1.0, -1.0])}
    reward = HalfCheetahDir(preset).reward(BEFORE, ACTION, AFTER, task)
    assert reward == pytest.approx([forward, backward], rel=1e-12)


@pytest.mark.parametrize(
    ("preset", "first", "second"),
    [
        # targets 1.5 and 0.25: |1.2 - 1.5| = 0.3, |-0.6 - 0.25| = 0.85
        ("deleu", -0.3 - 0.0145, -0.85 - 0.0145),
        ("promp", -0.3 - 0.0145, -0.85 - 0.0145),
        # |6.0 - 1.5| = 4.5, |-3.0 - 0.25| = 3.25
        ("finn2017", -4.5 - 0.0145, -3.25 - 0.0145),
    ],
)
def test_velocity_reward_by_hand(preset, first, second):
    task = {"velocity": np.array([1.5, 0.25])}
    reward = HalfCheetahVel(preset).reward(BEFORE, ACTION, AFTER, task)
    assert reward == pytest.approx([first, second], rel=1e-12)


@pytest.mark.parametrize(
    ("preset", "size", "frame_skip", "scale", "horizon", "top"),
    [
        ("deleu", 20, 5, 0.1, 100, 2.0),
        ("finn2017", 20, 1, 1.0, 200, 2.0),
        ("promp", 17, 5, 0.1, 100, 3.0),
    ],
)
def test_presets_differ_as_their_sources_do(preset, size, frame_skip, scale, horizon, top):
    distribution = HalfCheetahVel(preset)
    assert distribution.observation_space.shape == (size,)
    assert distribution.action_space.shape == (6,)
    assert distribution.frame_skip == frame_skip
    assert distribution.dt == pytest.approx(0.01 * frame_skip)
    assert distribution.action_scale == scale
    assert distribution.horizon == horizon
    # applied = clip(scale * action): 4 -> 0.4 or (finn2017) 1; 40 -> 1 either way
    expected = [1.0 if scale == 1.0 else 0.4, 1.0]
    assert distribution.applied(np.array([4.0] + [40.0] * 5))[:2].tolist() == expected
    velocities = distribution.sample(2000, np.random.default_rng(1))["velocity"]
    assert velocities.shape == (2000,)
    assert velocities.min() >= 0.0
    assert 0.99 * top < velocities.max() <= top
    assert velocities.mean() == pytest.approx(top / 2, abs=0.05 * top)


def test_the_default_preset_is_deleu_and_arguments_override_it():
    assert HalfCheetahDir().preset_name == "deleu"
    distribution = HalfCheetahDir("promp", horizon=7, action_scale=0.5)
    assert (distribution.horizon, distribution.action_scale) == (7, 0.5)
    assert distribution.applied(np.full(6, 0.5)).tolist() == [0.25] * 6


def test_directions_are_plus_and_minus_one_about_equally_often():
    distribution = HalfCheetahDir()
    drawn = distribution.sample(1000, np.random.default_rng(2))["direction"]
    assert drawn.shape == (1000,)
    assert set(drawn.tolist()) == {1.0, -1.0}
    assert abs(drawn.mean()) < 0.1
    assert distribution.finite_tasks()["direction"].tolist() == [1.0, -1.0]
    assert HalfCheetahVel().finite_tasks() is None


def test_tasks_are_described():
    assert HalfCheetahDir().describe({"direction": np.float64(1.0)}) == "forward"
    assert HalfCheetahDir().describe({"direction": np.float64(-1.0)}) == "backward"
    assert HalfCheetahVel().describe({"velocity": np.float64(1.23456)}) == "1.23 m/s"


def test_one_and_two_threads_agree_bit_for_bit():
    tasks = {"velocity": np.array([0.4, 1.7])}
    actions = np.random.default_rng(3).normal(scale=5.0, size=(20, 2, 3, 6))
    one, two = (run(HalfCheetahVel(), tasks, actions, threads) for threads in (1, 2))
    assert np.array_equal(one[0], two[0])
    for a, b in zip(one[1], two[1], strict=True):
        assert np.array_equal(a.observations, b.observations)
        assert np.array_equal(a.rewards, b.rewards)
        assert np.array_equal(a.info["x_velocity"], b.info["x_velocity"])


@pytest.mark.parametrize("preset", ALL_PRESETS)
@pytest.mark.parametrize(
    ("build", "tasks"),
    [
        (HalfCheetahDir, {"direction": np.array([-1.0, 1.0])}),
        (HalfCheetahVel, {"velocity": np.array([0.3, 1.9])}),
    ],
)
def test_the_gymnasium_form_equals_the_batched_form_bit_for_bit(build, tasks, preset):
    distribution = build(preset)
    actions = np.random.default_rng(4).normal(scale=6.0, size=(30, 2, 2, 6)).astype(np.float32)
    start, steps = run(distribution, tasks, actions)
    for row in range(4):
        task, slot = divmod(row, 2)
        single = distribution.single({name: leaf[task] for name, leaf in tasks.items()})
        observation, _ = single.reset(seed=row)
        assert np.array_equal(observation, start[task, slot])
        for t, step in enumerate(steps):
            applied = distribution.applied(actions[t, task, slot])
            observation, reward, terminated, _, info = single.step(applied)
            assert np.array_equal(observation, step.observations[task, slot])
            assert reward == step.rewards[task, slot]
            assert terminated == step.terminated[task, slot]
            assert info["x_velocity"] == step.info["x_velocity"][task, slot]


def test_a_second_reset_forgets_everything_that_came_before():
    distribution = HalfCheetahDir()
    actions = np.random.default_rng(6).normal(scale=9.0, size=(15, 1, 2, 6))
    env = distribution.make(1, 2)
    env.set_tasks({"direction": np.array([1.0])})
    active = np.ones((1, 2), dtype=bool)
    episodes = []
    for _ in range(2):
        start = env.reset(generators([10, 11]))
        episodes.append([start, *(env.step(action, active).observations for action in actions)])
    assert np.array_equal(episodes[0], episodes[1])
