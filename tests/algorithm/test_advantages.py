import numpy as np
import pytest
import torch

from envs import UserError
from maml_rl.algorithm.advantages import AdvantageEstimator
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.rollout import Rollout
from tests.support.baselines import FixedValues

M, T, B = 2, 8, 3


def rollout(seed=0):
    """Slot 0: a cut-off, then a whole episode; slot 1 terminated at step 4; slot 2 terminated
    at step 2, then a second episode."""
    generator = torch.Generator().manual_seed(seed)
    first, mask, discounts = torch.zeros(M, T, B), torch.ones(M, T, B), torch.ones(M, T, B)
    first[:, 0] = 1
    first[:, 5, 0] = 1
    first[:, 3, 2] = 1
    discounts[:, 4, 1] = 0
    discounts[:, 2, 2] = 0
    mask[:, 5:, 1] = 0
    return Rollout(
        observations=torch.randn(M, T, B, 2, generator=generator),
        actions=torch.randn(M, T, B, 1, generator=generator),
        rewards=2.0 * torch.randn(M, T, B, generator=generator) + 0.5,
        discounts=discounts,
        first=first,
        mask=mask,
        log_probs=torch.randn(M, T, B, generator=generator),
        final_observations=torch.randn(M, B, 2, generator=generator),
        state=None,
        info={},
    )


EPISODES = {0: [(0, 5), (5, 8)], 1: [(0, 5)], 2: [(0, 3), (3, 8)]}  # by slot, [start, stop)


def loop_advantages(data, values, final, discount, gae_lambda, bootstrap):
    """Generalized advantages episode by episode, backwards; NaN where no step happened."""
    advantages = np.full((M, T, B), np.nan)
    for m in range(M):
        for b, episodes in EPISODES.items():
            for start, stop in episodes:
                cut_off = stop == T and bootstrap
                after, carry = (float(final[m, b]) if cut_off else 0.0), 0.0
                for t in reversed(range(start, stop)):
                    value = float(values[m, t, b])
                    delta = float(data.rewards[m, t, b]) + discount * after - value
                    carry = delta + discount * gae_lambda * carry
                    advantages[m, t, b], after = carry, value
    return advantages


@pytest.mark.parametrize("bootstrap", [False, True])
@pytest.mark.parametrize(("discount", "gae_lambda"), [(0.9, 0.6), (0.99, 1.0)])
def test_advantages_equal_a_loop_over_episodes(discount, gae_lambda, bootstrap):
    data = rollout()
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(M, T, B, dtype=torch.float64, generator=generator)
    final = torch.randn(M, B, dtype=torch.float64, generator=generator)
    baseline = FixedValues(values, final)
    estimate = AdvantageEstimator(baseline, discount, gae_lambda, False, bootstrap)
    found = estimate(data).advantages
    expected = loop_advantages(data, values, final, discount, gae_lambda, bootstrap)
    happened = data.mask.numpy() > 0
    assert found.dtype == data.rewards.dtype
    assert found.numpy()[happened] == pytest.approx(expected[happened], rel=1e-5, abs=1e-6)
    assert np.isnan(expected).sum() == (~happened).sum() == M * 3


def test_the_time_out_is_told_from_termination_by_hand():
    # One slot, rewards 1, 2, 4, values 0.5, 1, 3, value after the last step 8; discount 1/2,
    # lambda 1/2. Deltas: 1 + 1/2 - 1/2 = 1; 2 + 3/2 - 1 = 5/2; 4 - 3 = 1, or 4 + 4 - 3 = 5 where
    # the time-out is bootstrapped. A_2 = 1 | 5; A_1 = 5/2 + 1/4 | 5/2 + 5/4; A_0 = 1 + A_1 / 4.
    data = rollout().tasks(0, 1)._map(lambda leaf: leaf[..., :1].contiguous())
    column = torch.tensor([1.0, 2.0, 4.0])[None, :, None]
    data = data._replace(
        rewards=column,
        discounts=torch.ones(1, 3, 1),
        first=torch.tensor([1.0, 0.0, 0.0])[None, :, None],
        mask=torch.ones(1, 3, 1),
    )
    values = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)[None, :, None]
    baseline = FixedValues(values, torch.tensor([[8.0]], dtype=torch.float64))

    def advantages(data, bootstrap):
        estimate = AdvantageEstimator(baseline, 0.5, 0.5, False, bootstrap)
        return estimate(data).advantages.flatten().tolist()

    finite_horizon = [1.6875, 2.75, 1.0]
    assert advantages(data, False) == finite_horizon
    assert advantages(data, True) == [1.9375, 3.75, 5.0]
    terminated = data._replace(discounts=torch.tensor([1.0, 1.0, 0.0])[None, :, None])
    assert advantages(terminated, True) == finite_horizon


