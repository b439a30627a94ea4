"""Results of an adaptation: one policy per task, ready to act, and the rollouts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.errors import UserError
from envs.protocol import Task, TaskDistribution, Tasks, count_tasks, task_at
from maml_rl.algorithm.diagnostics import Values
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.sampling.actions import applied_actions
from maml_rl.trained.export import export_policy
from maml_rl.trained.rollout_files import save_rollouts
from maml_rl.wording import counted, number_format


@dataclass(frozen=True, repr=False)
class AdaptedPolicy:
    """The policy of one task, to act with outside of the engine.

    Args:
        distribution: whose observations it sees and whose actions it gives.
        network: runs the parameters.
        params: of this one policy, leaves [1, *s].
        task: leaves without the leading M; None where it is not known.
        returns: [K + 1], mean return before adaptation and after each inner step.
    """

    distribution: TaskDistribution
    network: Policy
    params: Params
    task: Task | None
    returns: Values

    def __repr__(self) -> str:
        task = "no task" if self.task is None else self.distribution.describe(self.task)
        return f"<AdaptedPolicy: {self.distribution.name}, {task}{_returns(self.returns)}>"

    def act(
        self,
        observation: Any,
        deterministic: bool = True,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """Action for an observation, in the distribution's action space.

        It is scaled and clipped as it is in training, so that `distribution.single(task).step`
        takes it.

        Args:
            observation: [O], or [N, O] for several at once.
            deterministic: the mean action, or the best of numbered ones; else it is drawn.
            rng: draws it.

        Returns:
            [A] or [N, A]; of numbered actions an int, or [N].

        Raises:
            UserError: if the observation has another size or is not finite, or `rng` is missing.
        """
        self._refuse_memory("act(observation)")
        rows = self._rows(observation)
        with torch.inference_mode():
            chosen, _, _ = self.network.distribution(self.params, rows[None, None])
            best = chosen.mode() if deterministic else chosen.sample(self._noise(len(rows), rng))
        actions = applied_actions(self.distribution, best[0, 0].numpy())
        if np.ndim(observation) == 2:
            return actions
        return int(actions[0]) if self.network.discrete else actions[0]

    def export(self, path: str | Path) -> Path:
        """Write the mean action as a program of torch's own; see `export_policy`."""
        self._refuse_memory("export(path)")
        return export_policy(self.network, self.params, self.distribution, Path(path))

    def _refuse_memory(self, call: str) -> None:
        """Refuse what sees one observation alone."""
        if self.network.recurrent:
            raise UserError(
                f"{call} is given one observation, and this policy acts by what it remembers of a "
                f"trial: trained.adapt(tasks, steps=0) runs whole ones."
            )

    def _rows(self, observation: Any) -> Tensor:
        """Observations as rows [N, O] of the parameters' type."""
        size, values = self.network.observation_size, np.asarray(observation)
        if values.ndim not in (1, 2) or values.shape[-1] != size:
            raise UserError(
                f"an observation of {self.distribution.name} must have shape [{size}], or "
                f"[N, {size}] for several, not {list(values.shape)}."
            )
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise UserError("the observation holds something that is not a finite number.")
        dtype = next(iter(self.params.values())).dtype
        return torch.as_tensor(values.reshape(-1, size), dtype=dtype)

    def _noise(self, count: int, rng: np.random.Generator | None) -> Tensor:
        if rng is None:
            raise UserError(
                "act(observation, deterministic=False) draws an action and needs a generator: add "
                "rng=np.random.default_rng(seed), made once."
            )
        drawn = torch.from_numpy(rng.standard_normal((1, 1, count, self.network.action_size)))
        return drawn.to(next(iter(self.params.values())).dtype)


@dataclass(frozen=True, repr=False)
class Adapted:
    """M policies, each adapted to a task of its own; `adapted[i]` is that of task i.

    Args:
        distribution: of the tasks.
        network: runs the stacked parameters.
        params: after the last inner step, leaves [M, *s].
        tasks: leaves [M, ...].
        returns: [K + 1, M], mean return before adaptation and after each inner step.
        success: [K + 1, M], share of a task's episodes; None where the environments do not tell.
        rollouts: K + 1, each of M tasks.
    """

    distribution: TaskDistribution
    network: Policy
    params: Params
    tasks: Tasks
    returns: Values
    success: Values | None
    rollouts: list[Rollout]

    def __repr__(self) -> str:
        tasks = counted(len(self), "task")
        returns = _returns(self.returns.mean(axis=1))
        return f"<Adapted: {self.distribution.name}, {tasks}{returns}>"

    def __len__(self) -> int:
        return count_tasks(self.tasks)

    def __getitem__(self, index: int) -> AdaptedPolicy:
        index = range(len(self))[index]  # counts from the end, and raises IndexError
        return AdaptedPolicy(
            self.distribution,
            self.network,
            {name: leaf[index : index + 1] for name, leaf in self.params.items()},
            task_at(self.tasks, index),
            self.returns[:, index],
        )

    def save(self, path: str | Path) -> Path:
        """Write rollouts and tasks as an npz file; see `save_rollouts`."""
        return save_rollouts(path, self.rollouts, self.tasks)


def _returns(returns: Values) -> str:
    """Mean returns before adaptation and after the last step, of [K + 1], for a person to read."""
    if not len(returns):
        return ""
    form, steps = number_format(returns.tolist()), len(returns) - 1
    before, after = form.format(returns[0]), form.format(returns[-1])
    return f", return {before} before and {after} after {counted(steps, 'step')}"
