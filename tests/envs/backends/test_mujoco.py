from pathlib import Path
from typing import ClassVar

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import (
    HalfCheetahDir,
    HalfCheetahVel,
    MujocoTaskDistribution,
    PointNavigation,
    Preset,
    SimulationError,
    UserError,
)
from envs.backends.mujoco.model import ASSETS
from envs.protocol import check_complete

IDS = [
    f"envs:maml_rl/{name}-v0" for name in ("HalfCheetahDir", "HalfCheetahVel", "PointNavigation")
]
TASKS = [{"direction": -1.0}, {"velocity": 1.25}, {"goal": np.array([0.3, -0.2])}]

PENDULUM = """
<mujoco>
  <option timestep="0.02"/>
  <worldbody>
    <body>
      <joint name="hinge" type="hinge" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.03"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" gear="20" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Pendulum(MujocoTaskDistribution):
    """A user's own: swing to a target angle; an episode ends beyond half a radian."""

    presets: ClassVar = {"own": Preset(frame_skip=2, horizon=12, action_scale=0.5)}

    def sample(self, num_tasks, rng):
        return {"angle": rng.uniform(-0.4, 0.4, size=num_tasks)}

    def observe(self, state):
        return np.concatenate([np.sin(state["qpos"]), np.cos(state["qpos"]), state["qvel"]], -1)

    def reward(self, before, action, after, task):
        return -((after["qpos"][..., 0] - task["angle"]) ** 2)

    def reset(self, rng):
        return {"qpos": rng.uniform(-0.1, 0.1, size=1), "qvel": rng.uniform(-0.1, 0.1, size=1)}

    def terminated(self, state, task):
        return abs(state["qpos"][..., 0]) > 0.5


@pytest.fixture
def pendulum(tmp_path, monkeypatch):
    path = tmp_path / "pendulum.xml"
    path.write_text(PENDULUM)
    monkeypatch.setattr(Pendulum, "xml", path, raising=False)
    return Pendulum()


def reference_pendulum(seed, target, actions):
    """MuJoCo's own mj_step on one MjData: observations [T, 3], rewards [T], ended [T]."""
    model = mujoco.MjModel.from_xml_string(PENDULUM)
    data, rng, steps = mujoco.MjData(model), np.random.default_rng(seed), []
    data.qpos[:], data.qvel[:] = rng.uniform(-0.1, 0.1, 1), rng.uniform(-0.1, 0.1, 1)
    for action in actions:
        data.ctrl[:] = np.clip(0.5 * action, -1.0, 1.0)
        mujoco.mj_step(model, data, nstep=2)
        observed = [np.sin(data.qpos[0]), np.cos(data.qpos[0]), data.qvel[0]]
        steps.append((observed, -((data.qpos[0] - target) ** 2), abs(data.qpos[0]) > 0.5))
    return (np.array(part) for part in zip(*steps, strict=True))


def test_a_users_own_body_steps_as_mujoco_does_batched_and_single(pendulum):
    tasks = {"angle": np.array([0.3, -0.2])}
    actions = np.random.default_rng(0).normal(scale=3.0, size=(12, 2, 2, 1))
    env = pendulum.make(2, 2, threads=2)
    env.set_tasks(tasks)
    env.reset([np.random.default_rng(row) for row in range(4)])
    steps = [env.step(action, np.ones((2, 2), dtype=bool)) for action in actions]
    ends = 0
    for row in range(4):
        task, slot = divmod(row, 2)
        own = reference_pendulum(row, tasks["angle"][task], actions[:, task, slot])
        single = pendulum.single({"angle": tasks["angle"][task]})
        single.reset(seed=row)
        for step, action, observation, reward, ended in zip(steps, actions, *own, strict=True):
            assert np.array_equal(step.observations[task, slot], observation)
            assert step.rewards[task, slot] == pytest.approx(reward, rel=1e-14)
            assert step.terminated[task, slot] == ended
            ends += ended
            one = single.step(pendulum.applied(action[task, slot]))
            assert np.array_equal(one[0], observation)
            assert one[1] == step.rewards[task, slot]
            assert one[2] == ended
    assert 0 < ends < 48  # both kinds of step were seen


