import os

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import Normal

from envs import HalfCheetahVel, PointNavigation, SimulationError, Step, UserError
from maml_rl.algorithm.advantages import AdvantageEstimator
from maml_rl.algorithm.inner_loop.loop import stack
from maml_rl.algorithm.policies import CategoricalMLP, GaussianMLP
from maml_rl.algorithm.rollout import Rollout
from maml_rl.errors import NonFiniteError
from maml_rl.randomness import Key, Purpose
from maml_rl.sampling import Sampler
from maml_rl.sampling.collector import Collector

KEY = Key(11, (Purpose.TRAINING, 3, 0))


@pytest.fixture(autouse=True)
def one_torch_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Countdown:
    """Slot b ends after `length` + b steps; the k-th step, from 1, pays k * `pay`.

    Observations are (steps so far, one number drawn at reset). Rows that are not active hold NaN.
    `broken` = (task, step) makes that task's `part` NaN at that step.
    """

    name, horizon = "countdown", 6
    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, part=None, broken=None):
        self.part, self.broken = part, broken

    def make(self, num_tasks, slots_per_task, threads=1):
        self.shape, self.activity = (num_tasks, slots_per_task), []
        return self

    def set_tasks(self, tasks):
        self.length = tasks["length"][:, None] + np.arange(self.shape[1])
        self.pay = tasks["pay"][:, None]

    def reset(self, rngs):
        self.elapsed = np.zeros(self.shape)
        self.drawn = np.array([rng.normal() for rng in rngs]).reshape(self.shape)
        return np.stack([self.elapsed, self.drawn], -1)

    def step(self, actions, active):
        self.activity.append(active.copy())
        self.elapsed = self.elapsed + active
        rewards = np.where(active, self.pay * self.elapsed, np.nan)
        seen = np.stack([np.where(active, self.elapsed, np.nan), self.drawn], -1)
        parts = {"reward": rewards, "observation": seen}
        if self.part and len(self.activity) - 1 == self.broken[1]:
            parts[self.part][self.broken[0]] = np.nan
        effort = np.where(active, abs(actions[..., 0]), np.nan)
        return Step(seen, rewards, self.elapsed >= self.length, {"effort": effort})

    def close(self):
        self.closed = True


# Task 0's slots end after 2, 3 and 4 steps; task 1's after 5, 6 and 7, of which the horizon, 6,
# cuts off the last.
COUNTDOWN = {"length": np.array([2, 5]), "pay": np.array([1.0, -0.5])}
LENGTHS = [[2, 3, 4], [5, 6, 6]]


def policies(observation_size, action_size, count, dtype=torch.float32):
    """One policy, and `count` tasks' parameters of it."""
    policy = GaussianMLP(observation_size, action_size, (8,), initial_std=0.8)
    each = [policy.initialize(torch.Generator().manual_seed(seed)) for seed in range(count)]
    return policy, {k: torch.stack([one[k] for one in each]).to(dtype) for k in each[0]}


def collect(distribution, tasks, slots=3, key=KEY, threads=1, dtype=torch.float32, params=None):
    count = len(next(iter(tasks.values())))
    sizes = distribution.observation_space.shape[0], distribution.action_space.shape[0]
    policy, drawn = policies(*sizes, count, dtype)
    collector = Collector(distribution, policy, count, slots, threads)
    rollout = collector.collect(params or drawn, tasks, key)
    collector.close()
    return rollout


def assert_identical(one, other):
    for name in Rollout._fields[:8]:
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.info.keys() == other.info.keys()
    assert all(torch.equal(one.info[name], other.info[name]) for name in one.info)


