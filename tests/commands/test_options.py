"""Options that are off by default: what each computes, keeps and changes."""

import functools
import json
import math

import numpy as np
import pytest
import torch

from envs.wrappers.task_observed import TaskObserved
from maml_rl.algorithm.advantages import AdvantageEstimator
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.loop import InnerLoop, stack
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import Adam, update
from maml_rl.algorithm.outer_loop.update import SCHEDULES
from maml_rl.algorithm.policies import GaussianMLP
from maml_rl.algorithm.rollout import masked_mean
from maml_rl.configuration.building import build_learner
from maml_rl.randomness import Key, Purpose
from maml_rl.runs.folder import RunFolder
from maml_rl.sampling import Sampler
from maml_rl.training.loggers import RunLogger
from maml_rl.training.state import Limits
from maml_rl.training.trainer import Trainer
from tests.support.bandit import SignBandit
from tests.support.baselines import FixedValues
from tests.support.built import Built, first_moments, numpy_features, read_tasks, to_go
from tests.support.corridor import Corridor
from tests.support.paths import ROOT
from tests.support.run_files import assert_same_meta, load, read_metrics, repeatable
from tests.support.smoke import SMOKE, go_on, smoke_config, train_smoke

ALGORITHMS = sorted(path.stem for path in (ROOT / "conf/algorithm").glob("*.yaml"))
STATISTICS = ("observation_mean", "observation_variance", "observation_count")
NORMALIZE = "policy.normalize_observations=true"
LENGTHS = {"length": np.array([2, 4, 9]), "pay": np.array([1.0, -0.5, 2.0])}  # 9: cut off at 6
PLAIN = "algorithm.standardize_advantages=false"
SHARED = ("baseline=shared_value_network", "baseline.task_returns=true", "baseline.fitted=null")
RUNNING = ("algorithm.normalize_returns=true", *SHARED)


# What is off unless it is asked for.


NEVER_TRAINED = {"random": ("trainer.iterations=0",)}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_options_are_off_in_every_algorithm(name):
    config = smoke_config(f"algorithm={name}", *NEVER_TRAINED.get(name, ()))
    off = ("held_out_baseline", "discounted_visits", "normalize_returns", "bootstrap_time_out")
    assert [config.algorithm[option] for option in off] == [False] * 4
    assert config.algorithm.entropy_coefficient == 0.0
    assert config.algorithm.standardize_advantages is True
    assert config.algorithm.exploration_weight == (0.005 if name == "e_maml" else 0.0)
    assert config.policy.normalize_observations is False
    assert config.policy.context_size == (5 if name == "cavia" else 0)
    assert config.observe_task is (name == "oracle")
    assert config.trial_episodes == (2 if name == "rl2" else None)
    assert config.policy.memory_size == (64 if name == "rl2" else 0)
    assert config.outer.schedule == "constant"
    assert config.outer.get("max_grad_norm") == (0.3 if name == "promp_tuned" else None)
    assert config.algorithm.gae_lambda == (0.9 if name == "promp_tuned" else 1.0)
    assert config.outer.get("target_inner_kl") is None
    assert config.outer.get("inner_kl_coefficient", 0.0) == (
        5e-4 if name.startswith("promp") else 0.0
    )
    assert config.inner.first_order is (name == "fomaml")
    assert config.inner.steps == (0 if name in ("pretrained", "oracle", "rl2") else 1)
    learner = build_learner(config, Corridor())
    meta = learner.initialize(0)
    assert not [name for name in meta if name.startswith(("statistics/", "observation_"))]
    assert learner.entropy_coefficient == 0.0
    assert learner.exploration_weight == config.algorithm.exploration_weight


# Normalized observations.


@functools.cache
def two_iterations(*overrides):
    """Two iterations of three collections each on episodes of unequal lengths."""
    options = ("algorithm=maml_adam", "inner.steps=2", *overrides)
    built = Built(*options, distribution=Corridor(), tasks=LENGTHS)
    metas, experiences, states = [built.meta], [], [{}]
    for iteration in range(2):
        experiences.append(built.collect(metas[-1], key=iteration))
        update = built.learner.outer_step(metas[-1], states[-1], experiences[-1])
        metas.append(update.meta)
        states.append(update.state)
    return built, metas, experiences, states


def happened(rollouts):
    return np.concatenate([rollout.observations[rollout.mask > 0].numpy() for rollout in rollouts])


