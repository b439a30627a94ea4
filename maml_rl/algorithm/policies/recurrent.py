"""A gated recurrent unit (Cho et al. 2014) on stacked parameters: the memory of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from maml_rl.algorithm.policies.activations import tanh
from maml_rl.algorithm.rollout import Params

PREFIX = "memory."


class GatedUnit(nn.Module):
    """The parameters of `gated_unit`, in the layout of torch.nn.GRU: gates r, z, n.

    Args:
        inputs: I, numbers read at every step.
        units: H, numbers remembered.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * units, inputs))
        self.weight_hh = nn.Parameter(torch.empty(3 * units, units))
        self.bias_ih = nn.Parameter(torch.empty(3 * units))
        self.bias_hh = nn.Parameter(torch.empty(3 * units))

    def initialize(self, generator: torch.Generator) -> None:
        """Initialization: Glorot-uniform input weights, orthogonal state weights, zero biases."""
        with torch.no_grad():
            for gate in self.weight_ih.chunk(3):
                nn.init.xavier_uniform_(gate, generator=generator)
            for gate in self.weight_hh.chunk(3):
                nn.init.orthogonal_(gate, generator=generator)
            nn.init.zeros_(self.bias_ih)
            nn.init.zeros_(self.bias_hh)


def gated_unit(
    params: Params, rows: Tensor, state: Tensor | None, first: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run M recurrent units over T steps.

    r = s(W_r x + b_r + U_r h + c_r), z = s(W_z x + b_z + U_z h + c_z),
    n = tanh(W_n x + b_n + r * (U_n h + c_n)) and h' = (1 - z) * n + z * h, as torch.nn.GRU has it.
    The inputs' share of the gates is one product for all steps. Differentiable to any order, in
    either mode. First derivatives on the CPU take a special path, several times as fast.

    Args:
        params: stacked parameters under "memory.", leaves [M, *s].
        rows: x, [M, T, B, I].
        state: h before the first step, [M, B, H]; None for zeros.
        first: [M, T, B], 1 where the memory begins anew, at zeros, before the step; None: nowhere.

    Returns:
        h after every step [M, T, B, H], and after the last [M, B, H].
    """
    recurrent, bias = params[f"{PREFIX}weight_hh"], params[f"{PREFIX}bias_hh"]
    read = torch.baddbmm(
        params[f"{PREFIX}bias_ih"][:, None],
        rows.flatten(1, 2),
        params[f"{PREFIX}weight_ih"].mT,
    ).unflatten(1, rows.shape[1:3])
    if state is None:
        state = read.new_zeros(len(read), read.shape[2], recurrent.shape[2])
    keep = torch.ones_like(read[..., 0]) if first is None else 1 - first
    carried = (read, recurrent, bias, state)
    if read.device.type == "cpu" and not any(map(_is_dual, carried)):
        if torch.is_inference_mode_enabled():
            states = _Unrolled.forward(None, *carried, keep)
        else:
            states = _Unrolled.apply(*carried, keep)
    else:
        states = _unrolled(*carried, keep)
    return states, states[:, -1]


def _is_dual(x: Tensor) -> bool:
    """Whether the tensor carries a derivative in forward mode."""
    return forward_ad.unpack_dual(x).tangent is not None


def _unrolled(read: Tensor, recurrent: Tensor, bias: Tensor, state: Tensor, keep: Tensor) -> Tensor:
    """Memory h after every step, [M, T, B, H], in operations that torch differentiates.

    Args:
        read: the inputs' share of the gates, [M, T, B, 3 H].
        recurrent: U, [M, 3 H, H].
        bias: c, [M, 3 H].
        state: h before the first step, [M, B, H].
        keep: [M, T, B], 0 where the memory begins anew.
    """
    units, states = recurrent.shape[2], []
    for t, inputs in enumerate(read.unbind(1)):
        state = state * keep[:, t, :, None]
        gates = torch.baddbmm(bias[:, None], state, recurrent.mT)
        both = 0.5 * tanh(0.5 * (inputs[..., : 2 * units] + gates[..., : 2 * units])) + 0.5
        reset, update = both.chunk(2, -1)
        new = tanh(inputs[..., 2 * units :] + reset * gates[..., 2 * units :])
        state = new + update * (state - new)
        states.append(state)
    return torch.stack(states, dim=1)


def _tanh_(x: Tensor) -> Tensor:
    """Take the hyperbolic tangent in place, by numpy (`maml_rl.algorithm.policies.activations`)."""
    np.tanh(x.numpy(), out=x.numpy())
    return x


class _Unrolled(torch.autograd.Function):
    """`_unrolled`, with first derivatives by hand.

    Back through time only dh is carried; the weights' derivative is one product for all steps.
    Derivatives of derivatives go through `_unrolled` itself. The logistic function is made of tanh,
    and no fused operation is used: torch's fused operations round differently at different places
    of a tensor, and a row's result must not depend on its place.
    """

    @staticmethod
    def forward(
        ctx: Any, read: Tensor, recurrent: Tensor, bias: Tensor, state: Tensor, keep: Tensor
    ) -> Tensor:
        units, steps = recurrent.shape[2], read.shape[1]
        wide = (steps, *state.shape)  # [T, M, B, H], so that a step lies in one piece
        both = read.new_empty(*wide[:-1], 2 * units)
        share, new, before, states = (read.new_empty(wide) for _ in range(4))
        now = state
        for t in range(steps):
            inputs = read[:, t]
            torch.mul(now, keep[:, t, :, None], out=before[t])
            gates = torch.baddbmm(bias[:, None], before[t], recurrent.mT)
            torch.add(inputs[..., : 2 * units], gates[..., : 2 * units], out=both[t])
            _tanh_(both[t].mul_(0.5)).mul_(0.5).add_(0.5)
            share[t] = gates[..., 2 * units :]
            torch.mul(both[t, ..., :units], share[t], out=new[t])
            _tanh_(new[t].add_(inputs[..., 2 * units :]))
            torch.sub(before[t], new[t], out=states[t])
            now = states[t].mul_(both[t, ..., units:]).add_(new[t])
        if ctx is not None:
            ctx.save_for_backward(read, recurrent, bias, state, keep)
            ctx.passed = both, share, new, before
        return states.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable(inputs, grad, ctx.needs_input_grad)
        read, recurrent, _, state, keep = inputs
        both, share, new, before = ctx.passed
        units = recurrent.shape[2]
        reset, update = both[..., :units], both[..., units:]
        by_update = update * (1 - update) * (before - new)  # dh' / d(z before its sigmoid)
        by_new = (1 - update) * (1 - new * new)  # dh' / d(n before its tanh)
        by_reset = by_new * share * reset * (1 - reset)
        to_read = read.new_empty(read.shape)
        to_gates = read.new_empty(*before.shape[:-1], 3 * units)
        carried = torch.zeros_like(state)
        for t in reversed(range(len(before))):
            carried += grad[:, t]
            gates = to_gates[t]
            torch.mul(carried, by_reset[t], out=gates[..., :units])
            torch.mul(carried, by_update[t], out=gates[..., units : 2 * units])
            torch.mul(carried, by_new[t], out=gates[..., 2 * units :])
            to_read[:, t] = gates
            gates[..., 2 * units :] *= reset[t]
            carried *= update[t]
            carried = torch.baddbmm(carried, gates, recurrent).mul_(keep[:, t, :, None])
        rows = to_gates.transpose(0, 1).flatten(1, 2).contiguous()  # [M, T B, 3 H]
        to_recurrent = torch.bmm(rows.mT, before.transpose(0, 1).flatten(1, 2).contiguous())
        return to_read, to_recurrent, rows.sum(1), carried, None


def _differentiable(
    inputs: Sequence[Tensor], grad: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Derivatives of `_unrolled` with a graph, None where none is needed."""
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(_unrolled(*inputs), wanted, grad, create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)
