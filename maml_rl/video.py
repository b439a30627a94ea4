"""Videos of a policy, rendered without a screen."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from imageio_ffmpeg import write_frames

from envs.mujoco import MujocoTaskDistribution
from envs.task_distribution import Tasks
from maml_rl.policies import Policy
from maml_rl.rollout import Params


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
