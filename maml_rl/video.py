"""Videos of a policy before and after adaptation, rendered without a screen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from envs.checks import UserError

if TYPE_CHECKING:
    from envs.mujoco import MujocoTaskDistribution
    from envs.task_distribution import Tasks
    from maml_rl.policies import Policy
    from maml_rl.rollout import Params

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/></worldbody></mujoco>")
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
"""


def choose_renderer() -> str:
    """Set MUJOCO_GL to a renderer that works here, EGL or else OSMesa, and return its name.

    It must be chosen before mujoco is imported, so each is tried in a child process.

    Raises:
        UserError: naming the system packages, where neither works.
    """
    for name in ("egl", "osmesa"):
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
    raise UserError(
        "video=true needs a renderer, and neither EGL nor OSMesa works here: install the system "
        "packages libegl1 and libgl1, or libosmesa6 (Debian's and Ubuntu's names)."
    )


def record(
    path: Path,
    distribution: MujocoTaskDistribution,
    task: Tasks,
    policy: Policy,
    params: Params,
    seed: int,
) -> float:
    """Write an mp4 of one episode of the policy's mean actions; return the episode's return.

    Args:
        path: of the mp4.
        distribution: of the task.
        task: leaves without the leading M.
        policy: acts.
        params: one policy's, leaves [1, *s].
        seed: of the initial state.
    """
    from imageio_ffmpeg import write_frames

    env = distribution.single(task, render_mode="rgb_array")
    observation, _ = env.reset(seed=seed)
    total, done = 0.0, False
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")
    writer = write_frames(
        str(partial), (480, 480), fps=env.metadata["render_fps"], macro_block_size=16
    )
    writer.send(None)
    while not done:
        writer.send(np.ascontiguousarray(env.render()))
        with torch.inference_mode():
            rows = torch.as_tensor(observation, dtype=torch.float32)[None, None, None]
            action = policy.distribution(params, rows)[0].mean[0, 0, 0].numpy()
        observation, reward, ended, cut, _ = env.step(distribution.applied(action))
        total, done = total + reward, ended or cut
    writer.close()
    env.close()
    os.replace(partial, path)
    return total
