import numpy as np
import pytest
import torch

from envs import (
    Marker,
    PointNavigation,
    PointNavigationCorners,
    PointNavigationHalfCircle,
    UserError,
)


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
    assert distribution.describe({"goal": np.array([0.12345, -0.4])}) == "goal (0.12, -0.40)"


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


def steps_of(distribution, goals, actions):
    """Step `actions` [T, M, 2], one slot a task; positions [T + 1, M, 2], steps."""
    env = distribution.make(len(goals), 1)
    env.set_tasks({"goal": np.asarray(goals, dtype=float)})
    start = env.reset([np.random.default_rng(row) for row in range(len(goals))])
    active = np.ones((len(goals), 1), dtype=bool)
    steps = [env.step(action[:, None], active) for action in actions]
    return np.array([start, *(step.observations for step in steps)])[:, :, 0], steps


def test_the_range_of_moves_and_of_starts_can_be_chosen():
    distribution = PointNavigation(reach=0.3, start_range=0.7, action_scale=1.0)
    bound = np.float64(np.float32(0.3))
    assert distribution.action_space.high.tolist() == [bound, bound]
    positions, _ = steps_of(distribution, np.full((300, 2), 0.1), np.full((1, 300, 2), -9.0))
    assert positions[1] - positions[0] == pytest.approx(np.full((300, 2), -0.3), abs=1e-7)
    assert np.array_equal(positions[0, 5], np.random.default_rng(5).uniform(-0.7, 0.7, size=2))
    assert np.abs(positions[0]).max() <= 0.7
    assert np.all(positions[0].max(axis=0) > 0.65)
    assert np.all(positions[0].min(axis=0) < -0.65)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"reach": 0.0}, r"reach must be a finite number above 0, not 0\.0"),
        ({"start_range": -0.1}, r"start_range must be .* of at least 0, not -0\.1"),
        ({"quiet": 0.1}, r"quiet is unknown; there is action_scale, arrival, "),
    ],
)
def test_a_wrong_number_is_refused(numbers, message):
    with pytest.raises(UserError, match=message):
        PointNavigation(**numbers)


def test_pearls_square_is_larger_and_its_episodes_do_not_end():
    distribution = PointNavigation("pearl")
    assert (distribution.horizon, distribution.action_scale) == (20, 0.1)
    goals = distribution.sample(3000, np.random.default_rng(2))["goal"]
    assert np.abs(goals).max() <= 1.0
    assert np.all(goals.max(axis=0) > 0.99)
    start = distribution.reset(np.random.default_rng(3))["qpos"]
    assert np.array_equal(start, np.random.default_rng(3).uniform(-1.0, 1.0, size=2))
    goal = np.array([0.2, -0.3])
    state = {"qpos": goal.copy()}
    assert not distribution.terminated(state, {"goal": goal})  # not even at the goal itself


@pytest.mark.parametrize(
    ("before", "after", "reward"),
    [
        # goal (2, -2). 1.4 -> 1.3 away in both: (1.4 - 1.3) * sqrt(2)
        ([0.6, -0.6], [0.7, -0.7], 0.1 * np.sqrt(2)),
        # away from it: distances sqrt(1.3^2 + 1.3^2) and sqrt(1.4^2 + 1.3^2)
        ([0.7, -0.7], [0.6, -0.7], np.sqrt(2 * 1.3**2) - np.sqrt(1.4**2 + 1.3**2)),
        # |x| + |y| = 0.49 after the step: nothing; = 0.5 exactly: rewarded
        ([0.1, -0.2], [0.24, -0.25], 0.0),
        ([0.1, -0.2], [0.25, -0.25], np.sqrt(1.9**2 + 1.8**2) - 1.75 * np.sqrt(2)),
        # another corner is the nearest, though this one comes nearer
        ([-0.8, -0.6], [-0.6, -0.7], 0.0),
        ([0.9, 0.3], [0.9, 0.1], 0.0),
        # two corners are the nearest: y = 0
        ([0.8, 0.0], [1.0, 0.0], np.sqrt(1.2**2 + 4) - np.sqrt(1 + 4)),
    ],
)
def test_corners_reward_by_hand(before, after, reward):
    distribution = PointNavigationCorners()
    task = {"goal": np.array([2.0, -2.0])}
    states = [{"qpos": np.array(position)} for position in (before, after)]
    found = distribution.reward(states[0], None, states[1], task)
    assert found == pytest.approx(reward, rel=1e-12)


