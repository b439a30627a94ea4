"""Mistakes in a class on a MuJoCo body: one line names the cause, and no training begins."""

import random

import numpy as np
import pytest

from envs import ASSETS, MujocoTaskDistribution, Preset, UserError
from envs.checking import CHECKS, check, rehearse
from envs.wrappers.held_out import HeldOut
from envs.wrappers.task_observed import TaskObserved
from envs.wrappers.union import Union

SAME = "for the same reason as above"


class Hop(MujocoTaskDistribution):
    """Without a mistake."""

    xml = ASSETS / "hopper.xml"
    presets = {"mine": Preset(frame_skip=4, horizon=20)}  # noqa: RUF012

    def sample(self, num_tasks, rng):
        return {"speed": rng.uniform(0.5, 2.0, num_tasks)}

    def reset(self, rng):
        return {"qpos": self.model.qpos0 + rng.uniform(-0.01, 0.01, self.model.nq)}

    def observe(self, state):
        return np.concatenate([state["qpos"][..., 1:], state["qvel"]], -1)

    def forward(self, before, after):
        return (after["qpos"][..., 0] - before["qpos"][..., 0]) / self.dt

    def reward(self, before, action, after, task):
        return -abs(self.forward(before, after) - task["speed"]) - 0.001 * (action**2).sum(-1)


class Terminate(Hop):
    def terminate(self, state, task):
        return state["qpos"][..., 1] < 0.7


class IsDone(Hop):
    def is_done(self, state, task):
        return state["qpos"][..., 1] < 0.7


class Varry(Hop):
    def varry(self, model, task):
        model.body_mass *= task["speed"]


class Field(Hop):
    feilds = ("xpos",)


class ActionSum(Hop):
    def reward(self, before, action, after, task):
        return -abs(self.forward(before, after) - task["speed"]) - 0.001 * (action**2).sum()


class StateMean(Hop):
    def reward(self, before, action, after, task):
        return task["speed"] * self.forward(before, after) - 0.01 * (after["qvel"] ** 2).mean()


class TaskMean(Hop):
    def reward(self, before, action, after, task):
        return self.forward(before, after) - task["speed"] + task["speed"].mean()


class ObservedMean(Hop):
    def observe(self, state):
        seen = super().observe(state)
        return seen - seen.mean(tuple(range(seen.ndim - 1))) if seen.ndim > 1 else seen


class AnyFallen(Hop):
    def terminated(self, state, task):
        fallen = state["qpos"][..., 1] < 1.2
        return np.full(fallen.shape, fallen.any())


class ScalarReward(Hop):
    def reward(self, before, action, after, task):
        return -(action**2).sum()


class GlobalSample(Hop):
    def sample(self, num_tasks, rng):
        return {"speed": np.random.uniform(0, 1, num_tasks)}  # noqa: NPY002


class GlobalReset(Hop):
    def reset(self, rng):
        return {"qpos": self.model.qpos0 + np.random.uniform(-0.01, 0.01)}  # noqa: NPY002


class PythonReset(Hop):
    def reset(self, rng):
        return {"qpos": self.model.qpos0 + random.uniform(-0.01, 0.01)}


class GlobalReward(Hop):
    def reward(self, before, action, after, task):
        noise = np.random.normal(size=after["qpos"].shape[:-1])  # noqa: NPY002
        return super().reward(before, action, after, task) + noise


class UnseededReset(Hop):
    def reset(self, rng):
        return {"qpos": self.model.qpos0 + np.random.default_rng().uniform(-0.01, 0.01)}


class GeneratorInSelf(Hop):
    def __init__(self, **options):
        super().__init__(**options)
        self.rng = np.random.default_rng(0)

    def reset(self, rng):
        return {"qpos": self.model.qpos0 + self.rng.uniform(-0.01, 0.01, self.model.nq)}


class CallsInSelf(Hop):
    calls = 0

    def reward(self, before, action, after, task):
        self.calls += 1
        return super().reward(before, action, after, task) - 0.01 * self.calls


class LastInSelf(Hop):
    last = 0.0

    def reward(self, before, action, after, task):
        gained = (after["qpos"][..., 0] - self.last) * task["speed"]
        self.last = after["qpos"][..., 0]
        return gained


class StartInSelf(Hop):
    def reset(self, rng):
        start = super().reset(rng)
        self.start_x = start["qpos"][0]
        return start

    def reward(self, before, action, after, task):
        return -abs(after["qpos"][..., 0] - self.start_x - task["speed"])


class TaskInSelf(Hop):
    def sample(self, num_tasks, rng):
        self.speeds = rng.uniform(0.5, 2.0, num_tasks)
        return {"speed": self.speeds.copy()}

    def reward(self, before, action, after, task):
        return -abs(self.forward(before, after) - self.speeds.mean())


class StepsInSelf(Hop):
    steps = 0

    def reset(self, rng):
        self.steps = 0
        return super().reset(rng)

    def terminated(self, state, task):
        self.steps += 1
        return np.full(state["qpos"].shape[:-1], self.steps >= 5)


class HistoryOfTheClass(Hop):
    history = []  # noqa: RUF012

    def reward(self, before, action, after, task):
        self.history.append(after["qpos"][..., 0].mean())
        return super().reward(before, action, after, task) - 0.01 * len(self.history)