def test_statistics_are_those_of_all_steps_tasks_rollouts_and_iterations():
    _, metas, experiences, _ = two_iterations(NORMALIZE)
    assert [metas[0][name].flatten().tolist() for name in STATISTICS] == [[0, 0], [1, 1], [0]]
    seen = []
    for meta, experience in zip(metas[1:], experiences, strict=True):
        assert len(experience.rollouts) == 3
        seen += [happened(experience.rollouts).astype(np.float64)]
        rows = np.concatenate(seen)
        # 4 episodes of 2, 4 and 6 steps, three times an iteration
        assert meta["observation_count"].item() == len(rows) == len(seen) * 3 * 4 * 12
        assert meta["observation_mean"].numpy() == pytest.approx(rows.mean(0), rel=1e-12)
        assert meta["observation_variance"].numpy() == pytest.approx(rows.var(0), abs=1e-12)
        # steps 0 1, 0 1 2 3, 0 ... 5: the sum is 1 + 6 + 15 of 12
        assert meta["observation_mean"].tolist() == pytest.approx([22 / 12, 1.0])


@pytest.mark.parametrize("inner", ["sgd", "learn2learn_maml"])
def test_statistics_are_frozen_within_an_iteration(inner):
    """What was stored when sampling is found again: at the start the ratios are 1."""
    built, metas, experiences, _ = two_iterations(NORMALIZE, f"inner={inner}")
    for meta, experience in zip(metas, experiences, strict=False):
        rows = stack(meta, 3)
        for name in STATISTICS:  # the same for every task, and adaptation leaves them
            assert torch.equal(experience.adapted[name], rows[name])
        for params, which in [(rows, 0), (experience.adapted, -1)]:
            rollout = experience.rollouts[which]
            moved = (built.log_probs(params, rollout) - rollout.log_probs) * rollout.mask
            assert moved.abs().max() < 1e-4
    # not so with the statistics of the iteration after
    rollout = experiences[1].rollouts[0]
    other = stack(metas[1] | {name: metas[2][name] + 0.5 for name in STATISTICS}, 3)
    moved = (built.log_probs(other, rollout) - rollout.log_probs) * rollout.mask
    assert moved.abs().max() > 1e-3


def test_learn2learn_gives_the_same_with_normalized_observations():
    built, metas, _, _ = two_iterations(NORMALIZE, "inner=sgd")
    other, _, _, _ = two_iterations(NORMALIZE, "inner=learn2learn_maml")
    one, same = (each.collect(metas[1], key=1) for each in (built, other))
    for name, leaf in one.adapted.items():
        torch.testing.assert_close(same.adapted[name], leaf, rtol=1e-4, atol=1e-5)
    updates = [each.outer_step(one, metas[1]) for each in (built, other)]
    torch.testing.assert_close(*map(first_moments, updates), rtol=1e-3, atol=1e-5)
    for name in STATISTICS:
        assert torch.equal(updates[0].meta[name], updates[1].meta[name])


def test_statistics_and_context_are_no_part_of_what_the_outer_loop_learns(monkeypatch):
    asked = []
    update = Adam.update

    def spy(self, meta, state, objective, progress=0.0):
        _, rows = objective.losses_and_gradients(meta)
        asked.append((list(meta), rows.shape, sorted(objective.fixed)))
        return update(self, meta, state, objective, progress)

    monkeypatch.setattr(Adam, "update", spy)
    options = ("policy.context_size=2", *RUNNING, PLAIN)
    built, metas, _, states = two_iterations.__wrapped__(NORMALIZE, *options)
    learned = [name for name in built.learner.policy.parts["all"] if name != "context"]
    size = sum(metas[0][name].numel() for name in learned)
    returns = [f"statistics/return_{name}" for name in ("mean", "variance", "count")]
    baseline = [name for name in metas[0] if name.startswith("statistics/baseline/")]
    assert "statistics/baseline/parameters" in baseline
    fixed = sorted(["context", *STATISTICS, *returns, *baseline])
    assert asked == [(learned, (3, size), fixed)] * 2
    assert len(states[-1]["state"]) == len(learned)
    assert metas[-1]["context"].tolist() == [0.0, 0.0]
    assert list(metas[-1]) == list(metas[0])  # in the order of the checkpoint's first
    assert all(metas[-1][name].dtype == metas[0][name].dtype for name in metas[0])


@pytest.mark.parametrize("algorithm", ["maml_trpo", "maml_ppo", "reptile", "cavia"])
def test_statistics_are_resumed_to_the_bit(algorithm, tmp_path):
    options = (f"algorithm={algorithm}", NORMALIZE, *RUNNING, PLAIN)
    train_smoke(tmp_path / "whole", *options, "trainer.iterations=2")
    train_smoke(tmp_path / "parts", *options, "trainer.iterations=1")
    go_on(tmp_path / "parts", *options, "trainer.iterations=2")
    assert repeatable(read_metrics(tmp_path / "parts")) == repeatable(
        read_metrics(tmp_path / "whole")
    )
    paths = [tmp_path / name / "checkpoints/last.pt" for name in ("whole", "parts")]
    assert_same_meta(*paths)
    meta = load(paths[0])["meta"]
    steps = load(paths[0])["env_steps"]
    names = ("observation_count", "statistics/return_count", "statistics/baseline/return_count")
    assert [meta[name].item() for name in names] == [steps] * 3
    assert meta["observation_mean"].abs().max() > 0


