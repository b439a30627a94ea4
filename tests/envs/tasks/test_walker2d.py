import gymnasium
import numpy as np
import pytest
import torch

from envs import Walker2dRandParams, Walker2dVel

ONES = {
    "body_mass": np.ones((2, 8)),
    "body_inertia": np.ones((2, 8, 3)),
    "geom_friction": np.ones((2, 8, 3)),
    "dof_damping": np.ones((2, 9)),
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


def test_velocity_tasks_are_gymnasiums_walker_but_for_the_velocity_term():
    velocity = np.array([0.7, 1.9])
    distribution = Walker2dVel("gymnasium")
    actions = np.random.default_rng(0).normal(size=(60, 2, 2, 6))  # some are clipped
    start, steps = run(distribution, {"velocity": velocity}, actions)
    ended = np.array([step.terminated for step in steps])
    assert 0 < ended.sum() < ended.size  # upright steps and fallen ones were both seen
    for row in range(4):
        task, slot = divmod(row, 2)
        reference = gymnasium.make("Walker2d-v5").unwrapped
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


def test_random_parameters_of_one_are_gymnasiums_walker():
    distribution = Walker2dRandParams("pearl", frame_skip=4, survival_on_fall=False)
    actions = np.random.default_rng(1).normal(size=(60, 2, 1, 6))
    start, steps = run(distribution, ONES, actions)
    ended = np.array([step.terminated for step in steps])
    assert 0 < ended.sum() < ended.size
    for row in range(2):
        reference = gymnasium.make("Walker2d-v5").unwrapped
        assert np.array_equal(start[row, 0], reference.reset(seed=row)[0])
        for step, action in zip(steps, actions[:, row, 0], strict=True):
            observation, reward, terminated, _, _ = reference.step(np.clip(action, -1.0, 1.0))
            assert np.allclose(step.observations[row, 0], observation, rtol=0, atol=1e-10)
            assert step.rewards[row, 0] == pytest.approx(reward, abs=1e-10)
            assert step.terminated[row, 0] == terminated
        reference.close()


# x goes from 0.10 to 0.12 m; |a|^2 = 0.25 + 0.04 = 0.29, times 0.001: 0.00029. The second row has
# fallen: its torso is at 0.75 m.
BEFORE = {"qpos": np.array([[0.10, 1.25, 0.1] + [0.2] * 6] * 2)}
AFTER = {"qpos": np.array([[0.12, 1.20, 0.2] + [0.3] * 6, [0.12, 0.75, 0.2] + [0.3] * 6])}
ACTION = np.array([[0.5, -0.2, 0.0, 0.0, 0.0, 0.0]] * 2)


@pytest.mark.parametrize(
    ("preset", "standing", "fallen"),
    [
        # dt = 8 * 0.002 = 0.016 s, v = 0.02 / 0.016 = 1.25; |1.25 - 3| = 1.75; survival 15
        ("promp", 15 - 1.75 - 0.00029, 15 - 1.75 - 0.00029),
        # dt = 4 * 0.002 = 0.008 s, v = 2.5; |2.5 - 3| = 0.5; survival 1, not where it fell
        ("gymnasium", 1 - 0.5 - 0.00029, 0 - 0.5 - 0.00029),
    ],
)
def test_velocity_reward_by_hand(preset, standing, fallen):
    task = {"velocity": np.array([3.0, 3.0])}
    reward = Walker2dVel(preset).reward(BEFORE, ACTION, AFTER, task)
    assert reward == pytest.approx([standing, fallen], rel=1e-12)


@pytest.mark.parametrize("preset", ["promp", "pearl"])
def test_random_parameters_reward_by_hand(preset):
    distribution = Walker2dRandParams(preset)
    # dt = 5 * 0.002 = 0.01 s, v = 0.02 / 0.01 = 2: 2 + 1 - 0.00029, on the step that falls too
    reward = distribution.reward(BEFORE, ACTION, AFTER, ONES)
    assert reward == pytest.approx([2.99971, 2.99971], rel=1e-12)
    assert distribution.terminated(AFTER, ONES).tolist() == [False, True]


@pytest.mark.parametrize(
    ("height", "angle", "falls"),
    [
        (1.25, 0.0, False),
        (0.801, 0.999, False),
        (1.999, -0.999, False),
        (0.799, 0.3, True),
        (0.8, 0.3, True),  # the bounds themselves are a fall, as in Gymnasium
        (2.001, 0.3, True),
        (1.2, 1.001, True),
        (1.2, -1.001, True),
    ],
)
def test_what_a_fall_is(height, angle, falls):
    state = {"qpos": np.array([7.0, height, angle] + [0.4] * 6)}
    task = {"velocity": np.float64(1.5)}
    assert Walker2dVel().terminated(state, task) == falls
    assert not Walker2dVel(terminates=False).terminated(state, task)
    assert Walker2dVel().healthy(state) == (not falls)


def test_velocities_are_observed_up_to_ten():
    distribution = Walker2dVel()
    state = {"qpos": np.arange(9.0), "qvel": np.array([12.0, -3.0, -11.0, 1, 2, 3, 4, 5, 9.5])}
    expected = [1, 2, 3, 4, 5, 6, 7, 8, 10, -3, -10, 1, 2, 3, 4, 5, 9.5]
    assert distribution.observe(state).tolist() == expected
    assert distribution.observation_space.shape == (17,)


@pytest.mark.parametrize(
    ("build", "preset", "frame_skip", "horizon", "scale"),
    [
        (Walker2dVel, "promp", 8, 200, 0.1),
        (Walker2dVel, "gymnasium", 4, 1000, 1.0),
        (Walker2dRandParams, "promp", 5, 200, 0.1),
        (Walker2dRandParams, "pearl", 5, 200, 1.0),
    ],
)
def test_presets_differ_as_their_sources_do(build, preset, frame_skip, horizon, scale):
    distribution = build(preset)
    assert distribution.frame_skip == frame_skip
    assert distribution.horizon == horizon
    assert distribution.action_scale == scale
    assert distribution.action_space.shape == (6,)
    assert build().preset_name == "promp"


def test_both_feet_have_v5s_friction():
    friction = Walker2dVel().model.geom_friction
    model = Walker2dVel().model
    feet = [model.geom(name).id for name in ("foot_geom", "foot_left_geom")]
    assert friction[feet, 0].tolist() == [1.9, 1.9]


def test_target_velocities_fill_the_range_that_is_asked_for():
    velocities = Walker2dVel(velocities=[-1.0, 4.0]).sample(2000, np.random.default_rng(1))
    drawn = velocities["velocity"]
    assert drawn.shape == (2000,)
    assert -1.0 <= drawn.min() < -0.99
    assert 3.99 < drawn.max() <= 4.0
    assert drawn.mean() == pytest.approx(1.5, abs=0.1)
    assert Walker2dVel().sample(999, np.random.default_rng(2))["velocity"].max() > 9.9
    assert Walker2dVel().finite_tasks() is None
    assert Walker2dVel().describe({"velocity": np.float64(1.23456)}) == "1.23 m/s"


def test_one_formula_serves_numpy_and_torch():
    distribution, rng = Walker2dVel(), np.random.default_rng(3)
    pose = np.array([0.0, 1.2, 0.1] + [0.4] * 6)
    states = [
        {"qpos": pose + 0.3 * rng.normal(size=(30, 9)), "qvel": 9 * rng.normal(size=(30, 9))}
        for _ in range(2)
    ]
    action, task = rng.uniform(-1, 1, size=(30, 6)), distribution.sample(30, rng)
    tensors = [{name: torch.as_tensor(leaf) for name, leaf in s.items()} for s in (*states, task)]
    reward = distribution.reward(states[0], action, states[1], task)
    own = distribution.reward(tensors[0], torch.as_tensor(action), tensors[1], tensors[2])
    assert own.numpy() == pytest.approx(reward, rel=1e-14)
    ended = distribution.terminated(states[1], task)
    assert 0 < ended.sum() < 30
    assert np.array_equal(distribution.terminated(tensors[1], tensors[2]).numpy(), ended)
    assert np.array_equal(distribution.observe(tensors[1]).numpy(), distribution.observe(states[1]))
