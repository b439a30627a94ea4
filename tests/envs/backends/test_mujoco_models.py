"""Models, fields and starts of MuJoCo distributions, against plain `mj_step`."""

import itertools
from typing import ClassVar

import mujoco
import numpy as np
import pytest

from envs import ASSETS, MujocoTaskDistribution, Preset, SimulationError, UserError
from envs.backends.mujoco.batch import BatchedMujoco
from envs.checking import probe
from envs.unstable import ending_unstable_episodes

ARM = """<mujoco><asset><mesh name="m" vertex="0 0 0 .3 0 0 0 .3 0 0 0 .3"/>
  <hfield name="h" nrow="4" ncol="4" size="2 2 .5 .1"/></asset><worldbody>
  <geom type="hfield" hfield="h" pos="0 0 -2"/>
  <body name="arm" pos="0 0 1"><joint name="j" axis="0 1 0"/>
    <geom name="link" type="capsule" fromto="0 0 0 0 0 {length}" size=".05"/>
    <geom type="mesh" mesh="m" pos="0 0 {length}"/></body>
  <body name="ball" pos="1 0 -1"><joint type="slide" axis="0 0 1"/><geom size=".1"/></body>
  {more}</worldbody><actuator><motor joint="j" ctrlrange="-1 1"/></actuator></mujoco>"""


def arm(length=0.5, more=""):
    return mujoco.MjSpec.from_string(ARM.format(length=length, more=more))


class Arm(MujocoTaskDistribution):
    xml = arm()
    presets: ClassVar = {"mine": Preset(frame_skip=5, horizon=60)}

    def sample(self, num_tasks, rng):
        return {"x": rng.uniform(0, 1, num_tasks)}

    def observe(self, state):
        return np.concatenate([state["qpos"], state["qvel"]], -1)

    def reward(self, before, action, after, task):
        return after["qpos"][..., 0]


class Mesh(Arm):
    def vary(self, model, task):
        model.body("arm").ipos[0] += 0.1 * task["x"]
        model.geom("link").size[0] *= 1 + task["x"]


class Terrain(Arm):
    def vary(self, model, task):
        model.hfield_data[:] = task["x"]


class Lengths(Arm):
    def spec(self, task):
        return arm(0.5 + task["x"])


def batched(distribution, tasks, actions, slots=1):
    """Observations [T, M, B, O] of constant starts."""
    count = len(next(iter(tasks.values())))
    env = distribution.make(count, slots)
    env.set_tasks(tasks)
    env.reset([np.random.default_rng(row) for row in range(count * slots)])
    active = np.ones((count, slots), dtype=bool)
    return np.stack([env.step(action, active).observations for action in actions])


def plain(model, actions, nstep=5, after=None):
    """qpos and qvel of plain `mj_step` [T, nq + nv], and what `after` reads of MjData."""
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    data, states, read = mujoco.MjData(model), [], []
    for action in actions:
        data.ctrl[:] = action
        mujoco.mj_step(model, data, nstep=nstep)
        states.append(np.concatenate([data.qpos, data.qvel]))
        if after is not None:
            read.append(after(model, data))
    return np.array(states), np.array(read)


def varied(length=0.5, offset=0.0, height=None):
    model = arm(length).compile()
    model.body("arm").ipos[0] += 0.1 * offset
    model.geom("link").size[0] *= 1 + offset
    if height is not None:
        model.hfield_data[:] = height
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


@pytest.mark.parametrize(
    ("kind", "model_of"),
    [
        (Mesh, lambda x: varied(offset=x)),
        (Terrain, lambda x: varied(height=x)),
        (Lengths, lambda x: arm(0.5 + x).compile()),
    ],
)
def test_a_task_steps_as_plain_mujoco_does_on_its_model_in_both_forms(kind, model_of):
    tasks = {"x": np.array([0.0, 0.5, 1.0])}
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 3, 1, 1))
    distribution = kind()
    seen = batched(distribution, tasks, actions)
    for task, x in enumerate(tasks["x"]):
        wanted, _ = plain(model_of(x), actions[:, task, 0])
        assert np.array_equal(seen[:, task, 0], wanted)
        single = distribution.single({"x": x})
        single.reset(seed=0)
        alone = [single.step(action)[0] for action in actions[:, task, 0].astype(np.float64)]
        assert np.array_equal(alone, wanted)
    assert len({row.tobytes() for row in seen[-1, :, 0]}) == 3  # tasks do differ


def test_other_tasks_replace_all_of_the_earlier_ones_models():
    actions = np.zeros((40, 2, 1, 1))
    env = Lengths().make(2, 1)
    seen = []
    for x in ([0.0, 1.0], [0.5, 0.5]):
        env.set_tasks({"x": np.array(x)})
        env.reset([np.random.default_rng(0)] * 2)
        steps = [env.step(action, np.ones((2, 1), bool)).observations for action in actions]
        seen.append(np.stack(steps))
    assert np.array_equal(seen[1], batched(Lengths(), {"x": np.array([0.5, 0.5])}, actions))