@pytest.mark.parametrize("of", ["observation", "statistics/baseline"])
def test_evaluation_uses_the_statistics_of_the_checkpoint(of, tmp_path, evaluate_cli):
    options = (NORMALIZE, *RUNNING, PLAIN, "inner.step_size=0.02")
    train_smoke_run(tmp_path / "run", *options)
    assert evaluate_cli(f"run={tmp_path / 'run'}", *EVALUATION).status == 0
    found = curve_of(tmp_path / "run")
    meta = load(tmp_path / "run/checkpoints/last.pt")["meta"]
    start = Built(*options).meta
    forgotten = {name: start[name] for name in meta if name.startswith(of)}
    for own, same in [(meta, True), (meta | forgotten, False)]:
        assert np.allclose(by_hand(tmp_path / "run", own, options), found, atol=1e-6) is same


EVALUATION = ("checkpoint=last", "steps=2", "num_episodes=3", "threads=1")


def train_smoke_run(path, *overrides):
    """Train a smoke run with the stored configuration that evaluate.py reads."""
    train_smoke(path, *overrides)


def curve_of(path):
    result = json.loads((path / "evaluation/evaluation.json").read_text())
    return np.array([point["per_task"] for point in result["curve"]])


def by_hand(path, meta, overrides):
    """Returns after 0, 1 and 2 steps of the stored test tasks, [3, 4]."""
    built = Built(*overrides, num_tasks=4, num_episodes=3, tasks=read_tasks(path, "test"))
    key = Key(0, (Purpose.TEST,))
    experience = built.learner.collect(built.collector, meta, built.tasks, 2, key, 0.5)
    return np.stack([rollout.mean_return().numpy() for rollout in experience.rollouts])


# Normalized returns.


def test_returns_are_divided_by_their_running_deviation():
    options = ("algorithm.normalize_returns=true", PLAIN)
    _, metas, experiences, _ = two_iterations(*options)
    names = [f"statistics/return_{name}" for name in ("mean", "variance", "count")]
    assert [metas[0][name].item() for name in names] == [0.0, 1.0, 0.0]
    seen = []
    for meta, after, experience in zip(metas, metas[1:], experiences, strict=False):
        for rollout in experience.rollouts:
            seen.append(to_go(rollout, 0.99)[rollout.mask.numpy() > 0])
        rows = np.concatenate(seen)
        mean, variance, count = (after[name].item() for name in names)
        assert count == len(rows)
        assert (mean, variance) == pytest.approx((rows.mean(), rows.var()), rel=1e-6)
        # what losses are given: the unscaled targets over the deviation known before
        scale = 1.0 / math.sqrt(meta[names[1]].item() + 1e-8)
        plain = AdvantageEstimator(LinearFeatureBaseline(), standardize=False)
        for rollout, targets, *_ in experience.steps:
            expected = plain(rollout)
            for name in ("advantages", "rewards", "values", "mean_return"):
                found = getattr(targets, name)
                wanted = scale * getattr(expected, name)
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(
                targets.explained_variance, expected.explained_variance, rtol=1e-3, atol=1e-4
            )
    assert abs(metas[1][names[1]].item() - 1.0) > 0.5  # the second iteration did scale


def test_returns_that_are_reported_are_those_of_the_task():
    options = ("algorithm.normalize_returns=true", PLAIN)
    one, other = (two_iterations(*chosen)[2][0].rollouts[0] for chosen in (options, ()))
    assert torch.equal(one.rewards, other.rewards)  # an iteration's first rollout: the same start


def test_normalized_returns_act_on_advantages_that_are_not_standardized():
    moved = {}
    built = Built("algorithm.normalize_returns=true", PLAIN, distribution=Corridor(), tasks=LENGTHS)
    for variance in (1.0, 25.0):
        meta = built.meta | {"statistics/return_variance": torch.tensor(variance).double()}
        adapted = built.collect(meta).adapted
        moved[variance] = adapted["layers.1.weight"] - built.meta["layers.1.weight"]
    # five times the deviation is a fifth of the step
    torch.testing.assert_close(moved[25.0], moved[1.0] / 5, rtol=1e-3, atol=1e-5)
    assert moved[1.0].abs().max() > 1e-3


# The baseline of other episodes.


def held_out(rollout, **options):
    arguments = {"discount": 0.9, "standardize": False, **options}
    baseline = LinearFeatureBaseline(0.1)
    return AdvantageEstimator(baseline, held_out_baseline=True, **arguments)(rollout)


