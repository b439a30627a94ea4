import pytest
import torch

from maml_rl.rollout import Rollout, masked_mean


def rollout():
    """M = 2, T = 4, B = 2: task 1's slots hold two episodes and one that ended early."""
    rewards = torch.tensor(
        [
            [[1.0, -2.0], [0.5, 3.0], [2.0, 0.25], [-1.5, 4.0]],
            [[2.0, 5.0], [-3.0, 1.5], [0.5, 77.0], [4.0, -99.0]],  # the last two did not happen
        ]
    )
    first = torch.zeros(2, 4, 2)
    first[:, 0] = 1
    first[1, 2, 0] = 1
    mask = torch.ones(2, 4, 2)
    mask[1, 2:, 1] = 0
    generator = torch.Generator().manual_seed(0)
    return Rollout(
        observations=torch.randn(2, 4, 2, 3, generator=generator),
        actions=torch.randn(2, 4, 2, 1, generator=generator),
        rewards=rewards,
        discounts=torch.ones(2, 4, 2),
        first=first,
        mask=mask,
        log_probs=torch.randn(2, 4, 2, generator=generator),
        final_observations=torch.randn(2, 2, 3, generator=generator),
        state=None,
        info={"x_velocity": torch.randn(2, 4, 2, generator=generator)},
    )


def test_mean_return_divides_by_episodes_that_happened():
    # task 0: (1 + 0.5 + 2 - 1.5) = 2 and (-2 + 3 + 0.25 + 4) = 5.25; two episodes: 3.625
    # task 1: (2 - 3) = -1, (0.5 + 4) = 4.5 and (5 + 1.5) = 6.5; three episodes: 10 / 3
    returns = rollout().mean_return()
    assert returns.dtype == torch.float64
    assert returns.tolist() == pytest.approx([3.625, 10 / 3], rel=1e-15)


def test_steps_that_did_not_happen_are_not_counted():
    assert rollout().num_steps() == 8 + 6
    weighted = rollout()._replace(mask=rollout().mask * 0.25)
    assert weighted.num_steps() == 14  # a weight is no count


def test_tasks_are_views_of_every_leaf():
    whole = rollout()
    part = whole.tasks(1, 2)
    for name in Rollout._fields[:8]:
        leaf = getattr(part, name)
        assert torch.equal(leaf, getattr(whole, name)[1:2])
        assert leaf.data_ptr() == getattr(whole, name)[1:2].data_ptr()
    assert torch.equal(part.info["x_velocity"], whole.info["x_velocity"][1:2])
    assert part.mean_return().tolist() == pytest.approx([10 / 3])


def test_to_moves_every_leaf():
    moved = rollout().to("meta")
    assert all(getattr(moved, name).device.type == "meta" for name in Rollout._fields[:8])
    assert moved.info["x_velocity"].device.type == "meta"


def test_masked_mean_is_each_tasks_own_weighted_mean():
    values = torch.tensor([[[1.0, 2.0], [3.0, -4.0]], [[5.0, 0.5], [-1.0, 7.0]]])
    mask = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[0.5, 2.0], [0.0, 1.5]]])
    # task 0: (1 + 3 - 4) / 3 = 0; task 1: (2.5 + 1 + 10.5) / 4 = 3.5
    assert masked_mean(values, mask).tolist() == pytest.approx([0.0, 3.5])
