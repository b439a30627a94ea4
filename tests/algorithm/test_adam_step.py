"""Adam's step, to the bit that of `torch.optim.Adam`."""

import pytest
import torch

from maml_rl.algorithm.adam_step import no_moments, step_in_place, stored_moments
from maml_rl.algorithm.outer_loop.update import adam_step

SHAPES = ((3, 4), (4,), (1,))


def drawn(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=dtype, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_those_of_torch_s_class(dtype):
    leaves = drawn(0, dtype)
    reference = [leaf.clone() for leaf in leaves]
    optimizer, moments = torch.optim.Adam(reference, lr=0.01), no_moments(leaves)
    for seed, step_size in ((1, 0.01), (2, 0.01), (3, 0.003)):
        for leaf, gradient in zip(reference, drawn(seed, dtype), strict=True):
            leaf.grad = gradient
        optimizer.param_groups[0]["lr"] = step_size
        optimizer.step()
        step_in_place(leaves, drawn(seed, dtype), moments, step_size)
        for leaf, other in zip(leaves, reference, strict=True):
            assert torch.equal(leaf, other)


def test_a_state_that_torch_s_class_stored_is_carried_on():
    reference = drawn(0, torch.float32)
    optimizer = torch.optim.Adam(reference, lr=0.01)

    def step(seed):
        for leaf, gradient in zip(reference, drawn(seed, torch.float32), strict=True):
            leaf.grad = gradient
        optimizer.step()

    step(1)
    state = optimizer.state_dict()
    before = [row["exp_avg"].clone() for row in state["state"].values()]
    meta = {str(number): leaf.clone() for number, leaf in enumerate(reference)}
    moments = stored_moments(state, list(meta.values()))
    gradient = torch.cat([part.flatten() for part in drawn(2, torch.float32)])
    updated, after = adam_step(meta, state, gradient, 0.01, None)
    assert all(map(torch.equal, before, (row["exp_avg"] for row in state["state"].values())))
    assert moments[0]["step"] == 1
    step(2)
    assert all(map(torch.equal, updated.values(), reference))
    for row, other in zip(
        after["state"].values(), optimizer.state_dict()["state"].values(), strict=True
    ):
        assert row.keys() == other.keys()
        assert all(torch.equal(row[name], other[name]) for name in other)