def test_unequal_episodes_give_the_mask_rewards_and_discounts_of_a_loop():
    rollout = collect(Countdown(), COUNTDOWN)
    for m, lengths in enumerate(LENGTHS):
        for b, length in enumerate(lengths):
            happened = [1.0] * length + [0.0] * (6 - length)
            paid = [float(COUNTDOWN["pay"][m]) * (t + 1) for t in range(length)]
            assert rollout.mask[m, :, b].tolist() == happened
            assert rollout.rewards[m, :, b].tolist() == paid + [0.0] * (6 - length)
            assert rollout.first[m, :, b].tolist() == [1.0] + [0.0] * 5
            ends = 1.0 if (m, b) == (1, 2) else 0.0  # a time-out is no termination
            assert rollout.discounts[m, :length, b].tolist() == [1.0] * (length - 1) + [ends]
            assert rollout.observations[m, :length, b, 0].tolist() == list(range(length))
            assert rollout.final_observations[m, b, 0] == length
            effort = rollout.actions[m, :length, b, 0].abs().tolist() + [0.0] * (6 - length)
            assert rollout.info["effort"][m, :, b].tolist() == effort


def test_unequal_episodes_count_once_each_in_returns_and_steps():
    rollout = collect(Countdown(), COUNTDOWN)
    # task 0: 1 + 2, 1 + 2 + 3, 1 + .. + 4: (3 + 6 + 10) / 3 episodes
    # task 1: -(1 + .. + 5) / 2, -(1 + .. + 6) / 2 twice: -(15 + 21 + 21) / 2 / 3
    assert rollout.mean_return().tolist() == pytest.approx([19 / 3, -9.5])
    assert rollout.num_steps() == 2 + 3 + 4 + 5 + 6 + 6
    assert (rollout.first * rollout.mask).sum((1, 2)).tolist() == [3.0, 3.0]


def test_only_running_episodes_are_stepped():
    distribution = Countdown()
    collect(distribution, COUNTDOWN)
    expected = [np.array(LENGTHS) > t for t in range(6)]
    assert np.array_equal(distribution.activity, expected)
    assert distribution.closed


def test_collection_stops_when_every_episode_has_ended():
    distribution = Countdown()
    rollout = collect(distribution, {"length": np.array([1, 2]), "pay": np.array([3.0, 2.0])}, 2)
    assert len(distribution.activity) == 3  # the longest: length 2, slot 1
    assert rollout.rewards.shape == (2, 6, 2)
    assert rollout.mask.sum((1, 2)).tolist() == [1 + 2, 2 + 3]
    assert torch.isfinite(rollout.log_probs).all()
    assert rollout.final_observations[..., 0].tolist() == [[1.0, 2.0], [2.0, 3.0]]


@pytest.mark.parametrize("part", ["reward", "observation"])
def test_a_nan_names_its_task_episode_and_step(part):
    with pytest.raises(NonFiniteError) as error:
        collect(Countdown(part, broken=(1, 4)), COUNTDOWN)
    assert str(error.value) == f"countdown: the {part} of task 1, episode 0, step 4 is not finite"


@pytest.mark.parametrize("part", ["reward", "observation"])
def test_a_nan_of_an_ended_episode_does_not_matter(part):
    rollout = collect(Countdown(part, broken=(0, 4)), COUNTDOWN)  # all ended after step 3
    assert rollout.num_steps() == 26
    assert torch.isfinite(rollout.observations).all()


def test_a_policy_that_gives_nan_is_named():
    _, params = policies(2, 1, 2)
    params["layers.1.bias"][1] = float("nan")
    with pytest.raises(NonFiniteError, match="the action of task 1, episode 0, step 0"):
        collect(Countdown(), COUNTDOWN, params=params)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["f32", "f64"]
)
def test_log_probs_are_those_of_each_tasks_own_policy(dtype, tolerance):
    rollout = collect(Countdown(), COUNTDOWN, dtype=dtype)
    policy, params = policies(2, 1, 2, dtype)
    assert rollout.actions.dtype == rollout.log_probs.dtype == dtype
    for m in range(2):
        own = {name: leaf[m] for name, leaf in params.items()}
        gaussian = torch.func.functional_call(policy, own, (rollout.observations[m : m + 1],))
        normal = Normal(gaussian.mean, gaussian.log_std.exp())
        expected = normal.log_prob(rollout.actions[m : m + 1]).sum(-1)[0]
        happened = rollout.mask[m] > 0
        found = rollout.log_probs[m][happened]
        torch.testing.assert_close(found, expected[happened], rtol=tolerance, atol=tolerance)
    assert not rollout.log_probs.requires_grad
    assert not rollout.log_probs.is_inference()


