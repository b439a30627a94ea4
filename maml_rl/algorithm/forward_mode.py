"""Derivatives carried forward, of which Fisher products are made."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad


@contextmanager
def dual_level() -> Iterator[None]:
    """Level at which tensors have tangents, without a warning that is torch's own."""
    _shorten_zero_tangents()
    _make_first_dual()
    with forward_ad.dual_level():
        yield


@cache
def _make_first_dual() -> None:
    """Let torch import its rules for second derivatives: they call torch.jit.script, and warn."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        for kind in (DeprecationWarning, FutureWarning):  # of torch 2.13, of torch 2.14
            warnings.filterwarnings("ignore", ".*torch.jit.* is deprecated", kind)
        forward_ad.make_dual(torch.zeros(1), torch.ones(1))


@cache
def _shorten_zero_tangents() -> torch.library.Library:
    """Give torch short rules for arithmetic with the tangents of constants.

    torch represents the tangent of a constant by a tensor of zeros without memory. For the shape of
    its product with another tensor it runs Python code of its compiler, which takes 0.4 ms each
    time, most of a small Fisher product, and a second to import. The results are the same.
    """
    rules = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*Overriding a previously registered kernel")
        for name, rule in (
            ("mul.Tensor", _product),
            ("add.Tensor", _sum),
            ("sub.Tensor", _difference),
        ):
            rules.impl(name, rule, "ZeroTensor")
    return rules  # in force as long as it exists


def _product(a: Any, b: Any) -> Tensor:
    """Product of two tensors or numbers, of which one is zero."""
    tensors = [factor for factor in (a, b) if isinstance(factor, Tensor)]
    return torch._efficientzerotensor(
        np.broadcast_shapes(*(factor.shape for factor in tensors)),
        dtype=torch.result_type(a, b),
        device=max(tensors, key=Tensor.dim).device,  # a number of the CPU goes with any device
    )


def _sum(a: Any, b: Any, *, alpha: float = 1) -> Tensor:
    """Sum a + alpha b, of which one is zero."""
    zero = _product(a, b)
    value, factor = (a, 1) if _is_zero(b) else (b, alpha)
    if _is_zero(value):
        return zero
    value = torch.as_tensor(value, device=zero.device).expand(zero.shape).to(zero.dtype, copy=True)
    return value if factor == 1 else factor * value


def _difference(a: Any, b: Any, *, alpha: float = 1) -> Tensor:
    """Difference a - alpha b, of which one is zero."""
    return _sum(a, b, alpha=-alpha)


def _is_zero(value: Any) -> bool:
    """Whether it is a zero without memory; the tangent of a number comes as the number 0."""
    return value._is_zerotensor() if isinstance(value, Tensor) else value == 0
