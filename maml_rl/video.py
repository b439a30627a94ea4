"""Videos of a policy, rendered without a screen."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from imageio_ffmpeg import write_frames

from envs.task_distribution import Tasks
from maml_rl.policies import Policy
from maml_rl.rollout import Params
from maml_rl.run_folder import replacing


def record(
    path: Path,
    distribution: Any,
    task: Tasks,
    policy: Policy,
    params: Params,
    seed: int,
) -> float:
    """Write an mp4 of one episode of the policy's mean actions; return the episode's return.

    Args:
        path: of the mp4.
        distribution: of the task, with a `single` Gymnasium environment.
        task: leaves without the leading M.
        policy: acts.
        params: one policy's, leaves [1, *s].
        seed: of the initial state.
    """
    env = distribution.single(task, render_mode="rgb_array")
    try:
        observation, _ = env.reset(seed=seed)
        height, width, _ = np.shape(env.render())
        fps = env.metadata.get("render_fps", 20)
        with replacing(path) as partial:
            writer = write_frames(str(partial), (width, height), fps=fps, macro_block_size=2)
            try:
                writer.send(None)
                return _play(env, observation, writer, policy, params, distribution)
            finally:
                writer.close()
    finally:
        env.close()


def _play(
    env: gymnasium.Env[Any, Any],
    observation: Any,
    writer: Generator[None, Any, None],
    policy: Policy,
    params: Params,
    distribution: Any,
) -> float:
    """Send every frame of one episode to `writer`; return the episode's return."""
    total, done = 0.0, False
    while not done:
        writer.send(np.ascontiguousarray(env.render()))
        with torch.inference_mode():
            rows = torch.as_tensor(observation, dtype=torch.float32)[None, None, None]
            action = policy.distribution(params, rows)[0].mode()[0, 0, 0].numpy()
        observation, reward, ended, cut, _ = env.step(distribution.applied(action))
        total, done = total + float(reward), ended or cut
    return total