def test_a_users_own_body_has_a_name_spaces_and_a_description(pendulum):
    assert pendulum.name == "pendulum"
    assert pendulum.observation_space.shape == (3,)
    assert (pendulum.action_space.low, pendulum.action_space.high) == (-1.0, 1.0)
    assert pendulum.dt == pytest.approx(0.04)
    assert pendulum.describe({"angle": np.float64(0.12345)}) == "angle=0.123"
    drawn = pendulum.single().reset(seed=3)[1]["task"]["angle"]
    assert drawn == np.random.default_rng(3).uniform(-0.4, 0.4, size=1)[0]


def test_inactive_rows_keep_their_state_whatever_their_action(pendulum):
    env = pendulum.make(1, 3)
    env.set_tasks({"angle": np.array([0.2])})
    start = env.reset([np.random.default_rng(row) for row in range(3)])
    step = env.step(np.array([[[1.0], [np.nan], [-1.0]]]), np.array([[True, False, True]]))
    assert np.array_equal(step.observations[0, 1], start[0, 1])
    assert np.all(step.observations[0, [0, 2]] != start[0, [0, 2]])


@pytest.mark.parametrize("method", ["sample", "observe", "reward"])
def test_what_a_subclass_must_write_is_named(pendulum, method):
    missing = type("Missing", (Pendulum,), {method: getattr(MujocoTaskDistribution, method)})
    with pytest.raises(TypeError, match=f"abstract class Missing .*{method}"):
        missing()
    with pytest.raises(UserError, match=rf"^Missing must define {method}\("):
        check_complete(missing)


@pytest.mark.filterwarnings(
    "ignore:.*A Box observation space (minimum|maximum) value is -?infinity",
    "ignore:.*For Box action spaces, we recommend using a symmetric and normalized space",
)
@pytest.mark.parametrize("name", IDS)
def test_gymnasiums_checker_passes(name):
    env = gymnasium.make(name)
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


@pytest.mark.parametrize(("name", "task"), list(zip(IDS, TASKS, strict=True)))
def test_a_task_is_fixed_by_argument_by_set_task_or_at_reset(name, task):
    (leaf,) = task

    def told(env, **options):
        return env.reset(**options)[1]["task"][leaf]

    given = gymnasium.make(name, task=task).unwrapped
    assert [np.array_equal(told(given, seed=seed), task[leaf]) for seed in (0, 1)] == [True] * 2

    later = gymnasium.make(name).unwrapped
    later.set_task(task)
    assert np.array_equal(told(later, seed=0), task[leaf])

    at_reset = gymnasium.make(name).unwrapped
    assert np.array_equal(told(at_reset, seed=0, options={"task": task}), task[leaf])
    assert np.array_equal(told(at_reset, seed=1), task[leaf])


@pytest.mark.parametrize("name", IDS)
def test_unfixed_tasks_are_drawn_anew_at_every_reset(name):
    env = gymnasium.make(name).unwrapped
    (first,) = env.reset(seed=5)[1]["task"].values()
    (again,) = env.reset(seed=5)[1]["task"].values()
    others = [next(iter(env.reset()[1]["task"].values())) for _ in range(10)]
    assert np.array_equal(first, again)
    assert any(not np.array_equal(first, other) for other in others)


def test_the_reported_task_is_a_copy():
    goal = np.array([0.3, -0.2])
    env = gymnasium.make(IDS[2], task={"goal": goal}).unwrapped
    env.reset(seed=0)[1]["task"]["goal"][:] = 9.0
    env.step(np.array([0.01, 0.02]))[4]["task"]["goal"][:] = 9.0
    goal[:] = 9.0
    assert env.reset(seed=0)[1]["task"]["goal"].tolist() == [0.3, -0.2]


@pytest.mark.parametrize("name", IDS)
def test_the_horizon_truncates_and_reset_starts_the_count_again(name):
    env = gymnasium.make(name, horizon=4).unwrapped
    action = 0.01 * np.ones(env.action_space.shape)
    for _ in range(2):
        env.reset(seed=0)
        assert [env.step(action)[3] for _ in range(4)] == [False, False, False, True]