def overriding(**methods):
    return type("Odd", (Arm,), methods)()


def slower(self, model, task):
    model.opt.timestep = 0.001


def wider(self, model, task):
    model.actuator_ctrlrange[:] *= 2


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        ({"vary": slower}, "odd.vary(model, task) changed opt.timestep from 0.002 to 0.001, but"),
        ({"vary": wider}, "odd.vary(model, task) changed actuator_ctrlrange, but all tasks have"),
        ({"vary": lambda self, model, task: model}, "odd.vary(model, task) must change the model "),
        ({"spec": lambda self, task: arm().compile()}, "odd.spec(task) must return a mujoco."),
        (
            {"spec": lambda self, task: arm(0.5, '<body><geom size=".1"/></body>')},
            "odd.spec(task) gave a model with nbody 4, and the shared model has 3: tasks ",
        ),
    ],
)
def test_what_tasks_cannot_differ_in_is_refused_in_both_forms(methods, sentence):
    distribution = overriding(**methods)
    for use in (
        lambda: distribution.make(1, 1).set_tasks({"x": np.ones(1)}),
        lambda: distribution.single({"x": np.float64(1)}).reset(),
        lambda: probe(distribution),
    ):
        with pytest.raises(UserError) as error:
            use()
        assert str(error.value).startswith(sentence)


FIELDS = ("cacc", "cfrc_int", "cfrc_ext", "subtree_linvel", "subtree_angmom")


class OnDemand(MujocoTaskDistribution):
    xml, fields = ASSETS / "ant.xml", (*FIELDS, "time", "ncon")
    presets: ClassVar = {"mine": Preset(frame_skip=5, horizon=40)}

    def sample(self, num_tasks, rng):
        return {"v": rng.uniform(0, 2, num_tasks)}

    def observe(self, state):
        lead = state["qpos"].shape[:-1]
        parts = [np.reshape(state[field], (*lead, -1)) for field in self.fields]
        return np.concatenate([state["qpos"], *parts], -1)

    def reward(self, before, action, after, task):
        return np.sin(task["v"] * after["time"])


def numbers(model, data):
    mujoco.mj_rnePostConstraint(model, data)
    mujoco.mj_subtreeVel(model, data)
    fields = [getattr(data, name).ravel() for name in FIELDS]
    return np.concatenate([data.qpos, *fields, [data.time, data.ncon]])


def test_fields_on_demand_and_time_are_those_of_plain_mujoco_in_both_forms():
    distribution = OnDemand()
    tasks = {"v": np.array([1.0, 2.0])}
    actions = np.random.default_rng(1).uniform(-1, 1, (40, 2, 1, 8)).astype(np.float32)
    seen = batched(distribution, tasks, actions)
    model = mujoco.MjModel.from_xml_path(str(ASSETS / "ant.xml"))
    for task in range(2):
        _, wanted = plain(model, actions[:, task, 0], after=numbers)
        assert np.array_equal(seen[:, task, 0], wanted)
        single = distribution.single({"v": tasks["v"][task]})
        single.reset(seed=0)
        steps = [single.step(action) for action in actions[:, task, 0]]
        assert np.array_equal([step[0] for step in steps], wanted)
        # 40 steps of 5 x 0.01 s are 2 s
        assert steps[-1][1] == pytest.approx(np.sin(tasks["v"][task] * 2.0))
    sizes = dict.fromkeys(FIELDS, 14 * 6) | dict.fromkeys(FIELDS[3:], 14 * 3)
    ends = 15 + np.cumsum([0, *sizes.values()])
    for start, stop in itertools.pairwise(ends):
        assert abs(seen[..., start:stop]).max() > 0.1


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (("qfrc_inverse",), "Odd.fields names qfrc_inverse, which MuJoCo's step does not compute."),
        (("energy",), "Odd.fields names energy, which MuJoCo computes only where the MJCF says"),
        (("contact",), "Odd.fields names contact, whose size changes from step to step: read a"),
        ("xpos", "Odd.fields must be names in brackets, such as ('xpos',)."),
    ],
)
def test_fields_that_hold_nothing_are_refused(fields, sentence):
    with pytest.raises(UserError) as error:
        overriding(fields=fields)
    assert str(error.value).startswith(sentence)


BOXES = "".join(
    f'<body pos="{0.21 * (i % 4)} {0.21 * (i // 4)} .2"><freejoint/>'
    f'<geom type="box" size=".1 .1 .1"/></body>'
    for i in range(14)
)


