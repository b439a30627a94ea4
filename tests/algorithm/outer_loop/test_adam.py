"""Adam on the same objective."""

import math

import pytest
import torch

from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.outer_loop import Adam
from maml_rl.algorithm.outer_loop.objectives import Measured, flatten
from maml_rl.errors import NonFiniteError
from tests.support.engine import Case


def test_two_steps_follow_adams_equations():
    case = Case(InnerLoop(1, 0.1))
    outer, meta, state = Adam(step_size=0.02), case.meta, {}
    first = second = torch.zeros_like(flatten(meta))
    expected = flatten(meta)
    for step in (1, 2):
        gradient = case.objective().losses_and_gradients(meta)[1].mean(0)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        scaled = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        expected = expected - 0.02 * scaled
        update = outer.update(meta, state, case.objective())
        meta, state = update.meta, update.state
        torch.testing.assert_close(flatten(meta), expected, rtol=1e-9, atol=1e-10)
    assert math.isclose(update.metrics["outer/gradient_norm"], float(gradient.norm()), rel_tol=1e-9)
    assert update.metrics["outer/kl"] > 0


def test_the_gradient_is_clipped_before_the_moments():
    case = Case(InnerLoop(1, 0.1))
    update = Adam(step_size=0.02, max_grad_norm=1e-3).update(case.meta, {}, case.objective())
    gradient = case.objective().losses_and_gradients(case.meta)[1].mean(0)
    clipped = gradient * (1e-3 / gradient.norm())
    moments = torch.cat([s["exp_avg"].flatten() for s in update.state["state"].values()])
    torch.testing.assert_close(moments, 0.1 * clipped, rtol=1e-9, atol=1e-14)


def test_the_starting_parameters_are_left_alone():
    case = Case(InnerLoop(1, 0.1))
    before = flatten(case.meta).clone()
    Adam(step_size=0.5).update(case.meta, {}, case.objective())
    assert torch.equal(flatten(case.meta), before)


def test_a_step_into_what_is_not_finite_is_refused(monkeypatch):
    case = Case(InnerLoop(1, 0.1))
    objective = case.objective()
    after = torch.tensor([0.5, float("nan"), 0.5])
    monkeypatch.setattr(objective, "measure", lambda meta: Measured(after, after, after))
    with pytest.raises(NonFiniteError, match="outer loss after the step of task 1"):
        Adam().update(case.meta, {}, objective)