def corridor_rollout(num_episodes=5):
    built = Built(distribution=Corridor(), tasks=LENGTHS, num_episodes=num_episodes)
    return built.collect(steps=0).rollouts[0]


def test_odd_episodes_are_scored_by_even_ones_and_the_reverse():
    rollout = corridor_rollout()
    targets = held_out(rollout)
    returns, features = to_go(rollout, 0.9), numpy_features(rollout)
    values = targets.values.double().numpy() / 0.9 ** np.arange(6)[None, :, None]
    mask = rollout.mask.numpy() > 0
    weights = {}
    for m in range(3):
        for parity in (0, 1):
            fitted = mask[m].copy()
            fitted[:, 1 - parity :: 2] = False  # of the other parity
            x, y = features[m][fitted], returns[m][fitted]
            weights[m, parity] = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ y)
        for b in range(5):
            own = mask[m, :, b]
            expected = features[m, own, b] @ weights[m, (b + 1) % 2]
            assert values[m, own, b] == pytest.approx(expected, rel=1e-4, abs=1e-4)
            # lambda 1: the advantage is the return to go less the value
            advantages = targets.advantages[m, :, b].numpy()[own]
            assert advantages == pytest.approx(returns[m, own, b] - expected, abs=1e-4)
    assert np.abs(weights[0, 0] - weights[0, 1]).max() > 1e-3


@pytest.mark.parametrize(("slot", "others"), [(3, (0, 2, 4)), (2, (1, 3))])
def test_an_episode_does_not_see_its_own_noise(slot, others):
    """Other rewards in a slot change the values of the other parity, and no others."""
    rollout = corridor_rollout()
    louder = rollout.rewards.clone()
    louder[..., slot] += 3.0
    before, after = held_out(rollout), held_out(rollout._replace(rewards=louder))
    moved = (before.values - after.values).abs().amax((0, 1))
    assert [b for b in range(5) if moved[b] > 1e-2] == list(others)
    assert [b for b in range(5) if moved[b] == 0.0] == [b for b in range(5) if b not in others]
    # a baseline fitted to all episodes lets all of them notice
    plain = AdvantageEstimator(LinearFeatureBaseline(0.1), 0.9, standardize=False)
    moved = (plain(rollout).values - plain(rollout._replace(rewards=louder)).values).abs()
    assert (moved.amax((0, 1)) > 1e-2).all()


def test_the_value_after_a_cut_off_is_of_other_episodes_too():
    rollout = corridor_rollout()  # task 2's episodes are cut off at step 6
    louder = rollout.rewards.clone()
    louder[:, :, 1::2] += 3.0  # the odd ones
    before, after = (
        held_out(own, bootstrap_time_out=True).advantages[2]
        for own in (rollout, rollout._replace(rewards=louder))
    )
    # the last step's advantage is r + 0.9 V(final) - V: an odd episode's own reward adds 3, and an
    # even one's two values come from the louder episodes
    change = (after - before)[5]
    assert change[1::2].tolist() == pytest.approx([3.0, 3.0], abs=1e-4)
    features = LinearFeatureBaseline().features(rollout.final_observations[2], torch.zeros(5))
    timeless = np.delete(np.arange(features.shape[-1]), [-4, -3, -2])  # t, t^2, t^3
    final = features.numpy()[:, timeless]
    carried = 0.9 ** (6 - np.arange(6))[:, None, None] * final[1::2]  # to the steps before
    weights = []
    for rewards in (rollout.rewards, louder):
        own = rollout._replace(rewards=rewards)
        x, y = numpy_features(own)[2][:, 1::2, timeless], to_go(own, 0.9)[2][:, 1::2]
        x, y, z = x.reshape(-1, x.shape[-1]), y.reshape(-1), (x - carried).reshape(-1, x.shape[-1])
        weights.append(np.linalg.solve(x.T @ z + 0.1 * np.eye(x.shape[1]), x.T @ y))
    last, final = numpy_features(rollout)[2, 5, 0, timeless], final[0]
    expected = (0.9 * final - last) @ (weights[1] - weights[0])
    assert change[0::2].tolist() == pytest.approx([expected] * 3, abs=1e-3)


@pytest.mark.parametrize("num_episodes", [1, 2])
def test_few_episodes_are_no_obstacle(num_episodes):
    rollout = corridor_rollout(num_episodes)
    targets = held_out(rollout)
    assert all(torch.isfinite(leaf).all() for leaf in targets)
    if num_episodes == 1:  # there are no others: nothing is subtracted
        assert targets.values.abs().max() == 0.0


# Discounted visits, and the targets' units.


