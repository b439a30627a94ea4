"""Losses against written-out arithmetic."""

import math

import pytest
import torch

from envs import UserError
from maml_rl.algorithm.advantages import Targets
from maml_rl.algorithm.inner_loop.learn2learn import Learn2LearnMAML
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.inner_loop.losses import likelihood_ratio, log_likelihood
from maml_rl.algorithm.policies import DiagonalGaussian
from maml_rl.algorithm.rollout import Rollout
from tests.support.engine import Case


def case():
    """One task, two steps, two slots; the second slot ended after its first step."""
    mean = torch.tensor([[[[0.0], [1.0]], [[0.5], [9.0]]]], dtype=torch.float64)
    actions = torch.tensor([[[[1.0], [1.0]], [[0.0], [3.0]]]], dtype=torch.float64)
    mask = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
    advantages = torch.tensor([[[2.0, -1.0], [0.5, 100.0]]], dtype=torch.float64)
    old = torch.tensor([[[-1.5, -1.0], [-0.5, 0.0]]], dtype=torch.float64)
    empty = torch.zeros(0)
    rollout = Rollout(empty, actions, empty, empty, empty, mask, old, empty, None, {})
    distribution = DiagonalGaussian(mean, torch.zeros(1, 1, 1, 1, dtype=torch.float64))
    return distribution, rollout, Targets(advantages, *[torch.zeros(1)] * 5)


C = 0.5 * math.log(2 * math.pi)
# log densities of a unit normal at distances 1, 0, 0.5 (the fourth step did not happen)
LOG = [-0.5 - C, -C, -0.125 - C]


def test_log_likelihood_is_the_mean_over_steps_that_happened():
    expected = -(2.0 * LOG[0] - 1.0 * LOG[1] + 0.5 * LOG[2]) / 3
    assert math.isclose(log_likelihood(*case()).item(), expected, rel_tol=1e-14)


def test_likelihood_ratio_divides_by_the_stored_densities():
    ratios = [math.exp(LOG[0] + 1.5), math.exp(LOG[1] + 1.0), math.exp(LOG[2] + 0.5)]
    expected = -(2.0 * ratios[0] - 1.0 * ratios[1] + 0.5 * ratios[2]) / 3
    assert math.isclose(likelihood_ratio(*case()).item(), expected, rel_tol=1e-14)


class Doubled:
    """A loss of one's own."""

    def __call__(self, distribution, rollout, targets):
        return 2 * likelihood_ratio(distribution, rollout, targets)


class Summed(Doubled):
    """One number for all tasks: wrong."""

    def __call__(self, distribution, rollout, targets):
        return super().__call__(distribution, rollout, targets).sum()


@pytest.mark.parametrize("inner", [InnerLoop, Learn2LearnMAML])
def test_a_loss_of_ones_own_takes_the_steps_of_its_gradient(inner):
    ours = Case(inner(1, 0.3, Doubled()), seed=1)
    named = Case(inner(1, 0.6), seed=1)  # twice the loss is twice the step
    assert ours.inner.loss_name == "Doubled"
    one, other = (case.adapted(case.meta) for case in (ours, named))
    for name, leaf in one.items():
        torch.testing.assert_close(leaf, other[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("inner", [InnerLoop, Learn2LearnMAML])
def test_a_loss_that_mixes_tasks_is_refused(inner):
    words = r"inner.loss=Summed must give one number a task, of shape \[3\]|\[1\], not \[\]: write"
    with pytest.raises(UserError, match=words):
        Case(inner(1, 0.3, Summed()))


def test_decay_is_of_loaded_dice_alone():
    with pytest.raises(UserError, match=r"dice_decay=0.5 is for .*loaded_dice, not Doubled"):
        InnerLoop(loss=Doubled(), dice_decay=0.5)
