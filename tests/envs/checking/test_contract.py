"""The contract on every shipped distribution; and that each of its checks has teeth.

`Track` keeps every promise. Each broken one below differs from it in one thing.
"""

import functools
import random
from contextlib import suppress
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs import Step, TaskDistribution, TaskObserved, Trajectories, UserError, checking
from envs.checking import (
    CHECKS,
    NotApplicableError,
    TaskDistributionContract,
    check,
    check_shapes,
    parameters,
    probe,
    rehearse,
    spaces_in_words,
)
from envs.registry import SHIPPED, build, missing_package, resolve
from envs.wrappers.held_out import HeldOut
from envs.wrappers.union import Union

OPTIONAL = ("metaworld",)


def built(name, **arguments):
    """Build a shipped distribution; skip where its package is not installed."""
    try:
        return build(name, arguments)
    except UserError as error:
        if missing_package(error) in OPTIONAL:
            pytest.skip(str(error))
        raise


def contracted(name):
    """A shipped distribution; Meta-World's with 100 steps an episode, as most have, not 500."""
    return built(name, horizon=100) if name.startswith("metaworld") else built(name)


for _name, _target in SHIPPED.items():
    _class = f"Test{_target.partition(':')[2]}"
    globals()[_class] = type(
        _class, (TaskDistributionContract,), {"build": lambda self, name=_name: contracted(name)}
    )


class TestHalfCheetahVelObserved(TaskDistributionContract):
    def build(self):
        return TaskObserved(built("half_cheetah_vel"))


class TestUnionOfTwo(TaskDistributionContract):
    def build(self):
        names = ("half_cheetah_vel", "half_cheetah_dir")
        return Union([built(name, preset="promp") for name in names])


class TestHeldOutVelocities(TaskDistributionContract):
    def build(self):
        ranges = ([0.0, 2.0], [2.0, 3.0])
        return HeldOut(*(built("half_cheetah_vel", velocities=own) for own in ranges))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_preset_passes_the_probe(name):
    built(name)
    for preset in getattr(resolve(name), "presets", {}):
        probe(built(name, preset=preset))


# A distribution that keeps every promise.


class BatchedTrack:
    """A mass on a line that is pushed; row m * B + b."""

    def __init__(self, distribution, num_tasks, slots):
        self.distribution, self.shape = distribution, (num_tasks, slots)
        self.x, self.v = np.zeros((2, num_tasks, slots))

    def set_tasks(self, tasks):
        self.target = np.array(tasks["target"])[:, None]

    def start(self, rngs):
        return np.array([rng.uniform(-0.1, 0.1) for rng in rngs]).reshape(self.shape)

    def reset(self, rngs):
        self.x, self.v = self.start(rngs), np.zeros(self.shape)
        return self.observe()

    def observe(self):
        return np.stack([self.x, self.v], -1)

    def push(self, actions):
        return self.v + 0.1 * actions[..., 0].clip(-1, 1)

    def step(self, actions, active):
        v = np.where(active, self.push(actions), self.v)
        self.x, self.v = np.where(active, self.x + 0.2 * v, self.x), v
        return Step(self.observe(), self.reward(), self.terminated(), {"speed": abs(v)})

    def reward(self):
        return -abs(self.x - self.target)

    def terminated(self):
        return abs(self.x) > 1.5

    def close(self):
        pass


class TrackEnv(gymnasium.Env):
    """The same in Gymnasium's form, written out again."""

    def __init__(self, distribution, task):
        self.distribution, self.task = distribution, task
        self.observation_space = distribution.observation_space
        self.action_space = distribution.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.v, self.t = self.np_random.uniform(-0.1, 0.1), 0.0, 0
        return np.array([self.x, self.v]), {}

    def step(self, action):
        self.v += 0.1 * float(np.clip(action, -1, 1)[0])
        self.x += 0.2 * self.v
        self.t += 1
        reward, ended = -abs(self.x - self.task["target"]), abs(self.x) > 1.5
        return np.array([self.x, self.v]), reward, ended, self.t >= self.distribution.horizon, {}


class BareTrack(TaskDistribution):
    """Without a Gymnasium form."""

    name = "track"
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    horizon = 20
    batched: ClassVar[type] = BatchedTrack

    def sample(self, num_tasks, rng):
        return {"target": rng.uniform(-1.0, 1.0, size=num_tasks)}

    def describe(self, task):
        return f"to {task['target']:.2f}"

    def make(self, num_tasks, slots_per_task, threads=1):
        return self.batched(self, num_tasks, slots_per_task)