def test_visits_are_discounted_by_the_step_within_the_episode():
    rollout = corridor_rollout()
    plain, weighed = (
        AdvantageEstimator(LinearFeatureBaseline(), 0.5, discounted_visits=flag)(rollout)
        for flag in (False, True)
    )
    powers = torch.tensor([1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125])[None, :, None]
    mask = rollout.mask > 0
    assert mask.sum((1, 2)).tolist() == [10, 20, 30]  # unequal lengths
    expected = (plain.advantages * powers)[mask]
    torch.testing.assert_close(weighed.advantages[mask], expected, rtol=1e-6, atol=1e-7)
    for name in ("rewards", "values", "scale", "mean_return"):  # discounted in either case
        assert torch.equal(getattr(weighed, name), getattr(plain, name))


def test_visits_of_a_slot_s_second_episode_begin_anew():
    # one slot, discount 1/2, episodes of 2 and 3 steps: weights 1, 1/2 | 1, 1/2, 1/4
    column = (1, 5, 1)
    rollout = corridor_rollout().tasks(0, 1)._map(lambda leaf: leaf[..., :1].contiguous())
    rollout = rollout._replace(
        rewards=torch.tensor([8.0, 4.0, 2.0, 6.0, 16.0]).reshape(column),
        discounts=torch.ones(column),
        first=torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0]).reshape(column),
        mask=torch.ones(column),
    )
    zeros = FixedValues(torch.zeros(column).double(), torch.zeros(1, 1).double())
    estimate = AdvantageEstimator(zeros, 0.5, standardize=False, discounted_visits=True)
    targets = estimate(rollout)
    # returns to go: 8 + 4/2 = 10, 4 | 2 + 6/2 + 16/4 = 9, 6 + 16/2 = 14, 16
    assert targets.advantages.flatten().tolist() == [10.0, 2.0, 9.0, 7.0, 4.0]
    assert targets.rewards.flatten().tolist() == [8.0, 2.0, 2.0, 3.0, 4.0]
    assert targets.mean_return.tolist() == [9.5]  # (10 + 9) / 2
    assert targets.scale.tolist() == [1.0]


def test_targets_by_hand():
    # One slot, rewards 1, 2, 4, of a fourth step nothing; values 0.5, 1, 3; discount 1/2, lambda 1.
    # Returns to go 1 + 2/2 + 4/4 = 3, 2 + 4/2 = 4, 4; advantages 2.5, 3, 1: mean 13/6, deviation
    # sqrt((1/9 + 25/36 + 49/36) / 3) = sqrt(13/18). Rewards and values are discounted to the
    # beginning: 1, 1, 1 and (v + 13/6) * (1, 1/2, 1/4); all divided by the deviation.
    column = (1, 4, 1)
    rollout = corridor_rollout().tasks(0, 1)._map(lambda leaf: leaf[..., :1].contiguous())
    rollout = rollout._replace(
        rewards=torch.tensor([1.0, 2.0, 4.0, 77.0]).reshape(column),
        discounts=torch.tensor([1.0, 1.0, 0.0, 1.0]).reshape(column),
        first=torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(column),
        mask=torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(column),
    )
    values = torch.tensor([0.5, 1.0, 3.0, -9.0]).double().reshape(column)
    fixed = FixedValues(values, torch.tensor([[5.0]]).double())
    targets = AdvantageEstimator(fixed, 0.5, 1.0, standardize=True)(rollout)
    mean, deviation = 13 / 6, math.sqrt(13 / 18)
    assert targets.scale.item() == pytest.approx(deviation, rel=1e-6)
    assert targets.mean_return.item() == pytest.approx(3.0)
    expected = [(advantage - mean) / deviation for advantage in (2.5, 3.0, 1.0)]
    assert targets.advantages.flatten()[:3].tolist() == pytest.approx(expected, rel=1e-5)
    assert targets.rewards.flatten()[:3].tolist() == pytest.approx([1 / deviation] * 3, rel=1e-6)
    expected = [
        (value + mean) * weight / deviation
        for value, weight in [(0.5, 1.0), (1.0, 0.5), (3.0, 0.25)]
    ]
    assert targets.values.flatten()[:3].tolist() == pytest.approx(expected, rel=1e-5)
    raw = AdvantageEstimator(fixed, 0.5, 1.0, standardize=False)(rollout)
    assert raw.advantages.flatten()[:3].tolist() == [2.5, 3.0, 1.0]
    assert raw.values.flatten()[:3].tolist() == [0.5, 0.5, 0.75]
    assert (raw.scale.item(), raw.mean_return.item()) == (1.0, 3.0)


# The entropy bonus.


