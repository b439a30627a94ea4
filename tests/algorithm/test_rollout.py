import pytest
import torch

from maml_rl.algorithm.rollout import Rollout, masked_mean


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


# Trials: several episodes in a slot.


def trial_rollout():
    """M = 1, T = 5, B = 2: slot 0 holds episodes of 2 and 3 steps, slot 1 of 1 and 2."""
    rewards = torch.tensor([[[1.0, 4.0], [2.0, 8.0], [-3.0, 0.5], [0.25, 77.0], [6.0, 77.0]]])
    mask = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]])
    numbers = torch.tensor([[[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]])
    first = torch.zeros(1, 5, 2)
    first[:, 0] = 1
    times = torch.arange(5.0)[None, :, None].expand(1, 5, 2)
    return Rollout(
        observations=torch.stack([times, 10 + times, 20 + times], dim=-1),
        actions=times[..., None] * 2,
        rewards=rewards,
        discounts=torch.ones(1, 5, 2),
        first=first,
        mask=mask,
        log_probs=-times,
        final_observations=torch.full((1, 2, 3), 99.0),
        state=torch.zeros(1, 2, 4),
        info={"episode": numbers, "success": (rewards == 8.0).float(), "x": times + 0.5},
    )


def test_returns_of_a_trial_are_of_its_episodes():
    trial = trial_rollout()
    # slot 0: 1 + 2 = 3 and -3 + 0.25 + 6 = 3.25; slot 1: 4 and 8 + 0.5 = 8.5
    assert trial.episode_returns().tolist() == [[[3.0, 4.0], [3.25, 8.5]]]
    assert trial.episode_lengths().tolist() == [[[2.0, 1.0], [3.0, 2.0]]]
    assert trial.begins()[0].T.tolist() == [[1, 0, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert trial.mean_return().tolist() == [(3 + 4 + 3.25 + 8.5) / 4]
    assert trial.success_rate().tolist() == [0.25]  # slot 1's second episode alone
    assert rollout().episode_returns().shape == (2, 1, 2)


def test_an_episode_of_a_trial_is_a_rollout_of_its_own():
    own = trial_rollout().episode(1, horizon=3, observation_size=2)
    assert own.mask[0].T.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert (own.rewards * own.mask)[0].T.tolist() == [[-3.0, 0.25, 6.0], [8.0, 0.5, 0.0]]
    assert own.first[0].T.tolist() == [[1, 0, 0]] * 2
    assert own.observations[0, :, 0].tolist() == [[2, 12], [3, 13], [4, 14]]
    assert own.observations[0, :2, 1].tolist() == [[1, 11], [2, 12]]
    assert own.final_observations[0].tolist() == [[4, 14], [2, 12]]  # the last that is known
    assert own.actions[0, :2, 1, 0].tolist() == [2, 4]
    assert list(own.info) == ["success", "x"]
    assert own.info["x"][0, :2, 1].tolist() == [1.5, 2.5]
    assert own.mean_return().tolist() == [(3.25 + 8.5) / 2]
    assert own.state is None
    first = trial_rollout().episode(0, horizon=3, observation_size=2)
    assert first.mask[0].T.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert first.mean_return().tolist() == [3.5]


def test_the_state_is_each_task_s_own():
    state = torch.arange(16.0).reshape(2, 2, 4)
    assert torch.equal(rollout()._replace(state=state).tasks(1, 2).state, state[1:])