def test_actions_are_the_policys_mean_and_the_keyed_noise():
    rollout = collect(Countdown(), COUNTDOWN, dtype=torch.float64)
    policy, params = policies(2, 1, 2, torch.float64)
    distribution, _, _ = policy.distribution(params, rollout.observations)
    for m in range(2):
        noise = KEY.generator(Purpose.ACTIONS, m).standard_normal((6, 3, 1))
        expected = distribution.mean[m] + 0.8 * torch.from_numpy(noise)
        happened = rollout.mask[m] > 0
        torch.testing.assert_close(rollout.actions[m][happened], expected[happened])
    drawn = [[KEY.generator(Purpose.RESETS, m, b).normal() for b in range(3)] for m in range(2)]
    assert rollout.observations[:, 0, :, 1].tolist() == drawn


VELOCITIES = {"velocity": np.array([0.5, 1.75])}
GOALS = {"goal": np.array([[0.012, -0.01], [0.45, -0.45]])}


def short_steps():
    """Steps of about 0.008, so that episodes of the first goal end early."""
    return PointNavigation(horizon=30, action_scale=0.01)


@pytest.mark.parametrize(
    ("distribution", "tasks"),
    [
        (HalfCheetahVel(horizon=15), VELOCITIES),
        (short_steps(), GOALS),
    ],
)
def test_one_and_two_threads_give_the_same_rollout_to_the_bit(distribution, tasks):
    one, two = (collect(distribution, tasks, slots=4, threads=threads) for threads in (1, 2))
    assert_identical(one, two)


def test_the_same_key_gives_the_same_rollout_and_another_key_another():
    distribution = HalfCheetahVel(horizon=10)
    policy, params = policies(20, 6, 2)
    collector = Collector(distribution, policy, 2, 3)
    keys = [KEY, Key(11, (Purpose.TRAINING, 3, 1)), Key(12, KEY.path), KEY]
    first, step, seed, again = (collector.collect(params, VELOCITIES, key) for key in keys)
    collector.close()
    assert_identical(first, again)  # on environments that were used in between
    for other in (step, seed):
        assert not torch.equal(first.observations[:, 0], other.observations[:, 0])
        assert not torch.equal(first.actions[:, 0], other.actions[:, 0])


def test_no_two_episodes_share_their_random_numbers():
    rollout = collect(HalfCheetahVel(horizon=2), VELOCITIES, slots=3)
    assert len(torch.unique(rollout.observations[:, 0].flatten(0, 1), dim=0)) == 6
    policy, params = policies(20, 6, 2)
    distribution, _, _ = policy.distribution(params, rollout.observations)
    noise = (rollout.actions - distribution.mean) / 0.8
    assert len(torch.unique((1e4 * noise).round().flatten(0, 2), dim=0)) == 12


@pytest.mark.parametrize(
    ("distribution", "tasks"),
    [
        (HalfCheetahVel(horizon=8), {"velocity": np.array([0.5, 1.75, 1.0])}),
        (PointNavigation(horizon=8), {"goal": np.array([[0.2, 0.1], [-0.4, 0.3], [0.1, -0.2]])}),
    ],
)
def test_a_tasks_rollout_does_not_depend_on_how_many_others_there_are(distribution, tasks):
    three = collect(distribution, tasks)
    two = collect(distribution, {name: leaf[:2] for name, leaf in tasks.items()})
    assert torch.equal(two.observations[:, 0], three.observations[:2, 0])  # resets, exactly
    for name in ("observations", "actions", "rewards", "log_probs"):
        # the batched product may round differently, and 40 physics steps amplify it
        found, expected = getattr(three, name)[:2], getattr(two, name)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_every_task_gets_its_number_of_episodes():
    rollout = collect(short_steps(), GOALS, slots=5)
    assert (rollout.first * rollout.mask).sum((1, 2)).tolist() == [5.0, 5.0]
    lengths = rollout.mask.sum(1)
    assert len(lengths[0].unique()) > 1  # ended at their goal, at different times
    assert lengths[1].tolist() == [30.0] * 5
    returns = [
        sum(rollout.rewards[m, : int(lengths[m, b]), b].sum().item() for b in range(5)) / 5
        for m in range(2)
    ]
    assert rollout.mean_return().tolist() == pytest.approx(returns, rel=1e-5)


