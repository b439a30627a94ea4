import os
from pathlib import Path

import mujoco
import numpy as np
import pytest

from envs import (
    AntRandParams,
    HalfCheetahRandParams,
    HopperRandParams,
    TaskObserved,
    UserError,
    Walker2dRandParams,
)
from envs.protocol import task_at, tasks_from_json, tasks_to_json

BODIES = (Walker2dRandParams, HopperRandParams, HalfCheetahRandParams, AntRandParams)
FIELDS = ("body_mass", "body_inertia", "geom_friction", "dof_damping")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs Gymnasium's deprecated MJCF to the current folder


def draw(build, num_tasks, seed=0):
    return build().sample(num_tasks, np.random.default_rng(seed))


def ones(distribution, num_tasks):
    return {
        field: np.ones((num_tasks, *getattr(distribution.model, field).shape)) for field in FIELDS
    }


def actions_for(distribution, steps, num_tasks, slots, seed=5):
    size = (steps, num_tasks, slots, distribution.action_space.shape[0])
    return np.random.default_rng(seed).normal(size=size) / distribution.action_scale


def trajectory(env, actions):
    """Step `actions` [T, M, B, A] from fixed starts; observations [T + 1, M, B, O]."""
    shape = actions.shape[1:3]
    start = env.reset([np.random.default_rng(row) for row in range(shape[0] * shape[1])])
    active = np.ones(shape, dtype=bool)
    return np.array([start, *(env.step(action, active).observations for action in actions)])


def serial(distribution, multipliers, seed, actions):
    """MuJoCo's own mj_step on a model of the task's own; observations [T + 1, O]."""
    model = mujoco.MjModel.from_xml_path(str(distribution.xml))
    for field, factors in multipliers.items():
        getattr(model, field)[:] = getattr(model, field) * factors
    data = mujoco.MjData(model)
    if multipliers:
        mujoco.mj_setConst(model, data)
    mujoco.mj_resetData(model, data)
    for field, value in distribution.reset(np.random.default_rng(seed)).items():
        getattr(data, field)[:] = value
    mujoco.mj_forward(model, data)
    observed = []
    for action in [None, *actions]:
        if action is not None:
            data.ctrl[:] = np.clip(distribution.action_scale * action, -1.0, 1.0)
            mujoco.mj_step(model, data, nstep=distribution.frame_skip)
        state = {name: getattr(data, name) for name in ("qpos", "qvel", "xpos")}
        observed.append(distribution.observe(state).copy())
    return np.array(observed)


@pytest.mark.parametrize("build", BODIES)
def test_every_row_is_mj_step_on_its_tasks_own_model_bit_for_bit(build):
    distribution = build()
    tasks = draw(build, 3)
    actions = actions_for(distribution, 50, 3, 2)
    env = distribution.make(3, 2, threads=2)
    env.set_tasks(tasks)
    observed = trajectory(env, actions)
    for row in range(6):
        task, slot = divmod(row, 2)
        own = serial(distribution, task_at(tasks, task), row, actions[:, task, slot])
        assert np.array_equal(observed[:, task, slot], own)
    assert not np.allclose(observed[-1, 0], observed[-1, 1])  # tasks do differ


@pytest.mark.parametrize("build", BODIES)
def test_multipliers_of_one_are_the_body_itself_bit_for_bit(build):
    distribution = build()
    actions = actions_for(distribution, 50, 2, 1)
    env = distribution.make(2, 1)
    env.set_tasks(draw(build, 2))  # what was set before leaves no trace
    env.set_tasks(ones(distribution, 2))
    observed = trajectory(env, actions)
    for task in range(2):
        assert np.array_equal(
            observed[:, task, 0], serial(distribution, {}, task, actions[:, task, 0])
        )


@pytest.mark.parametrize("build", BODIES)
def test_setting_tasks_again_does_not_compound(build):
    distribution = build()
    first, second = draw(build, 2, seed=1), draw(build, 2, seed=2)
    actions = actions_for(distribution, 20, 2, 2)
    env, alone = distribution.make(2, 2), distribution.make(2, 2)
    alone.set_tasks(first)
    expected = trajectory(alone, actions)
    for tasks in (first, second, first, first):
        env.set_tasks(tasks)
        assert np.array_equal(trajectory(env, actions), expected) == (tasks is first)


@pytest.mark.parametrize("build", BODIES)
def test_no_two_models_share_an_array_and_the_bodys_own_stays_as_it_was(build):
    distribution, untouched = build(), build().model
    tasks = draw(build, 2)
    models = [distribution.model, *(distribution.task_model(task_at(tasks, i)) for i in (0, 1))]
    distribution.make(2, 1).set_tasks(tasks)
    arrays = 0
    for name in dir(untouched):
        values = [getattr(model, name) for model in (untouched, *models)]
        if isinstance(values[0], np.ndarray) and values[0].size:
            arrays += 1
            assert np.array_equal(values[0], values[1]), name
            for one, other in ((1, 2), (1, 3), (2, 3)):
                assert not np.shares_memory(values[one], values[other]), name
    assert arrays > 150


