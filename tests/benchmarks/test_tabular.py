"""The exact quantities of benchmarks/tabular.py against arithmetic, enumeration and differences."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.tabular import (
    TabularMDP,
    adapted_return,
    enumerate_trajectories,
    exact_gradient,
    exact_hessian,
    exact_meta_gradient,
    exact_return,
    random_mdp,
    sample,
    table_params,
    table_policy,
    values,
    visits,
)


def tensor(data):
    return torch.tensor(data, dtype=torch.float64)


def by_hand():
    """From state 0 action 0 stays for 1 and action 1 moves for 0; state 1 pays 2 or 4."""
    moves = tensor([[[1, 0], [0, 1]], [[1, 0], [0, 1]]])
    rewards = tensor([[1, 0], [2, 4]])
    return TabularMDP(moves, rewards, tensor([1, 0]), discount=0.5, horizon=2)


HAND_LOGITS = tensor([[0.25, 0.75], [0.5, 0.5]]).log()


def small(seed=0, num_states=3, num_actions=2, horizon=3):
    """A problem with moves of all probabilities, a random start, and a table of logits."""
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, num_states, num_actions, 0.8, horizon, concentration=1.0)
    initial = torch.from_numpy(rng.dirichlet(np.ones(num_states)))
    logits = torch.from_numpy(rng.normal(size=(num_states, num_actions)))
    return dataclasses.replace(mdp, initial=initial), logits


def central_differences(function, at, step=1e-5):
    rows = []
    for index in range(at.numel()):
        shift = torch.zeros(at.numel(), dtype=torch.float64)
        shift[index] = step
        shift = shift.view(at.shape)
        rows.append((function(at + shift) - function(at - shift)) / (2 * step))
    return torch.stack(rows).detach()


def test_values_by_hand():
    # last step: 0.25 * 1 + 0.75 * 0 = 0.25 and 0.5 * 2 + 0.5 * 4 = 3
    # first step in 0: 0.25 * (1 + 0.5 * 0.25) + 0.75 * (0 + 0.5 * 3) = 1.40625
    # first step in 1: 0.5 * (2 + 0.5 * 0.25) + 0.5 * (4 + 0.5 * 3) = 3.8125
    found = values(by_hand(), HAND_LOGITS)
    assert found.tolist() == [pytest.approx([1.40625, 3.8125]), pytest.approx([0.25, 3.0])]
    assert exact_return(by_hand(), HAND_LOGITS).item() == pytest.approx(1.40625)
    assert visits(by_hand(), HAND_LOGITS).tolist() == [[1.0, 0.0], pytest.approx([0.25, 0.75])]


def test_enumeration_by_hand():
    # from state 0: 00 (1 + 0.5 * 1), 01 (1 + 0), 10 (0 + 0.5 * 2), 11 (0 + 0.5 * 4)
    rollout = enumerate_trajectories(by_hand(), HAND_LOGITS)
    assert rollout.mask.shape == (1, 2, 4)
    returns = rollout.rewards[0, 0] + 0.5 * rollout.rewards[0, 1]
    found = sorted(zip(returns.tolist(), rollout.mask[0, 0].tolist(), strict=True))
    assert [each[0] for each in found] == [1.0, 1.0, 1.5, 2.0]
    assert [each[1] for each in found] == pytest.approx([0.1875, 0.375, 0.0625, 0.375])
    assert torch.equal(rollout.mask[:, 0], rollout.mask[:, 1])
    # the last state of 00 and 10 is state 0
    assert rollout.final_observations[0, :, 0].sum().item() == 2.0


def test_enumeration_gives_the_return_and_all_probability():
    mdp, logits = small()
    rollout = enumerate_trajectories(mdp, logits)
    assert rollout.mask.shape == (1, 3, 3**4 * 2**3)
    assert rollout.mask[0, 0].sum().item() == pytest.approx(1.0, abs=1e-14)
    powers = 0.8 ** torch.arange(3, dtype=torch.float64)
    expected = (rollout.mask * rollout.rewards * powers[:, None]).sum()
    assert expected.item() == pytest.approx(exact_return(mdp, logits).item(), abs=1e-14)


def test_gradient_and_hessian_equal_finite_differences():
    mdp, logits = small(1)
    slope = central_differences(lambda table: exact_return(mdp, table), logits)
    torch.testing.assert_close(exact_gradient(mdp, logits).flatten(), slope, atol=1e-9, rtol=0)
    curvature = central_differences(lambda table: exact_gradient(mdp, table).flatten(), logits)
    torch.testing.assert_close(exact_hessian(mdp, logits), curvature, atol=1e-9, rtol=0)


def test_meta_gradient_equals_finite_differences_and_the_chain_rule():
    mdp, logits = small(2)
    found = exact_meta_gradient(mdp, logits, 3.0).flatten()
    slope = central_differences(lambda table: adapted_return(mdp, table, 3.0), logits)
    torch.testing.assert_close(found, slope.flatten(), atol=1e-9, rtol=0)
    adapted = logits + 3.0 * exact_gradient(mdp, logits)
    outer = exact_gradient(mdp, adapted).flatten()
    chain = outer + 3.0 * exact_hessian(mdp, logits) @ outer
    torch.testing.assert_close(found, chain, atol=1e-12, rtol=0)


def test_values_of_stacked_tables_are_those_of_each():
    mdp, logits = small(3)
    both = values(mdp, torch.stack([logits, -logits]))
    assert both.shape == (2, 3, 3)
    torch.testing.assert_close(both[0], values(mdp, logits))
    torch.testing.assert_close(both[1], values(mdp, -logits))


def test_random_problems_follow_the_paper():
    mdp = random_mdp(np.random.default_rng(0))
    assert (mdp.num_states, mdp.num_actions, mdp.discount, mdp.horizon) == (20, 5, 0.8, 20)
    torch.testing.assert_close(mdp.transitions.sum(-1), torch.ones(20, 5, dtype=torch.float64))
    assert (mdp.transitions.amax(-1) > 0.99).double().mean() > 0.9  # all but deterministic
    assert mdp.rewards.min() >= 0
    assert mdp.rewards.max() <= 1
    assert mdp.initial.tolist() == [1.0] + 19 * [0.0]


def test_samples_have_the_frequencies_of_states_actions_and_moves():
    mdp, logits = small(4)
    policies, count = torch.stack([logits, -logits]), 20000
    rollout = sample(mdp, policies, count, torch.Generator().manual_seed(0))
    assert rollout.observations.shape == (2, 3, count, 3)
    for task in range(2):
        expected = visits(mdp, policies[task])
        deviation = (expected * (1 - expected) / count).sqrt()
        found = rollout.observations[task].mean(1)
        assert ((found - expected).abs() < 4 * deviation).all()
        joint = expected[..., None] * policies[task].softmax(-1)
        for action in range(2):
            chosen = (rollout.actions[task] == action).double()[..., None]
            found = (rollout.observations[task] * chosen).mean(1)
            error = (found - joint[..., action]).abs()
            assert (error < 4 * (joint[..., action] / count).sqrt()).all()
        powers = 0.8 ** torch.arange(3, dtype=torch.float64)
        returns = (rollout.rewards[task] * powers[:, None]).sum(0)
        error = returns.mean() - exact_return(mdp, policies[task])
        assert error.abs() < 4 * returns.std() / count**0.5


def test_samples_are_consistent_rollouts():
    mdp, logits = small(5)
    rollout = sample(mdp, logits[None], 7, torch.Generator().manual_seed(1))
    state = rollout.observations.argmax(-1)
    assert torch.equal(rollout.rewards, mdp.rewards[state, rollout.actions])
    distribution, _, _ = table_policy(mdp).distribution(
        table_params(logits[None]), rollout.observations
    )
    torch.testing.assert_close(rollout.log_probs, distribution.log_prob(rollout.actions))
    assert rollout.first[:, 0].eq(1).all()
    assert rollout.first[:, 1:].eq(0).all()
    assert rollout.mask.eq(1).all()