def test_the_entropy_s_gradient_is_minus_its_coefficient():
    """Of log_std, where only the head adapts: entropy is the sum of log_std and constants."""
    options = ("algorithm=anil", "outer=adam")
    without, with_bonus = (
        Built(*options, f"algorithm.entropy_coefficient={value}") for value in (0.0, 0.25)
    )
    gradients = [
        10 * first_moments(built.outer_step(built.collect())) for built in (without, with_bonus)
    ]
    difference = gradients[1] - gradients[0]
    expected = torch.zeros_like(difference)
    assert next(iter(without.meta)) == "log_std"
    expected[:2] = -0.25
    torch.testing.assert_close(difference, expected, rtol=1e-4, atol=1e-5)
    losses = [
        built.outer_step(built.collect()).metrics["outer/loss"] for built in (without, with_bonus)
    ]
    # two dimensions of std 1: log(2 pi e) in all
    entropy = math.log(2 * math.pi * math.e)
    assert losses[1] - losses[0] == pytest.approx(-0.25 * entropy, rel=1e-4)


@pytest.mark.parametrize("outer", ["adam", "trpo", "ppo"])
def test_an_entropy_bonus_widens_the_policy(outer, tmp_path):
    deviations = []
    for coefficient in (0.0, 2.0):
        path = tmp_path / str(coefficient)
        options = ("trainer.iterations=5", "trainer.validate_every=9", f"outer={outer}")
        train_smoke(path, *options, f"algorithm.entropy_coefficient={coefficient}")
        deviations.append([line["policy/std"] for line in read_metrics(path)])
    assert all(np.diff([1.0, *deviations[1]]) > 0)
    assert deviations[1][-1] > deviations[0][-1] + 0.002


# Schedules.


def test_schedules_by_hand():
    assert {name: [rate(part) for part in (0.0, 0.5, 1.0)] for name, rate in SCHEDULES.items()} == {
        "constant": [1.0, 1.0, 1.0],
        "linear": [1.0, 0.5, 0.0],
        "cosine": [1.0, pytest.approx(0.5), pytest.approx(0.0)],
    }
    assert SCHEDULES["cosine"](0.25) == pytest.approx(0.5 + math.sqrt(2) / 4)


EVERY = ("trainer.checkpoint_every=1", "trainer.validate_every=9")


@pytest.fixture
def rates(monkeypatch):
    """Adam's learning rate at each of the outer loop's steps, as they are taken."""
    taken, step = [], update.step_in_place

    def recorded(leaves, gradients, moments, step_size):
        step(leaves, gradients, moments, step_size)
        taken.append(step_size)

    monkeypatch.setattr(update, "step_in_place", recorded)
    return taken


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1.0, 0.5 + math.sqrt(2) / 4, 0.5, 0.5 - math.sqrt(2) / 4]),
        ("constant", [1.0] * 4),
    ],
)
@pytest.mark.parametrize(("outer", "epochs"), [("adam", 1), ("ppo", 5)])
def test_adam_s_rate_falls_over_the_run(outer, epochs, schedule, factors, tmp_path, rates):
    options = (f"outer={outer}", f"outer.schedule={schedule}", "outer.step_size=0.01", *EVERY)
    train_smoke(tmp_path, *options, "trainer.iterations=4")
    assert rates == pytest.approx([0.01 * factor for factor in factors for _ in range(epochs)])


def test_a_schedule_follows_the_steps_where_they_are_the_limit(tmp_path, rates):
    options = ("outer=adam", "outer.schedule=linear", "outer.step_size=0.01", *EVERY)
    train_smoke(tmp_path, *options, "trainer.iterations=null", "trainer.env_steps=200")
    steps = [0] + [line["env_steps"] for line in read_metrics(tmp_path)]
    assert steps[-1] >= 200
    assert rates == pytest.approx([0.01 * (1 - done / 200) for done in steps[:-1]])


def test_a_resumed_run_goes_on_with_its_schedule(tmp_path, rates):
    options = ("outer=adam", "outer.schedule=linear", "outer.step_size=0.01", *EVERY)
    train_smoke(tmp_path / "whole", *options, "trainer.iterations=4")
    with pytest.MonkeyPatch.context() as patch:  # stopped after two of four, as by a signal
        patch.setattr(Limits, "reached", lambda self, progress: progress.iteration >= 2)
        train_smoke(tmp_path / "parts", *options, "trainer.iterations=4")
    go_on(tmp_path / "parts", *options, "trainer.iterations=4")
    assert len(rates) == 8
    assert rates[:4] == rates[4:]
    assert_same_meta(*(tmp_path / name / "checkpoints/last.pt" for name in ("whole", "parts")))