def test_the_baseline_is_fitted_to_discounted_returns():
    data = rollout()
    baseline = FixedValues(torch.zeros(M, T, B).double(), torch.zeros(M, B).double())
    AdvantageEstimator(baseline, 0.9)(data)
    zeros = torch.zeros(M, T, B)
    expected = loop_advantages(data, zeros, zeros[:, 0], 0.9, 1.0, False)
    happened = data.mask.numpy() > 0
    assert baseline.returns.numpy()[happened] == pytest.approx(expected[happened], rel=1e-6)


def loop_values(data, returns, discount, bootstrap):
    """Values [M, T, B] and [M, B] of the linear baseline; its targets completed by themselves.

    Per task, w = (X'X + ridge I)^-1 X'(y + C X_final w), solved for w with the inverse of
    I - (X'X + ridge I)^-1 X'C X_final; with bootstrapping, time has no column.
    """
    baseline = LinearFeatureBaseline()
    values, final = np.zeros((M, T, B)), np.zeros((M, B))
    columns = [*range(4), 7] if bootstrap else list(range(8))  # o, o^2, 1 of o, o^2, t, t^2, t^3, 1

    def row(observation, step):
        time = torch.tensor(float(step), dtype=torch.float64)
        return baseline.features(observation, time).numpy()[columns]

    for m in range(M):
        rows, carried, aims, places = [], [], [], []
        for b, episodes in EPISODES.items():
            for start, stop in episodes:
                cut_off = stop == T and bootstrap
                for t in range(start, stop):
                    rows.append(row(data.observations[m, t, b], t - start))
                    last = row(data.final_observations[m, b], stop - start)
                    carried.append(cut_off * discount ** (stop - t) * last)
                    aims.append(returns[m, t, b])
                    places.append((m, t, b))
        x, c, y = np.array(rows), np.array(carried), np.array(aims)
        fit = np.linalg.solve(x.T @ x + 1e-5 * np.eye(len(columns)), x.T)
        weights = np.linalg.solve(np.eye(len(columns)) - fit @ c, fit @ y)
        for place, own in zip(places, x, strict=True):
            values[place] = own @ weights
        for b, episodes in EPISODES.items():
            start, stop = episodes[-1]
            final[m, b] = row(data.final_observations[m, b], stop - start) @ weights
    return values, final


@pytest.mark.parametrize("bootstrap", [False, True])
def test_with_the_linear_baseline_they_equal_the_loop_too(bootstrap):
    data = rollout()
    zeros = torch.zeros(M, T, B)
    returns = loop_advantages(data, zeros, zeros[:, 0], 0.95, 1.0, False)
    values, final = loop_values(data, returns, 0.95, bootstrap)
    estimate = AdvantageEstimator(LinearFeatureBaseline(), 0.95, 0.9, False, bootstrap)
    expected = loop_advantages(data, values, final, 0.95, 0.9, bootstrap)
    happened = data.mask.numpy() > 0
    found = estimate(data).advantages.numpy()[happened]
    assert found == pytest.approx(expected[happened], rel=1e-4, abs=1e-4)


def endless(discount, observed, rewards, **options):
    """Targets of a problem without end, cut off after its rewards [T], observed as [T + 1]."""
    steps = len(rewards)
    first = torch.zeros(1, steps, 2)
    first[:, 0] = 1
    seen = torch.as_tensor(observed, dtype=torch.float32)[None, :, None, None].expand(1, -1, 2, 1)
    pay = torch.as_tensor(rewards, dtype=torch.float32)[None, :, None].expand(1, -1, 2)
    data = Rollout(
        observations=seen[:, :-1],
        actions=torch.zeros(1, steps, 2, 1),
        rewards=pay,
        discounts=torch.ones(1, steps, 2),
        first=first,
        mask=torch.ones(1, steps, 2),
        log_probs=torch.zeros(1, steps, 2),
        final_observations=seen[:, -1],
        state=None,
        info={},
    )
    estimate = AdvantageEstimator(
        LinearFeatureBaseline(1e-9),
        discount,
        standardize=False,
        bootstrap_time_out=True,
        **options,
    )
    return estimate(data)


