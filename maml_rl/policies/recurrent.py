"""A gated recurrent unit (Cho et al. 2014) on stacked parameters: what a policy remembers with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maml_rl.policies.activations import tanh
from maml_rl.rollout import Params

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
        """Draw Glorot-uniform weights of the inputs, orthogonal ones of the state, zero biases."""
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
    The inputs' share of the gates is one product for all steps.

    Args:
        params: stacked parameters under "memory.", leaves [M, *s].
        rows: x, [M, T, B, I].
        state: h before the first step, [M, B, H]; None for zeros.
        first: [M, T, B], 1 where the memory begins anew, at zeros, before the step; None: nowhere.

    Returns:
        h after every step [M, T, B, H], and after the last [M, B, H].
    """
    recurrent, bias = params[f"{PREFIX}weight_hh"].mT, params[f"{PREFIX}bias_hh"][:, None]
    units = recurrent.shape[1]
    read = torch.baddbmm(
        params[f"{PREFIX}bias_ih"][:, None],
        rows.flatten(1, 2),
        params[f"{PREFIX}weight_ih"].mT,
    ).unflatten(1, rows.shape[1:3])
    if state is None:
        state = read.new_zeros(len(read), read.shape[2], units)
    begins = [] if first is None else (first > 0).any(dim=2).any(dim=0).tolist()
    states = []
    for t, inputs in enumerate(read.unbind(1)):
        if first is not None and begins[t]:
            state = state * (1 - first[:, t, :, None])
        gates = torch.baddbmm(bias, state, recurrent)
        both = torch.sigmoid(inputs[..., : 2 * units] + gates[..., : 2 * units])
        reset, update = both.chunk(2, -1)
        new = tanh(torch.addcmul(inputs[..., 2 * units :], reset, gates[..., 2 * units :]))
        state = torch.lerp(new, state, update)
        states.append(state)
    return torch.stack(states, dim=1), state
