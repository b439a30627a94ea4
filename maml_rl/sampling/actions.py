"""From a policy's outputs to the actions that environments are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from envs.errors import UserError
from envs.protocol import Array, TaskDistribution


def applied_actions(distribution: TaskDistribution, actions: Array) -> Array:
    """Applied actions of sampled ones: scaled and clipped where the distribution is."""
    applied = getattr(distribution, "applied", None)
    dtype = distribution.action_space.dtype
    return np.asarray(actions if applied is None else applied(actions), dtype=dtype)


def scaling(distribution: TaskDistribution) -> tuple[float, Array, Array]:
    """Scale of sampled actions, and the bounds to which they are clipped.

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
    """A distribution's action scale; all members of a union have the same."""
    members = getattr(distribution, "members", None)
    return _action_scale(members[0]) if members else float(getattr(distribution, "action_scale", 1))