def test_contacts_that_do_not_fit_the_memory_stop_both_forms():
    class Pile(Arm):
        xml = mujoco.MjSpec.from_string(
            f"""<mujoco><size memory="60K"/><worldbody><geom type="plane" size="5 5 .1"/>
            <body pos="-1 0 1"><joint name="j" axis="0 1 0"/><geom size=".1"/></body>{BOXES}
            </worldbody><actuator><motor joint="j" ctrlrange="-1 1"/></actuator></mujoco>"""
        )

    with pytest.raises(UserError, match=r"^the simulation of task 0, episode 0 has more contacts"):
        batched(Pile(), {"x": np.ones(1)}, np.zeros((60, 1, 1, 1)))
    single = Pile().single({"x": np.float64(1)})
    single.reset(seed=0)

    def run():
        for _ in range(60):
            single.step(np.zeros(1))

    with pytest.raises(UserError, match=r"61440 bytes .*: set <size memory="):
        run()


def test_a_start_names_other_fields_in_other_episodes():
    def reset(self, rng):
        start = {"qpos": np.array([rng.uniform(), 0.0])}
        return start | ({"qvel": np.array([2.0, 0.0])} if rng.random() < 0.5 else {})

    distribution = overriding(reset=reset)
    env = distribution.make(1, 8)
    env.set_tasks({"x": np.ones(1)})
    for first in (0, 8):
        seeds = range(first, first + 8)
        seen = env.reset([np.random.default_rng(seed) for seed in seeds])[0]
        starts = [reset(None, np.random.default_rng(seed)) for seed in seeds]
        assert seen[:, 0].tolist() == [start["qpos"][0] for start in starts]
        assert seen[:, 2].tolist() == [2.0 if "qvel" in start else 0.0 for start in starts]
        assert 0 < sum("qvel" in start for start in starts) < 8


@pytest.mark.parametrize(
    ("xml", "sentence"),
    [
        ("<mujoco/>", "xml is MJCF text; write xml = mujoco.MjSpec.from_string(text)."),
        (arm().compile(), "xml is a MjModel; give the path of an MJCF file, or mujoco.MjSpec.from"),
    ],
)
def test_a_body_in_another_form_is_refused_with_what_to_write(xml, sentence):
    with pytest.raises(UserError) as error:
        overriding(xml=xml)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        (-1, 'odd: info["success"] must be 0 or 1 (or bool), not -1.'),
        (np.nan, 'odd: info["success"] must be 0 or 1 (or bool), not nan.'),
        ("x", "odd.info(before, action, after, task)['success'] must be numbers or bool, not text"),
    ],
)
def test_success_is_0_or_1_before_a_run_begins(info, sentence):
    def record(self, before, action, after, task):
        return {"success": np.full(after["qpos"].shape[:-1], info)}

    with pytest.raises(UserError) as error:
        probe(overriding(info=record))
    assert str(error.value).startswith(sentence)


def test_the_camera_follows_what_travels_and_not_a_fixed_arm():
    class Traveller(Arm):
        xml = ASSETS / "hopper.xml"

    tracking = mujoco.mjtCamera.mjCAMERA_TRACKING
    assert Arm().single()._camera().type == mujoco.mjtCamera.mjCAMERA_FREE
    assert Traveller().single()._camera().type == tracking


class Rare(Arm):
    """A body that diverges where the task says so."""

    def vary(self, model, task):
        if task["x"] > 0.9:
            model.actuator_gear[:, 0] *= 1e12


def test_an_unstable_episode_ends_alone_where_the_sampler_says_so():
    tasks, quiet = {"x": np.array([0.2, 1.0])}, {"x": np.array([0.2, 0.3])}
    actions = np.full((6, 2, 2, 1), 0.5)
    with pytest.raises(SimulationError, match=r"task 1, episode 0 became unstable .*on_unstable="):
        batched(Rare(), tasks, actions, slots=2)
    wanted = batched(Rare(), quiet, actions, slots=2)
    env: BatchedMujoco = Rare().make(2, 2)
    env.set_tasks(tasks)
    seen = env.reset([np.random.default_rng(row) for row in range(4)])
    active, ended = np.ones((2, 2), dtype=bool), np.zeros((2, 2))
    with ending_unstable_episodes():
        for action, alone in zip(actions, wanted, strict=True):
            step = env.step(action, active)
            assert np.array_equal(step.observations[0], alone[0])  # the others are as without it
            unstable = step.info["unstable"]
            assert not (unstable & ~active).any()
            assert (step.rewards[unstable] == 0).all()
            assert np.array_equal(step.observations[unstable], seen[unstable])
            assert not step.terminated.any()
            ended += unstable
            active, seen = active & ~step.ended, step.observations
    assert ended.tolist() == [[0, 0], [1, 1]]
