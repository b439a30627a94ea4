"""Reptile against its arithmetic, task by task on torch's own modules."""

import math

import pytest
import torch
from torch.func import functional_call

from envs import UserError
from maml_rl.algorithm.adaptation import Experience
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.inner_loop.update_rules import MetaSGD
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import Reptile
from maml_rl.algorithm.outer_loop.objectives import flatten
from maml_rl.algorithm.outer_loop.terms import post_adaptation_surrogate
from tests.support.engine import Case, Plain

RATE = 0.3


def adapted_by_hand(case, loss="likelihood_ratio"):
    """Each task's parameters after a plain gradient step on every rollout, flat [M, P]."""
    module, rows = Plain(case.meta), []
    for task in range(case.num_tasks):
        params = dict(module.named_parameters())
        for rollout, targets in zip(case.rollouts, case.targets, strict=True):
            distribution = functional_call(module, params, (rollout.observations[task],))
            log_probs = distribution.log_prob(rollout.actions[task])
            if loss == "likelihood_ratio":
                log_probs = (log_probs - rollout.log_probs[task]).exp()
            mask = rollout.mask[task]
            objective = (mask * log_probs * targets.advantages[task]).sum() / mask.sum()
            grads = torch.autograd.grad(objective, list(params.values()))
            params = {
                name: (leaf + RATE * grad).detach().requires_grad_()
                for (name, leaf), grad in zip(params.items(), grads, strict=True)
            }
        rows.append(flatten({name: params[name].detach() for name in case.meta}))
    return torch.stack(rows)


@pytest.mark.parametrize("loss", ["likelihood_ratio", "log_likelihood"])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_the_initialization_moves_towards_the_mean_of_the_adapted_parameters(steps, loss):
    case = Case(InnerLoop(steps, RATE, loss))
    update = Reptile(step_size=0.4).update(case.meta, {}, case.objective())
    start, adapted = flatten(case.meta), adapted_by_hand(case, loss)
    displacement = (adapted - start).mean(0)
    torch.testing.assert_close(
        flatten(update.meta), start + 0.4 * displacement, rtol=1e-12, atol=1e-13
    )
    norm = float(displacement.norm())
    assert update.metrics["outer/displacement_norm"] == pytest.approx(norm, rel=1e-11)
    assert norm > 0.05
    assert list(update.meta) == list(case.meta)


def test_with_a_step_size_of_one_it_goes_to_the_mean_itself():
    case = Case(InnerLoop(1, RATE))
    update = Reptile(step_size=1.0).update(case.meta, {}, case.objective())
    torch.testing.assert_close(
        flatten(update.meta), adapted_by_hand(case).mean(0), rtol=1e-12, atol=1e-13
    )


def test_a_second_step_starts_from_the_first_ones_result():
    case, state = Case(InnerLoop(1, RATE)), {}
    outer, objective = Reptile(step_size=0.4), case.objective()
    first = outer.update(case.meta, state, objective)
    second = outer.update(first.meta, first.state, objective)
    case.meta = first.meta
    start = flatten(first.meta)
    expected = start + 0.4 * (adapted_by_hand(case) - start).mean(0)
    torch.testing.assert_close(flatten(second.meta), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_it_is_bit_identical_for_every_group_size(size):
    case = Case(InnerLoop(2, RATE), num_tasks=5, hidden_sizes=(16, 16), dtype=torch.float32)
    whole = Reptile().update(case.meta, {}, case.objective(tasks_per_group=5))
    grouped = Reptile().update(case.meta, {}, case.objective(tasks_per_group=size))
    assert torch.equal(flatten(whole.meta), flatten(grouped.meta))
    assert whole.metrics == grouped.metrics


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [("constant", 1.0), ("linear", 0.75), ("cosine", 0.5 * (1 + math.cos(math.pi / 4)))],
)
def test_the_schedule_scales_the_step(schedule, factor):
    case = Case(InnerLoop(1, RATE))
    whole = Reptile(0.4).update(case.meta, {}, case.objective())
    part = Reptile(0.4, schedule).update(case.meta, {}, case.objective(), progress=0.25)
    start = flatten(case.meta)
    moved = factor * (flatten(whole.meta) - start)
    torch.testing.assert_close(flatten(part.meta) - start, moved, rtol=1e-11, atol=1e-15)


def test_it_reports_the_surrogate_and_the_divergence_it_does_not_follow():
    case = Case(InnerLoop(1, RATE))
    outer = Reptile(0.4)
    assert list(outer.terms({})) == [post_adaptation_surrogate]
    update, objective = outer.update(case.meta, {}, case.objective()), case.objective()
    losses, _ = objective.losses_and_gradients(case.meta)
    after = objective.measure(update.meta)
    assert update.metrics["outer/loss"] == pytest.approx(float(losses.mean()), abs=1e-15)
    assert update.metrics["outer/loss_after"] == float(after.losses.mean())
    assert update.metrics["outer/kl"] == float(after.kl.mean()) > 1e-6


def test_through_the_learner_the_step_is_the_same():
    case = Case(InnerLoop(1, RATE))
    learner = MetaLearner(case.policy, LinearFeatureBaseline(), case.inner, Reptile(0.4))
    update = learner.outer_step(case.meta, {}, Experience(case.steps))
    direct = Reptile(0.4).update(case.meta, {}, case.objective())
    assert torch.equal(flatten(update.meta), flatten(direct.meta))


@pytest.mark.parametrize(
    ("inner", "policy", "weights"),
    [
        (InnerLoop(1, RATE, update=MetaSGD()), {}, {}),
        (InnerLoop(1, RATE, adapted=["head"]), {}, {}),
        (InnerLoop(1, RATE), {"context_size": 2}, {}),
        (InnerLoop(1, RATE), {}, {"exploration_weight": 0.1}),
        (InnerLoop(1, RATE), {}, {"entropy_coefficient": 0.1}),
    ],
)
def test_what_has_no_meaning_without_an_outer_gradient_is_refused(inner, policy, weights):
    case = Case(inner, **policy)
    with pytest.raises(UserError, match="outer=reptile"):
        MetaLearner(case.policy, LinearFeatureBaseline(), inner, Reptile(), **weights)