class Track(BareTrack):
    env: ClassVar[type] = TrackEnv

    def single(self, task=None, render_mode=None):
        return self.env(self, task)


class TestTrack(TaskDistributionContract):
    def build(self):
        return Track()


def track(**attributes):
    """A Track that differs in these attributes."""
    return type("Broken", (Track,), attributes)()


def batched(**methods):
    """A Track whose batched environment differs in these methods."""
    return track(batched=type("Broken", (BatchedTrack,), methods))


def single(**methods):
    """A Track whose Gymnasium environment differs in these methods."""
    return track(env=type("Broken", (TrackEnv,), methods))


# What can be wrong.


def draw_globally(self, num_tasks, rng):
    return {"target": np.random.uniform(-1.0, 1.0, size=num_tasks)}  # noqa: NPY002


UNSEEDED = np.random.default_rng(0)  # the checks know nothing of it


def draw_unseeded(self, num_tasks, rng):
    return {"target": UNSEEDED.uniform(-1.0, 1.0, size=num_tasks)}


class Reusing(Track):
    """Returns one array again and again."""

    def sample(self, num_tasks, rng):
        if num_tasks != 32:
            return super().sample(num_tasks, rng)
        self.kept = getattr(self, "kept", np.zeros(32))
        self.kept[:] = rng.uniform(-1.0, 1.0, size=32)
        return {"target": self.kept}


def start_shared(self, rngs):
    return np.full(self.shape, next(iter(rngs)).uniform(-0.1, 0.1))


def start_shared_in_task(self, rngs):
    drawn = np.array([rng.uniform(-0.1, 0.1) for rng in rngs]).reshape(self.shape)
    return np.repeat(drawn[:, -1:], self.shape[1], axis=1)


def start_globally(self, rngs):
    return np.random.uniform(-0.1, 0.1, size=self.shape)  # noqa: NPY002


def start_with_python(self, rngs):
    return np.full(self.shape, random.uniform(-0.1, 0.1))


def start_unseeded(self, rngs):
    return UNSEEDED.uniform(-0.1, 0.1, size=self.shape)


def begin_with_old_speed(self, rngs):
    self.x = self.start(rngs)
    return self.observe()


def make_by_threads(self, num_tasks, slots_per_task, threads=1):
    env = BatchedTrack(self, num_tasks, slots_per_task)
    if threads > 1:
        env.push = lambda actions: 1.01 * env.v + 0.1 * actions[..., 0].clip(-1, 1)
    return env


def reward_by_slot(self):
    return BatchedTrack.reward(self) - 0.01 * np.arange(self.shape[1])


def reward_by_batch(self):
    return -abs(self.x - self.target) + 0.1 * self.target.mean()


def reward_by_calls(self):
    self.distribution.calls = getattr(self.distribution, "calls", 0) + 1
    return BatchedTrack.reward(self) - 0.01 * self.distribution.calls


def start_of_the_class(self, rngs):
    type(self).offset = BatchedTrack.start(self, rngs)
    self.reward = lambda: -abs(self.x - type(self).offset - self.target)
    return type(self).offset


def step_with_the_sum(self, actions, active):
    step = BatchedTrack.step(self, actions, active)
    return step._replace(rewards=step.rewards - 0.01 * (actions**2).sum())


def set_tasks_once(self, tasks):
    self.target = getattr(self, "target", np.array(tasks["target"])[:, None])


def set_tasks_by_reference(self, tasks):
    self.target = tasks["target"][:, None]


def set_tasks_writing(self, tasks):
    BatchedTrack.set_tasks(self, tasks)
    tasks["target"] *= 2.0


def step_centred(self, actions, active):
    """Lets ended rows into a mean over the batch."""
    with np.errstate(invalid="ignore"):
        step = BatchedTrack.step(self, actions, active)
    return step._replace(rewards=step.rewards + 0.1 * np.nanmean(actions))


def step_compacted(self, actions, active):
    """Pushes the first rows instead of the active ones."""
    count = int(active.sum())
    moved = (np.arange(active.size) < count).reshape(active.shape)
    return BatchedTrack.step(self, np.nan_to_num(actions), moved)


class Aliased(BatchedTrack):
    """Its observations are views of its state."""

    def reset(self, rngs):
        self.state = np.stack([self.start(rngs), np.zeros(self.shape)], -1)
        return self.state

    def step(self, actions, active):
        self.x, self.v = self.state[..., 0].copy(), self.state[..., 1].copy()
        step = super().step(actions, active)
        self.state = step.observations
        return step


