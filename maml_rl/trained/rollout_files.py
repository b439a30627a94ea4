"""Rollouts as files that other programs read: npz, and Minari datasets."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs.errors import UserError
from envs.protocol import Array, TaskDistribution, Tasks, task_at
from maml_rl.algorithm.rollout import Rollout
from maml_rl.files import replacing
from maml_rl.sampling.actions import applied_actions

ARRAYS = (
    *("observations", "actions", "rewards", "discounts", "first", "mask", "log_probs"),
    "final_observations",
)
"""The fields of a rollout that an npz file holds."""


def save_rollouts(path: str | Path, rollouts: Sequence[Rollout], tasks: Tasks) -> Path:
    """Write rollouts of the same tasks as one npz file, which `np.load` reads without pickle.

    Arrays are [K + 1, M, T, B, ...], by the names of `Rollout`'s fields (`final_observations`
    [K + 1, M, B, O]); records of the environments are info/<name>, and tasks are task/<name>, [M,
    ...]. Actions are as sampled, before scale and clip.

    Args:
        path: of the file; ends in .npz.
        rollouts: K + 1, before each inner step and after the last.
        tasks: leaves [M, ...].

    Raises:
        UserError: if the path ends otherwise.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise UserError(f"a file of rollouts must end in .npz, not {path.name!r}.")
    arrays = {
        name: np.stack([getattr(rollout, name).numpy() for rollout in rollouts]) for name in ARRAYS
    }
    for name in rollouts[0].info:
        arrays[f"info/{name}"] = np.stack([rollout.info[name].numpy() for rollout in rollouts])
    arrays |= {f"task/{name}": np.asarray(leaf) for name, leaf in tasks.items()}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return path


def to_minari(
    dataset_id: str,
    rollout: Rollout,
    tasks: Tasks,
    distribution: TaskDistribution,
    **metadata: Any,
) -> Any:
    """Store a rollout as a local Minari dataset, one episode per task and slot.

    Actions are as applied. An episode that the task did not end is truncated. Its metadata holds
    its task as options of its reset, in the form that the Gymnasium environments take.

    Args:
        dataset_id: such as half_cheetah_dir/adapted-v0.
        rollout: of M tasks; each slot holds one episode.
        tasks: leaves [M, ...].
        distribution: of the tasks.
        **metadata: Minari's own: author, author_email, algorithm_name, code_permalink, ...

    Returns:
        The `minari.MinariDataset`.

    Raises:
        UserError: if Minari is not installed, or a local dataset has this id.
    """
    minari, buffer = _minari()
    if dataset_id in minari.list_local_datasets():
        raise UserError(f"there is a local Minari dataset {dataset_id}: choose another id.")
    buffers = [buffer(**episode) for episode in episodes(rollout, tasks, distribution)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # one for each piece of metadata not given
        return minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            observation_space=distribution.observation_space,
            action_space=distribution.action_space,
            **metadata,
        )


def _minari() -> tuple[Any, Any]:
    """Minari, and its class of an episode's buffer."""
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise UserError(
            'Minari is not installed here: pip install "maml_rl[minari]", or save an npz file.'
        ) from error
    return minari, EpisodeBuffer


def episodes(
    rollout: Rollout, tasks: Tasks, distribution: TaskDistribution
) -> list[dict[str, Any]]:
    """Cut a rollout into its episodes, task by task, under the names of Minari's buffers."""
    num_tasks, _, slots = rollout.mask.shape
    return [
        {
            **_episode(rollout, distribution, task, slot),
            "options": {"task": {name: np.asarray(x) for name, x in task_at(tasks, task).items()}},
        }
        for task in range(num_tasks)
        for slot in range(slots)
    ]


def _episode(
    rollout: Rollout, distribution: TaskDistribution, task: int, slot: int
) -> dict[str, Array]:
    """One episode of n steps: n + 1 observations, and n of everything else."""
    length = int((rollout.mask[task, :, slot] > 0).sum())
    seen = rollout.observations[task, :length, slot]
    last = rollout.final_observations[task, slot]
    terminations = (rollout.discounts[task, :length, slot] == 0).numpy()
    at_end = np.arange(length) == length - 1
    return {
        "observations": torch.cat([seen, last[None]]).numpy(),
        "actions": applied_actions(distribution, rollout.actions[task, :length, slot].numpy()),
        "rewards": rollout.rewards[task, :length, slot].numpy(),
        "terminations": terminations,
        "truncations": at_end & ~terminations,
    }
