import dataclasses

import gymnasium
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from envs.tasks.reacher import ReacherGoal
from tests.support.paths import ROOT

GOALS = np.array([[0.05, -0.12], [-0.15, 0.08]])


def run(distribution, tasks, actions):
    """Step `actions` [T, M, B, A]; return the steps and what reset observed."""
    num_tasks, slots = actions.shape[1:3]
    env = distribution.make(num_tasks, slots)
    env.set_tasks(tasks)
    start = env.reset([np.random.default_rng(seed) for seed in range(num_tasks * slots)])
    steps = [env.step(action, np.ones((num_tasks, slots), dtype=bool)) for action in actions]
    env.close()
    return start, steps


def test_every_row_is_gymnasiums_reacher():
    distribution = ReacherGoal("gymnasium")
    actions = np.random.default_rng(5).normal(0.3, 0.8, size=(100, 2, 2, 2))  # some get clipped
    assert np.abs(actions).max() > 1.0
    start, steps = run(distribution, {"goal": GOALS}, actions)
    bends = []
    for row in range(4):
        task, slot = divmod(row, 2)
        reference = gymnasium.make("Reacher-v5").unwrapped
        reference.reset(seed=0)
        own = distribution.reset(np.random.default_rng(row))
        reference.set_state(
            np.concatenate([own["qpos"], GOALS[task]]), np.concatenate([own["qvel"], [0.0, 0.0]])
        )
        tip = reference.data.body("fingertip")
        observation = reference._get_obs()
        # Reacher-v5 observes 4 angles' parts, the goal, 2 velocities, the tip less the goal
        seen = [*observation[:4], *observation[6:8], *tip.xpos[:2]]
        assert np.allclose(start[task, slot], seen, rtol=0, atol=1e-10)
        for action, step in zip(actions[:, task, slot], steps, strict=True):
            observation, reward, terminated, _, info = reference.step(np.clip(action, -1.0, 1.0))
            seen = [*observation[:4], *observation[6:8], *tip.xpos[:2]]
            assert np.allclose(step.observations[task, slot], seen, rtol=0, atol=1e-10)
            assert step.rewards[task, slot] == pytest.approx(reward, abs=1e-10)
            distance = step.info["distance"][task, slot]
            assert distance == pytest.approx(-info["reward_dist"], abs=1e-10)
            assert step.terminated[task, slot] == terminated
            bends.append(abs(reference.data.qpos[1]))
        reference.close()
    assert max(bends) > 3.0  # the elbow's limit was met


@pytest.mark.parametrize("preset", ["maml_rl", "gymnasium"])
def test_reward_by_hand(preset):
    distribution = ReacherGoal(preset)
    # The tip is at (0.1, -0.06) and (0, 0.1): (0.05, 0.06) and (0.15, 0.02) from the goals.
    after = {"xpos": np.full((2, 4, 3), 7.0)}
    after["xpos"][:, 3, :2] = [[0.1, -0.06], [0.0, 0.1]]
    action = np.array([[0.5, -0.2], [0.1, 0.3]])  # |a|^2 = 0.29 and 0.1
    distance = np.sqrt([0.0025 + 0.0036, 0.0225 + 0.0004])
    task = {"goal": GOALS}
    reward = distribution.reward({}, action, after, task)
    assert reward == pytest.approx(-distance - [0.29, 0.1], rel=1e-12)
    assert distribution.info({}, action, after, task)["distance"] == pytest.approx(distance)
    cheap = ReacherGoal(preset, control_cost=0.5).reward({}, action, after, task)
    assert cheap == pytest.approx(-distance - [0.145, 0.05], rel=1e-12)


@pytest.mark.parametrize(("preset", "scale"), [("maml_rl", 0.1), ("gymnasium", 1.0)])
def test_presets(preset, scale):
    distribution = ReacherGoal(preset)
    own = distribution.preset
    assert (own.frame_skip, own.horizon, own.action_scale) == (2, 50, scale)
    assert (own.control_cost, own.goal_radius) == (1.0, 0.2)
    assert distribution.dt == pytest.approx(0.02)
    assert distribution.observation_space.shape == (8,)
    assert distribution.action_space.shape == (2,)
    assert (distribution.model.nq, distribution.model.nbody) == (2, 4)  # no target