class InPlace(BatchedTrack):
    """Writes every observation into the same array."""

    def observe(self):
        self.seen = getattr(self, "seen", np.zeros((*self.shape, 2)))
        self.seen[..., 0], self.seen[..., 1] = self.x, self.v
        return self.seen


class TimedOut(BatchedTrack):
    """Takes the horizon for an end of the task."""

    def reset(self, rngs):
        self.t = 0
        return super().reset(rngs)

    def step(self, actions, active):
        self.t += 1
        return super().step(actions, active)

    def terminated(self):
        return np.full(self.shape, self.t >= 20)


def reward_nan(self):
    reward = BatchedTrack.reward(self)
    reward[-1, -1] = np.nan
    return reward


def step_halfway(self, action):
    observation, reward, ended, cut, info = TrackEnv.step(self, action)
    return observation, reward - 0.5, ended, cut, info


def step_for_ever(self, action):
    return (*TrackEnv.step(self, action)[:3], False, {})


def step_cut_early(self, action):
    step = TrackEnv.step(self, action)
    return (*step[:3], self.t >= 7, {})


def reset_elsewhere(self, *, seed=None, options=None):
    TrackEnv.reset(self, seed=seed)
    self.x = 0.5
    return np.array([0.5, 0.0]), {}


def fail(self, *arguments):
    return [][3]


