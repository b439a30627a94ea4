import gymnasium
import numpy as np
import pytest
import torch

from envs import HopperRandParams, HopperVel

ONES = {
    "body_mass": np.ones((2, 5)),
    "body_inertia": np.ones((2, 5, 3)),
    "geom_friction": np.ones((2, 5, 3)),
    "dof_damping": np.ones((2, 6)),
}


def run(distribution, tasks, actions):
    """Step `actions` [T, M, B, A]; return what reset observed, and the steps."""
    num_tasks, slots = actions.shape[1:3]
    env = distribution.make(num_tasks, slots, threads=2)
    env.set_tasks(tasks)
    start = env.reset([np.random.default_rng(seed) for seed in range(num_tasks * slots)])
    active = np.ones((num_tasks, slots), dtype=bool)
    steps = [env.step(action, active) for action in actions]
    env.close()
    return start, steps


def test_velocity_tasks_are_gymnasiums_hopper_but_for_the_velocity_term():
    velocity = np.array([0.4, 1.6])
    distribution = HopperVel("gymnasium")
    actions = np.random.default_rng(0).normal(size=(60, 2, 2, 3))  # some are clipped
    start, steps = run(distribution, {"velocity": velocity}, actions)
    ended = np.array([step.terminated for step in steps])
    assert 0 < ended.sum() < ended.size  # upright steps and fallen ones were both seen
    for row in range(4):
        task, slot = divmod(row, 2)
        reference = gymnasium.make("Hopper-v5").unwrapped
        assert np.array_equal(start[task, slot], reference.reset(seed=row)[0])
        for step, action in zip(steps, actions[:, task, slot], strict=True):
            applied = np.clip(action, -1.0, 1.0)
            observation, reward, terminated, _, info = reference.step(applied)
            assert np.allclose(step.observations[task, slot], observation, rtol=0, atol=1e-10)
            assert step.terminated[task, slot] == terminated
            assert step.info["x_velocity"][task, slot] == pytest.approx(
                info["x_velocity"], abs=1e-10
            )
            # v5: v_x + survival - cost; here: -|v_x - v*| + survival - cost
            own = reward - info["x_velocity"] - abs(info["x_velocity"] - velocity[task])
            assert step.rewards[task, slot] == pytest.approx(own, abs=1e-10)
        reference.close()


def test_random_parameters_of_one_are_gymnasiums_hopper():
    distribution = HopperRandParams("pearl", survival_on_fall=False)
    actions = np.random.default_rng(1).normal(size=(60, 2, 1, 3))
    start, steps = run(distribution, ONES, actions)
    ended = np.array([step.terminated for step in steps])
    assert 0 < ended.sum() < ended.size
    for row in range(2):
        reference = gymnasium.make("Hopper-v5").unwrapped
        assert np.array_equal(start[row, 0], reference.reset(seed=row)[0])
        for step, action in zip(steps, actions[:, row, 0], strict=True):
            observation, reward, terminated, _, _ = reference.step(np.clip(action, -1.0, 1.0))
            assert np.allclose(step.observations[row, 0], observation, rtol=0, atol=1e-10)
            assert step.rewards[row, 0] == pytest.approx(reward, abs=1e-10)
            assert step.terminated[row, 0] == terminated
        reference.close()


# dt = 4 * 0.002 = 0.008 s; x goes from 0.10 to 0.114 m: v = 0.014 / 0.008 = 1.75 m/s.
# |a|^2 = 0.25 + 0.04 + 0.01 = 0.3, times 0.001: 0.0003. The second row has fallen (0.65 m).
BEFORE = {"qpos": np.array([[0.10, 1.25, 0.1, 0.2, 0.2, 0.2]] * 2), "qvel": np.full((2, 6), 0.3)}
AFTER = {
    "qpos": np.array([[0.114, 1.20, 0.1, 0.3, 0.3, 0.3], [0.114, 0.65, 0.1, 0.3, 0.3, 0.3]]),
    "qvel": np.full((2, 6), 0.7),
}
ACTION = np.array([[0.5, -0.2, 0.1]] * 2)