class SharedModel(Hop):
    def vary(self, model, task):
        self.model.body_mass[:] *= task["speed"]


class LateError(Hop):
    def reward(self, before, action, after, task):
        if (after["qpos"][..., 1] < 1.15).any():  # after some fifteen steps
            raise ZeroDivisionError
        return super().reward(before, action, after, task)


class TaskIgnored(Hop):
    def reward(self, before, action, after, task):
        return self.forward(before, after)


class Sparse(Hop):
    def reward(self, before, action, after, task):
        return (abs(after["qpos"][..., 0] - 5 - task["speed"]) < 0.1).astype(float)


KEPT = "between calls, and episodes change with that: "
GLOBAL = "draws from {}'s global generator: draw from the generators it is given"
OTHERS = "lets a row depend on the others' actions or states: beside other actions, task 0, episode"
FOUND = {
    Terminate: ("names", "nothing calls Terminate.terminate; write terminated if that is meant"),
    IsDone: ("names", "nothing calls IsDone.is_done; write terminated if that is meant"),
    Varry: ("names", "nothing calls Varry.varry; write vary if that is meant"),
    Field: ("names", "nothing calls Field.feilds; write fields if that is meant"),
    ActionSum: ("rows", f"{OTHERS} 0 has other rewards in step 1"),
    StateMean: ("rows", f"{OTHERS} 0 has other rewards in step 1"),
    ObservedMean: ("rows", f"{OTHERS} 0 has other observations in step 1"),
    TaskMean: ("rows", "lets a task depend on the others of the batch: beside another task"),
    GlobalSample: ("sampling", f"sample(num_tasks, rng) {GLOBAL.format('numpy')}"),
    GlobalReset: ("determinism", f"make(...) {GLOBAL.format('numpy')}"),
    PythonReset: ("determinism", f"make(...) {GLOBAL.format('Python')}"),
    GlobalReward: ("determinism", f"make(...) {GLOBAL.format('numpy')}"),
    UnseededReset: ("determinism", "draw from the generators that reset is given"),
    GeneratorInSelf: ("determinism", f"keeps self.rng {KEPT}after other episodes"),
    CallsInSelf: ("determinism", f"keeps self.calls {KEPT}after other episodes"),
    LastInSelf: ("determinism", f"keeps self.last {KEPT}after other episodes"),
    StartInSelf: ("determinism", f"keeps self.start_x {KEPT}beside another environment"),
    TaskInSelf: ("determinism", f"keeps self.speeds {KEPT}beside another environment"),
    StepsInSelf: ("determinism", f"keeps self.steps {KEPT}beside another environment"),
    HistoryOfTheClass: ("determinism", f"keeps self.history {KEPT}after other episodes"),
    SharedModel: ("determinism", f"keeps self.model {KEPT}after other episodes"),
}
BY_CHECKS_ALONE = {
    AnyFallen: ("single", "other terminated"),
    LateError: ("episodes", "raised ZeroDivisionError ("),
    ScalarReward: ("shapes", "scalar_reward.reward(before, action, after, task) must return an"),
    TaskIgnored: ("tasks differ", "let the reward or the dynamics read the task that set_tasks"),
    Sparse: ("tasks differ", "or, where rewards are sparse, let random actions find one."),
}


@pytest.fixture(autouse=True)
def without_speed(monkeypatch):
    monkeypatch.delitem(CHECKS, "speed")


@pytest.mark.parametrize("mistake", [*FOUND, *BY_CHECKS_ALONE], ids=lambda own: own.__name__)
def test_one_line_names_the_cause(mistake):
    name, sentence = (FOUND | BY_CHECKS_ALONE)[mistake]
    found = list(check(mistake()))
    (wrong,) = [finding for finding in found if finding.status == "wrong"]
    assert (wrong.check, sentence in wrong.sentence) == (name, True), wrong.sentence
    after = [finding for finding in found if finding.sentence == SAME]
    assert all(finding.status == "skipped" for finding in after)


@pytest.mark.parametrize("mistake", FOUND, ids=lambda own: own.__name__)
def test_no_training_begins_with_it(mistake):
    with pytest.raises(UserError) as error:
        rehearse(mistake())
    assert FOUND[mistake][1] in str(error.value)


@pytest.mark.parametrize("mistake", [TaskIgnored, Sparse])
def test_what_may_be_a_sparse_reward_is_a_warning(mistake):
    assert "gave equal rewards and observations over 20 steps" in rehearse(mistake())


def test_without_a_mistake_nothing_is_found():
    assert rehearse(Hop()) is None
    assert all(finding.status != "wrong" for finding in check(Hop()))


@pytest.mark.parametrize("mistake", [Terminate, ActionSum, CallsInSelf])
def test_what_distributions_are_made_of_is_found_too(mistake):
    combined = [Union([Hop(), mistake()]), TaskObserved(mistake())]
    if mistake is not CallsInSelf:  # two of those are refused as unequal
        combined.append(HeldOut(mistake(), mistake()))
    for distribution in combined:
        with pytest.raises(UserError) as error:
            rehearse(distribution)
        assert FOUND[mistake][1] in str(error.value)