def test_corners_as_promp_has_them():
    distribution = PointNavigationCorners()
    assert (distribution.horizon, distribution.action_scale) == (100, 0.02)
    corners = distribution.finite_tasks()["goal"]
    assert sorted(corners.tolist()) == [[-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]]
    drawn = distribution.sample(4000, np.random.default_rng(0))["goal"]
    counts = [int((drawn == corner).all(axis=1).sum()) for corner in corners]
    assert sum(counts) == 4000
    assert all(abs(count - 1000) < 150 for count in counts)
    actions = np.random.default_rng(1).normal(scale=6.0, size=(100, 4, 2))  # some are clipped
    positions, steps = steps_of(distribution, corners, actions)
    assert np.array_equal(positions[0, 2], np.random.default_rng(2).uniform(-0.2, 0.2, size=2))
    expected = positions[0] + np.cumsum(np.clip(0.02 * actions, -0.2, 0.2), axis=0)
    assert positions[1:] == pytest.approx(expected, abs=1e-6)  # float32's 0.2 is not 0.2
    rewarded = 0
    for step, before, after in zip(steps, positions[:-1], positions[1:], strict=True):
        assert not step.terminated.any()
        for task, goal in enumerate(corners):
            # as ProMP writes it: nothing near the start, nor where another corner is nearer
            distances = [np.linalg.norm(after[task] - corner) for corner in corners]
            near, gone = np.linalg.norm(after[task] - goal), np.linalg.norm(before[task] - goal)
            seen = np.abs(after[task]).sum() >= 0.5 and near == min(distances)
            assert step.rewards[task, 0] == pytest.approx(gone - near if seen else 0.0, abs=1e-12)
            assert step.info["distance"][task, 0] == pytest.approx(near, rel=1e-12)
            rewarded += seen
    assert 20 < rewarded < 380
    assert distribution.describe({"goal": corners[1]}) == "goal (2.00, -2.00)"


@pytest.mark.parametrize(
    ("position", "sparse", "dense"),
    [
        # goal (0.6, 0.8)
        ([0.6, 0.7], 0.9, -0.1),
        ([0.72, 0.64], 0.8, -0.2),  # sqrt(0.12^2 + 0.16^2) = 0.2: the edge is inside
        ([0.6, 0.599], 0.0, -0.201),
        ([0.0, 0.0], 0.0, -1.0),
    ],
)
def test_half_circle_reward_by_hand(position, sparse, dense):
    task, state = {"goal": np.array([0.6, 0.8])}, {"qpos": np.array(position)}
    distribution = PointNavigationHalfCircle(arrival=0.2 + 1e-12)  # the edge, whatever rounding
    assert distribution.reward(state, None, state, task) == pytest.approx(sparse, rel=1e-12)
    info = distribution.info(state, None, state, task)
    assert info["distance"] == pytest.approx(-dense, rel=1e-12)
    assert info["success"] == (sparse > 0)
    everywhere = PointNavigationHalfCircle(sparse=False).reward(state, None, state, task)
    assert everywhere == pytest.approx(dense, rel=1e-12)


def test_half_circle_as_pearl_has_it():
    distribution = PointNavigationHalfCircle()
    assert (distribution.horizon, distribution.action_scale) == (20, 0.1)
    assert distribution.preset.arrival == 0.2
    assert distribution.finite_tasks() is None
    goals = distribution.sample(3000, np.random.default_rng(0))["goal"]
    assert np.hypot(*goals.T) == pytest.approx(np.ones(3000), rel=1e-14)
    angles = np.arctan2(goals[:, 1], goals[:, 0])
    assert 0.0 <= angles.min() < 0.01
    assert np.pi - 0.01 < angles.max() <= np.pi
    assert angles.mean() == pytest.approx(np.pi / 2, abs=0.06)
    # straight up, 0.09 a step, goal (0, 1): after step 9 at 0.81, 0.19 away: reward 0.81; then at
    # 0.90, 0.99, 1.08, 1.17: rewards 0.90, 0.99, 0.92, 0.83; at 1.26 it is 0.26 away
    positions, steps = steps_of(distribution, [[0.0, 1.0]], np.full((20, 1, 2), [0.0, 0.9]))
    assert positions[0].tolist() == [[0.0, 0.0]]
    rewards = [step.rewards[0, 0] for step in steps]
    expected = [0.0] * 8 + [0.81, 0.90, 0.99, 0.92, 0.83] + [0.0] * 7
    assert rewards == pytest.approx(expected, rel=1e-12)
    assert [bool(step.info["success"][0, 0]) for step in steps].count(True) == 5
    assert not any(step.terminated.any() for step in steps)


def test_goals_are_marked_and_described():
    task = {"goal": np.array([0.3, -0.001])}
    assert PointNavigation().describe(task) == "goal (0.30, 0.00)"
    assert PointNavigation().markers(task) == [Marker((0.3, -0.001, 0.0), size=0.03)]
    goal, near = PointNavigationHalfCircle().markers(task)
    assert goal == Marker((0.3, -0.001, 0.0), size=0.03)
    assert (near.position, near.size, near.rgba[3]) == (goal.position, 0.2, 0.3)


@pytest.mark.parametrize(
    "build", [PointNavigation, PointNavigationCorners, PointNavigationHalfCircle]
)
def test_one_formula_serves_numpy_and_torch(build):
    rng = np.random.default_rng(4)
    before, after = ({"qpos": rng.uniform(-1, 1, size=(40, 2))} for _ in range(2))
    task = build().sample(40, rng)
    after["qpos"][:10] = task["goal"][:10] + rng.uniform(-0.1, 0.1, size=(10, 2))  # rewarded ones
    reward = build().reward(before, None, after, task)
    assert len(np.unique(reward)) > 2
    given = [{name: torch.as_tensor(leaf) for name, leaf in d.items()} for d in (before, after)]
    own = build().reward(given[0], None, given[1], {"goal": torch.as_tensor(task["goal"])})
    assert np.array_equal(own.numpy(), reward)