def test_trpo_s_bound_falls_over_the_run(tmp_path):
    train_smoke(tmp_path, "trainer.iterations=5", "outer.schedule=linear", "outer.max_kl=0.05")
    lines = read_metrics(tmp_path)
    for done, line in enumerate(lines):
        bound = 0.05 * (1 - done / 5)
        assert line["outer/kl"] <= bound
        if line["outer/accepted"] and line["outer/line_search_steps"] == 1:
            assert line["outer/kl"] > 0.3 * bound
    assert sum(line["outer/accepted"] for line in lines) >= 3


def test_reptile_s_step_falls_over_the_run(tmp_path):
    train_smoke(
        tmp_path, "algorithm=reptile", "outer.schedule=linear", "trainer.iterations=4", *EVERY
    )
    folder = tmp_path / "checkpoints"
    metas = [Built("algorithm=reptile").learner.initialize(0)] + [
        load(path)["meta"] for path in sorted(folder.glob("iteration_*.pt"))
    ]
    for done, line in enumerate(read_metrics(tmp_path)):
        moved = sum(
            float(((metas[done + 1][name] - leaf) ** 2).sum()) for name, leaf in metas[done].items()
        )
        expected = 0.5 * (1 - done / 4) * line["outer/displacement_norm"]
        assert math.sqrt(moved) == pytest.approx(expected, rel=1e-3)


# Clipped gradients.


@pytest.mark.parametrize("outer", ["adam", "ppo"])
def test_gradients_longer_than_the_limit_are_cut_to_it(outer, tmp_path):
    norms = {}
    for limit in ("null", "1e-3", "1e3"):
        path = tmp_path / limit
        epochs = ["outer.epochs=1"] if outer == "ppo" else []
        options = (f"outer={outer}", f"outer.max_grad_norm={limit}", *epochs)
        metrics = train_smoke(path, *options, "trainer.iterations=1")
        state = load(path / "checkpoints/last.pt")["outer_state"]
        states = (state["adam"] if outer == "ppo" else state)["state"]
        moments = torch.cat([leaf["exp_avg"].flatten() for leaf in states.values()])
        norms[limit] = float(moments.norm()), metrics["outer/gradient_norm"]
    # Adam's first moment is a tenth of the gradient at the first step; the norm reported is whole
    assert norms["1e-3"][1] == norms["null"][1] == norms["1e3"][1] > 0.01
    assert norms["1e-3"][0] == pytest.approx(1e-4, rel=1e-4)
    assert norms["null"][0] == norms["1e3"][0] == pytest.approx(0.1 * norms["null"][1], rel=1e-4)


# Without an inner loop.


def test_without_inner_steps_the_outer_gradient_is_the_plain_policy_gradient():
    built = Built("algorithm=pretrained", "outer=adam")
    experience = built.collect()
    assert (len(experience.steps), experience.steps[0].gradients) == (1, None)
    rows = stack(built.meta, 3)
    assert all(torch.equal(experience.adapted[name], leaf) for name, leaf in rows.items())
    rollout, targets = experience.steps[0][:2]
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in built.meta.items()}
    expanded = {name: leaf.expand(3, *leaf.shape) for name, leaf in leaves.items()}
    losses = -masked_mean(built.log_probs(expanded, rollout) * targets.advantages, rollout.mask)
    expected = torch.autograd.grad(losses.mean(), leaves.values())
    found = 10 * first_moments(built.outer_step(experience))
    flat = torch.cat([grad.flatten() for grad in expected])
    torch.testing.assert_close(found, flat, rtol=1e-3, atol=1e-5)


def test_without_inner_steps_a_run_has_one_return_and_is_validated_by_it(tmp_path):
    train_smoke(tmp_path, "algorithm=pretrained", "trainer.iterations=3")
    lines = read_metrics(tmp_path)
    for line in lines:
        returns = {name for name in line if "return/" in name}
        assert returns == {"return/step_0", "validation/return/step_0"}
        assert line["adaptation_gain"] == 0.0
        assert "inner/grad_norm" not in line
        assert 0 <= line["outer/kl"] <= 0.02
    assert all(np.diff([0] + [line["env_steps"] for line in lines]) <= 2 * 2 * 10)
    best = load(tmp_path / "checkpoints/best.pt")
    scores = [line["validation/return/step_0"] for line in lines]
    assert best["iteration"] == 1 + int(np.argmax(scores))


