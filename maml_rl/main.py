"""Where the commands begin, before anything heavy is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

RENDERERS = ("egl", "osmesa")
_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/></worldbody></mujoco>")
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
"""


def choose_renderer() -> str | None:
    """Set MUJOCO_GL to a renderer that works here, EGL or else OSMesa; return its name, or None.

    Each is tried in a child process, since MuJoCo reads the variable when it is imported.
    """
    for name in RENDERERS:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, "MUJOCO_GL": name, "PYOPENGL_PLATFORM": name},
            capture_output=True,
            check=False,
            timeout=120,
        )
        if done.returncode == 0:
            os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = name
            return name
    return None


def train_main() -> None:
    """Run `train.py` on the process's arguments."""
    from maml_rl.cli import guarded
    from maml_rl.train_command import train_command

    guarded(train_command)


def evaluate_main() -> None:
    """Run `evaluate.py`; a renderer is chosen first where a video is wanted."""
    if wants_video(sys.argv[1:]):
        choose_renderer()
    from maml_rl.cli import guarded
    from maml_rl.evaluate_command import evaluate_command

    guarded(evaluate_command)


def wants_video(arguments: Sequence[str]) -> bool:
    """Say whether `video=true` (or Hydra's other words for it) is among the arguments."""
    values = [part[len("video=") :] for part in arguments if part.startswith("video=")]
    return bool(values) and values[-1].lower() in ("true", "yes", "on")
