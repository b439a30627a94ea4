"""Derivatives carried forward, of which Fisher products are made."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch.autograd import forward_ad


@contextmanager
def dual_level() -> Iterator[None]:
    """Level at which tensors have tangents, without a warning that is torch's own."""
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