def test_the_gymnasium_form_keeps_the_native_action_space():
    assert HalfCheetahDir().single().action_space.high.tolist() == [1.0] * 6
    env = gymnasium.make(IDS[2], task=TASKS[2], action_scale=0.001).unwrapped
    env.reset(seed=0)
    assert env.step(np.array([0.05, -7.0]))[0] == pytest.approx([0.05, -0.1])  # clipped, not scaled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"preset": "prompt"},
            "preset=prompt is unknown; choose one of deleu, finn2017, promp",
        ),
        ({"horizon": -5}, "horizon must be a whole number of at least 1, not -5"),
        ({"horizon": 0}, "horizon must be a whole number of at least 1, not 0"),
        ({"horizon": 2.5}, "horizon must be a whole number of at least 1, not 2.5"),
        ({"action_scale": 0.0}, "action_scale must be a finite number above 0, not 0.0"),
        ({"action_scale": float("nan")}, "action_scale must be a finite number above 0"),
        ({"frame_skip": 0}, "frame_skip must be a whole number of at least 1, not 0"),
        ({"control_cost": "much"}, "control_cost must be a finite number, not 'much'"),
        ({"torso_position": 1}, "torso_position must be true or false, not 1"),
        (
            {"velocities": [2, 1]},
            "velocities must be two numbers in brackets, the lower one first, [low, high]",
        ),
        (
            {"velocity": 2},
            "velocity is unknown; there is action_scale, control_cost, frame_skip, horizon,",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(UserError) as error:
        HalfCheetahVel(**arguments)
    assert str(error.value).startswith(message)


def test_a_missing_mjcf_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Pendulum, "xml", tmp_path / "nowhere.xml", raising=False)
    with pytest.raises(UserError, match=r"^there is no MJCF file .*nowhere\.xml \(Gymnasium's "):
        Pendulum()


@pytest.mark.parametrize("text", ["<mujoco", "not xml", "<mujoco><worldboy/></mujoco>"])
def test_an_invalid_mjcf_file_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "broken.xml"
    path.write_text(text)
    monkeypatch.setattr(Pendulum, "xml", path, raising=False)
    with pytest.raises(UserError, match=r"^MuJoCo cannot compile .*broken\.xml: "):
        Pendulum()


def test_loading_a_body_warns_of_nothing_and_leaves_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    mujoco.MjModel.from_xml_path(str(ASSETS / "half_cheetah.xml"))  # bare MuJoCo does both
    assert capfd.readouterr().err
    Path("MUJOCO_LOG.TXT").unlink()
    HalfCheetahDir().make(1, 2)
    PointNavigation().single().reset(seed=0)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("build", [HalfCheetahVel, PointNavigation])
