import dataclasses

import gymnasium
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from envs.tasks.humanoid import HumanoidDir
from tests.support.paths import ROOT

HEADINGS = np.array([[0.6, -0.8], [-0.28, 0.96]])


def run(distribution, tasks, actions):
    """Step `actions` [T, M, B, A]; return the steps and what reset observed."""
    num_tasks, slots = actions.shape[1:3]
    env = distribution.make(num_tasks, slots)
    env.set_tasks(tasks)
    start = env.reset([np.random.default_rng(seed) for seed in range(num_tasks * slots)])
    steps = [env.step(action, np.ones((num_tasks, slots), dtype=bool)) for action in actions]
    env.close()
    return start, steps


def test_every_row_is_gymnasiums_humanoid():
    actions = np.random.default_rng(5).normal(scale=0.3, size=(80, 2, 2, 17)).clip(-0.4, 0.4)
    start, steps = run(HumanoidDir("gymnasium"), {"heading": HEADINGS}, actions)
    ended = np.array([step.terminated for step in steps])
    assert 0 < ended.sum() < ended.size  # it falls on the way
    for row in range(4):
        task, slot = divmod(row, 2)
        reference = gymnasium.make(
            "Humanoid-v5", contact_cost_weight=0.0, include_cfrc_ext_in_observation=False
        ).unwrapped
        observation, _ = reference.reset(seed=row)
        assert np.array_equal(start[task, slot], observation)
        for action, step in zip(actions[:, task, slot], steps, strict=True):
            observation, reward, terminated, _, info = reference.step(action)
            assert np.allclose(step.observations[task, slot], observation, rtol=0, atol=1e-10)
            assert step.terminated[task, slot] == terminated
            x, y = HEADINGS[task]
            velocity = x * info["x_velocity"] + y * info["y_velocity"]
            assert step.info["heading_velocity"][task, slot] == pytest.approx(velocity, abs=1e-10)
            expected = 1.25 * velocity + reward - 1.25 * info["x_velocity"]
            assert step.rewards[task, slot] == pytest.approx(expected, abs=1e-10)
        reference.close()


def test_along_x_the_reward_is_gymnasiums_own():
    actions = np.random.default_rng(6).uniform(-0.4, 0.4, size=(50, 1, 1, 17))
    _, steps = run(HumanoidDir("gymnasium"), {"heading": np.array([[1.0, 0.0]])}, actions)
    reference = gymnasium.make(
        "Humanoid-v5", contact_cost_weight=0.0, include_cfrc_ext_in_observation=False
    ).unwrapped
    reference.reset(seed=0)
    for action, step in zip(actions[:, 0, 0], steps, strict=True):
        _, reward, _, _, _ = reference.step(action)
        assert step.rewards[0, 0] == pytest.approx(reward, abs=1e-10)
    reference.close()