@pytest.mark.parametrize("held_out_baseline", [False, True])
@pytest.mark.parametrize("steps", [5, 100])
@pytest.mark.parametrize("observed", [0.0, 0.7])
def test_a_constant_reward_for_ever_is_worth_a_hundred(steps, observed, held_out_baseline):
    # 1 + 0.99 + 0.99^2 + ... = 1 / (1 - 0.99) = 100, at every step and after the last
    targets = endless(
        0.99, [observed] * (steps + 1), [1.0] * steps, held_out_baseline=held_out_baseline
    )
    weights = 0.99 ** torch.arange(steps)[None, :, None].expand(1, -1, 2)
    torch.testing.assert_close(targets.values, 100 * weights, rtol=1e-5, atol=1e-5)
    assert targets.advantages.abs().max() < 1e-3  # nothing is better than expected
    supplied = targets.rewards[:, -1] / weights[:, -1] - 1  # at the time-out, beside the reward
    assert supplied.tolist() == [[pytest.approx(0.99 * 100, rel=1e-5)] * 2]


def test_two_states_in_turn_for_ever_have_the_values_of_bellmans_equation():
    # Reward 1 in state 0, 0 in state 1, in turn; discount 1/2: V0 = 1 + V1 / 2, V1 = V0 / 2, so
    # V0 = 4/3 and V1 = 2/3; the time limit cuts off in state 1, after 3 steps.
    targets = endless(0.5, [0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    values = targets.values[0, :, 0] * torch.tensor([1.0, 2.0, 4.0])
    assert values.tolist() == pytest.approx([4 / 3, 2 / 3, 4 / 3], rel=1e-6)
    assert targets.advantages.abs().max() < 1e-6
    assert targets.explained_variance.tolist() == pytest.approx([1.0])


def test_a_problem_without_end_needs_a_discount():
    with pytest.raises(UserError, match=r"^bootstrap_time_out=true .*discount=0\.99"):
        AdvantageEstimator(LinearFeatureBaseline(), discount=1.0, bootstrap_time_out=True)


def test_mean_return_is_in_the_unit_of_the_rewards_given():
    data = rollout()
    for standardize in (False, True):
        estimate = AdvantageEstimator(LinearFeatureBaseline(), standardize=standardize)
        plain, tripled = estimate(data), estimate(data._replace(rewards=3 * data.rewards))
        torch.testing.assert_close(tripled.mean_return, 3 * plain.mean_return)


def test_advantages_are_divided_by_their_standard_deviation_per_task():
    data = rollout()
    data = data._replace(rewards=data.rewards * torch.tensor([10.0, 0.1])[:, None, None])
    raw, scaled = (
        AdvantageEstimator(LinearFeatureBaseline(), standardize=flag)(data).advantages
        for flag in (False, True)
    )
    for m in range(M):
        own = raw[m][data.mask[m] > 0].double().numpy()
        assert abs(own.std() - 1) > 0.3  # so that the variance would give something else
        found = scaled[m][data.mask[m] > 0].numpy()
        assert found == pytest.approx((own - own.mean()) / own.std(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("bootstrap", [False, True])
def test_steps_that_did_not_happen_change_nothing(bootstrap):
    data, happened = rollout(), rollout().mask > 0
    garbage = (~happened) * 1e5
    other = data._replace(
        observations=data.observations + garbage[..., None],
        actions=data.actions - garbage[..., None],
        rewards=data.rewards + garbage,
        discounts=torch.where(happened, data.discounts, torch.tensor(0.0)),
        log_probs=data.log_probs - garbage,
        final_observations=data.final_observations.clone(),
    )
    other.final_observations[:, 1] = 5.0  # slot 1 terminated: nothing follows
    estimate = AdvantageEstimator(LinearFeatureBaseline(), bootstrap_time_out=bootstrap)
    targets, changed = estimate(data), estimate(other)
    assert torch.equal(targets.advantages[happened], changed.advantages[happened])
    assert torch.equal(targets.explained_variance, changed.explained_variance)


def test_tasks_do_not_influence_each_other():
    data, estimate = rollout(), AdvantageEstimator(LinearFeatureBaseline())
    together = estimate(data)
    for m in range(M):
        alone = estimate(data.tasks(m, m + 1))
        torch.testing.assert_close(alone.advantages[0], together.advantages[m])
        torch.testing.assert_close(alone.explained_variance[0], together.explained_variance[m])


def test_explained_variance_by_hand():
    # Discount 0: returns are the rewards 1, 5, 3 (a fourth step did not happen). Mean 3, variance
    # (4 + 4 + 0) / 3. Values 2, 4, 3 leave residuals -1, 1, 0: mean 0, variance 2 / 3.
    # 1 - (2 / 3) / (8 / 3) = 3 / 4.
    data = rollout().tasks(0, 1)
    shape = (1, 4, 1)
    data = data._replace(
        rewards=torch.tensor([1.0, 5.0, 3.0, 50.0]).reshape(shape),
        discounts=torch.tensor([1.0, 1.0, 0.0, 1.0]).reshape(shape),
        first=torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(shape),
        mask=torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(shape),
    )
    values = torch.tensor([2.0, 4.0, 3.0, -9.0], dtype=torch.float64).reshape(shape)
    baseline = FixedValues(values, torch.tensor([[1.0]], dtype=torch.float64))
    targets = AdvantageEstimator(baseline, discount=0.0)(data)
    assert targets.explained_variance.tolist() == pytest.approx([0.75], rel=1e-12)


def test_targets_carry_no_graph():
    data = rollout()
    data = data._replace(rewards=data.rewards.requires_grad_())
    targets = AdvantageEstimator(LinearFeatureBaseline())(data)
    assert not targets.advantages.requires_grad
    assert not targets.explained_variance.requires_grad


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"discount": 1.01}, "discount"),
        ({"discount": -0.1}, "discount"),
        ({"gae_lambda": 2}, "gae_lambda"),
        ({"gae_lambda": None}, "gae_lambda"),
    ],
)
def test_wrong_settings_are_refused_by_name(arguments, name):
    with pytest.raises(UserError) as error:
        AdvantageEstimator(LinearFeatureBaseline(), **arguments)
    assert str(error.value).startswith(f"{name} must be a number from 0 to 1, not")


