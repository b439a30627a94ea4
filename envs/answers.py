"""Checks of the results of a distribution's methods: shapes, kinds and ranges of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.errors import UserError
from envs.protocol import Array


def check_shape(name: str, method: str, values: Any, shape: tuple[int, ...]) -> None:
    """Compare the shape of a method's result with the expected one.

    Raises:
        UserError: naming the distribution, the method and the expected shape.
    """
    given: tuple[int, ...] = np.shape(values)
    if given != tuple(shape):
        raise UserError(
            f"{name}.{method} must return an array of shape {tuple(shape)}, not {given}; index "
            f"from the end ([..., 0], sum(-1)), so that one formula holds for any leading shape."
        )


def check_info(name: str, method: str, info: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Check that the records of a step beside the reward are numbers, one for each episode.

    Raises:
        UserError: naming the leaf of another kind or shape.
    """
    for key, leaf in info.items():
        call = f"{method}[{key!r}]"
        check_shape(name, call, leaf, shape)
        kind = np.asarray(leaf).dtype
        if kind.kind not in "biuf":
            raise UserError(f"{name}.{call} must be numbers or bool, not {_kind(kind)}.")


def _kind(dtype: np.dtype[Any]) -> str:
    return {"U": "text", "S": "text", "O": "objects"}.get(dtype.kind, str(dtype))


def check_success(name: str, values: Array, happened: Array) -> None:
    """Check that recorded success is 0 or 1, since rates are made from it.

    Args:
        name: of the distribution.
        values: [M, T, B], or [M, B] of one step.
        happened: of the same shape, where a step was taken.

    Raises:
        UserError: naming the first other value.
    """
    wrong = np.asarray(happened & (values != 0) & (values != 1))  # NaN is neither
    if wrong.any():
        raise UserError(
            f'{name}: info["success"] must be 0 or 1 (or bool), not {values[wrong][0]:g}.'
        )