@pytest.mark.parametrize("preset", ["maml_rl", "gymnasium"])
def test_velocity_reward_by_hand(preset):
    task = {"velocity": np.array([1.0, 1.0])}
    reward = HopperVel(preset).reward(BEFORE, ACTION, AFTER, task)
    # |1.75 - 1| = 0.75; survival 1, not where it fell
    assert reward == pytest.approx([1 - 0.75 - 0.0003, 0 - 0.75 - 0.0003], rel=1e-12)


@pytest.mark.parametrize("preset", ["promp", "pearl"])
def test_random_parameters_reward_by_hand(preset):
    distribution = HopperRandParams(preset)
    reward = distribution.reward(BEFORE, ACTION, AFTER, ONES)
    # 1.75 + 1 - 0.0003, on the step that falls too
    assert reward == pytest.approx([2.7497, 2.7497], rel=1e-12)
    assert distribution.terminated(AFTER, ONES).tolist() == [False, True]


@pytest.mark.parametrize(
    ("height", "angle", "joint", "velocity", "falls"),
    [
        (1.25, 0.0, 0.5, 2.0, False),
        (0.701, 0.199, 0.5, -99.0, False),
        (50.0, -0.199, 99.0, 2.0, False),  # no height is too high
        (0.7, 0.1, 0.5, 2.0, True),  # the bounds themselves are a fall, as in Gymnasium
        (1.2, 0.201, 0.5, 2.0, True),
        (1.2, -0.201, 0.5, 2.0, True),
        (1.2, 0.1, 101.0, 2.0, True),
        (1.2, 0.1, -101.0, 2.0, True),
        (1.2, 0.1, 0.5, 100.5, True),
        (1.2, 0.1, 0.5, -100.5, True),
    ],
)
def test_what_a_fall_is(height, angle, joint, velocity, falls):
    state = {
        "qpos": np.array([700.0, height, angle, 0.1, joint, 0.3]),  # x itself may be anything
        "qvel": np.array([velocity, 0.1, 0.2, 0.3, 0.4, 0.5]),
    }
    task = {"velocity": np.float64(1.5)}
    assert HopperVel().terminated(state, task) == falls
    assert not HopperVel(terminates=False).terminated(state, task)


@pytest.mark.parametrize(
    ("build", "preset", "horizon", "scale"),
    [
        (HopperVel, "maml_rl", 200, 0.1),
        (HopperVel, "gymnasium", 1000, 1.0),
        (HopperRandParams, "promp", 200, 0.1),
        (HopperRandParams, "pearl", 200, 1.0),
    ],
)
def test_presets_differ_as_they_say(build, preset, horizon, scale):
    distribution = build(preset)
    assert distribution.dt == pytest.approx(0.008)
    assert distribution.horizon == horizon
    assert distribution.action_scale == scale
    assert distribution.action_space.shape == (3,)
    assert distribution.observation_space.shape == (11,)


def test_target_velocities_fill_their_range():
    drawn = HopperVel().sample(2000, np.random.default_rng(1))["velocity"]
    assert drawn.shape == (2000,)
    assert 0.0 <= drawn.min() < 0.01
    assert 1.99 < drawn.max() <= 2.0
    assert HopperVel().finite_tasks() is None
    assert HopperVel().describe({"velocity": np.float64(0.456)}) == "0.46 m/s"


def test_one_formula_serves_numpy_and_torch():
    distribution, rng = HopperVel(), np.random.default_rng(3)
    pose = np.array([0.0, 1.2, 0.1] + [0.4] * 3)
    states = [
        {"qpos": pose + 0.3 * rng.normal(size=(30, 6)), "qvel": 9 * rng.normal(size=(30, 6))}
        for _ in range(2)
    ]
    action, task = rng.uniform(-1, 1, size=(30, 3)), distribution.sample(30, rng)
    tensors = [{name: torch.as_tensor(leaf) for name, leaf in s.items()} for s in (*states, task)]
    reward = distribution.reward(states[0], action, states[1], task)
    own = distribution.reward(tensors[0], torch.as_tensor(action), tensors[1], tensors[2])
    assert own.numpy() == pytest.approx(reward, rel=1e-14)
    ended = distribution.terminated(states[1], task)
    assert 0 < ended.sum() < 30
    assert np.array_equal(distribution.terminated(tensors[1], tensors[2]).numpy(), ended)
    assert np.array_equal(distribution.observe(tensors[1]).numpy(), distribution.observe(states[1]))
