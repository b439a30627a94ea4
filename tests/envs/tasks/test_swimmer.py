import dataclasses

import gymnasium
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from envs.tasks.swimmer import SwimmerDir, SwimmerGoal
from tests.support.paths import ROOT

TASKS = {
    SwimmerDir: {"direction": np.array([1.0, -1.0])},
    SwimmerGoal: {"goal": np.array([[0.5, -1.25], [-2.0, 0.75]])},
}
BUILDS = list(TASKS)


def run(distribution, tasks, actions):
    """Step `actions` [T, M, B, A]; return the steps and what reset observed."""
    num_tasks, slots = actions.shape[1:3]
    env = distribution.make(num_tasks, slots)
    env.set_tasks(tasks)
    start = env.reset([np.random.default_rng(seed) for seed in range(num_tasks * slots)])
    steps = [env.step(action, np.ones((num_tasks, slots), dtype=bool)) for action in actions]
    env.close()
    return start, steps


# What the task makes of Gymnasium's own measurements: forward velocity and position.
TASK_REWARD = {
    SwimmerDir: lambda info, task: task["direction"] * info["x_velocity"],
    SwimmerGoal: lambda info, task: (
        -np.hypot(info["x_position"] - task["goal"][0], info["y_position"] - task["goal"][1])
    ),
}


@pytest.mark.parametrize("build", BUILDS)
def test_every_row_is_gymnasiums_swimmer(build):
    actions = np.random.default_rng(5).normal(scale=0.8, size=(100, 2, 2, 2))  # some get clipped
    assert np.abs(actions).max() > 1.0
    start, steps = run(build("gymnasium"), TASKS[build], actions)
    for row in range(4):
        task, slot = divmod(row, 2)
        reference = gymnasium.make(
            "Swimmer-v5",
            exclude_current_positions_from_observation=build is SwimmerDir,
        ).unwrapped
        observation, _ = reference.reset(seed=row)
        assert np.array_equal(start[task, slot], observation)
        own = {name: leaf[task] for name, leaf in TASKS[build].items()}
        for action, step in zip(actions[:, task, slot], steps, strict=True):
            observation, reward, _, _, info = reference.step(np.clip(action, -1.0, 1.0))
            assert np.allclose(step.observations[task, slot], observation, rtol=0, atol=1e-10)
            expected = TASK_REWARD[build](info, own) + reward - info["x_velocity"]
            assert step.rewards[task, slot] == pytest.approx(expected, abs=1e-10)
            assert not step.terminated[task, slot]
        reference.close()


# x goes from 0.10 to 0.18 and to 0.06: v = 0.08 / 0.04 = 2 and -0.04 / 0.04 = -1 m/s.
# |a|^2 = 0.25 + 0.04 = 0.29, the cost 0.000029.
BEFORE = {"qpos": np.array([[0.10, 0.4, 7.0, 7.0, 7.0]] * 2)}
AFTER = {"qpos": np.array([[0.18, -0.6, 7.0, 7.0, 7.0], [0.06, 0.9, 7.0, 7.0, 7.0]])}
ACTION = np.array([[0.5, -0.2], [0.2, 0.5]])


@pytest.mark.parametrize("preset", ["maml_rl", "gymnasium"])
def test_reward_by_hand(preset):
    distribution = SwimmerDir(preset)
    reward = distribution.reward(BEFORE, ACTION, AFTER, TASKS[SwimmerDir])
    assert reward == pytest.approx([2.0 - 0.000029, 1.0 - 0.000029], rel=1e-12)
    info = distribution.info(BEFORE, ACTION, AFTER, TASKS[SwimmerDir])
    assert info["x_velocity"] == pytest.approx([2.0, -1.0])
    # to (0.18, -0.6) from (0.5, -1.25): (0.32, 0.65); to (0.06, 0.9) from (-2, 0.75): (2.06, 0.15)
    distance = np.sqrt([0.1024 + 0.4225, 4.2436 + 0.0225])
    distribution = SwimmerGoal(preset)
    reward = distribution.reward(BEFORE, ACTION, AFTER, TASKS[SwimmerGoal])
    assert reward == pytest.approx(-distance - 0.000029, rel=1e-12)
    info = distribution.info(BEFORE, ACTION, AFTER, TASKS[SwimmerGoal])
    assert info["distance"] == pytest.approx(distance)