def test_a_nan_action_names_task_and_episode_and_reset_recovers(build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    distribution = build()
    env = distribution.make(2, 3)
    env.set_tasks(distribution.sample(2, np.random.default_rng(0)))
    active = np.ones((2, 3), dtype=bool)
    actions = np.full((2, 3, distribution.action_space.shape[0]), 0.3)
    wrong = actions.copy()
    wrong[1, 2, 0] = np.nan

    def first_step():
        env.reset([np.random.default_rng(row) for row in range(6)])
        return env.step(actions, active).observations

    before = first_step()
    with pytest.raises(SimulationError, match="task 1, episode 2 became unstable"):
        env.step(wrong, active)
    assert np.array_equal(first_step(), before)


def test_tasks_of_another_number_are_refused():
    env = PointNavigation().make(2, 3)
    with pytest.raises(UserError, match=r"^expected 2 tasks, not 3\.$"):
        env.set_tasks({"goal": np.arange(6.0).reshape(3, 2)})


def test_an_unstable_single_environment_stops_and_leaves_no_log(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    env = HalfCheetahDir().single({"direction": 1.0})
    env.reset(seed=0)
    with pytest.raises(SimulationError, match="unstable"):
        env.step(np.full(6, np.nan))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_an_actuator_without_a_range_is_named(tmp_path):
    path = tmp_path / "free.xml"
    path.write_text(
        "<mujoco><worldbody><body><joint name='j' type='hinge'/><geom size='.1' mass='1'/></body>"
        "</worldbody><actuator><motor name='free' joint='j'/></actuator></mujoco>"
    )

    class Free(Pendulum):
        xml = path
        presets: ClassVar = {"own": Preset(1, 10)}

        def observe(self, state):
            return state["qpos"]

    with pytest.raises(UserError, match=r"actuator free of .* has no ctrlrange"):
        Free()


def test_a_number_of_the_preset_can_be_given_by_its_name():
    distribution = HalfCheetahVel(velocities=[2.0, 3.0], torso_position=False, frame_skip=2)
    drawn = distribution.sample(200, np.random.default_rng(0))["velocity"]
    assert 2.0 <= drawn.min() < 2.05 < 2.95 < drawn.max() <= 3.0
    assert distribution.observation_space.shape == (17,)  # qpos without x, qvel: 8 + 9
    assert distribution.dt == pytest.approx(0.02)  # two physics steps of 0.01 s
    assert HalfCheetahVel().preset.velocities == (0.0, 2.0)  # the preset itself is as it was


def test_a_body_may_be_an_mjspec(pendulum):
    spec = mujoco.MjSpec.from_string(PENDULUM)
    spec.modelname = "swing"

    class Heavier(Pendulum):
        xml = spec

    Heavier.xml.geoms[0].density = 2000  # of 1000
    heavier, plain = Heavier(), Pendulum()
    assert heavier.model.body_mass[1] == pytest.approx(2 * plain.model.body_mass[1])
    assert heavier.make(2, 1).reset([np.random.default_rng(i) for i in range(2)]).shape == (2, 1, 3)
    Heavier.xml.geoms[0].size[0] = -1
    with pytest.raises(
        UserError, match=r"MuJoCo cannot compile the MjSpec 'swing': .*size 0 must be"
    ):
        Heavier()


@pytest.mark.parametrize(
    ("method", "returned", "sentence"),
    [
        (
            "reward",
            np.zeros((2, 3, 1)),
            "reward(before, action, after, task) must return an array "
            "of shape (2, 3), not (2, 3, 1)",
        ),
        ("terminated", False, "terminated(state, task) must return an array of shape (2, 3), not"),
        (
            "observe",
            np.zeros(4),
            "observe(state) must return an array of shape (2, 3, 3), not (4,)",
        ),
        (
            "info",
            {"speed": 1.0},
            "info(before, action, after, task)['speed'] must return an array "
            "of shape (2, 3), not ()",
        ),
    ],
)
def test_a_method_that_returns_another_shape_is_named(
    method, returned, sentence, pendulum, monkeypatch
):
    distribution = Pendulum()
    env = distribution.make(2, 3)
    env.set_tasks(distribution.sample(2, np.random.default_rng(0)))
    env.reset([np.random.default_rng(row) for row in range(6)])
    monkeypatch.setattr(Pendulum, method, lambda *arguments: returned)
    with pytest.raises(UserError) as error:
        env.step(np.zeros((2, 3, 1)), np.ones((2, 3), dtype=bool))
    assert str(error.value).startswith(f"pendulum.{sentence}")


def test_what_a_class_lacks_is_named(pendulum):
    class Bare(Pendulum):
        xml = None

    class NoPresets(Pendulum):
        presets: ClassVar = {}

    class Unknown(Pendulum):
        fields = ("xpso",)

    class Unread(Pendulum):
        def observe(self, state):
            return state["xpos"][..., 1, :]

    for build, sentence in (
        (Bare, 'Bare must define xml, such as xml = ASSETS / "hopper.xml".'),
        (NoPresets, "NoPresets must define presets, such as presets = {"),
        (Unknown, "Unknown.fields names xpso, which is no field of MjData."),
        (Unread, "unread.observe(state) reads 'xpos', which is not in the state: add it to "),
    ):
        with pytest.raises(UserError) as error:
            build()
        assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("drawn", "sentence"),
    [
        (None, 'reset(rng) must return {"qpos": ..., "qvel": ...}, not None.'),
        ({"qpos": np.zeros(2)}, "reset(rng)['qpos'] must return an array of shape (1,), not (2,)"),
        ({"qpso": np.zeros(1)}, "reset(rng) returned 'qpso', but a start is made of qpos, qvel, "),
    ],
)
def test_a_start_of_another_shape_is_named(drawn, sentence, pendulum, monkeypatch):
    monkeypatch.setattr(Pendulum, "reset", lambda self, rng: drawn)
    env = Pendulum().make(1, 1)
    with pytest.raises(UserError) as error:
        env.reset([np.random.default_rng(0)])
    assert str(error.value).startswith(f"pendulum.{sentence}")


def test_a_start_that_varies_with_the_task_is_that_of_both_forms(pendulum, monkeypatch):
    class Bent(Pendulum):
        reset = MujocoTaskDistribution.reset

        def vary(self, model, task):
            model.qpos0[0] += task["angle"]

    bent = Bent()
    tasks = {"angle": np.array([0.2, -0.3])}
    env = bent.make(2, 1)
    env.set_tasks(tasks)
    start = env.reset([np.random.default_rng(row) for row in range(2)])
    assert start[:, 0, 0] == pytest.approx(np.sin([0.2, -0.3]), rel=1e-12)
    assert bent.single({"angle": -0.3}).reset(seed=0)[0].tolist() == start[1, 0].tolist()
