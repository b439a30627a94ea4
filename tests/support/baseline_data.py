"""A rollout and its returns, for the tests of baselines and of the value network."""

import torch

from maml_rl.algorithm.rollout import Rollout

M, T, B, O = 3, 12, 4, 2  # noqa: E741


def rollout(seed=0, dtype=torch.float32):
    """Random data; slot 0 holds two episodes, slot 1 of every task ended after 5 steps."""
    generator = torch.Generator().manual_seed(seed)
    first, mask = torch.zeros(M, T, B), torch.ones(M, T, B)
    first[:, 0] = 1
    first[:, 7, 0] = 1
    mask[:, 5:, 1] = 0
    return Rollout(
        observations=6.0 * torch.randn(M, T, B, O, generator=generator, dtype=dtype),
        actions=torch.randn(M, T, B, 1, generator=generator),
        rewards=torch.randn(M, T, B, generator=generator),
        discounts=torch.ones(M, T, B),
        first=first,
        mask=mask,
        log_probs=torch.randn(M, T, B, generator=generator),
        final_observations=torch.randn(M, B, O, generator=generator, dtype=dtype),
        state=None,
        info={},
    )


def returns(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 5.0 * torch.randn(M, T, B, dtype=torch.float64, generator=generator) + 2.0