def test_tasks_of_another_number_are_refused():
    policy, params = policies(2, 2, 2)
    collector = Collector(PointNavigation(horizon=2), policy, 2, 3)
    with pytest.raises(UserError, match="expected 2 tasks, not 1"):
        collector.collect(params, {"goal": np.array([[0.2, 0.1]])}, KEY)


def test_the_sampler_builds_collectors():
    policy, params = policies(2, 2, 2)
    collector = Sampler(threads=2).collector(PointNavigation(horizon=5), policy, 2, 3)
    rollout = collector.collect(params, GOALS, KEY)
    assert_identical(rollout, collect(PointNavigation(horizon=5), GOALS))
    assert Sampler().threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("threads", [0, -1, 1.5])
def test_a_wrong_number_of_threads_is_refused(threads):
    with pytest.raises(UserError, match=r"^threads must be a whole number of at least 1"):
        Sampler(threads)


def test_a_reward_too_large_for_the_record_is_named():
    class Huge(Countdown):
        def make(self, *arguments):
            env = super().make(*arguments)
            step = env.step
            env.step = lambda *a: step(*a)._replace(rewards=step(*a).rewards * 1e39 + 1e39)
            return env

    with pytest.raises(NonFiniteError, match="the reward of task 0, episode 0, step 0"):
        collect(Huge(), COUNTDOWN)


class CutOff(Countdown):
    """Countdown whose slots are cut off, not ended by the task, where `cut` says so."""

    def step(self, actions, active):
        step = super().step(actions, active)
        cut = np.arange(self.shape[1]) % 2 == 1  # slots 1, 3, ...
        return step._replace(
            terminated=step.terminated & ~cut, truncated=step.terminated & cut & active
        )


def test_an_environments_own_time_limit_ends_an_episode_without_terminating_it():
    tasks = {"length": np.array([1, 2]), "pay": np.array([3.0, 2.0])}
    rollout = collect(CutOff(), tasks, 2)
    assert rollout.mask.sum(1).tolist() == [[1, 2], [2, 3]]
    assert rollout.discounts[0, 0, 0] == 0  # slot 0: the task ended it
    assert rollout.discounts[0, 1, 1] == 1  # slot 1: a time-out, whose last state may be valued
    assert rollout.final_observations[:, :, 0].tolist() == [[1, 2], [2, 3]]
    # every episode had ended after 3 steps: what they saw last follows in the record
    assert rollout.observations[:, 3, :, 0].tolist() == [[1, 2], [2, 3]]


def test_a_time_out_before_the_horizon_is_valued_where_that_is_asked_for():
    class Elapsed:
        """A baseline that values a state at a hundred times the steps it shows."""

        def fit(self, rollout, returns, bootstrap=None):
            return torch.zeros(len(returns), 1)

        def values(self, weights, rollout):
            values = 100 * rollout.observations[..., 0].double()
            return values, 100 * rollout.final_observations[..., 0].double()

    tasks = {"length": np.array([1]), "pay": np.array([3.0])}
    rollout = collect(CutOff(), tasks, 2)
    plain = {"discount": 0.5, "standardize": False}
    cut = AdvantageEstimator(Elapsed(), bootstrap_time_out=True, **plain)(rollout).advantages
    finite = AdvantageEstimator(Elapsed(), **plain)(rollout).advantages
    # Slot 1: rewards 3 and 6, then cut off in state 2, values 0, 100, 200. A time-out that counts:
    # A_1 = 6 + 0.5 * 200 - 100 = 6, A_0 = 3 + 0.5 * 100 - 0 + 0.5 * 6 = 56; of a finite horizon:
    # A_1 = 6 - 100, A_0 = 53 - 47. Slot 0 was ended by its task after reward 3: 3 either way.
    assert cut[0, :2, 1].tolist() == [56.0, 6.0]
    assert finite[0, :2, 1].tolist() == [6.0, -94.0]
    assert (cut[0, 0, 0], finite[0, 0, 0]) == (3.0, 3.0)


