"""The renderer that works here, tried before MuJoCo is imported. Loads no physics."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from envs.errors import UserError, cause

RENDERERS = ("egl", "osmesa")
NO_RENDERER = (
    "needs a renderer, and neither EGL nor OSMesa works here: install the system packages "
    "libegl1 and libgl1, or libosmesa6 (Debian's names)."
)
"""What an error says where none works, after what was asked for."""

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/></worldbody></mujoco>")
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
"""


def choose_renderer() -> str | None:
    """Set MUJOCO_GL to a renderer that works here, EGL or else OSMesa; return its name, or None.

    Each is tried in a child process, since MuJoCo reads the variable when it is imported. Where
    none works the variable is removed, so that nobody relies on a value set by hand.
    """
    for name in RENDERERS:
        if _renders(name):
            os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = name
            return name
    os.environ.pop("MUJOCO_GL", None)
    return None


def _renders(name: str) -> bool:
    """Whether a renderer draws a picture in a child process."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, "MUJOCO_GL": name, "PYOPENGL_PLATFORM": name},
            capture_output=True,
            check=False,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def picture_of(env: gymnasium.Env[Any, Any], name: str, asked: str) -> NDArray[np.uint8]:
    """Picture of an environment, [height, width, 3].

    Args:
        env: with render_mode="rgb_array", after its reset.
        name: of its distribution, for errors.
        asked: the request, with which the sentence about a missing renderer begins.

    Raises:
        UserError: if it cannot be drawn, or is no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GLFW's, which MuJoCo tries where no renderer works
            picture: Any = env.render()
    except Exception as error:  # drawing may fail in as many ways as there are libraries
        if "mujoco" in sys.modules and os.environ.get("MUJOCO_GL") not in RENDERERS:
            raise UserError(f"{asked} {NO_RENDERER}") from error
        raise UserError(f"{name} cannot be drawn ({cause(error)}).") from error
    if np.ndim(picture) != 3 or np.shape(picture)[2] != 3:
        raise UserError(
            f"{name}.single(task, render_mode='rgb_array').render() must return an array "
            f"[height, width, 3], not one of shape {np.shape(picture)}."
        )
    return np.asarray(picture, dtype=np.uint8)