def test_models_hold_the_pristine_values_times_the_multipliers():
    distribution = HalfCheetahRandParams()
    task = task_at(draw(HalfCheetahRandParams, 1), 0)
    model = distribution.task_model(task)
    assert not np.array_equal(model.body_mass, distribution.model.body_mass)
    for field in FIELDS:
        pristine = getattr(distribution.model, field)
        assert np.array_equal(getattr(model, field), pristine * task[field])


@pytest.mark.parametrize("build", BODIES)
def test_derived_constants_follow(build):
    distribution = build()
    task = task_at(draw(build, 1, seed=3), 0)
    model = distribution.task_model(task)
    masses = distribution.model.body_mass * task["body_mass"]
    assert model.body_subtreemass[0] == pytest.approx(masses.sum(), rel=1e-14)
    assert model.body_subtreemass[-1] == masses[-1]  # the last body is a leaf
    # the inverse weight of a hinge or slide is its element of the inverse inertia matrix at qpos0
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    first = 6 if build is AntRandParams else 0  # a free joint's are averages
    inverse = np.diag(np.linalg.inv(inertia))[first:]
    assert model.dof_invweight0[first:] == pytest.approx(inverse, rel=1e-9)
    assert not np.allclose(model.dof_invweight0, distribution.model.dof_invweight0, rtol=0.01)