BROKEN = {
    "no describe": (track(describe=None), "spaces", "track has no method describe."),
    "no name": (
        track(name=None),
        "spaces",
        "Broken.name must be a string, not None.",
    ),
    "horizon": (
        track(horizon=20.5),
        "spaces",
        "track.horizon must be a whole number of at least 1, not 20.5.",
    ),
    "observation space": (
        track(observation_space=spaces.Box(0, 1, (2, 2))),
        "spaces",
        "track.observation_space must be a gymnasium.spaces.Box of shape (O,), not "
        "Box(0.0, 1.0, (2, 2), float32).",
    ),
    "action space": (
        track(action_space=spaces.Discrete(3, start=1)),
        "spaces",
        "track.action_space must be a gymnasium.spaces.Box of shape (A,), or Discrete(A) with "
        "numbers from 0, not Discrete(3, start=1).",
    ),
    "misspelt method": (
        track(trajectory=lambda self, tasks, observations, info: None),
        "names",
        "track: nothing calls Broken.trajectory; write trajectories if that is meant, and "
        "_trajectory if it is a helper.",
    ),
    "leading size": (
        track(sample=lambda self, num_tasks, rng: {"target": rng.uniform(size=num_tasks + 1)}),
        "tasks",
        "track.sample(5, rng) must return arrays of leading size 5, but 'target' has shape (6,).",
    ),
    "strings": (
        track(sample=lambda self, num_tasks, rng: {"target": np.array(["a"] * num_tasks)}),
        "tasks",
        "track.sample(5, rng) must return arrays of numbers, but 'target' is <U1.",
    ),
    "not finite": (
        track(sample=lambda self, num_tasks, rng: {"target": np.full(num_tasks, np.inf)}),
        "tasks",
        "track.sample(5, rng) must return finite numbers, 'target' is not.",
    ),
    "shape by number": (
        track(sample=lambda self, n, rng: {"target": rng.uniform(size=(n, n) if n == 5 else n)}),
        "tasks",
        "track.sample(1, rng) must return tasks like sample's, with arrays {'target': (5,)} for "
        "each task, not {'target': ()}.",
    ),
    "finite tasks": (
        track(finite_tasks=lambda self: {"goal": np.array([0.5, -0.5])}),
        "tasks",
        "track.finite_tasks() must return tasks like sample's, with arrays {'target': ()} for "
        "each task, not {'goal': ()}.",
    ),
    "not among": (
        track(
            sample=lambda self, num_tasks, rng: {"target": np.full(num_tasks, 0.25)},
            finite_tasks=lambda self: {"target": np.array([0.5, -0.5])},
        ),
        "tasks",
        "track.sample(5, rng) drew target=0.25, which is not among track.finite_tasks().",
    ),
    "describe": (
        track(describe=lambda self, task: 3),
        "tasks",
        "track.describe(task) must return a string, not 3.",
    ),
    "global generator": (
        track(sample=draw_globally),
        "sampling",
        "track.sample(num_tasks, rng) draws from numpy's global generator: draw from the "
        "generators it is given, and from nothing else.",
    ),
    "own generator": (
        track(sample=draw_unseeded),
        "sampling",
        "track.sample(num_tasks, rng) drew other tasks from an equal generator: draw from rng "
        "alone.",
    ),
    "generator ignored": (
        track(
            sample=lambda self, num_tasks, rng: {"target": np.linspace(-1.0, 1.0, num_tasks)},
        ),
        "sampling",
        "track.sample(num_tasks, rng) draws the same tasks from every generator: draw from rng.",
    ),
    "array reused": (
        Reusing(),
        "sampling",
        "track.sample(num_tasks, rng) changed the arrays it had returned before: return new ones.",
    ),
    "no environment": (
        track(make=lambda self, num_tasks, slots_per_task, threads=1: None),
        "shapes",
        "track.make(3, 2) must return an environment with a method set_tasks.",
    ),
    "observation shape": (
        batched(observe=lambda self: self.x),
        "shapes",
        "track.make(3, 2).reset(rngs) must return an array of shape (3, 2, 2), not (3, 2); "
        "index from the end ([..., 0], sum(-1)), so that one formula holds for any leading shape.",
    ),
    "observation dtype": (
        batched(observe=lambda self: np.stack([self.x, self.v], -1).astype(complex)),
        "shapes",
        "track.make(3, 2).reset(rngs) must be float64, the dtype of observation_space, not "
        "complex128.",
    ),
    "observation of another kind": (
        track(observation_space=spaces.Box(-9, 9, (2,), np.int64)),
        "shapes",
        "track.make(3, 2).reset(rngs) must be int64, the dtype of observation_space, not float64.",
    ),
    "observation outside": (
        track(observation_space=spaces.Box(-0.05, 0.05, (2,), np.float64)),
        "shapes",
        # default_rng(3), the third row's, is the first whose uniform(-0.1, 0.1) is beyond 0.05
        "track.make(3, 2).reset(rngs)[1, 0, 0] is -0.0828702, outside of observation_space, "
        "[-0.05, 0.05].",
    ),
    "reward shape": (
        batched(reward=lambda self: -abs(self.x - self.target).mean(1)),
        "shapes",
        "track.make(3, 2).step(actions, active).rewards must return an array of shape (3, 2), not "
        "(3,)",
    ),
    "reward NaN": (
        batched(reward=reward_nan),
        "shapes",
        "track.make(3, 2).step(actions, active).rewards must be finite, and is not for task 2, "
        "episode 1.",
    ),
    "terminated not bool": (
        batched(terminated=lambda self: (abs(self.x) > 1.5).astype(float)),
        "shapes",
        "track.make(3, 2).step(actions, active).terminated must be bool, not float64.",
    ),
    "info shape": (
        batched(
            step=lambda self, *given: BatchedTrack.step(self, *given)._replace(
                info={"speed": self.v[:, 0]}
            )
        ),
        "shapes",
        "track.make(3, 2).step(actions, active).info['speed'] must return an array of shape (3, 2)",
    ),
    "no step": (
        batched(step=lambda self, *given: tuple(BatchedTrack.step(self, *given))),
        "shapes",
        "track.make(3, 2).step(actions, active) must return an envs.Step, not tuple.",
    ),
    "raises": (
        batched(reward=fail),
        "shapes",
        "track.make(3, 2).step(actions, active) raised IndexError: list index out of range (",
    ),
    "resets globally": (
        batched(start=start_globally),
        "determinism",
        "track.make(...) draws from numpy's global generator",
    ),
    "resets with Python's": (
        batched(start=start_with_python),
        "determinism",
        "track.make(...) draws from Python's global generator",
    ),
    "resets unseeded": (
        batched(start=start_unseeded),
        "determinism",
        "track.make(2, 2).reset(rngs) does not begin anew: after other episodes, task 0, episode "
        "0 has other observations at reset; draw from the generators that reset is given",
    ),
    "keeps its speed": (
        batched(reset=begin_with_old_speed),
        "determinism",
        "track.make(2, 2).reset(rngs) does not begin anew: after other episodes, task 0, episode "
        "0 has other observations at reset",
    ),
    "kept in self": (
        batched(reward=reward_by_calls),
        "determinism",
        "track keeps self.calls between calls, and episodes change with that: after other "
        "episodes, task 0, episode 0 has other rewards in step 1 (",
    ),
    "kept in the class": (
        batched(start=start_of_the_class),
        "determinism",
        "track.make(2, 2) shares something with other environments: while one more runs, task 0, "
        "episode 0 has other rewards in step 1 (",
    ),
    "threads": (
        track(make=make_by_threads),
        "determinism",
        "track.make(2, 2, threads) depends on the threads: with two, task 0, episode 0 has other "
        "observations in step 2; let no row share state with another.",
    ),
    "one reset for all": (
        batched(start=start_shared),
        "resets",
        "track.make(2, 2).reset(rngs): slots share their episodes' beginning: with other "
        "generators for other slots, task 0, episode 1 has other observations at reset; begin row "
        "m * B + b from rngs[m * B + b] alone.",
    ),
    "one reset for a task": (
        batched(start=start_shared_in_task),
        "resets",
        "with other generators for other slots, task 0, episode 0 has other observations at reset",
    ),
    "slot index": (
        batched(reward=reward_by_slot),
        "rows",
        "track.make(2, 3) gives rows of equal task, generator and actions different episodes: "
        "unlike task 0, episode 0, task 0, episode 1 has other rewards in step 1 (",
    ),
    "other tasks": (
        batched(reward=reward_by_batch),
        "rows",
        "track.make(2, 2) lets a task depend on the others of the batch: beside another task, task "
        "0, episode 0 has other rewards in step 1 (",
    ),
    "others' actions": (
        batched(step=step_with_the_sum),
        "rows",
        "track.make(2, 2) lets a row depend on the others' actions or states: beside other "
        "actions, task 0, episode 0 has other rewards in step 1 (",
    ),
    "tasks identical": (
        batched(reward=lambda self: -abs(self.x)),
        "tasks differ",
        "track: 8 tasks gave equal rewards and observations over 20 steps of the same actions; let "
        "the reward or the dynamics read the task that set_tasks was given.",
    ),
    "tasks equal": (
        track(sample=lambda self, num_tasks, rng: {"target": np.full(num_tasks, 0.25)}),
        "tasks differ",
        "track.sample(8, rng) returned 8 equal tasks.",
    ),
    "tasks set once": (
        batched(set_tasks=set_tasks_once),
        "leaks",
        "track.make(2, 2).set_tasks(tasks) leaves something of the earlier tasks, or keeps the "
        "caller's arrays: after other tasks, task 0, episode 0 has other rewards in step 1 (",
    ),
    "tasks kept by reference": (
        batched(set_tasks=set_tasks_by_reference),
        "leaks",
        "or keeps the caller's arrays: after other tasks, task 0, episode 0 has other rewards",
    ),
    "tasks written into": (
        batched(set_tasks=set_tasks_writing),
        "leaks",
        "track.make(2, 2).set_tasks(tasks) changed the arrays of tasks.",
    ),
    "inactive rows count": (
        batched(step=step_centred),
        "active",
        "track.make(2, 2).step(actions, active) is wrong where rows have ended: while others are "
        "inactive, task 0, episode 0 has other rewards in step 2 (",
    ),
    "wrong rows stepped": (
        batched(step=step_compacted),
        "active",
        "while others are inactive, task 1, episode 1 has other observations in step 2; step the "
        "rows where active is true, and let the others change nothing.",
    ),
    "state returned": (
        track(batched=Aliased),
        "copies",
        "track.make(2, 2) returns its own state as observations: after the caller wrote into them, "
        "task 0, episode 0 has other observations in step 1; return copies.",
    ),
    "written in place": (
        track(batched=InPlace),
        "copies",
        "track.make(2, 2).step(actions, active) wrote into observations it had returned before: "
        "return new arrays.",
    ),
    "time-out as an end": (
        track(batched=TimedOut),
        "episodes",
        "track.make(2, 2).step(actions, active).terminated is true in every episode's step 20, the "
        "horizon: a time-out is the caller's, terminated is for the task's own ends.",
    ),
    "held-out spaces": (
        track(held_out=track(horizon=9, observation_space=spaces.Box(0.0, 1.0, (7,)))),
        "held out",
        "track.held_out.observation_space must be track's, Box(-inf, inf, (2,), float64), not "
        "Box(0.0, 1.0, (7,), float32).",
    ),
    "held-out tasks": (
        track(held_out=track(sample=lambda self, n, rng: {"target": rng.uniform(size=(n, 2))})),
        "held out",
        "track.held_out.sample(2, rng) must return tasks like sample's, with arrays {'target': ()} "
        "for each task, not {'target': (2,)}.",
    ),
    "trajectories' kind": (
        track(trajectories=lambda self, tasks, observations, info: observations[..., 0]),
        "trajectories",
        "track.trajectories(tasks, observations, info) must return envs.Trajectories or None, not "
        "ndarray.",
    ),
    "trajectories without the start": (
        track(
            trajectories=lambda self, tasks, observations, info: Trajectories(
                observations[:, 1:, :, 0], "m"
            )
        ),
        "trajectories",
        "track.trajectories(tasks, observations, info).values",
    ),
    "a target for each moment in the plane": (
        track(
            trajectories=lambda self, tasks, observations, info: Trajectories(
                observations, "m", observations[:, :, 0]
            )
        ),
        "trajectories",
        "track.trajectories(tasks, observations, info).targets",
    ),
    "trajectories that are not finite": (
        track(
            trajectories=lambda self, tasks, observations, info: Trajectories(
                np.full(observations.shape[:3], np.nan), "m"
            )
        ),
        "trajectories",
        "track.trajectories(tasks, observations, info).values must be finite, and are not where "
        "episodes begin.",
    ),
    "trajectories raise": (
        track(trajectories=fail),
        "trajectories",
        "track.trajectories(tasks, observations, info) raised IndexError: list index out of range",
    ),
    "another single": (
        single(step=step_halfway),
        "single",
        "track.single(task) is not the environment that make builds: for equal task, generator "
        "and actions, task 0, episode 0 has other rewards in step 1 (",
    ),
    "another start": (
        single(reset=reset_elsewhere),
        "single",
        "for equal task, generator and actions, task 0, episode 0 has other observations at reset",
    ),
    "no time-out": (
        single(step=step_for_ever),
        "single",
        "track.single(task).step(action) must say truncated in step 20, the horizon.",
    ),
    "early time-out": (
        single(step=step_cut_early),
        "single",
        "task 0, episode 0 has other truncated in step 7 (1, not 0)",
    ),
    "single's spaces": (
        single(
            action_space=property(
                lambda self: spaces.Box(-2.0, 2.0, (1,)), lambda self, space: None
            )
        ),
        "single",
        "track.single(task).action_space must be the distribution's, Box(-1.0, 1.0, (1,), "
        "float32), for every task, not Box(-2.0, 2.0, (1,), float32).",
    ),
    "single raises": (
        single(step=fail),
        "single",
        "track.single(task).step(action) raised IndexError: list index out of range (",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_promise_is_named(case):
    distribution, name, sentence = BROKEN[case]
    with pytest.raises(UserError) as error:
        CHECKS[name](distribution)
    assert sentence in str(error.value)
    assert str(error.value).startswith(("track", "Broken"))
    assert "\n" not in str(error.value)


def test_every_check_has_a_broken_promise():
    """Speed is measured, not judged."""
    assert {name for _, name, _ in BROKEN.values()} == CHECKS.keys() - {"speed"}


def test_every_check_but_speed_is_a_test_of_the_inheritable_class():
    tests = {name for name in vars(TaskDistributionContract) if name.startswith("test_")}
    assert tests == {f"test_{name.replace(' ', '_')}" for name in CHECKS if name != "speed"}


@pytest.mark.parametrize("case", ["leading size", "raises", "reward shape", "single raises"])
def test_the_inherited_test_fails_where_the_check_does(case):
    distribution, name, sentence = BROKEN[case]
    own = type("TestBroken", (TaskDistributionContract,), {"build": lambda self: distribution})()
    with pytest.raises(UserError) as error:
        getattr(own, f"test_{name.replace(' ', '_')}")()
    assert sentence in str(error.value)
    with pytest.raises(TypeError, match=r"TaskDistributionContract must define build\(\)"):
        TaskDistributionContract().test_spaces()


def quick_check(distribution, monkeypatch):
    monkeypatch.setitem(CHECKS, "speed", lambda own: checking.check_speed(own, 0.01))
    return {finding.check: finding for finding in check(distribution)}


def test_all_checks_say_what_they_found(monkeypatch):
    found = quick_check(Track(), monkeypatch)
    assert list(found) == list(CHECKS)
    speed = found.pop("speed")
    assert speed.status == "ok"
    assert speed.sentence.endswith(" environment steps per CPU-second")
    drawn = np.random.default_rng(0).uniform(-1.0, 1.0, size=200)
    assert {name: (finding.status, finding.sentence) for name, finding in found.items()} == {
        "spaces": ("ok", "2 observations, 1 actions, horizon 20"),
        "names": ("ok", "every public name is a known one, or in use"),
        "tasks": ("ok", f"target from {drawn.min():.3g} to {drawn.max():.3g}"),
        "sampling": ("ok", "equal generators give equal tasks, others give others"),
        "shapes": ("ok", "observations float64, finite and in their space"),
        "determinism": ("ok", "equal generators give equal episodes, on one thread or two"),
        "resets": ("ok", "every slot begins from its own generator"),
        "rows": ("ok", "a row depends on its own task, generator and actions alone"),
        "tasks differ": ("ok", "tasks differ in reward"),
        "leaks": ("ok", "set_tasks leaves nothing of the earlier tasks"),
        "active": ("ok", "ended rows change nothing for the others"),
        "copies": ("ok", "returned arrays are the caller's own"),
        # held actions a move x by 0.02 a (1 + 2 + ... + t): |a| = 1 is beyond 1.5 at t = 12
        "episodes": ("ok", found["episodes"].sentence),
        "held out": (
            "skipped",
            "there are no held-out tasks: test tasks are drawn like others",
        ),
        "trajectories": (
            "skipped",
            "figures show nothing of episodes (no method trajectories, or none of its kind here)",
        ),
        "single": ("ok", "the Gymnasium environment gives the batched form's episodes"),
    }
    assert "of 4 episodes were ended by their task, the first in step 1" in (
        found["episodes"].sentence
    )


def test_checking_goes_on_after_a_failure_and_says_nothing_twice(monkeypatch):
    both = type("Both", (BatchedTrack,), {"reward": reward_by_slot, "start": start_shared})
    found = quick_check(track(batched=both), monkeypatch)
    assert [name for name in found if found[name].status == "wrong"] == ["rows", "resets"]
    assert found["single"].sentence == "for the same reason as above"
    nan = quick_check(batched(reward=fail), monkeypatch)
    assert [name for name in nan if nan[name].status == "wrong"] == ["shapes"]
    assert nan["single"].sentence == "for the same reason as above"


ELSEWHERE = {  # where all checks together name another one, or two causes
    "tasks equal": ["sampling"],  # since no generator makes a difference
    "not among": ["tasks", "sampling"],  # its one task comes from no generator
    "tasks identical": ["tasks differ", "single"],  # the Gymnasium form reads the task
    "inactive rows count": ["rows"],  # by a mean over the batch, which active rows enter too
}


@pytest.mark.parametrize("case", BROKEN)
def test_of_one_cause_one_check_is_wrong(case, monkeypatch):
    distribution, name, _ = BROKEN[case]
    found = quick_check(distribution, monkeypatch)
    wrong = [own for own in found if found[own].status == "wrong"]
    assert wrong == ELSEWHERE.get(case, [name])


def test_a_helper_with_a_name_like_a_method_s_is_none_where_it_is_used():
    class Helped(Track):
        def __init__(self):
            self.first = self.marker()

        def marker(self):
            return 0.5

        def grids(self):
            return 1

        @functools.cached_property
        def second(self):
            return self.grids()

    assert CHECKS["names"](Helped()) == "every public name is a known one, or in use"
    assert CHECKS["names"](track(_marker=fail, speeds=fail)).startswith("every public name")


def test_without_spaces_nothing_else_is_checked(monkeypatch):
    found = quick_check(track(make=None), monkeypatch)
    assert {name: finding.status for name, finding in found.items()} == {
        "spaces": "wrong",
        **{name: "skipped" for name in CHECKS if name != "spaces"},
    }


def test_tasks_that_differ_in_dynamics_alone(monkeypatch):
    def push(self, actions):
        return self.v + 0.1 * self.target * actions[..., 0].clip(-1, 1)

    own = type("Own", (BatchedTrack,), {"push": push, "reward": lambda self: -(0.0 * self.x) - 1})
    assert checking.check_tasks_differ(track(batched=own)) == "tasks differ in observations"


def test_rewards_that_few_steps_find_are_found():
    """Held actions of +-1 reach 1.2 in twelve steps; a fifth step's 0.3 is no reward yet."""

    def reward(self):
        return (abs(self.x - 1.2 * np.sign(self.target)) < 0.2).astype(float)

    assert checking.check_tasks_differ(batched(reward=reward)) == "tasks differ in reward"


def test_a_distribution_without_single_or_held_out_tasks_is_passed_over():
    for bare in (BareTrack(), TaskObserved(BareTrack())):
        with pytest.raises(NotApplicableError, match="track has no Gymnasium form"):
            checking.check_single(bare)
        with pytest.raises(NotApplicableError, match="there are no held-out tasks"):
            checking.check_held_out(bare)
    own = type("Test", (TaskDistributionContract,), {"build": lambda self: BareTrack()})()
    own.test_single()
    own.test_held_out()


def test_rounding_of_a_reward_that_passes_zero_is_no_difference():
    for seed in (33, 161, 254, 281):  # refused when the tolerance followed each number alone
        target = np.random.default_rng(seed).uniform(-1, 1, size=2)
        drawn = track(sample=lambda self, num_tasks, rng, target=target: {"target": target})
        assert CHECKS["single"](drawn)
    offset = single(step=lambda self, action: moved(TrackEnv.step(self, action), 1e-4))
    with pytest.raises(UserError, match="has other rewards in step 1"):
        CHECKS["single"](offset)


def moved(step, by):
    """The answer of a step with another reward."""
    return (step[0], step[1] + by, *step[2:])


def test_speed_that_is_slow_is_called_so(monkeypatch):
    monkeypatch.setattr("envs.checking.whole.SLOW", 1e12)
    assert checking.check_speed(Track(), 0.01).endswith("CPU-second, which is slow")


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("horizon", BROKEN["horizon"][2]),
        ("leading size", "track.sample(3, rng) must return arrays of leading size 3, but 'target'"),
        ("reward NaN", "track.make(3, 2).step(actions, active).rewards must be finite, and is not"),
        ("reward shape", "track.make(3, 2).step(actions, active).rewards must return an array of"),
        ("terminated not bool", "track.make(3, 2).step(actions, active).terminated must be bool"),
        ("raises", "track.make(3, 2).step(actions, active) raised IndexError: list index out of"),
        ("global generator", "track.sample(num_tasks, rng) draws from numpy's global generator"),
        ("resets globally", "track.make(3, 2) draws from numpy's global generator"),
    ],
)
def test_the_probe_finds_what_a_run_would_trip_over(case, sentence):
    with pytest.raises(UserError) as error:
        probe(BROKEN[case][0])
    assert sentence in str(error.value)


