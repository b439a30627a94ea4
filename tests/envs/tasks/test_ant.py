import dataclasses

import gymnasium
import mujoco
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from envs import TaskObserved, UserError
from envs.tasks.ant import AntDir, AntGoal, AntHeading, AntVel
from tests.support.paths import ROOT

# Two tasks of each distribution, neither along an axis.
TASKS = {
    AntDir: {"direction": np.array([1.0, -1.0])},
    AntHeading: {"heading": np.array([[0.6, -0.8], [-0.28, 0.96]])},
    AntVel: {"velocity": np.array([0.4, 2.7])},
    AntGoal: {"goal": np.array([[0.5, -1.25], [-2.0, 0.75]])},
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


def uniform_gap(values):
    """Return the Kolmogorov-Smirnov distance of `values` from the uniform on [0, 1]."""
    values, n = np.sort(values), len(values)
    return max(np.max(np.arange(1, n + 1) / n - values), np.max(values - np.arange(n) / n))


# What the task makes of Gymnasium's own measurements: v is the torso's velocity, p its position.
TASK_REWARD = {
    AntDir: lambda v, p, task: task["direction"] * v[0],
    AntHeading: lambda v, p, task: task["heading"][0] * v[0] + task["heading"][1] * v[1],
    AntVel: lambda v, p, task: -abs(v[0] - task["velocity"]),
    AntGoal: lambda v, p, task: -abs(p[0] - task["goal"][0]) - abs(p[1] - task["goal"][1]),
}


@pytest.mark.parametrize("build", BUILDS)
def test_every_row_is_gymnasiums_ant(build):
    # The limits are tighter than Ant-v5's own, so that both sides are met within the steps.
    distribution = build("gymnasium", heights=(0.5, 0.78))
    actions = np.random.default_rng(5).normal(scale=0.9, size=(60, 2, 2, 8))  # some get clipped
    assert np.abs(actions).max() > 1.0
    start, steps = run(distribution, TASKS[build], actions)
    ended = np.array([step.terminated for step in steps])
    assert 0 < ended.sum() < ended.size
    for row in range(4):
        task, slot = divmod(row, 2)
        reference = gymnasium.make(
            "Ant-v5",
            contact_cost_weight=0.0,
            include_cfrc_ext_in_observation=False,
            exclude_current_positions_from_observation=build is not AntGoal,
            healthy_z_range=(0.5, 0.78),
        ).unwrapped
        observation, _ = reference.reset(seed=row)
        assert np.array_equal(start[task, slot], observation)
        own = {name: leaf[task] for name, leaf in TASKS[build].items()}
        for action, step in zip(actions[:, task, slot], steps, strict=True):
            observation, reward, terminated, _, info = reference.step(np.clip(action, -1.0, 1.0))
            assert np.allclose(step.observations[task, slot], observation, rtol=0, atol=1e-10)
            assert step.terminated[task, slot] == terminated
            velocity = (info["x_velocity"], info["y_velocity"])
            position = reference.data.body("torso").xpos
            expected = TASK_REWARD[build](velocity, position, own) + reward - info["x_velocity"]
            assert step.rewards[task, slot] == pytest.approx(expected, abs=1e-10)
        reference.close()


# The torso goes from (0.1, 0.2) to (0.16, 0.1): v = (1.2, -2) m/s in 0.05 s, (3, -5) in 0.02 s.
# In the second row it goes from (0, 0) to (-0.03, 0.05): (-0.6, 1) or (-1.5, 2.5), and too high.
# |a|^2 = 0.25 + 0.04 = 0.29 in both rows.
BEFORE = {"xpos": np.array([[[9.0] * 3, [0.1, 0.2, 0.7]], [[9.0] * 3, [0.0, 0.0, 0.7]]])}
AFTER = {
    "xpos": np.array([[[8.0] * 3, [0.16, 0.1, 0.7]], [[8.0] * 3, [-0.03, 0.05, 0.7]]]),
    "qpos": np.array([[5.0, 5.0, 0.75] + [0.1] * 12, [5.0, 5.0, 1.01] + [0.1] * 12]),
}
ACTION = np.array([[0.5, -0.2] + [0.0] * 6, [0.0] * 6 + [0.2, 0.5]])


@pytest.mark.parametrize(
    ("build", "preset", "first", "second"),
    [
        # 0.5 * 0.29 = 0.145; 0.005 * 0.29 = 0.00145. The second row falls: survival is paid
        # there as the sources do, but for Gymnasium's preset.
        (AntDir, "promp", 1.2 + 1.0 - 0.145, 0.6 + 1.0 - 0.145),
        (AntDir, "gymnasium", 1.2 + 1.0 - 0.145, 0.6 - 0.145),
        (AntDir, "finn2017", 3.0 + 0.05 - 0.00145, 1.5 + 0.05 - 0.00145),
        # headings (0.6, -0.8) and (-0.28, 0.96): 0.72 + 1.6 and 0.168 + 0.96
        (AntHeading, "promp", 2.32 + 1.0 - 0.145, 1.128 + 1.0 - 0.145),
        (AntHeading, "pearl", 2.32 + 1.0 - 0.145, 1.128 + 1.0 - 0.145),
        (AntHeading, "gymnasium", 2.32 + 1.0 - 0.145, 1.128 - 0.145),
        # targets 0.4 and 2.7: |3 - 0.4| = 2.6 and |-1.5 - 2.7| = 4.2; or 0.8 and 3.3 in 0.05 s
        (AntVel, "finn2017", -2.6 + 1.0 + 0.05 - 0.00145, -4.2 + 1.0 + 0.05 - 0.00145),
        (AntVel, "gymnasium", -0.8 + 1.0 - 0.145, -3.3 - 0.145),
        # goals (0.5, -1.25) and (-2, 0.75): 0.34 + 1.35 = 1.69 and 1.97 + 0.7 = 2.67
        (AntGoal, "promp", -1.69 - 0.029, -2.67 - 0.029),
        (AntGoal, "finn2017", -1.69 + 4.0 + 0.05 - 0.00145, -2.67 + 4.05 - 0.00145),
        (AntGoal, "gymnasium", -1.69 + 1.0 - 0.145, -2.67 - 0.145),
    ],
)
def test_reward_by_hand(build, preset, first, second):
    distribution = build(preset)
    reward = distribution.reward(BEFORE, ACTION, AFTER, TASKS[build])
    assert reward == pytest.approx([first, second], rel=1e-12)
    ends = not (build is AntGoal and preset == "promp")
    assert distribution.terminated(AFTER, TASKS[build]).tolist() == [False, ends]


def test_info_is_what_the_task_is_about():
    def info(build, preset):
        return build(preset).info(BEFORE, ACTION, AFTER, TASKS[build])

    assert info(AntDir, "promp")["x_velocity"] == pytest.approx([1.2, -0.6])
    assert info(AntVel, "finn2017")["x_velocity"] == pytest.approx([3.0, -1.5])
    assert info(AntHeading, "promp")["heading_velocity"] == pytest.approx([2.32, 1.128])
    # straight: sqrt(0.34^2 + 1.35^2) and sqrt(1.97^2 + 0.7^2)
    straight = [np.sqrt(0.1156 + 1.8225), np.sqrt(3.8809 + 0.49)]
    assert info(AntGoal, "promp")["distance"] == pytest.approx(straight)


@pytest.mark.parametrize(
    ("build", "preset", "numbers"),
    [
        # frame skip, horizon, scale, control cost, survival, terminates, observations
        (AntDir, "promp", (5, 100, 0.1, 0.5, 1.0, True, 27)),
        (AntDir, "finn2017", (2, 200, 1.0, 0.005, 0.05, True, 29)),
        (AntDir, "gymnasium", (5, 1000, 1.0, 0.5, 1.0, True, 27)),
        (AntHeading, "promp", (5, 100, 0.1, 0.5, 1.0, True, 27)),
        (AntHeading, "pearl", (5, 200, 1.0, 0.5, 1.0, True, 27)),
        (AntHeading, "gymnasium", (5, 1000, 1.0, 0.5, 1.0, True, 27)),
        (AntVel, "finn2017", (2, 200, 1.0, 0.005, 1.05, True, 29)),
        (AntVel, "gymnasium", (5, 1000, 1.0, 0.5, 1.0, True, 27)),
        (AntGoal, "promp", (5, 100, 0.1, 0.1, 0.0, False, 29)),
        (AntDir, "euler", (5, 100, 0.1, 0.5, 1.0, True, 27)),
        (AntGoal, "euler", (5, 100, 0.1, 0.1, 0.0, False, 29)),
        (AntGoal, "finn2017", (2, 200, 1.0, 0.005, 4.05, True, 29)),
        (AntGoal, "gymnasium", (5, 1000, 1.0, 0.5, 1.0, True, 29)),
    ],
)
def test_presets_are_their_sources(build, preset, numbers):
    distribution = build(preset)
    own = distribution.preset
    assert numbers == (
        *(own.frame_skip, own.horizon, own.action_scale),
        *(own.control_cost, own.survival, own.terminates),
        distribution.observation_space.shape[0],
    )
    assert own.heights == (0.2, 1.0)
    assert distribution.dt == pytest.approx(0.01 * numbers[0])


@pytest.mark.parametrize("build", [AntDir, AntGoal])
def test_the_preset_euler_is_promps_but_for_the_integrator(build):
    promp, euler = build("promp"), build("euler")
    assert dataclasses.replace(euler.preset, euler=False) == promp.preset
    assert promp.model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    actions = np.random.default_rng(5).normal(scale=9.0, size=(30, 2, 1, 8))
    _, steps = run(euler, TASKS[build], actions)
    model = euler.model.__copy__()
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    data = mujoco.MjData(model)
    start = euler.reset(np.random.default_rng(0))
    data.qpos, data.qvel = start["qpos"], start["qvel"]
    for action, step in zip(actions[:, 0, 0], steps, strict=True):
        data.ctrl = np.clip(0.1 * action, -1, 1)
        mujoco.mj_step(model, data, 5)
        velocity = step.observations[0, 0, -14:]
        assert velocity == pytest.approx(data.qvel, rel=1e-9, abs=1e-9)
    _, others = run(promp, TASKS[build], actions)
    assert np.abs(others[-1].observations - steps[-1].observations).max() > 1e-2


def test_the_first_preset_is_the_default_and_numbers_override_it():
    assert [build().preset_name for build in BUILDS] == ["promp", "promp", "finn2017", "promp"]
    distribution = AntVel(velocities=[1.0, 2.0], survival=0.25, horizon=7)
    assert (distribution.preset.survival, distribution.horizon) == (0.25, 7)
    drawn = distribution.sample(500, np.random.default_rng(3))["velocity"]
    assert 1.0 <= drawn.min() < 1.01
    assert 1.99 < drawn.max() <= 2.0
    with pytest.raises(UserError, match=r"velocities is unknown"):
        AntDir(velocities=[1.0, 2.0])


def test_headings_are_unit_vectors_uniform_on_the_circle():
    heading = AntHeading().sample(4000, np.random.default_rng(2))["heading"]
    assert heading.shape == (4000, 2)
    assert np.abs(np.hypot(heading[:, 0], heading[:, 1]) - 1).max() < 1e-15
    turn = np.arctan2(heading[:, 1], heading[:, 0]) / (2 * np.pi) % 1.0
    assert uniform_gap(turn) < 1.63 / np.sqrt(4000)  # the 1 % point
    assert AntHeading().finite_tasks() is None


def test_an_oracle_reads_the_heading_itself():
    env = TaskObserved(AntHeading()).make(2, 1)
    env.set_tasks(TASKS[AntHeading])
    observed = env.reset([np.random.default_rng(0), np.random.default_rng(1)])
    assert observed[:, 0, -2:].tolist() == [[0.6, -0.8], [-0.28, 0.96]]


def test_directions_are_plus_and_minus_one_about_equally_often():
    drawn = AntDir().sample(1000, np.random.default_rng(2))["direction"]
    assert set(drawn.tolist()) == {1.0, -1.0}
    assert abs(drawn.mean()) < 0.1
    assert AntDir().finite_tasks()["direction"].tolist() == [1.0, -1.0]


@pytest.mark.parametrize("preset", ["finn2017", "gymnasium"])
def test_velocities_are_uniform_on_0_to_3(preset):
    drawn = AntVel(preset).sample(4000, np.random.default_rng(2))["velocity"]
    assert drawn.shape == (4000,)
    assert uniform_gap(drawn / 3.0) < 1.63 / np.sqrt(4000)


def test_goals_on_a_disc_are_drawn_as_their_source_draws_them():
    goal = AntGoal().sample(4000, np.random.default_rng(4))["goal"]
    rng = np.random.default_rng(4)
    angle = rng.uniform(0.0, 2 * np.pi, size=4000)
    radius = 3.0 * np.sqrt(rng.uniform(size=4000))
    assert np.array_equal(goal[:, 0], radius * np.cos(angle))
    assert np.array_equal(goal[:, 1], radius * np.sin(angle))
    assert uniform_gap((goal * goal).sum(1) / 9.0) < 1.63 / np.sqrt(4000)


def test_goals_on_a_square_are_uniform():
    goal = AntGoal("finn2017").sample(4000, np.random.default_rng(4))["goal"]
    assert goal.shape == (4000, 2)
    for axis in (0, 1):
        assert uniform_gap((goal[:, axis] + 3.0) / 6.0) < 1.63 / np.sqrt(4000)
    assert abs(np.corrcoef(goal.T)[0, 1]) < 0.05


def test_tasks_are_described_and_shown():
    assert AntDir().describe({"direction": np.float64(-1.0)}) == "backward"
    assert AntVel().describe({"velocity": np.float64(2.104)}) == "2.10 m/s"
    assert AntGoal().describe({"goal": np.array([-0.001, -1.2])}) == "goal (0.00, -1.20)"
    for heading, degrees in (((0, 1), 90), ((-0.6, -0.8), 233), ((1, -1e-9), 0)):
        task = {"heading": np.array(heading)}
        assert AntHeading().describe(task) == f"heading {degrees} degrees"
    (arrow,) = AntHeading().markers({"heading": np.array([0.6, -0.8])})
    assert arrow.to == pytest.approx((0.9, -1.2, arrow.position[2]))  # 1.5 m
    (arrow,) = AntDir().markers({"direction": np.float64(-1.0)})
    assert arrow.to == pytest.approx((-1.5, 0.0, arrow.position[2]))
    (sphere,) = AntGoal().markers({"goal": np.array([1.5, -2.5])})
    assert sphere.to is None
    assert sphere.position[:2] == (1.5, -2.5)


@pytest.mark.parametrize("build", BUILDS)
def test_the_gymnasium_form_equals_the_batched_form_bit_for_bit(build):
    distribution = build()
    actions = np.random.default_rng(4).normal(scale=6.0, size=(15, 2, 2, 8)).astype(np.float32)
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
