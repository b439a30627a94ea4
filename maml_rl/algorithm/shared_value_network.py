"""A learned value function: one network for all tasks, carried from iteration to iteration."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from envs.arguments import integer_at_least, number
from envs.errors import ArgumentError, UserError
from envs.recorded import Recorded
from maml_rl.algorithm.adam_step import step_in_place
from maml_rl.algorithm.baselines import Baseline
from maml_rl.algorithm.moments import mean_and_deviation, merged, no_rows, normalized
from maml_rl.algorithm.policies.activations import tanh
from maml_rl.algorithm.returns import step_in_episode
from maml_rl.algorithm.rollout import Params, Rollout

ADAM = ("step", "exp_avg", "exp_avg_sq")


class SharedValueNetwork(Recorded):
    """A multilayer perceptron from a step of any task's episode to its value.

    Its inputs are the observation, the time within the episode, the share of the inner steps that
    were taken, k / K, and with `task_returns` the mean return of the task's rollouts 0 ... k - 1,
    as K numbers of which those that are not known yet are 0: they tell which task it is. Inputs and
    targets, the discounted returns to go, are normalized by running moments.

    Adam's moments are carried on with the weights: its first steps, all of one length, would
    otherwise undo in every iteration a part of what was learned.

    Args:
        hidden_sizes: units of each hidden layer, tanh; there may be none.
        task_returns: whether the task's mean returns since the start of adaptation are inputs.
        epochs: passes of Adam over an iteration's steps, after its outer step.
        batch_size: environment steps behind each of Adam's steps, at most.
        step_size: Adam's learning rate.
        fitted: a baseline fitted to what the network's values leave of each rollout's returns, per
            task; None leaves them as they are.
    """

    fitted: Baseline | None = None

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (64, 64),
        task_returns: bool = False,
        epochs: int = 5,
        batch_size: int = 1000,
        step_size: float = 1e-3,
        fitted: Baseline | None = None,
    ) -> None:
        self.hidden_sizes = [integer_at_least("hidden_sizes", size) for size in hidden_sizes]
        self.task_returns = task_returns
        self.epochs = integer_at_least("epochs", epochs)
        self.batch_size = integer_at_least("batch_size", batch_size)
        self.step_size = number("step_size", step_size, above=0)
        if fitted is not None and not isinstance(fitted, Baseline):
            raise ArgumentError(
                f"fitted must be a baseline, such as LinearFeatureBaseline, or null, not "
                f"{fitted!r}.",
                "fitted",
            )
        self.fitted = fitted

    def initialize(self, generator: torch.Generator, observation_size: int, steps: int) -> Params:
        """Draw Glorot-uniform hidden layers; the last layer is 0, and so are all values.

        Raises:
            UserError: for `task_returns` without inner steps.
        """
        if self.task_returns and steps == 0:
            raise UserError(
                "baseline.task_returns=true needs inner.steps of at least 1: without them "
                "no return of a task is known before its episodes; write "
                "baseline.task_returns=false."
            )
        parts = []
        inputs = observation_size + 2 + steps * self.task_returns
        for i, o in self._shapes(inputs):
            weight = torch.empty(i, o)
            torch.nn.init.xavier_uniform_(weight, generator=generator)
            parts += [weight.flatten(), torch.zeros(o)]
        parts[-2].zero_()
        parameters = torch.cat(parts)
        adam = (torch.tensor(0.0), torch.zeros_like(parameters), torch.zeros_like(parameters))
        return {
            "parameters": parameters,
            **dict(zip(ADAM, adam, strict=True)),
            **no_rows("input", (observation_size + 1,)),
            **no_rows("task_return", (steps,)),
            **no_rows("return"),
        }

    @torch.no_grad()
    def values_of(self, statistics: Params, rollout: Rollout, earlier: Sequence[Rollout]) -> Tensor:
        """Predict values [M, T, B], float64; see `LearnedBaseline.values_of`."""
        inputs = self._inputs(statistics, rollout, earlier)
        outputs = self._outputs(statistics["parameters"], inputs.flatten(0, 2))
        mean, scale = mean_and_deviation(statistics, "return")
        return outputs.double().view_as(rollout.rewards) * scale + mean

    @torch.no_grad()
    def updated(
        self, statistics: Params, rollouts: Sequence[Rollout], returns: Sequence[Tensor]
    ) -> Params:
        """Merge an iteration into the moments, and fit to it by Adam on the mean squared error."""
        happened = [rollout.mask > 0 for rollout in rollouts]
        targets = torch.cat([row[mask] for row, mask in zip(returns, happened, strict=True)])
        seen = torch.cat([_seen(row)[mask] for row, mask in zip(rollouts, happened, strict=True)])
        known = _mean_returns(rollouts[:-1], len(rollouts[0].rewards), len(rollouts) - 1)
        statistics = (
            statistics
            | merged(statistics, "input", seen)
            | merged(statistics, "return", targets)
            | merged(statistics, "task_return", known)
        )
        inputs = [
            self._inputs(statistics, rollout, rollouts[:index])[happened[index]]
            for index, rollout in enumerate(rollouts)
        ]
        mean, scale = mean_and_deviation(statistics, "return")
        goals = ((targets - mean) / scale).float()
        return statistics | self._trained(statistics, torch.cat(inputs), goals)

    def _trained(self, statistics: Params, inputs: Tensor, goals: Tensor) -> Params:
        """Weights and Adam's moments after `epochs` over inputs [N, I] and goals [N]."""
        parameters = statistics["parameters"].clone().requires_grad_()
        moments = {name: statistics[name].clone() for name in ADAM}
        for rows in self._batches(int(moments["step"]), len(goals)):
            with torch.enable_grad():
                error = self._outputs(parameters, inputs[rows]) - goals[rows]
                (gradient,) = torch.autograd.grad(error.square().mean(), [parameters])
            step_in_place([parameters], [gradient], [moments], self.step_size)
        return {"parameters": parameters.detach(), **moments}

    def _batches(self, seed: int, size: int) -> Iterator[Tensor]:
        """Numbers of the rows behind each of Adam's steps, drawn anew in each epoch."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.epochs):
            order = torch.randperm(size, generator=generator)
            yield from order.tensor_split(-(-size // self.batch_size))

    def _outputs(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """Outputs [N] of the network whose weights are in one row [P], for inputs [N, I]."""
        shapes = self._shapes(inputs.shape[-1])
        parts = parameters.split([size for i, o in shapes for size in (i * o, o)])
        hidden = inputs
        for index, (shape, weight, bias) in enumerate(
            zip(shapes, parts[::2], parts[1::2], strict=True)
        ):
            hidden = torch.addmm(bias, tanh(hidden) if index else hidden, weight.view(shape))
        return hidden[:, 0]

    def _shapes(self, inputs: int) -> list[tuple[int, int]]:
        """Shapes [I, H] of the layers' weights."""
        return list(itertools.pairwise([inputs, *self.hidden_sizes, 1]))

    def _inputs(self, statistics: Params, rollout: Rollout, earlier: Sequence[Rollout]) -> Tensor:
        """Inputs of the network, [M, T, B, I]; rollouts beyond the number trained with are as K."""
        trained = len(statistics["task_return_mean"])
        known = earlier[:trained]
        parts = [
            normalized(statistics, "input", _seen(rollout)),
            torch.full((1,), len(known) / max(trained, 1), dtype=torch.float64),
        ]
        if self.task_returns:
            returns = normalized(
                statistics, "task_return", _mean_returns(known, len(rollout.rewards), trained)
            )
            returns[..., len(known) :] = 0.0
            parts.append(returns[:, None, None])
        shape = rollout.rewards.shape
        return torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], dim=-1).float()


def _seen(rollout: Rollout) -> Tensor:
    """Observations and steps within the episode, [M, T, B, O + 1] in float64."""
    time = step_in_episode(rollout.first)[..., None]
    return torch.cat([rollout.observations.double(), time], dim=-1)


def _mean_returns(rollouts: Sequence[Rollout], num_tasks: int, size: int) -> Tensor:
    """Mean return of every task in each rollout, with zeros up to `size`: [M, K] in float64."""
    returns = torch.zeros(num_tasks, size, dtype=torch.float64)
    for index, rollout in enumerate(rollouts):
        returns[:, index] = rollout.mean_return()
    return returns