class Numbered:
    """Three numbered actions; action a pays a + 1 in task 0 and -a in task 1, success at a = 2."""

    name, horizon = "numbered", 4
    observation_space = spaces.Box(0.0, 1.0, (1,))
    action_space = spaces.Discrete(3)

    def make(self, num_tasks, slots_per_task, threads=1):
        self.shape, self.seen = (num_tasks, slots_per_task), []
        return self

    def set_tasks(self, tasks):
        self.scale, self.offset = tasks["scale"][:, None], tasks["offset"][:, None]

    def reset(self, rngs):
        return np.ones((*self.shape, 1))

    def step(self, actions, active):
        self.seen.append(actions.copy())
        none = np.zeros(self.shape, dtype=bool)
        rewards = self.scale * actions + self.offset
        return Step(np.ones((*self.shape, 1)), rewards, none, {"success": actions == 2})

    def close(self):
        pass


def test_numbered_actions_reach_the_environment_as_whole_numbers():
    distribution = Numbered()
    policy = CategoricalMLP(1, 3, (4,))
    params = stack(policy.initialize(torch.Generator().manual_seed(0)), 2)
    tasks = {"scale": np.array([1.0, -1.0]), "offset": np.array([1.0, 0.0])}
    rollout = Collector(distribution, policy, 2, 5).collect(params, tasks, KEY)
    seen = np.stack(distribution.seen, axis=1)  # [M, T, B]
    assert seen.dtype == np.int64
    assert set(seen.ravel()) == {0, 1, 2}
    assert rollout.actions.shape == (2, 4, 5)
    assert np.array_equal(rollout.actions.numpy(), seen)
    assert np.array_equal(rollout.rewards[0].numpy(), seen[0] + 1)
    assert np.array_equal(rollout.rewards[1].numpy(), -seen[1])
    logits = policy.distribution(params, rollout.observations)[0].logits.log_softmax(-1)
    chosen = np.take_along_axis(logits.detach().numpy(), seen[..., None], -1)[..., 0]
    assert np.abs(rollout.log_probs.numpy() - chosen).max() < 1e-6
    # an episode succeeds where any of its four steps chose action 2
    assert rollout.success_rate().tolist() == (seen == 2).any(1).mean(1).tolist()


def test_without_success_in_the_info_there_is_no_rate():
    assert collect(Countdown(), COUNTDOWN).success_rate() is None


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("rewards", "make(...).step(actions, active).rewards must return an array of shape (2, 3)"),
        ("terminated", "make(...).step(actions, active).terminated must return an array of shape"),
        ("observations", "make(...).step(actions, active).observations must return an array of"),
    ],
)
def test_arrays_that_would_be_broadcast_are_refused(part, sentence):
    class Thin(Countdown):
        def step(self, actions, active):
            step = super().step(actions, active)
            return step._replace(**{part: getattr(step, part)[:, :1]})

    with pytest.raises(UserError) as error:
        collect(Thin(), COUNTDOWN)
    assert str(error.value).startswith(f"countdown.{sentence}")


def test_what_a_distribution_raises_in_a_run_is_one_sentence():
    class Crashing(Countdown):
        def step(self, actions, active):
            return {}["boom"]

    with pytest.raises(
        SimulationError, match=r"^countdown\.step\(actions, active\) raised KeyError"
    ):
        collect(Crashing(), COUNTDOWN)
