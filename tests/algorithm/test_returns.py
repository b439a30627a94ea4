import pytest
import torch

from maml_rl.algorithm.returns import (
    continuation,
    discounted_sum,
    generalized_advantage,
    standardize,
)

# M = 2, T = 6, B = 2, written one slot a row and transposed.
FIRST = torch.tensor(
    [
        [[1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0]],  # terminated, then a new episode | ended early
        [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0]],  # cut off, then a new episode | terminated last
    ]
)
DISCOUNTS = torch.tensor(
    [
        [[1, 1, 0, 1, 1, 1], [1, 1, 0, 1, 1, 1]],
        [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]],
    ]
)
MASK = torch.tensor(
    [
        [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]],
        [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]],
    ]
)
FIRST, DISCOUNTS, MASK = (array.mT.double() for array in (FIRST, DISCOUNTS, MASK))


def random(seed):
    return torch.randn(2, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def episode_from(task, t, slot):
    """Return the steps from t to the end of its episode, by walking forward."""
    steps = [t]
    while (
        DISCOUNTS[task, steps[-1], slot] > 0
        and steps[-1] + 1 < 6
        and FIRST[task, steps[-1] + 1, slot] == 0
        and MASK[task, steps[-1] + 1, slot] > 0
    ):
        steps.append(steps[-1] + 1)
    return steps


def every_step():
    return [(m, t, b) for m in range(2) for t in range(6) for b in range(2)]


def test_continuation_by_hand():
    expected = torch.tensor(
        [
            [[1, 1, 0, 1, 1, 0], [1, 1, 0, 0, 0, 0]],
            [[1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 0]],
        ]
    ).mT
    assert torch.equal(continuation(DISCOUNTS, FIRST, MASK), expected.double())


def test_continuation_keeps_the_last_steps_discount_where_asked():
    usual = continuation(DISCOUNTS, FIRST, MASK)
    final = continuation(DISCOUNTS, FIRST, MASK, final=True)
    assert torch.equal(final[:, :-1], usual[:, :-1])
    assert final[0, -1, 0] == 1.0  # cut off by the time limit
    assert final[1, -1].tolist() == [1.0, 0.0]  # cut off, terminated


def test_any_positive_weight_counts_as_a_step_that_happened():
    assert torch.equal(
        continuation(DISCOUNTS, FIRST, 0.3 * MASK), continuation(DISCOUNTS, FIRST, MASK)
    )


def test_discounted_sum_by_hand():
    terms = torch.tensor([2.0, 3.0, 5.0, 7.0])[None, :, None]
    flow = torch.tensor([1.0, 0.0, 1.0, 0.0])[None, :, None]
    # G = 2 + 0.5 * 3, 3, 5 + 0.5 * 7, 7
    assert discounted_sum(terms, 0.5, flow).flatten().tolist() == [3.5, 3.0, 8.5, 7.0]


@pytest.mark.parametrize("discount", [0.9, torch.tensor(0.9, dtype=torch.float64), 0.0, 1.0])
def test_discounted_sum_equals_a_forward_loop(discount):
    rewards = random(0)
    sums = discounted_sum(rewards, discount, continuation(DISCOUNTS, FIRST, MASK))
    for m, t, b in every_step():
        expected = sum(
            float(discount) ** k * rewards[m, s, b] for k, s in enumerate(episode_from(m, t, b))
        )
        assert sums[m, t, b].item() == pytest.approx(float(expected), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("time_out", ["zero", "bootstrap"])
@pytest.mark.parametrize(("discount", "gae_lambda"), [(0.9, 0.7), (0.99, 1.0), (0.8, 0.0)])
def test_generalized_advantage_equals_a_forward_loop(discount, gae_lambda, time_out):
    rewards, values, final = random(1), random(2), random(3)[:, :1]
    next_values = torch.cat([values[:, 1:], final], dim=1)
    flow = continuation(DISCOUNTS, FIRST, MASK)
    bootstrap = continuation(DISCOUNTS, FIRST, MASK, final=time_out == "bootstrap")
    advantages = generalized_advantage(
        rewards, values, next_values, discount, gae_lambda, flow, bootstrap
    )

    def delta(m, s, b):
        inside = len(episode_from(m, s, b)) > 1
        cut_off = time_out == "bootstrap" and s == 5 and DISCOUNTS[m, s, b] > 0
        after = next_values[m, s, b] if inside or cut_off else 0.0
        return float(rewards[m, s, b] + discount * after - values[m, s, b])

    for m, t, b in every_step():
        expected = sum(
            (discount * gae_lambda) ** k * delta(m, s, b)
            for k, s in enumerate(episode_from(m, t, b))
        )
        assert advantages[m, t, b].item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_at_lambda_one_the_advantage_is_the_return_less_the_value():
    rewards, values = random(4), random(5)
    flow = continuation(DISCOUNTS, FIRST, MASK)
    next_values = torch.cat([values[:, 1:], torch.full((2, 1, 2), 3.0)], dim=1)
    advantages = generalized_advantage(rewards, values, next_values, 0.95, 1.0, flow, flow)
    torch.testing.assert_close(advantages, discounted_sum(rewards, 0.95, flow) - values)


def test_the_discount_may_be_learned():
    discount = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    flow = continuation(DISCOUNTS, FIRST, MASK)
    rewards = random(6)
    assert torch.autograd.gradcheck(lambda g: discounted_sum(rewards, g, flow), discount)


def test_standardize_by_hand_divides_by_the_standard_deviation():
    values = torch.tensor([[1.0, 9.0], [5.0, 1e6]])[None].double()
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])[None].double()
    # mean (1 + 9 + 5) / 3 = 5; variance (16 + 16 + 0) / 3 = 32 / 3; (1 - 5) / sqrt(32 / 3)
    scaled, mean, scale = standardize(values, mask)
    root = (32 / 3) ** 0.5
    assert scaled[0, 0].tolist() == pytest.approx([-4 / root, 4 / root], rel=1e-7)
    assert scaled[0, 1, 0].item() == pytest.approx(0.0, abs=1e-12)
    assert (mean.item(), scale.item()) == pytest.approx((5.0, root), rel=1e-7)


def test_standardize_equals_a_loop_over_tasks():
    values = 3.0 * random(7) + 2.0
    scaled, *_ = standardize(values, MASK)
    for m in range(2):
        own = values[m][MASK[m] > 0].numpy()
        expected = (own - own.mean()) / own.std()
        assert scaled[m][MASK[m] > 0].numpy() == pytest.approx(expected, rel=1e-6)


def test_standardize_of_equal_values_is_zero_not_nan():
    scaled, *_ = standardize(torch.full((1, 3, 2), 2.5, dtype=torch.float64), torch.ones(1, 3, 2))
    assert scaled.abs().max() < 1e-6


@pytest.mark.parametrize(
    "call",
    [
        lambda good, bad: continuation(good, bad, good),
        lambda good, bad: discounted_sum(good, 0.9, bad),
        lambda good, bad: standardize(bad, good),
        lambda good, bad: generalized_advantage(good, bad, good, 0.9, 0.9, good, good),
    ],
)
def test_other_shapes_are_refused(call):
    good = random(8)
    for bad in (good[:, :-1], good[..., 0]):
        with pytest.raises(ValueError, match=r"expected tensors of one shape \[M, T, B\]"):
            call(good, bad)
