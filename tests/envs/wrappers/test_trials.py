"""Trials: episodes of one task in turn, with what a memory learns from among the observations."""

import pickle

import numpy as np
import pytest
from gymnasium import spaces

from envs import (
    HalfCheetahDir,
    HeldOut,
    MultiArmedBandit,
    PointNavigation,
    RandomMDP,
    Step,
    TaskDistribution,
    TaskDistributionContract,
    TaskObserved,
    Trials,
    UserError,
)
from envs.protocol import task_at


class TestOfABandit(TaskDistributionContract):
    def build(self):
        return Trials(MultiArmedBandit("k5_n10", horizon=4), 3)


class TestOfEpisodesThatEndEarly(TaskDistributionContract):
    def build(self):
        return Trials(PointNavigation(horizon=5, arrival=0.2), 3)


class TestOfPhysics(TaskDistributionContract):
    def build(self):
        return Trials(TaskObserved(HalfCheetahDir(horizon=4)), 2)


class Countdown(TaskDistribution):
    """Row b's episodes last b + 1 steps, at most 3; the reward is what the reset drew."""

    name, horizon = "countdown", 3
    observation_space = spaces.Box(-np.inf, np.inf, (1,), dtype=np.float64)
    action_space = spaces.Box(-2.0, 2.0, (2,), dtype=np.float64)

    def __init__(self):
        self.made = []

    def sample(self, num_tasks, rng):
        return {"scale": rng.uniform(1, 2, size=num_tasks)}

    def describe(self, task):
        return f"{task['scale']:.2f}"

    def applied(self, actions):
        return np.clip(actions, -2, 2)

    def make(self, num_tasks, slots_per_task, threads=1):
        self.made.append(BatchedCountdown(num_tasks, slots_per_task, threads))
        return self.made[-1]


class BatchedCountdown:
    def __init__(self, num_tasks, slots, threads):
        self.shape, self.threads, self.closed = (num_tasks, slots), threads, False

    def set_tasks(self, tasks):
        self.scale = tasks["scale"][:, None]

    def reset(self, rngs):
        self.drawn = np.array([rng.integers(1, 1000) for rng in rngs]).reshape(self.shape)
        self.time = np.zeros(self.shape)
        return self.seen()

    def seen(self):
        return (self.drawn + self.time / 10)[..., None]

    def step(self, actions, active):
        self.time += active
        rewards = self.scale * self.drawn
        ended = self.time >= np.arange(self.shape[1]) + 1
        return Step(self.seen(), rewards, ended & (self.time < 3), {"time": self.time.copy()})

    def close(self):
        self.closed = True


def generators(seeds):
    from gymnasium.utils import seeding

    return [seeding.np_random(seed)[0] for seed in seeds]


def drawn(seed, episodes):
    """What each episode of the trial with this seed draws, by the rule that the class states."""
    seeds = generators([seed])[0].integers(2**31, size=episodes)
    return [int(rng.integers(1, 1000)) for rng in generators([int(own) for own in seeds])]