def test_reward_by_hand():
    distribution = HumanoidDir()
    # The centre of mass (of the torso's subtree, body 1) moves by (0.3, -0.15) m.
    before = {"subtree_com": np.random.default_rng(0).normal(size=(2, 14, 3))}
    after = {"subtree_com": before["subtree_com"] + 7.0, "qpos": np.full((2, 24), 1.4)}
    after["subtree_com"][:, 1, :2] = before["subtree_com"][:, 1, :2] + [0.3, -0.15]
    after["qpos"][1, 2] = 2.0  # a limit is outside
    # h . (0.3, -0.15) = 0.18 + 0.12 = 0.3 and -0.084 - 0.144 = -0.228; dt = 5 * 0.003 = 0.015 s
    velocity = np.array([0.3, -0.228]) / 0.015
    action = np.zeros((2, 17))
    action[:, :2] = [0.3, -0.2]  # |a|^2 = 0.09 + 0.04
    cost = 0.1 * 0.13
    task = {"heading": HEADINGS}
    reward = distribution.reward(before, action, after, task)
    expected = [1.25 * velocity[0] + 5.0 - cost, 1.25 * velocity[1] - cost]
    assert reward == pytest.approx(expected, rel=1e-10)
    assert distribution.terminated(after, task).tolist() == [False, True]
    assert not HumanoidDir(terminates=False).terminated(after, task).any()
    heavy = HumanoidDir(forward_weight=2.0, survival=0.5, control_cost=1.0, heights=[1.0, 2.5])
    expected = 2.0 * velocity + 0.5 - 0.13
    assert heavy.reward(before, action, after, task) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("preset", "horizon", "scale"),
    [("promp", 200, 0.04), ("pearl", 200, 0.4), ("gymnasium", 1000, 1.0)],
)
def test_presets_are_their_sources(preset, horizon, scale):
    distribution = HumanoidDir(preset)
    own = distribution.preset
    assert (own.frame_skip, own.horizon, own.action_scale) == (5, horizon, scale)
    assert (own.forward_weight, own.control_cost, own.survival) == (1.25, 0.1, 5.0)
    assert (own.heights, own.terminates) == ((1.0, 2.0), True)
    assert distribution.dt == pytest.approx(0.015)
    # 22 + 23 positions and velocities, 13 bodies' 10 inertias and 6 velocities, 17 forces
    assert distribution.observation_space.shape == (22 + 23 + 13 * 10 + 13 * 6 + 17,)
    # an output of 10 (promp) or 1 (pearl) is the whole range, 0.4
    whole = 0.4 / scale
    assert distribution.applied(np.full(17, whole)) == pytest.approx(np.full(17, 0.4))
    assert distribution.applied(np.full(17, -whole / 4)) == pytest.approx(np.full(17, -0.1))


def test_the_default_preset_is_promp():
    assert HumanoidDir().preset_name == "promp"
    assert HumanoidDir().name == "humanoid_dir"


def test_headings_are_unit_vectors_uniform_on_the_circle():
    heading = HumanoidDir().sample(4000, np.random.default_rng(9))["heading"]
    assert heading.shape == (4000, 2)
    assert np.abs(np.hypot(heading[:, 0], heading[:, 1]) - 1).max() < 1e-15
    turn = np.sort(np.arctan2(heading[:, 1], heading[:, 0]) / (2 * np.pi) % 1.0)
    # Kolmogorov-Smirnov, to 1/4000: the 1 % point is 1.63 / sqrt(4000)
    assert np.abs(turn - np.arange(4000) / 4000).max() < 1.63 / np.sqrt(4000)
    assert HumanoidDir().finite_tasks() is None


def test_a_task_is_described_and_shown():
    task = {"heading": np.array([-0.8, 0.6])}
    assert HumanoidDir().describe(task) == "heading 143 degrees"  # 180 - atan(0.75) = 143.1
    (arrow,) = HumanoidDir().markers(task)
    assert arrow.to == pytest.approx((-1.2, 0.9, arrow.position[2]))  # 1.5 m


def test_the_gymnasium_form_equals_the_batched_form_bit_for_bit():
    distribution = HumanoidDir()
    actions = np.random.default_rng(4).normal(scale=6.0, size=(15, 2, 2, 17)).astype(np.float32)
    start, steps = run(distribution, {"heading": HEADINGS}, actions)
    for row in range(4):
        task, slot = divmod(row, 2)
        single = distribution.single({"heading": HEADINGS[task]})
        observation, _ = single.reset(seed=row)
        assert np.array_equal(observation, start[task, slot])
        for action, step in zip(actions[:, task, slot], steps, strict=True):
            observation, reward, terminated, _, info = single.step(distribution.applied(action))
            assert np.array_equal(observation, step.observations[task, slot])
            assert reward == step.rewards[task, slot]
            assert terminated == step.terminated[task, slot]
            assert info["heading_velocity"] == step.info["heading_velocity"][task, slot]


def test_the_node_has_every_number():
    distribution = HumanoidDir()
    node = OmegaConf.load(ROOT / "conf" / "env" / "humanoid_dir.yaml")
    numbers = [field.name for field in dataclasses.fields(distribution.preset)]
    assert sorted(node) == sorted(["_target_", "preset", *numbers])
    built = instantiate(node, forward_weight=0.5)
    assert type(built) is HumanoidDir
    assert built.preset == dataclasses.replace(distribution.preset, forward_weight=0.5)
