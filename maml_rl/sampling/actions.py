"""From a policy's outputs to the actions that environments are given."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from envs.errors import UserError
from envs.protocol import Array, TaskDistribution


def applied_actions(distribution: TaskDistribution, actions: Array) -> Array:
    """Applied actions of sampled ones: scaled and clipped where the distribution is."""
    return np.asarray(distribution.applied(actions), dtype=distribution.action_space.dtype)


def scaling(distribution: TaskDistribution) -> tuple[float, Array, Array]:
    """Scale of sampled actions, and the bounds to which they are clipped.

    Raises:
        UserError: if the distribution applies them in another way.
    """
    space = distribution.action_space
    assert isinstance(space, spaces.Box)
    scale, low, high = distribution.action_scale, space.low, space.high
    reach = np.where(np.isfinite(high - low), np.abs([low, high]).max(axis=0), 1)  # beyond bounds
    drawn = np.random.default_rng(0).standard_normal((64, *space.shape), dtype=np.float32)
    actions = drawn * np.float32(3 / scale) * reach.astype(np.float32)
    applied = distribution.applied(actions)
    if np.allclose(applied, np.clip(scale * actions, low, high), atol=1e-6):
        return scale, low, high
    if np.array_equal(applied, actions):
        return 1.0, np.full(space.shape, -np.inf), np.full(space.shape, np.inf)
    raise UserError(
        f"{distribution.name}.applied(action) is not clip(action_scale * action) within its "
        f"action space, so that its policies cannot be exported; policy.act(observation) can."
    )
