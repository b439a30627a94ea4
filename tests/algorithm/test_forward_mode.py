"""Derivatives carried forward."""

import itertools
import subprocess
import sys
import warnings
from functools import partial

import pytest
import torch
from torch.autograd import forward_ad

from maml_rl.algorithm.forward_mode import _make_first_dual, dual_level
from tests.support.paths import ROOT


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


ZERO = torch._efficientzerotensor


def as_memory(value):
    """The value with its zeros in memory."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def operands():
    """Pairs of which one at least is a zero without memory, of every kind that is broadcast."""
    generator = torch.Generator().manual_seed(0)
    shapes = [((2, 3), (2, 3)), ((3,), (2, 3)), ((2, 3), ()), ((), (2, 3)), ((2, 1), (1, 3))]
    types = [torch.float32, torch.float64]
    for (left, right), a, b in itertools.product(shapes, types, types):
        yield ZERO(left, dtype=a), torch.randn(right, dtype=b, generator=generator)
        yield torch.randn(left, dtype=a, generator=generator), ZERO(right, dtype=b)
        yield ZERO(left, dtype=a), ZERO(right, dtype=b)
    yield ZERO((2, 3)), 2.0
    yield 2.0, ZERO((2, 3))


@pytest.mark.parametrize(
    "operation",
    [
        *(torch.mul, torch.add, torch.sub),
        *(partial(torch.add, alpha=3.0), partial(torch.sub, alpha=3.0)),
    ],
)
def test_arithmetic_with_zeros_without_memory_is_that_with_zeros(operation):
    with dual_level():
        pass
    for a, b in operands():
        if not isinstance(a, torch.Tensor):
            a, b = (b, a) if operation in (torch.mul, torch.add) else (b, b)
        result, expected = operation(a, b), operation(as_memory(a), as_memory(b))
        assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
        assert torch.equal(result.clone(), expected)
        assert result is not a
        assert result is not b


def test_a_difference_of_a_function_and_a_number_keeps_its_derivative():
    """The tangent of the number comes as a number, 0."""
    with dual_level():
        dual = forward_ad.make_dual(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 10.0]))
        for result in (dual - 1.5, dual + 1.5, 1.5 + dual, dual - torch.tensor(1.5)):
            assert forward_ad.unpack_dual(result).tangent.tolist() == [1.0, 10.0]
        for result in (1.5 - dual, torch.tensor([1.5]) - dual):
            assert forward_ad.unpack_dual(result).tangent.tolist() == [-1.0, -10.0]
        product = forward_ad.unpack_dual(3.0 * dual / 2.0).tangent
    assert product.tolist() == [1.5, 15.0]


def test_a_first_fisher_product_does_not_load_torch_s_compiler():
    """It takes a second and more, at the start of every run."""
    program = """
import sys
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.outer_loop import TRPO, Adam
from tests.support.engine import Case
for outer in (TRPO(), Adam()):
    case = Case(InnerLoop(1, 0.1))
    outer.check(case.inner, case.policy)
    outer.update(case.meta, {}, case.objective())
print({"torch._dynamo", "sympy"} & set(sys.modules))
"""
    output = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True)
    assert output.strip() == "set()"
