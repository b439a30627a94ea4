"""Value baselines, fitted per task in one batch."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from envs.arguments import number
from maml_rl.algorithm.returns import step_in_episode
from maml_rl.algorithm.rollout import Rollout
from maml_rl.errors import NonFiniteError


class Baseline(Protocol):
    """A value function fitted to each task's own returns."""

    def fit(self, rollout: Rollout, returns: Tensor) -> Tensor:
        """Fit to `returns` [M, T, B] and return each task's weights [M, F]."""
        ...

    def values(self, weights: Tensor, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Predict values [M, T, B] and the value after the last step [M, B], float64."""
        ...


class LinearFeatureBaseline:
    """Ridge regression on the features of Duan et al. 2016 (appendix): o, o^2, t, t^2, t^3, 1.

    o is the observation clipped to [-10, 10], t a hundredth of the step within the episode. Solved
    for all tasks together, each on its own steps, in float64.

    Args:
        ridge: weight of the penalty |w|^2; multiplied by ten, for the tasks that need it, until the
            normal equations have a finite solution.
    """

    def __init__(self, ridge: float = 1e-5) -> None:
        self.ridge = number("baseline.ridge", ridge, above=0)

    def features(self, observations: Tensor, time: Tensor) -> Tensor:
        """Return features [..., F] of observations [..., O] at steps `time` [...], float64."""
        clipped = observations.double().clamp(-10.0, 10.0)
        t = time[..., None] / 100.0
        return torch.cat([clipped, clipped**2, t, t**2, t**3, torch.ones_like(t)], dim=-1)

    def fit(self, rollout: Rollout, returns: Tensor) -> Tensor:
        """Solve (X'DX + ridge I) w = X'D y per task, D the mask: [M, F].

        Raises:
            NonFiniteError: naming the task whose returns are not finite.
        """
        features = self.features(rollout.observations, step_in_episode(rollout.first)).flatten(1, 2)
        weighted = (features * rollout.mask.double().flatten(1, 2)[..., None]).mT
        gram = weighted @ features
        target = weighted @ returns.double().flatten(1, 2)[..., None]
        finite = torch.isfinite(target).flatten(1).all(dim=1)
        if not finite.all():
            task = int((~finite).nonzero()[0])
            raise NonFiniteError(f"a return of task {task} is not finite")
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        ridge = torch.full((len(gram), 1, 1), self.ridge, dtype=gram.dtype, device=gram.device)
        for _ in range(10):
            weights, failed = torch.linalg.solve_ex(gram + ridge * identity, target)
            wrong = (failed > 0) | ~torch.isfinite(weights).all(-1).all(-1)
            if not wrong.any():
                break
            ridge[wrong] *= 10.0
        return weights[..., 0]

    def values(self, weights: Tensor, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Predict values [M, T, B] and the value after the last step [M, B], float64."""
        time = step_in_episode(rollout.first)
        values = self.features(rollout.observations, time) @ weights[:, None, :, None]
        final = self.features(rollout.final_observations, time[:, -1] + 1) @ weights[:, :, None]
        return values[..., 0], final[..., 0]