def test_what_is_observed_by_hand():
    """One task, slots whose episodes last 1, 2 and 3 steps; two episodes a trial."""
    trials = Trials(Countdown(), 2)
    assert trials.observation_space.shape == (1 + 2 + 1 + 1,)
    assert trials.horizon == 6
    env = trials.make(1, 3)
    env.set_tasks({"scale": np.array([2.0])})
    one, two, three = (drawn(seed, 2) for seed in (11, 12, 13))
    start = env.reset(generators([11, 12, 13]))
    assert start[0].tolist() == [[own[0], 0, 0, 0, 1] for own in (one, two, three)]

    active = np.ones((1, 3), dtype=bool)
    # the action is observed as applied, clipped to 2, in units of its bound of 2
    step = env.step(np.array([[[1.0, -9.0], [0.5, 2.0], [0.0, 1.0]]]), active)
    assert step.rewards.tolist() == [[2 * one[0], 2 * two[0], 2 * three[0]]]
    assert step.info["episode"].tolist() == [[0, 0, 0]]
    assert step.info["time"].tolist() == [[1, 1, 1]]
    assert step.observations[0].tolist() == [
        [one[1], 0.5, -1.0, 2 * one[0], 1],  # the next episode has begun; what was done is kept
        [two[0] + 0.1, 0.25, 1.0, 2 * two[0], 0],
        [three[0] + 0.1, 0.0, 0.5, 2 * three[0], 0],
    ]
    assert not step.ended.any()

    step = env.step(np.array([[[2.0, 0.0], [-1.0, 0.0], [1.0, 1.0]]]), active)
    assert step.info["episode"].tolist() == [[1, 0, 0]]
    assert step.rewards.tolist() == [[2 * one[1], 2 * two[0], 2 * three[0]]]
    assert step.terminated.tolist() == [[True, False, False]]  # slot 0's last episode ended
    assert step.truncated.tolist() == [[False, False, False]]
    assert step.observations[0, 0, 1:].tolist() == [1.0, 0.0, 2 * one[1], 0]
    assert step.observations[0, 1].tolist() == [two[1], -0.5, 0.0, 2 * two[0], 1]
    assert step.observations[0, 2].tolist() == [three[0] + 0.2, 0.5, 0.5, 2 * three[0], 0]

    active = ~step.ended
    env.step(np.full((1, 3, 2), np.nan), np.zeros((1, 3), dtype=bool))  # nobody moves
    step = env.step(np.ones((1, 3, 2)), active)
    assert step.info["episode"][0, 1:].tolist() == [1, 0]
    # slot 2's first episode was cut off by the horizon, which is no end of the trial
    assert step.observations[0, 2].tolist() == [three[1], 0.5, 0.5, 2 * three[0], 1]
    assert not step.ended[0, 1:].any()
    step = env.step(np.ones((1, 3, 2)), active)
    assert step.terminated[0, 1:].tolist() == [True, False]
    for _ in range(2):
        active = np.array([[False, False, True]])
        step = env.step(np.ones((1, 3, 2)), active)
        assert (step.terminated[0, 2], step.truncated[0, 2]) == (False, False)  # at the horizon
    assert step.info["episode"][0, 2] == 1


def test_a_trial_that_its_last_episode_s_time_limit_ends_early_is_truncated():
    class EndsOnce(Countdown):
        """The first step of a row's first episode ends it, and no other does."""

        def make(self, *sizes):
            env, own = super().make(*sizes), []

            def step(actions, active):
                own.append(active)
                given = BatchedCountdown.step(env, actions, active)
                return given._replace(terminated=np.full((1, 1), len(own) == 1))

            env.step = step
            return env

    env = Trials(EndsOnce(), 2).make(1, 1)
    env.set_tasks({"scale": np.array([1.0])})
    env.reset(generators([3]))
    flags = []
    for _ in range(4):  # an episode of one step, and one of the horizon's three
        step = env.step(np.zeros((1, 1, 2)), np.ones((1, 1), dtype=bool))
        flags.append((bool(step.terminated[0, 0]), bool(step.truncated[0, 0])))
    assert flags == [(False, False)] * 3 + [(False, True)]


def test_environments_are_made_for_as_many_episodes_as_rows_are_apart():
    distribution = Countdown()
    env = Trials(distribution, 4).make(2, 3, threads=5)
    env.set_tasks({"scale": np.array([1.0, 2.0])})
    for _ in range(2):
        env.reset(generators(range(6)))
        active = np.ones((2, 3), dtype=bool)
        for _ in range(12):
            active &= ~env.step(np.zeros((2, 3, 2)), active).ended
    # in their third step slot 0 is in episode 2, slot 1 in 1 and slot 2 in 0: three are held
    assert len(distribution.made) == 3
    assert {own.threads for own in distribution.made} == {5}
    env.close()
    assert all(own.closed for own in distribution.made)
    bandit = MultiArmedBandit("k5_n10")
    made, build = [], bandit.make
    bandit.make = lambda *sizes: made.append(build(*sizes)) or made[-1]
    env = Trials(bandit, 5).make(2, 2)
    env.set_tasks(bandit.sample(2, np.random.default_rng(0)))
    env.reset(generators(range(4)))
    for _ in range(50):
        env.step(np.zeros((2, 2), dtype=int), np.ones((2, 2), dtype=bool))
    assert len(made) == 1  # episodes of one length


