import numpy as np
import pytest

from envs import PointNavigation


def make(goals, slots=2):
    goals = np.asarray(goals, dtype=float)
    env = PointNavigation().make(len(goals), slots)
    env.set_tasks({"goal": goals})
    start = env.reset([np.random.default_rng(row) for row in range(len(goals) * slots)])
    assert np.array_equal(start, np.zeros((len(goals), slots, 2)))
    return env


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_applied_action_is_exactly_the_displacement(dtype):
    env = make([[0.3, -0.2], [-0.4, 0.1]])
    rng = np.random.default_rng(0)
    position = np.zeros((2, 2, 2))
    for _ in range(20):
        action = rng.uniform(-0.9, 0.9, size=(2, 2, 2)).astype(dtype)
        step = env.step(action, np.ones((2, 2), dtype=bool))
        position = position + dtype(0.1) * action  # scale 0.1, nothing to clip
        assert np.array_equal(step.observations, position)


def test_displacements_are_clipped_at_a_tenth_after_the_scale():
    env = make([[0.3, -0.2]], slots=1)
    step = env.step(np.array([[[7.0, -30.0]]]), np.ones((1, 1), dtype=bool))  # scaled: 0.7, -3
    tenth = np.float64(np.float32(0.1))  # the action space's bound
    assert step.observations.tolist() == [[[tenth, -tenth]]]
    assert step.observations == pytest.approx(np.array([[[0.1, -0.1]]]), abs=1e-8)


def test_reward_is_minus_the_distance_after_the_step():
    env = make([[0.34, 0.45], [-0.26, 0.15]], slots=1)
    # task 0: 0.1 * (0.4, 0.5) = (0.04, 0.05); goal - p = (0.30, 0.40); distance 0.5
    # task 1: 0.1 * (-0.2, -0.9) = (-0.02, -0.09); goal - p = (-0.24, 0.24); 0.24 * sqrt(2)
    actions = np.array([[[0.4, 0.5]], [[-0.2, -0.9]]])
    step = env.step(actions, np.ones((2, 1), dtype=bool))
    expected = np.array([[-0.5], [-0.24 * np.sqrt(2.0)]])
    assert step.rewards == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("position", "ends"),
    [
        ([0.209, -0.309], True),
        ([0.191, -0.291], True),
        ([0.2, -0.2895], False),  # only x is near
        ([0.2105, -0.3], False),  # only y is near
        ([0.2107, -0.3107], False),
    ],
)
def test_an_episode_ends_within_a_hundredth_in_both_coordinates(position, ends):
    state = {"qpos": np.array(position)}
    assert PointNavigation().terminated(state, {"goal": np.array([0.2, -0.3])}) == ends


def test_ended_rows_stand_still_and_do_not_touch_the_others():
    goals = [[0.05, 0.05], [0.4, 0.4]]
    rng = np.random.default_rng(1)
    actions = rng.uniform(0.2, 0.9, size=(4, 2, 2, 2))
    actions[0, 0, 0] = 0.5  # displacement (0.05, 0.05): the goal itself
    env, other = make(goals), make(goals)
    active = np.ones((2, 2), dtype=bool)
    first = env.step(actions[0], active)
    assert np.array_equal(first.terminated, [[True, False], [False, False]])
    other.step(actions[0], active)
    running = active & ~first.terminated
    for action in actions[1:]:
        masked = action.copy()
        masked[0, 0] = np.nan  # an ended row's action is not even looked at
        step, all_step = env.step(masked, running), other.step(action, active)
        assert np.array_equal(step.observations[0, 0], first.observations[0, 0])
        assert np.array_equal(step.observations[running], all_step.observations[running])
        assert np.array_equal(step.rewards[running], all_step.rewards[running])


def test_goals_fill_the_square():
    distribution = PointNavigation()
    goals = distribution.sample(4000, np.random.default_rng(2))["goal"]
    assert goals.shape == (4000, 2)
    assert np.abs(goals).max() <= 0.5
    assert np.all(goals.max(axis=0) > 0.49)
    assert np.all(goals.min(axis=0) < -0.49)
    assert goals.mean(axis=0) == pytest.approx([0.0, 0.0], abs=0.02)
    assert distribution.finite_tasks() is None
    assert distribution.describe({"goal": np.array([0.12345, -0.4])}) == "goal=[0.123, -0.4]"


def test_the_preset_is_finns():
    distribution = PointNavigation()
    assert distribution.preset_name == "finn2017"
    assert (distribution.horizon, distribution.action_scale) == (100, 0.1)
    assert distribution.observation_space.shape == distribution.action_space.shape == (2,)


def test_the_gymnasium_form_equals_the_batched_form_bit_for_bit():
    goal = np.array([0.31, -0.17])
    env, single = make([goal], slots=1), PointNavigation().single({"goal": goal})
    single.reset(seed=0)
    rng = np.random.default_rng(3)
    for _ in range(20):
        action = rng.normal(size=(1, 1, 2)).astype(np.float32)
        step = env.step(action, np.ones((1, 1), dtype=bool))
        applied = single.distribution.applied(action[0, 0])
        observation, reward, terminated, _, _ = single.step(applied)
        assert np.array_equal(observation, step.observations[0, 0])
        assert reward == step.rewards[0, 0]
        assert terminated == step.terminated[0, 0]


def test_the_gymnasium_form_terminates_at_the_goal():
    single = PointNavigation().single({"goal": np.array([0.1, 0.05])})
    single.reset(seed=0)
    # after (0.06, 0.02) the goal is 0.04 and 0.03 away: distance 0.05; then (0.035, 0.025) arrives
    _, reward, terminated, truncated, _ = single.step(np.array([0.06, 0.02]))
    assert (reward, terminated, truncated) == (pytest.approx(-0.05), False, False)
    _, _, terminated, truncated, _ = single.step(np.array([0.035, 0.025]))
    assert (terminated, truncated) == (True, False)