def resident():
    """The memory this process occupies, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_hundreds_of_tasks_leave_memory_flat():
    distribution, rng = AntRandParams(), np.random.default_rng(7)
    env = distribution.make(50, 1)
    growth = []
    for _ in range(3):  # a heap may still settle in the first; what leaks leaks every time
        before = resident()
        for _ in range(8):
            env.set_tasks(distribution.sample(50, rng))
        growth.append(resident() - before)
    assert 400 * distribution.model.nbuffer / 2**20 > 160  # what keeping every model would take
    assert min(growth) < 3.2


@pytest.mark.parametrize("build", BODIES)
def test_multipliers_are_powers_of_the_sources_bases(build):
    distribution = build()
    tasks = distribution.sample(400, np.random.default_rng(4))
    assert sorted(tasks) == sorted(FIELDS)
    for field, base in zip(FIELDS, (1.5, 1.5, 1.5, 1.3), strict=True):
        pristine = getattr(distribution.model, field)
        assert tasks[field].shape == (400, *pristine.shape)
        assert np.all(tasks[field][:, pristine == 0] == 1)  # nothing to multiply
        exponents = np.log(tasks[field][:, pristine != 0]) / np.log(base)
        assert np.abs(exponents).max() <= 3 + 1e-12
        assert np.all(exponents.max(axis=0) > 2.9)
        assert np.all(exponents.min(axis=0) < -2.9)
        # uniform on [-3, 3]: mean 0, variance 3; each element is drawn by itself
        assert np.abs(exponents.mean(axis=0)).max() < 5 * np.sqrt(3 / 400)
        assert exponents.var() == pytest.approx(3.0, rel=0.05)
        correlation = np.corrcoef(exponents, rowvar=False)
        assert np.abs(correlation - np.eye(len(correlation))).max() < 0.3


def test_bases_and_exponent_can_be_chosen():
    distribution = HopperRandParams(base=2.0, damping_base=1.1, exponent=0.5)
    tasks = distribution.sample(300, np.random.default_rng(5))
    assert 1.39 < tasks["body_mass"].max() <= 2**0.5
    assert 2**-0.5 <= tasks["body_mass"].min() < 0.72
    assert 1.04 < tasks["dof_damping"].max() <= 1.1**0.5
    still = HopperRandParams(exponent=0).sample(3, np.random.default_rng(6))
    assert all(np.all(leaf == 1) for leaf in still.values())


def test_the_gymnasium_form_has_the_tasks_model_and_equals_the_batched_form():
    distribution = AntRandParams()
    tasks = draw(AntRandParams, 2)
    actions = actions_for(distribution, 20, 2, 1).astype(np.float32)
    env = distribution.make(2, 1)
    env.set_tasks(tasks)
    env.reset([np.random.default_rng(row) for row in range(2)])
    active = np.ones((2, 1), dtype=bool)
    steps = [env.step(action, active) for action in actions]
    for index in range(2):
        single = distribution.single(task_at(tasks, index))
        single.reset(seed=index)
        for step, action in zip(steps, actions[:, index, 0], strict=True):
            observation, reward, ended, _, _ = single.step(distribution.applied(action))
            assert np.array_equal(observation, step.observations[index, 0])
            assert reward == step.rewards[index, 0]
            assert ended == step.terminated[index, 0]


def test_the_gymnasium_form_draws_a_new_model_at_every_reset():
    single = HopperRandParams().single()
    masses = []
    for seed in (1, 2):
        task = single.reset(seed=seed)[1]["task"]
        masses.append(single.model.body_mass.copy())
        assert np.array_equal(masses[-1], single.distribution.model.body_mass * task["body_mass"])
    assert np.all(masses[0][1:] != masses[1][1:])


def test_tasks_keep_their_models_through_json():
    distribution = Walker2dRandParams()
    tasks = draw(Walker2dRandParams, 2)
    read = tasks_from_json(tasks_to_json(tasks))
    for index in range(2):
        stored, own = (distribution.task_model(task_at(t, index)) for t in (read, tasks))
        for field in (*FIELDS, "body_subtreemass", "dof_invweight0", "actuator_acc0"):
            assert np.array_equal(getattr(stored, field), getattr(own, field))


def test_an_oracle_observes_every_multiplier():
    observed = TaskObserved(HopperRandParams())
    # 11 of the body; 5 masses, 5 x 3 inertias, 5 x 3 frictions, 6 dampings
    assert observed.observation_space.shape == (11 + 5 + 15 + 15 + 6,)


def test_a_task_is_described_by_its_mass_and_friction():
    distribution = HopperRandParams()
    task = task_at(ones(distribution, 1), 0)
    assert distribution.describe(task) == "mass x1.00, friction x1.00"
    # masses 3.66519, 4.05789, 2.78136, 5.31558, in all 15.82002; the foot's doubled:
    # (15.82002 + 5.31558) / 15.82002 = 1.336
    task["body_mass"][4] = 2.0
    # sliding friction 1 (floor), 0.9, 0.9, 0.9, 2, in all 5.7; the foot's halved: 4.7 / 5.7 = 0.825
    task["geom_friction"][4] = 0.5
    assert distribution.describe(task) == "mass x1.34, friction x0.82"


def test_a_wrong_task_is_refused_in_one_sentence():
    distribution = HopperRandParams()
    task = task_at(ones(distribution, 1), 0)
    with pytest.raises(UserError, match=r"has the arrays body_mass, .*dof_damping, not body_mass"):
        distribution.task_model({"body_mass": task["body_mass"]})
    with pytest.raises(UserError, match=r"^body_mass of a task of hopper_rand_params must have"):
        distribution.task_model({**task, "body_mass": np.ones(4)})
    with pytest.raises(UserError, match=r"^dof_damping .* finite multipliers above 0"):
        distribution.task_model({**task, "dof_damping": np.array([1, 1, 1, 2, -0.5, 1.0])})
    with pytest.raises(UserError, match=r"^geom_friction .* finite multipliers above 0"):
        distribution.task_model({**task, "geom_friction": np.full((5, 3), np.nan)})


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"base": 0.0}, r"base must be a finite number above 0, not 0\.0"),
        ({"damping_base": -1.3}, r"damping_base must be a finite number above 0, not -1\.3"),
        ({"exponent": -1.0}, r"exponent must be a finite number of at least 0, not -1\.0"),
        ({"velocities": [0.0, 1.0]}, r"velocities is unknown"),
    ],
)
def test_a_wrong_number_is_refused_before_anything_runs(numbers, message):
    with pytest.raises(UserError, match=message):
        Walker2dRandParams(**numbers)


def test_half_cheetah_reward_by_hand():
    distribution = HalfCheetahRandParams()
    before = {"qpos": np.array([0.10] + [0.3] * 8)}
    after = {"qpos": np.array([0.16] + [0.7] * 8)}
    action = np.array([0.5, -0.2, 0.0, 0.0, 0.0, 0.0])
    # dt = 5 * 0.01 s, v = 0.06 / 0.05 = 1.2 m/s; cost 0.05 * (0.25 + 0.04) = 0.0145
    assert distribution.reward(before, action, after, {}) == pytest.approx(1.1855, rel=1e-12)
    assert distribution.observation_space.shape == (17,)  # no torso position


def test_ant_reward_by_hand():
    distribution = AntRandParams()
    before = {"xpos": np.array([[0.0] * 3, [0.10, 0.3, 0.7]])}
    heights = np.array([0.6, 0.15])
    after = {
        "xpos": np.array([[[0.0] * 3, [0.16, 0.5, height]] for height in heights]),
        "qpos": np.array([[0.16, 0.5, height] + [0.2] * 12 for height in heights]),
    }
    action = np.array([0.5, -0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    # v = 0.06 / 0.05 = 1.2 m/s; cost 0.5 * 0.29 = 0.145; survival 1, on the step that falls too
    reward = distribution.reward(before, action, after, {})
    assert reward == pytest.approx([1.2 + 1 - 0.145, 1.2 + 1 - 0.145], rel=1e-12)
    assert distribution.terminated(after, {}).tolist() == [False, True]
