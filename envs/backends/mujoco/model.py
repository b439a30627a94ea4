"""MuJoCo models: compiled, compared with the model that all tasks share, and their memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium.envs.mujoco
import mujoco
import numpy as np

from envs.errors import SimulationError, UserError

ASSETS = Path(gymnasium.envs.mujoco.__file__).parent / "assets"
"""The folder of Gymnasium's own MJCF files."""

UNSTABLE = [
    int(mujoco.mjtWarning.mjWARN_BADQPOS),
    int(mujoco.mjtWarning.mjWARN_BADQVEL),
    int(mujoco.mjtWarning.mjWARN_BADQACC),
    int(mujoco.mjtWarning.mjWARN_BADCTRL),
]
CAUSES = "(a NaN action, a model that `vary` made impossible, or physics that diverged)"
FULL = [int(mujoco.mjtWarning.mjWARN_CONTACTFULL), int(mujoco.mjtWarning.mjWARN_CNSTRFULL)]
"""Warnings that contacts or constraints were left out of the physics."""

_LAYOUT = (  # the sizes that the arrays of MjData follow
    *("nq", "nv", "nu", "na", "nbody", "njnt", "ngeom", "nsite", "ncam", "nlight", "ntendon"),
    *("neq", "nsensor", "nsensordata", "nmocap", "nuserdata", "nflex", "narena"),
)


@contextmanager
def quiet_mujoco() -> Iterator[None]:
    """Keep MuJoCo's warnings out of the terminal and MUJOCO_LOG.TXT out of people's folders.

    They are about deprecated MJCF, or about instability, which is raised as an error. A handler set
    by the caller is lost: MuJoCo offers no way to read it.
    """
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)


def load_model(xml: Any) -> mujoco.MjModel:
    """Compile an MJCF file, or an MjSpec, with constraint islands off.

    That is 5 % faster and was bit-identical on half-cheetah, ant, walker2d, hopper, swimmer and
    humanoid.

    Raises:
        UserError: if `xml` is neither, the file is missing, or it is not valid MJCF.
    """
    source = f"the MjSpec {xml.modelname!r}" if isinstance(xml, mujoco.MjSpec) else str(xml)
    if not isinstance(xml, mujoco.MjSpec):
        _check_file(xml)
    with quiet_mujoco():
        try:
            if isinstance(xml, mujoco.MjSpec):
                model = xml.copy().compile()
            else:
                model = mujoco.MjModel.from_xml_path(str(xml))
        except ValueError as error:
            raise UserError(f"MuJoCo cannot compile {source}: {error}") from error
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    return model


def _check_file(xml: Any) -> None:
    """Refuse what is no path of a file, naming what to write instead."""
    if not isinstance(xml, str | Path):
        raise UserError(
            f"xml is a {type(xml).__name__}; give the path of an MJCF file, or "
            f"mujoco.MjSpec.from_file(path) or mujoco.MjSpec.from_string(text)."
        )
    if str(xml).lstrip().startswith("<"):
        raise UserError("xml is MJCF text; write xml = mujoco.MjSpec.from_string(text).")
    if not Path(xml).is_file():
        raise UserError(
            f"there is no MJCF file {xml} (Gymnasium's bodies are in envs.ASSETS, as ASSETS / "
            f'"hopper.xml"; text is given as mujoco.MjSpec.from_string(text)).'
        )


def check_task_model(call: str, shared: mujoco.MjModel, model: mujoco.MjModel) -> None:
    """Compare a task's model with the shared one in what one value must serve all tasks.

    Args:
        call: that made the model, for the message.
        shared: the model of `xml`, which the spaces and `dt` are read from.
        model: the task's.

    Raises:
        UserError: naming the field that differs.
    """
    for size in _LAYOUT:
        wanted, given = getattr(shared, size), getattr(model, size)
        if wanted != given:
            raise UserError(
                f"{call} gave a model with {size} {given}, and the shared model has {wanted}: "
                f"tasks may differ in values, not in the number of parts."
            )
    if model.opt.timestep != shared.opt.timestep:
        raise UserError(
            f"{call} changed opt.timestep from {shared.opt.timestep:g} to {model.opt.timestep:g}, "
            f"but dt is one number for all tasks: leave the timestep, and choose frame_skip."
        )
    for field in ("actuator_ctrlrange", "actuator_ctrllimited"):
        if not np.array_equal(getattr(shared, field), getattr(model, field)):
            raise UserError(
                f"{call} changed {field}, but all tasks have one action space: change "
                f"actuator_gear or actuator_gainprm."
            )


def check_stable(data: mujoco.MjData) -> None:
    """Refuse a simulation that became unstable, which MuJoCo resets silently.

    Raises:
        SimulationError: if it did.
    """
    if any(data.warning[kind].number for kind in UNSTABLE):
        raise SimulationError(f"the simulation became unstable {CAUSES}")


def memory_error(where: str, model: mujoco.MjModel) -> UserError:
    """Error for contacts or constraints that do not fit a model's memory."""
    return UserError(
        f"{where} has more contacts or constraints than MuJoCo's memory of {model.narena} bytes "
        f'holds, and leaves some out: set <size memory="..."/> in the MJCF (memory of the MjSpec) '
        f"to several times that."
    )