def test_weights_do_not_scale_rewards():
    data = rollout()
    estimate = AdvantageEstimator(
        FixedValues(torch.zeros(M, T, B).double(), torch.zeros(M, B).double()), standardize=False
    )
    weighted = data._replace(mask=data.mask * torch.tensor([1.0, 2.0, 0.5]))
    happened = data.mask > 0
    torch.testing.assert_close(
        estimate(weighted).advantages[happened], estimate(data).advantages[happened]
    )


def test_targets_beyond_every_velocity_run_ask_for_the_same_step():
    """Why one step cannot meet velocities far from those run (docs/results.md): the reward
    -|v - v*| of the same episodes differs between such targets by a constant only."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.tensor([0.0, 0.5, 1.4, 2.0])
    slots, horizon = 20, 100
    observations = torch.randn(1, horizon, slots, 3, generator=generator)
    noise = torch.randn(1, horizon, slots, generator=generator)
    velocity = 0.6 + 0.1 * observations[..., 0] + 0.1 * noise
    assert velocity.min() > 0
    assert velocity.max() < 1.4
    ones = torch.ones(4, horizon, slots)
    first = torch.zeros(4, horizon, slots)
    first[:, 0] = 1
    data = Rollout(
        observations=observations.expand(4, -1, -1, -1),
        actions=ones[..., None],
        rewards=-(velocity - targets[:, None, None]).abs(),
        discounts=ones,
        first=first,
        mask=ones,
        log_probs=ones,
        final_observations=torch.zeros(4, slots, 3),
        state=None,
        info={},
    )
    advantages = AdvantageEstimator(LinearFeatureBaseline())(data).advantages.flatten(1)
    slow, near, fast, faster = advantages
    assert (fast - faster).norm() < 0.05 * fast.norm()
    assert (fast + slow).norm() < 0.05 * fast.norm()
    assert (fast + near).norm() > 0.5 * fast.norm()  # which some steps were above, some below