def test_the_default_preset_is_maml_rl():
    assert ReacherGoal().preset_name == "maml_rl"
    assert ReacherGoal().name == "reacher_goal"


def test_the_goal_is_not_observed():
    distribution = ReacherGoal()
    actions = np.random.default_rng(1).normal(size=(5, 2, 1, 2))
    actions[:, 1] = actions[:, 0]
    env = distribution.make(2, 1)
    env.set_tasks({"goal": GOALS})
    start = env.reset([np.random.default_rng(3), np.random.default_rng(3)])
    assert np.array_equal(start[0], start[1])
    for action in actions:
        step = env.step(action, np.ones((2, 1), dtype=bool))
        assert np.array_equal(step.observations[0], step.observations[1])
        assert step.rewards[0] != step.rewards[1]


def test_the_arm_starts_as_gymnasiums_does():
    starts = [ReacherGoal().reset(np.random.default_rng(seed)) for seed in range(30)]
    for name, bound in (("qpos", 0.1), ("qvel", 0.005)):
        values = np.array([start[name] for start in starts])
        assert values.shape == (30, 2)
        assert 0.8 * bound < np.abs(values).max() <= bound


def test_goals_are_drawn_as_gymnasium_draws_them():
    goal = ReacherGoal().sample(4000, np.random.default_rng(4))["goal"]
    assert goal.shape == (4000, 2)
    # Gymnasium keeps draws from the square that lie on the disc: uniform on it.
    draws = np.random.default_rng(5).uniform(-0.2, 0.2, size=(8000, 2))
    kept = draws[np.hypot(draws[:, 0], draws[:, 1]) < 0.2][:4000]
    assert np.hypot(goal[:, 0], goal[:, 1]).max() <= 0.2
    for measure in (lambda g: np.hypot(g[:, 0], g[:, 1]), lambda g: g[:, 0], lambda g: g[:, 1]):
        ours, theirs = np.sort(measure(goal)), np.sort(measure(kept))
        shares = np.searchsorted(theirs, ours, side="right") / len(theirs)
        # Kolmogorov-Smirnov between two samples of 4000; the 1 % point is 1.63 * sqrt(2 / 4000)
        assert np.abs(shares - np.arange(1, 4001) / 4000).max() < 1.63 * np.sqrt(2 / 4000)
    assert ReacherGoal().finite_tasks() is None


def test_a_task_is_described_and_shown():
    task = {"goal": np.array([0.123, -0.05])}
    assert ReacherGoal().describe(task) == "goal (0.12, -0.05)"
    (sphere,) = ReacherGoal().markers(task)
    assert sphere.to is None
    assert sphere.position == (0.123, -0.05, 0.01)


def test_the_gymnasium_form_equals_the_batched_form_bit_for_bit():
    distribution = ReacherGoal()
    actions = np.random.default_rng(4).normal(scale=8.0, size=(30, 2, 2, 2)).astype(np.float32)
    start, steps = run(distribution, {"goal": GOALS}, actions)
    for row in range(4):
        task, slot = divmod(row, 2)
        single = distribution.single({"goal": GOALS[task]})
        observation, _ = single.reset(seed=row)
        assert np.array_equal(observation, start[task, slot])
        for action, step in zip(actions[:, task, slot], steps, strict=True):
            observation, reward, terminated, _, info = single.step(distribution.applied(action))
            assert np.array_equal(observation, step.observations[task, slot])
            assert reward == step.rewards[task, slot]
            assert terminated == step.terminated[task, slot]
            assert info["distance"] == step.info["distance"][task, slot]


def test_the_node_has_every_number():
    distribution = ReacherGoal()
    node = OmegaConf.load(ROOT / "conf" / "env" / "reacher_goal.yaml")
    numbers = [field.name for field in dataclasses.fields(distribution.preset)]
    assert sorted(node) == sorted(["_target_", "preset", *numbers])
    built = instantiate(node, goal_radius=0.125)
    assert type(built) is ReacherGoal
    assert built.preset == dataclasses.replace(distribution.preset, goal_radius=0.125)