REFUSED = {
    *("misspelt method", "global generator", "own generator", "generator ignored"),
    *("resets globally", "resets with Python's", "resets unseeded", "keeps its speed"),
    *("kept in self", "kept in the class", "one reset for all", "one reset for a task"),
    *("other tasks", "others' actions", "tasks set once"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_the_rehearsal_finds_what_a_run_would_learn_wrongly_from(case):
    with pytest.raises(UserError) as error:
        rehearse(BROKEN[case][0])
    assert BROKEN[case][2] in str(error.value)


def test_the_rehearsal_warns_where_nothing_tells_tasks_apart():
    assert rehearse(Track()) is None
    assert rehearse(BROKEN["tasks identical"][0]) == (
        "8 tasks of track gave equal rewards and observations over 20 steps of the same actions: "
        "rewards may be that sparse; otherwise let the reward or the dynamics read the task"
    )


def test_a_sparse_reward_that_the_task_decides_later_is_no_error():
    def reward(self):
        return (abs(self.x - 0.9 * np.sign(self.target)) < 0.2).astype(float)  # after five steps

    assert rehearse(batched(reward=reward)) is None


def test_the_rehearsal_leaves_a_distribution_as_it_was():
    distribution = BROKEN["kept in self"][0]
    before = getattr(distribution, "calls", 0)
    for call in (probe, lambda own: suppressed(rehearse, own)):
        call(distribution)
    assert getattr(distribution, "calls", 0) == before


def suppressed(function, *arguments):
    with suppress(UserError):
        function(*arguments)


def test_the_probe_builds_six_rows_on_one_thread_and_closes_them():
    made, closed = [], []

    class Counting(BatchedTrack):
        def close(self):
            closed.append(self.shape)

    def make(self, num_tasks, slots_per_task, threads=1):
        made.append((num_tasks, slots_per_task, threads))
        return Counting(self, num_tasks, slots_per_task)

    probe(track(make=make))
    assert (made, closed) == ([(3, 2, 1)], [(3, 2)])
    with pytest.raises(UserError):
        probe(track(make=make, observation_space=spaces.Box(0.0, 1.0, (3,))))
    assert closed == [(3, 2), (3, 2)]


def test_spaces_and_parameters_in_words():
    numbered = track(action_space=spaces.Discrete(4))
    assert spaces_in_words(numbered) == "2 observations, 4 numbered actions"
    few = track(
        finite_tasks=lambda self: {
            "target": np.array([0.5, -0.25]),
            "wind": np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 6.0]]),
        }
    )
    assert parameters(few) == "target from -0.25 to 0.5; wind [3] from -4 to 6 (2 tasks)"


def test_float64_observations_fit_a_float32_space():
    said = check_shapes(track(observation_space=spaces.Box(-9.0, 9.0, (2,), np.float32)))
    assert said == "observations float32, finite and in their space"