def test_what_was_trained_without_adaptation_is_adapted_by_a_full_step_and_then_parts():
    built = Built("algorithm=pretrained", "inner.step_size=0.4", "policy.hidden_sizes=[4]")
    experience = built.collect(steps=3, later_scale=0.5)
    params = stack(built.meta, 3)
    for step, size in enumerate((0.4, 0.2, 0.2)):
        rollout, targets = experience.steps[step][:2]
        found = built.log_probs(params, rollout) * rollout.mask
        torch.testing.assert_close(found, rollout.log_probs, rtol=1e-3, atol=1e-3)
        leaves = {name: leaf.clone().requires_grad_() for name, leaf in params.items()}
        weights = rollout.mask * targets.advantages
        losses = -(weights * built.log_probs(leaves, rollout)).sum((1, 2)) / rollout.mask.sum(
            (1, 2)
        )
        grads = torch.autograd.grad(losses.sum(), leaves.values())
        params = {
            name: leaf - size * grad
            for (name, leaf), grad in zip(params.items(), grads, strict=True)
        }
    for name, leaf in params.items():
        torch.testing.assert_close(experience.adapted[name], leaf, rtol=1e-3, atol=1e-3)


# Without training.


def test_a_random_run_is_its_initialization_and_can_be_evaluated(train_cli, evaluate_cli, work):
    options = ("algorithm=random", "trainer.iterations=0", "hydra.run.dir=run")
    outcome = train_cli(*SMOKE, *options)
    assert (outcome.status, outcome.err) == (0, "")
    assert sorted(path.name for path in (work / "run/checkpoints").iterdir()) == [
        "best.pt",
        "last.pt",
    ]
    last = load("run/checkpoints/last.pt")
    assert (last["iteration"], last["env_steps"], last["best_validation"]) == (0, 0, None)
    config = smoke_config("algorithm=random")
    start = Built("algorithm=random", "trainer.iterations=0").learner.initialize(config.seed)
    assert last["meta"].keys() == start.keys()
    assert all(torch.equal(last["meta"][name], leaf) for name, leaf in start.items())
    assert not (work / "run/metrics.jsonl").exists() or read_metrics("run") == []
    outcome = evaluate_cli("run=run", "steps=3", "num_episodes=3", "threads=1")
    assert (outcome.status, outcome.err) == (0, "")
    result = json.loads((work / "run/evaluation/evaluation.json").read_text())
    assert (result["algorithm"], result["checkpoint"]) == ("random", "best")
    assert len(result["curve"]) == 4
    built = Built(num_tasks=4, num_episodes=3, tasks=read_tasks(work / "run", "test"))
    key = Key(0, (Purpose.TEST,))
    experience = built.learner.collect(built.collector, start, built.tasks, 3, key, 0.5)
    expected = [rollout.mean_return().tolist() for rollout in experience.rollouts]
    for point, returns in zip(result["curve"], expected, strict=True):
        assert point["per_task"] == pytest.approx(returns, rel=1e-5)
    assert train_cli("resume=run", "logger.tensorboard=false").status == 0  # there is nothing to do
    outcome = train_cli("resume=run", "trainer.iterations=1", "logger.tensorboard=false")
    assert (outcome.status, "needs trainer.iterations=0" in outcome.error) == (2, True)


# An oracle.


def test_an_oracle_s_run_is_evaluated_on_observations_with_the_task(tmp_path, evaluate_cli):
    train_smoke_run(tmp_path / "run", "algorithm=oracle", "env=half_cheetah_dir")
    meta = load(tmp_path / "run/checkpoints/last.pt")["meta"]
    assert meta["layers.0.weight"].shape == (8, 21)
    outcome = evaluate_cli(f"run={tmp_path / 'run'}", *EVALUATION)
    assert (outcome.status, outcome.err) == (0, "")
    result = json.loads((tmp_path / "run/evaluation/evaluation.json").read_text())
    assert result["env"] == "half_cheetah_dir"
    assert (result["algorithm"], result["trained_steps"]) == ("oracle", 0)
    assert list(result["groups"]) == ["forward", "backward"]
    expected = by_hand(tmp_path / "run", meta, ("algorithm=oracle", "env=half_cheetah_dir"))
    assert curve_of(tmp_path / "run") == pytest.approx(expected, rel=1e-5)


def test_an_oracle_learns_what_a_policy_without_the_task_cannot(tmp_path):
    """On the bandit of signs: shown the sign, it earns without an inner loop."""
    earned = {}
    for observed in (True, False):
        distribution = TaskObserved(SignBandit()) if observed else SignBandit()
        size = distribution.observation_space.shape[0]
        policy = GaussianMLP(size, 1, (8,), initial_std=0.5)
        learner = MetaLearner(
            policy, LinearFeatureBaseline(), InnerLoop(0), Adam(0.05), name="oracle"
        )
        trainer = Trainer(
            distribution,
            learner,
            Sampler(threads=1),
            RunLogger(tensorboard=False, progress=False),
            RunFolder(tmp_path / str(observed)),
            seed=1,
            iterations=30,
            num_tasks=8,
            num_episodes=10,
            validate_every=99,
        )
        earned[observed] = trainer.run(trainer.begin())["return/step_0"]
    assert earned[True] > 0.7
    assert abs(earned[False]) < 0.4
