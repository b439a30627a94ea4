"""The learned value function: what it can fit, its fixed point, and that it trains and resumes."""

import pytest
import torch

from envs import UserError
from maml_rl.algorithm.advantages import AdvantageEstimator
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.value_network import ValueNetwork
from maml_rl.commands.train import train_command
from tests.support.baseline_data import returns, rollout
from tests.support.run_files import assert_same_meta, read_metrics, repeatable
from tests.support.smoke import QUIET, train_smoke


def smooth(observations):
    """A value that no polynomial of second order is: sin(2 o_0) * o_1, [M, T, B]."""
    wide = observations.double()
    return torch.sin(2 * wide[..., 0]) * wide[..., 1]


def wide_rollout(size=400):
    data = rollout()
    generator = torch.Generator().manual_seed(3)
    seen = torch.randn(3, 12, size, 2, generator=generator)
    first = torch.zeros(3, 12, size)
    first[:, 0] = 1
    whole = torch.ones_like(first)
    return data._replace(
        observations=seen,
        first=first,
        mask=whole,
        discounts=whole,
        rewards=torch.zeros_like(whole),
        final_observations=torch.randn(3, size, 2, generator=generator),
    )


@pytest.mark.parametrize("baseline", [ValueNetwork(steps=2), LinearFeatureBaseline()])
def test_of_a_single_episode_held_out_values_are_zero(baseline):
    data = wide_rollout(1)
    rewards = torch.randn(data.mask.shape, generator=torch.Generator().manual_seed(1))
    estimate = AdvantageEstimator(baseline, 0.9, standardize=False, held_out_baseline=True)
    targets = estimate(data._replace(rewards=rewards))
    assert not targets.values.any()
    last = rewards[:, -1]
    torch.testing.assert_close(targets.advantages[:, -1], last)
    torch.testing.assert_close(targets.advantages[:, -2], rewards[:, -2] + 0.9 * last)


def test_it_fits_what_the_linear_baseline_cannot():
    data = wide_rollout()
    truth, errors = smooth(data.observations), {}
    for baseline in (LinearFeatureBaseline(), ValueNetwork(steps=200)):
        values, final = baseline.values(baseline.fit(data, truth), data)
        assert values.shape == truth.shape
        assert final.shape == (3, 400)
        errors[type(baseline).__name__] = float(((values - truth) ** 2).mean() / truth.var())
    assert errors["LinearFeatureBaseline"] > 0.9
    assert errors["ValueNetwork"] < 0.1


def test_time_within_the_episode_is_among_its_inputs():
    data = wide_rollout(20)
    data = data._replace(observations=torch.zeros_like(data.observations))
    truth = (torch.arange(12.0, dtype=torch.float64) ** 2)[None, :, None].expand(3, 12, 20)
    baseline = ValueNetwork(ridge=1e-6)
    values, _ = baseline.values(baseline.fit(data, truth), data)
    torch.testing.assert_close(values, truth, rtol=0, atol=1.0)  # of 0 ... 121


def test_tasks_and_steps_that_did_not_happen_do_not_count():
    data, targets = rollout(), returns()
    baseline = ValueNetwork()
    together = baseline.fit(data, targets)
    garbage = data._replace(observations=data.observations + 3.0 * (1 - data.mask)[..., None])
    torch.testing.assert_close(baseline.fit(garbage, targets), together, rtol=1e-6, atol=1e-9)
    alone = torch.cat([baseline.fit(data.tasks(m, m + 1), targets[m : m + 1]) for m in range(3)])
    for fitted in (alone, together):
        values = baseline.values(fitted, data)[0]
        torch.testing.assert_close(values, baseline.values(alone, data)[0], rtol=1e-3, atol=1e-3)


def test_a_constant_reward_for_ever_is_worth_a_hundred():
    data = wide_rollout(20)
    data = data._replace(rewards=torch.ones_like(data.rewards))
    estimate = AdvantageEstimator(
        ValueNetwork(ridge=1e-9), 0.99, standardize=False, bootstrap_time_out=True
    )
    targets = estimate(data)
    weights = 0.99 ** torch.arange(12)[None, :, None].expand(3, 12, 20)
    torch.testing.assert_close(targets.values, 100 * weights, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "baseline",
    [
        ("baseline=value_network",),
        ("baseline=shared_value_network", "baseline.task_returns=true"),
        ("baseline=shared_value_network", "baseline.fitted=null", "baseline.batch_size=30"),
    ],
    ids=" ".join,
)
def test_it_trains_and_resumes_to_the_bit(baseline, tmp_path, work):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_smoke(whole, *baseline, "trainer.iterations=3")
    assert all("baseline/explained_variance" in line for line in read_metrics(whole))
    command = ["experiment=smoke", *QUIET, *baseline, f"hydra.run.dir={parts}"]
    assert train_command([*command, "trainer.iterations=1"]) == 0
    assert train_command([f"resume={parts}", "trainer.iterations=3"]) == 0
    assert repeatable(read_metrics(parts)) == repeatable(read_metrics(whole))
    assert_same_meta(*(run / "checkpoints/last.pt" for run in (whole, parts)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"hidden_sizes": []}, "^hidden_sizes is empty"),
        ({"steps": -1}, "^steps must be"),
        ({"step_size": 0}, "^step_size must be"),
        ({"ridge": 0}, "^ridge must be"),
    ],
)
def test_wrong_settings_are_refused_by_name(arguments, words):
    with pytest.raises(UserError, match=words):
        ValueNetwork(**arguments)