@pytest.mark.parametrize(("preset", "horizon"), [("maml_rl", 200), ("gymnasium", 1000)])
def test_presets(preset, horizon):
    for build, size in ((SwimmerDir, 8), (SwimmerGoal, 10)):
        distribution = build(preset)
        own = distribution.preset
        assert (own.frame_skip, own.horizon, own.action_scale) == (4, horizon, 1.0)
        assert own.control_cost == 1e-4
        assert distribution.dt == pytest.approx(0.04)
        assert distribution.observation_space.shape == (size,)
    assert SwimmerGoal(preset).preset.goal_radius == 2.0
    assert SwimmerDir(preset, observe_position=True).observation_space.shape == (10,)


def test_the_default_preset_is_maml_rl():
    assert [build().preset_name for build in BUILDS] == ["maml_rl", "maml_rl"]


def test_directions_are_plus_and_minus_one_about_equally_often():
    drawn = SwimmerDir().sample(1000, np.random.default_rng(2))["direction"]
    assert set(drawn.tolist()) == {1.0, -1.0}
    assert abs(drawn.mean()) < 0.1
    assert SwimmerDir().finite_tasks()["direction"].tolist() == [1.0, -1.0]


def test_goals_are_uniform_on_a_disc():
    goal = SwimmerGoal(goal_radius=1.5).sample(4000, np.random.default_rng(4))["goal"]
    assert goal.shape == (4000, 2)
    # r^2 / R^2 and the angle are uniform; Kolmogorov-Smirnov's 1 % point is 1.63 / sqrt(4000)
    share = np.sort((goal * goal).sum(1) / 1.5**2)
    turn = np.sort(np.arctan2(goal[:, 1], goal[:, 0]) / (2 * np.pi) % 1.0)
    for values in (share, turn):
        assert np.abs(values - np.arange(4000) / 4000).max() < 1.63 / np.sqrt(4000)
    assert SwimmerGoal().finite_tasks() is None


def test_tasks_are_described_and_shown():
    assert SwimmerDir().describe({"direction": np.float64(1.0)}) == "forward"
    assert SwimmerDir().describe({"direction": np.float64(-1.0)}) == "backward"
    assert SwimmerGoal().describe({"goal": np.array([0.304, -1.2])}) == "goal (0.30, -1.20)"
    (arrow,) = SwimmerDir().markers({"direction": np.float64(-1.0)})
    assert arrow.to == pytest.approx((-1.5, 0.0, arrow.position[2]))
    (sphere,) = SwimmerGoal().markers({"goal": np.array([1.5, -2.5])})
    assert sphere.to is None
    assert sphere.position[:2] == (1.5, -2.5)


@pytest.mark.parametrize("build", BUILDS)
def test_the_gymnasium_form_equals_the_batched_form_bit_for_bit(build):
    distribution = build()
    actions = np.random.default_rng(4).normal(scale=2.0, size=(30, 2, 2, 2)).astype(np.float32)
    start, steps = run(distribution, TASKS[build], actions)
    for row in range(4):
        task, slot = divmod(row, 2)
        single = distribution.single({name: leaf[task] for name, leaf in TASKS[build].items()})
        observation, _ = single.reset(seed=row)
        assert np.array_equal(observation, start[task, slot])
        for action, step in zip(actions[:, task, slot], steps, strict=True):
            observation, reward, terminated, _, info = single.step(distribution.applied(action))
            assert np.array_equal(observation, step.observations[task, slot])
            assert reward == step.rewards[task, slot]
            assert terminated == step.terminated[task, slot]
            for name, leaf in step.info.items():
                assert info[name] == leaf[task, slot]


@pytest.mark.parametrize("build", BUILDS)
def test_the_node_has_every_number(build):
    distribution = build()
    node = OmegaConf.load(ROOT / "conf" / "env" / f"{distribution.name}.yaml")
    numbers = [field.name for field in dataclasses.fields(distribution.preset)]
    assert sorted(node) == sorted(["_target_", "preset", *numbers])
    built = instantiate(node, control_cost=0.125)
    assert type(built) is build
    assert built.preset == dataclasses.replace(distribution.preset, control_cost=0.125)
