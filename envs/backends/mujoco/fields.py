"""Fields of MjData that a distribution reads, and which of them MuJoCo computes on demand."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import mujoco
import numpy as np
from mujoco.batch import DATA_FIELDS

from envs.errors import UserError

State = dict[str, Any]
"""Fields of MjData by name, "qpos" and "qvel" among them, each a copy of shape [..., size]."""

ON_DEMAND = {
    **dict.fromkeys(("cacc", "cfrc_int", "cfrc_ext"), mujoco.mj_rnePostConstraint),
    **dict.fromkeys(("subtree_linvel", "subtree_angmom"), mujoco.mj_subtreeVel),
}
"""Fields that a step leaves alone, and what computes them after it, as Gymnasium does."""

_INPUTS = {  # what a step reads rather than computes
    *("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat", "qfrc_applied", "xfrc_applied"),
    *("time", "qacc_warmstart", "eq_active", "userdata", "history", "plugin_state", "plastic"),
}


def namespace(array: Any) -> ModuleType:
    """Module `array` belongs to, numpy or torch, so that one formula serves both."""
    if isinstance(array, np.ndarray | np.generic):
        return np
    import torch

    return torch


def on_demand(fields: Sequence[str]) -> dict[str, Any]:
    """Those of `fields` that MuJoCo computes on demand, and the functions that do."""
    return {field: ON_DEMAND[field] for field in fields if field in ON_DEMAND}


def compute(functions: dict[str, Any], model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Compute the fields that a step does not compute, each function once."""
    for function in dict.fromkeys(functions.values()):
        function(model, data)


def read(data: mujoco.MjData, fields: Sequence[str]) -> State:
    """Copy qpos, qvel and `fields` out of an MjData."""
    return {name: np.array(getattr(data, name)) for name in ("qpos", "qvel", *fields)}


def check_fields(name: str, model: mujoco.MjModel, fields: Sequence[str]) -> None:
    """Refuse fields that do not exist, or that are empty after a step.

    Args:
        name: of the class, for the message.
        model: whose MjData has the fields.
        fields: that `observe` or `reward` read.

    Raises:
        UserError: naming the field.
    """
    if isinstance(fields, str):
        raise UserError(f"{name}.fields must be names in brackets, such as ({fields!r},).")
    data = mujoco.MjData(model)
    for field in fields:
        if not hasattr(data, field):
            raise UserError(f"{name}.fields names {field}, which is no field of MjData.")
        if field not in DATA_FIELDS:
            raise UserError(
                f"{name}.fields names {field}, whose size changes from step to step: read a field "
                f"of fixed size, such as sensordata."
            )
        if field == "energy" and not model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_ENERGY:
            raise UserError(
                f"{name}.fields names energy, which MuJoCo computes only where the MJCF says "
                f'<option><flag energy="enable"/></option>.'
            )
        if field not in _INPUTS and field not in ON_DEMAND and not _computed(model, field):
            raise UserError(f"{name}.fields names {field}, which MuJoCo's step does not compute.")


def _computed(model: mujoco.MjModel, field: str) -> bool:
    """Whether a step writes into a field: whether anything is left of a mark put there before."""
    data = mujoco.MjData(model)
    values = getattr(data, field)
    if not isinstance(values, np.ndarray) or not values.size:
        return True
    values[...] = np.nan if values.dtype.kind == "f" else 77
    mark = values.tobytes()
    mujoco.mj_step(model, data)
    return bool(values.tobytes() != mark)