def test_numbered_actions_are_observed_one_hot():
    trials = Trials(RandomMDP(states=3, actions=4, horizon=2), 2)
    env = trials.make(1, 2)
    env.set_tasks(trials.sample(1, np.random.default_rng(0)))
    start = env.reset(generators([1, 2]))
    assert start[0].tolist() == [[1, 0, 0, 0, 0, 0, 0, 0, 1]] * 2
    step = env.step(np.array([[2, 0]]), np.ones((1, 2), dtype=bool))
    assert step.observations[0, :, 3:7].tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert step.observations[0, :, 7].tolist() == step.rewards[0].tolist()
    assert step.observations[0, :, 8].tolist() == [0, 0]
    assert step.info["regret"].shape == step.info["episode"].shape == (1, 2)
    step = env.step(np.array([[3, 1]]), np.ones((1, 2), dtype=bool))
    # the second episode begins in state 0 and is told so
    assert step.observations[0, :, [0, 1, 2, 8]].T.tolist() == [[1, 0, 0, 1]] * 2


def test_episodes_are_those_of_the_distribution_itself():
    """Each episode of a trial is the one that its own seed and actions give."""
    own = HalfCheetahDir(horizon=3)
    trials = Trials(own, 2)
    tasks = {"direction": np.array([1.0, -1.0])}
    actions = np.random.default_rng(0).normal(size=(6, 2, 1, 6))
    env = trials.make(2, 1)
    env.set_tasks(tasks)
    found = [env.reset(generators([5, 6]))]
    found += [env.step(act, np.ones((2, 1), dtype=bool)).observations for act in actions]
    seeds = [rng.integers(2**31, size=2) for rng in generators([5, 6])]
    plain = own.make(2, 1)
    plain.set_tasks(tasks)
    for episode in range(2):
        start = plain.reset(generators([int(each[episode]) for each in seeds]))
        assert np.array_equal(found[3 * episode][..., :20], start)
        for t in range(2):
            step = plain.step(actions[3 * episode + t], np.ones((2, 1), dtype=bool))
            assert np.array_equal(found[3 * episode + t + 1][..., :20], step.observations)
    env.close()
    plain.close()


def test_the_single_environment_keeps_its_task_for_a_trial_and_draws_one_for_the_next():
    trials = Trials(MultiArmedBandit("k5_n10", horizon=2), 3)
    env = trials.single()
    _, info = env.reset(seed=1)
    seen = []
    for _ in range(3):
        tasks = [info["task"]["probabilities"]]
        for step in range(6):
            _, _, terminated, truncated, info = env.step(1)
            tasks.append(info["task"]["probabilities"])
            assert (terminated, truncated) == (False, step == 5)
            assert info["episode"] == step // 2
        assert all(np.array_equal(own, tasks[0]) for own in tasks)
        seen.append(tasks[0].tolist())
        _, info = env.reset()
    assert seen[0] != seen[1] != seen[2]
    task = task_at(trials.sample(1, np.random.default_rng(7)), 0)
    fixed = trials.single(task)
    for seed in (1, None):
        _, info = fixed.reset(seed=seed)
        assert np.array_equal(info["task"]["probabilities"], task["probabilities"])


def test_everything_else_is_left_to_the_distribution():
    own = HalfCheetahDir(horizon=7)
    trials = pickle.loads(pickle.dumps(Trials(own, 3)))
    assert (trials.name, trials.horizon, trials.episodes) == ("half_cheetah_dir", 21, 3)
    assert trials.finite_tasks()["direction"].tolist() == [1.0, -1.0]
    assert trials.held_out is None
    both = Trials(HeldOut(train=HalfCheetahDir(preset="deleu"), test=HalfCheetahDir()), 3)
    assert isinstance(both.held_out, Trials)
    assert both.held_out.episodes == 3
    with pytest.raises(AttributeError, match="colour"):
        trials.colour  # noqa: B018


@pytest.mark.parametrize("episodes", [0, 1.5, True, "two"])
def test_the_number_of_episodes_is_whole(episodes):
    with pytest.raises(UserError, match="episodes must be a whole number of at least 1"):
        Trials(Countdown(), episodes)
