"""Derivatives carried forward."""

import warnings

import pytest
import torch
from torch.autograd import forward_ad

from maml_rl.algorithm.forward_mode import _make_first_dual, dual_level


def test_a_tangent_is_the_derivative():
    with dual_level():
        dual = forward_ad.make_dual(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 10.0]))
        tangent = forward_ad.unpack_dual(dual**2).tangent
    assert tangent.tolist() == [4.0, 60.0]  # 2 x times the direction


@pytest.mark.parametrize("kind", [DeprecationWarning, FutureWarning])
def test_what_torch_s_first_dual_tensor_warns_of_is_kept_from_the_user(kind, monkeypatch):
    """torch warns once a process, so a stand-in warns here."""

    def make_dual(value, tangent):
        warnings.warn("`torch.jit.script` is deprecated. Please switch.", kind, stacklevel=2)

    monkeypatch.setattr(forward_ad, "make_dual", make_dual)
    _make_first_dual.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with dual_level():
            pass
        with dual_level(), pytest.raises(kind):  # the second time, and whatever else warns
            make_dual(None, None)
