"""Value baselines: fitted per task in one batch, or learned over iterations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from envs.arguments import number
from envs.recorded import Recorded
from maml_rl.algorithm.returns import step_in_episode
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.errors import NonFiniteError

Bootstrap = Callable[[Tensor], Tensor]
"""What values bring into returns where a time limit cut episodes off; linear.

bootstrap(values) takes the values of observations 0 ... T, [M, T + 1, B, F], and gives their share
in the returns of steps 0 ... T - 1, [M, T, B, F]: gamma^n times the value n steps later, where the
episode was cut off; 0 in episodes that the task ended.
"""


@runtime_checkable
class Baseline(Protocol):
    """A value function fitted to each task's own returns."""

    def fit(self, rollout: Rollout, returns: Tensor, bootstrap: Bootstrap | None = None) -> Tensor:
        """Fit to `returns` [M, T, B] and return each task's weights [M, F].

        With `bootstrap` the target is returns + bootstrap(its own values), and the values do not
        depend on time within the episode.
        """
        ...

    def values(self, weights: Tensor, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Predict values [M, T, B] and the value after the last step [M, B], float64."""
        ...


@runtime_checkable
class LearnedBaseline(Protocol):
    """A value function that is carried from iteration to iteration, as statistics.

    The values of an iteration come from the statistics before it, so no episode is judged by values
    that were learned from it. The statistics are part of the checkpoints; neither the inner nor the
    outer loop changes them.
    """

    @property
    def fitted(self) -> Baseline | None:
        """A baseline that is fitted to what the values leave of each rollout's returns, or None."""
        ...

    def initialize(self, generator: torch.Generator, observation_size: int, steps: int) -> Params:
        """Draw the statistics before the first iteration, leaves [*s].

        Args:
            generator: of the random numbers.
            observation_size: O.
            steps: K, inner steps in training.

        Raises:
            UserError: if it does not fit so many steps.
        """
        ...

    def values_of(self, statistics: Params, rollout: Rollout, earlier: Sequence[Rollout]) -> Tensor:
        """Predict values [M, T, B], float64, in the unit of the environment's rewards.

        Args:
            statistics: leaves [*s].
            rollout: the episodes to judge.
            earlier: rollouts of the same tasks since the start of adaptation, one before each inner
                step; in evaluation there may be more than K.
        """
        ...

    def updated(
        self, statistics: Params, rollouts: Sequence[Rollout], returns: Sequence[Tensor]
    ) -> Params:
        """Statistics after an iteration, leaves [*s].

        Args:
            statistics: before it, leaves [*s].
            rollouts: before each inner step and after the last, K + 1.
            returns: discounted returns to go of each, [M, T, B] in float64.
        """
        ...


class LinearFeatureBaseline(Recorded):
    """Ridge regression on the features of Duan et al. 2016 (appendix): o, o^2, t, t^2, t^3, 1.

    o is the observation clipped to [-10, 10], t a hundredth of the step within the episode. Solved
    for all tasks together, each on its own steps, in float64.

    Args:
        ridge: weight of the penalty |w|^2; multiplied by ten, for the tasks that need it, until the
            normal equations have a finite solution.
    """

    def __init__(self, ridge: float = 1e-5) -> None:
        self.ridge = number("ridge", ridge, above=0)

    def features(self, observations: Tensor, time: Tensor) -> Tensor:
        """Features [..., F] of observations [..., O] at steps `time` [...], float64."""
        clipped = observations.double().clamp(-10.0, 10.0)
        t = time[..., None] / 100.0
        return torch.cat([clipped, clipped**2, t, t**2, t**3, torch.ones_like(t)], dim=-1)

    def fit(self, rollout: Rollout, returns: Tensor, bootstrap: Bootstrap | None = None) -> Tensor:
        """Solve (X'DX + ridge I) w = X'D y per task, D the mask: [M, F].

        With `bootstrap`, solve (X'D(X - P) + ridge I) w = X'D y, P the bootstrapped features: the
        fixed point of fitting to targets that the fit itself completes, LSTD(1) (Boyan 2002). Time
        has no weight there: a value counted in steps since the start could be any solution of
        V(t) = r + gamma V(t + 1), since nothing says what follows the time limit (Pardo et al.
        2018, section 3).

        Raises:
            NonFiniteError: naming the task whose returns, or whose weights, are not finite.
        """
        features = self.features(rollout.observations, step_in_episode(rollout.first))
        later = self.features(rollout.final_observations, torch.zeros_like(features[:, 0, :, 0]))
        if bootstrap is not None:
            features[..., -4:-1] = later[..., -4:-1] = 0.0
        return least_squares(features, later, rollout.mask, returns, self.ridge, bootstrap)

    def values(self, weights: Tensor, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Predict values [M, T, B] and the value after the last step [M, B], float64."""
        time = step_in_episode(rollout.first)
        values = self.features(rollout.observations, time) @ weights[:, None, :, None]
        final = self.features(rollout.final_observations, time[:, -1] + 1) @ weights[:, :, None]
        return values[..., 0], final[..., 0]


def least_squares(
    features: Tensor,
    final: Tensor,
    mask: Tensor,
    returns: Tensor,
    ridge: float,
    bootstrap: Bootstrap | None,
) -> Tensor:
    """Solve (X'D(X - P) + ridge I) w = X'D y per task, D the mask, P the bootstrapped features.

    Args:
        features: X, [M, T, B, F] in float64.
        final: after the last step, [M, B, F].
        mask: D, [M, T, B].
        returns: y, [M, T, B].
        ridge: multiplied by ten, for the tasks that need it, until there is a finite solution.
        bootstrap: gives P; None for 0.

    Returns:
        w, [M, F].

    Raises:
        NonFiniteError: naming the task whose returns, or whose weights, are not finite.
    """
    rows = features.flatten(1, 2)
    differences = rows
    if bootstrap is not None:
        differences = rows - bootstrap(torch.cat([features, final[:, None]], dim=1)).flatten(1, 2)
    weighted = (rows * mask.double().flatten(1, 2)[..., None]).mT
    gram = weighted @ differences
    target = weighted @ returns.double().flatten(1, 2)[..., None]
    raise_unless_finite("a return of task {} is not finite", target)
    return _solution(gram, target, ridge)


def _solution(gram: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Solve (gram + ridge I) w = target, [M, F, F] and [M, F, 1], by the least ridge that does."""
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    ridges = torch.full((len(gram), 1, 1), ridge, dtype=gram.dtype, device=gram.device)
    for _ in range(10):
        weights, failed = torch.linalg.solve_ex(gram + ridges * identity, target)
        wrong = (failed > 0) | ~torch.isfinite(weights).all(-1).all(-1)
        if not wrong.any():
            return weights[..., 0]
        ridges[wrong] *= 10.0
    weights[wrong] = torch.nan
    largest = float(ridges.max()) / 10
    raise_unless_finite(
        f"the baseline of task {{}} has no finite weights, whatever its ridge up to {largest:g}",
        weights,
    )
    return weights[..., 0]


def raise_unless_finite(message: str, rows: Tensor) -> None:
    """Raise `message` with the number of the first task whose row [M, ...] is not finite."""
    finite = torch.isfinite(rows).flatten(1).all(dim=1)
    if not finite.all():
        raise NonFiniteError(message.format(int((~finite).nonzero()[0])))
