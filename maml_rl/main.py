"""Where the commands begin, before anything heavy is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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

    Each is tried in a child process, since MuJoCo reads the variable when it is imported. Where
    none works the variable is removed, so that a value set by hand is not taken for one that does.
    """
    for name in RENDERERS:
        if _renders(name):
            os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = name
            return name
    os.environ.pop("MUJOCO_GL", None)
    return None


def _renders(name: str) -> bool:
    """Draw a picture with one renderer in a child process; say whether that went well."""
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


def train_main() -> None:
    """Run `train.py` on the process's arguments."""
    with _quiet_interrupt():
        from maml_rl.cli import guarded
        from maml_rl.train_command import train_command

        guarded(train_command)


def evaluate_main() -> None:
    """Run `evaluate.py`; a renderer is chosen first where a video is wanted."""
    with _quiet_interrupt():
        if wants_video(sys.argv[1:]):
            choose_renderer()
        from maml_rl.cli import guarded
        from maml_rl.evaluate_command import evaluate_command

        guarded(evaluate_command)


@contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """Exit with 130 where Ctrl-C comes while the heavy imports are under way."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)


def wants_video(arguments: Sequence[str]) -> bool:
    """Say whether `video=true` is among the arguments, in any of the forms that Hydra reads."""
    pairs = [part.lstrip("+").partition("=") for part in arguments]
    values = [value.strip() for key, _, value in pairs if key == "video"]
    return bool(values) and values[-1].lower() == "true"
