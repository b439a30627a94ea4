"""From a policy's outputs to the actions that environments are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from envs.errors import UserError
from envs.protocol import Array, TaskDistribution


def applied_actions(distribution: TaskDistribution, actions: Array) -> Array:
    """Return sampled actions as they are applied: scaled and clipped where the distribution is."""
    applied = getattr(distribution, "applied", None)
    dtype = distribution.action_space.dtype
    return np.asarray(actions if applied is None else applied(actions), dtype=dtype)


def scaling(distribution: TaskDistribution) -> tuple[float, Array, Array]:
    """Return how sampled actions are applied: the scale, and the bounds they are clipped to.

    Raises:
        UserError: if the distribution applies them in another way.
    """
    space = distribution.action_space
    assert isinstance(space, spaces.Box)
    if not hasattr(distribution, "applied"):
        return 1.0, np.full(space.shape, -np.inf), np.full(space.shape, np.inf)
    scale = _action_scale(distribution)
    drawn = np.random.default_rng(0).standard_normal((64, *space.shape), dtype=np.float32)
    actions = drawn * np.float32(3 / scale)
    if not np.allclose(
        distribution.applied(actions), np.clip(scale * actions, space.low, space.high), atol=1e-6
    ):
        raise UserError(
            f"{distribution.name}.applied(action) is not clip(action_scale * action) within its "
            f"action space, so that its policies cannot be exported; policy.act(observation) can."
        )
    return scale, space.low, space.high


def _action_scale(distribution: Any) -> float:
    """Return a distribution's action scale; a union's is its members', which share one."""
    members = getattr(distribution, "members", None)
    return _action_scale(members[0]) if members else float(getattr(distribution, "action_scale", 1))
