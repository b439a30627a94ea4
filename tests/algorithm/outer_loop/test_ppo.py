"""PPO and ProMP: the clipped surrogate, the inner-KL penalty, epochs, the adaptive coefficient."""

import math
from copy import deepcopy

import pytest
import torch
from torch.distributions import kl_divergence
from torch.func import functional_call

from envs import UserError
from maml_rl.algorithm.adaptation import Experience
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import PPO, Adam
from maml_rl.algorithm.outer_loop.objectives import Measured, flatten, unflatten
from maml_rl.algorithm.outer_loop.ppo import COEFFICIENT_RANGE
from maml_rl.errors import NonFiniteError
from tests.support.engine import Case, Plain, directions, relative, slope

RATE = 0.3


def promp(case, outer, state=None):
    """ProMP's objective, with its references at the case's meta-parameters."""
    objective = case.objective(terms=outer.terms(state or {}))
    objective.measure(case.meta)
    return objective


def replayed(case, meta, task):
    """A task's policies on every rollout, adapted from `meta` on torch's own modules."""
    module, distributions = Plain(meta), []
    params = dict(module.named_parameters())
    for rollout, targets in zip(case.rollouts, case.targets, strict=True):
        distribution = functional_call(module, params, (rollout.observations[task],))
        distributions.append(distribution)
        ratio = (distribution.log_prob(rollout.actions[task]) - rollout.log_probs[task]).exp()
        objective = (
            rollout.mask[task] * ratio * targets.advantages[task]
        ).mean()  # no step missing
        grads = torch.autograd.grad(objective, list(params.values()))
        params = {
            name: (leaf + RATE * grad).detach().requires_grad_()
            for (name, leaf), grad in zip(params.items(), grads, strict=True)
        }
    return distributions


def by_hand(case, meta, clip, coefficient):
    """ProMP's losses at `meta`, and the ratios after adaptation, task by task."""
    losses, ratios = [], []
    for task in range(case.num_tasks):
        references, now = (replayed(case, at, task) for at in (case.meta, meta))
        pairs = zip(references[:-1], now[:-1], strict=True)
        penalty = sum(kl_divergence(*pair).mean() for pair in pairs) / (len(now) - 1)
        last, advantages = case.rollouts[-1], case.targets[-1].advantages[task]
        ratio = (now[-1].log_prob(last.actions[task]) - last.log_probs[task]).exp()
        # what raises the surrogate counts up to the clip alone, what lowers it without bound
        bounded = torch.where(advantages > 0, ratio.clamp(max=1 + clip), ratio.clamp(min=1 - clip))
        losses.append(-(bounded * advantages).mean() + coefficient * penalty)
        ratios.append(ratio)
    return torch.stack(losses).detach(), torch.stack(ratios).detach()


def off_the_border(ratios, clip):
    """Whether no ratio lies where the clipped surrogate has no derivative, and some lie beyond."""
    distance = (ratios - 1).abs() - clip
    return float(distance.abs().min()) > 1e-4 and int((distance > 0).sum()) > 2


@pytest.mark.parametrize("steps", [1, 2])
def test_promps_loss_is_the_one_written_out_and_has_its_gradient(steps):
    case = Case(InnerLoop(steps, RATE))
    outer, meta = PPO(clip=0.2, inner_kl_coefficient=0.5), case.moved(0.15)
    objective = promp(case, outer)
    losses, rows = objective.losses_and_gradients(meta)
    expected, ratios = by_hand(case, meta, 0.2, 0.5)
    torch.testing.assert_close(losses, expected, rtol=1e-11, atol=1e-12)
    assert off_the_border(ratios, 0.2)
    for direction in directions(rows.shape[1]):
        difference = slope(lambda at: objective.measure(at).losses, meta, direction)
        torch.testing.assert_close(rows @ direction, difference, rtol=1e-6, atol=1e-7)


def test_clip_and_penalty_both_matter_to_the_gradient():
    case = Case(InnerLoop(2, RATE))
    meta = case.moved(0.15)
    _, rows = promp(case, PPO(clip=0.2, inner_kl_coefficient=0.5)).losses_and_gradients(meta)
    for other in (PPO(clip=1e6, inner_kl_coefficient=0.5), PPO(clip=0.2)):
        _, without = promp(case, other).losses_and_gradients(meta)
        assert relative(without, rows) > 1e-2


@pytest.mark.parametrize("steps", [1, 2])
def test_inner_kl_is_measured_from_the_policies_that_collected(steps):
    case = Case(InnerLoop(steps, RATE))
    meta, objective = case.moved(0.15), promp(case, PPO())
    measured = objective.measure(meta).inner_kl
    with_penalty, _ = by_hand(case, meta, 0.2, 1.0)
    without, _ = by_hand(case, meta, 0.2, 0.0)
    torch.testing.assert_close(measured, with_penalty - without, rtol=1e-10, atol=1e-12)
    assert float(measured.min()) > 1e-3
    assert float(objective.measure(case.meta).inner_kl.abs().max()) < 1e-15


def test_at_the_start_the_gradient_is_that_of_the_plain_surrogate():
    case = Case(InnerLoop(1, RATE))
    outer = PPO(clip=0.2, inner_kl_coefficient=0.5)
    losses, rows = promp(case, outer).losses_and_gradients(case.meta)
    plain_losses, plain_rows = case.objective().losses_and_gradients(case.meta)
    torch.testing.assert_close(losses, plain_losses, rtol=0, atol=1e-14)
    torch.testing.assert_close(rows, plain_rows, rtol=0, atol=1e-13)


def numerical_gradient(objective, meta):
    """The gradient of the mean loss, one number at a time."""
    columns = torch.eye(len(flatten(meta)), dtype=torch.float64)
    differences = [
        slope(lambda at: objective.measure(at).losses.mean(), meta, column) for column in columns
    ]
    return torch.stack(differences)


def test_three_epochs_are_three_steps_of_torchs_adam_on_the_same_rollouts():
    case = Case(InnerLoop(1, RATE), hidden_sizes=(3,))
    outer = PPO(step_size=0.05, epochs=3, clip=0.1, inner_kl_coefficient=0.5)
    objective = promp(case, outer)
    vector = flatten(case.meta).clone().requires_grad_()
    optimizer, norms = torch.optim.Adam([vector], lr=0.05), []
    for epoch in range(3):
        meta = unflatten(vector.detach(), case.meta)
        gradient = objective.losses_and_gradients(meta)[1].mean(0)
        assert epoch == 0 or off_the_border(by_hand(case, meta, 0.1, 0.5)[1], 0.1)
        torch.testing.assert_close(
            gradient, numerical_gradient(objective, meta), rtol=1e-6, atol=1e-8
        )
        vector.grad = gradient
        norms.append(float(gradient.norm()))
        optimizer.step()
    update = outer.update(case.meta, {}, case.objective(terms=outer.terms({})))
    torch.testing.assert_close(flatten(update.meta), vector.detach(), rtol=0, atol=1e-13)
    after = objective.measure(update.meta)
    assert update.metrics["outer/loss_after"] == pytest.approx(float(after.losses.mean()))
    assert update.metrics["outer/inner_kl"] == pytest.approx(float(after.inner_kl.mean()))
    assert update.metrics["outer/inner_kl"] > 1e-3
    assert update.metrics["outer/gradient_norm"] == pytest.approx(norms[0])


def test_the_epochs_end_beyond_the_kl_divergence():
    case = Case(InnerLoop(1, RATE), hidden_sizes=(3,))

    def update(**options):
        outer = PPO(step_size=0.02, **options)
        return outer.update(case.meta, {}, case.objective(terms=outer.terms({})))

    moved = [update(epochs=epochs) for epochs in (1, 2, 3, 4)]
    kls = [step.metrics["outer/kl"] for step in moved]
    assert kls == sorted(kls)
    assert kls[0] > 1e-4
    for epochs, bound in [(1, kls[0] / 2), (2, kls[0]), (3, (kls[1] + kls[2]) / 2), (4, kls[3])]:
        stopped = update(epochs=4, max_kl=bound)
        assert stopped.metrics["outer/epochs"] == epochs
        torch.testing.assert_close(stopped.meta, moved[epochs - 1].meta, rtol=0, atol=0)


def test_a_second_iteration_goes_on_with_adams_moments():
    case = Case(InnerLoop(1, RATE))
    outer = PPO(step_size=0.02, epochs=2)
    vector = flatten(case.meta).clone().requires_grad_()
    optimizer, meta, state = torch.optim.Adam([vector], lr=0.02), case.meta, {}
    for _ in range(2):
        objective = case.objective(terms=outer.terms({}))
        for _ in range(2):
            at = unflatten(vector.detach(), case.meta)
            vector.grad = objective.losses_and_gradients(at)[1].mean(0)
            optimizer.step()
        update = outer.update(meta, state, case.objective(terms=outer.terms(state)))
        meta, state = update.meta, update.state
    torch.testing.assert_close(flatten(meta), vector.detach(), rtol=0, atol=1e-13)
    moments = state["adam"]["state"]
    assert {float(each["step"]) for each in moments.values()} == {4.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 0.01}, {"schedule": "linear"}], ids=str)
def test_one_epoch_without_clip_and_penalty_is_adam_to_the_bit(options, dtype):
    case = Case(InnerLoop(2, RATE), dtype=dtype)
    ppo, adam = PPO(0.02, epochs=1, clip=1e6, **options), Adam(0.02, **options)
    meta, state = case.meta, {}
    other, other_state = case.meta, {}
    for progress in (0.0, 0.25):
        one = ppo.update(meta, state, case.objective(terms=ppo.terms(state)), progress)
        two = adam.update(other, other_state, case.objective(), progress)
        assert torch.equal(flatten(one.meta), flatten(two.meta))
        assert all(one.metrics[name] == value for name, value in two.metrics.items())
        (meta, state, _), (other, other_state, _) = one, two
    assert not torch.equal(flatten(meta), flatten(case.meta))


def test_the_schedule_and_the_bound_on_the_gradient_reach_every_epoch():
    case = Case(InnerLoop(1, RATE))
    halved = PPO(0.02, epochs=3, schedule="linear")
    plain = PPO(0.01, epochs=3)
    one = halved.update(case.meta, {}, case.objective(terms=halved.terms({})), progress=0.5)
    two = plain.update(case.meta, {}, case.objective(terms=plain.terms({})))
    assert torch.equal(flatten(one.meta), flatten(two.meta))
    bounded = PPO(0.02, epochs=1, max_grad_norm=1e-3)
    update = bounded.update(case.meta, {}, case.objective(terms=bounded.terms({})))
    moments = [each["exp_avg"].flatten() for each in update.state["adam"]["state"].values()]
    assert float(torch.cat(moments).norm()) == pytest.approx(0.1 * 1e-3)
    assert update.metrics["outer/gradient_norm"] > 0.01  # as it was before the bound


@pytest.mark.parametrize("outer", [Adam(0.02), PPO(0.02, epochs=2)], ids=["adam", "ppo"])
def test_an_update_leaves_the_state_it_was_given(outer):
    case = Case(InnerLoop(1, RATE))

    def update(meta, state):
        return outer.update(meta, state, case.objective(terms=outer.terms(state)))

    first = update(case.meta, {})
    twice = [update(first.meta, first.state) for _ in range(2)]
    assert torch.equal(flatten(twice[0].meta), flatten(twice[1].meta))


# -------------------------------------------------------------------- the adaptive coefficient


class Measuring:
    """An objective whose inner KL after an update is what a test says."""

    def __init__(self, inner_kl):
        self.inner_kl = inner_kl

    def losses_and_gradients(self, meta):
        return torch.tensor([1.0, 3.0]), torch.tensor([[3.0, 1.0], [3.0, -1.0]])

    def measure(self, meta):
        half = torch.tensor([0.5, 1.5])
        return Measured(half, half, self.inner_kl * half)


META = {"w": torch.tensor([5.0, 6.0])}


@pytest.mark.parametrize(
    ("inner_kl", "factor"),
    [
        (0.031, 2.0),  # above 1.5 * 0.02
        (0.029, 1.0),
        (0.02, 1.0),
        (0.0134, 1.0),
        (0.0132, 0.5),  # below 0.02 / 1.5
    ],
)
def test_the_coefficient_is_doubled_halved_or_kept(inner_kl, factor):
    outer = PPO(inner_kl_coefficient=0.1, target_inner_kl=0.02)
    update = outer.update(META, {}, Measuring(inner_kl))
    assert update.metrics["outer/inner_kl"] == pytest.approx(inner_kl)
    assert update.metrics["outer/inner_kl_coefficient"] == 0.1  # the one that was used
    assert update.state["inner_kl_coefficient"] == 0.1 * factor
    following = outer.update(META, update.state, Measuring(inner_kl))
    assert following.metrics["outer/inner_kl_coefficient"] == 0.1 * factor
    assert following.state["inner_kl_coefficient"] == 0.1 * factor**2


def test_without_a_target_the_coefficient_stays():
    update = PPO(inner_kl_coefficient=0.1).update(META, {}, Measuring(100.0))
    assert update.state["inner_kl_coefficient"] == 0.1


def test_the_coefficient_stays_within_its_bounds():
    outer, state = PPO(inner_kl_coefficient=0.1, target_inner_kl=0.02), {}
    for _ in range(40):
        state = outer.update(META, state, Measuring(1.0)).state
    assert state["inner_kl_coefficient"] == COEFFICIENT_RANGE[1] == 1e4
    for _ in range(60):
        state = outer.update(META, state, Measuring(0.0)).state
    assert state["inner_kl_coefficient"] == COEFFICIENT_RANGE[0] == 1e-6


def test_the_next_update_minimizes_with_the_coefficient_in_the_state():
    case = Case(InnerLoop(1, RATE))
    outer = PPO(0.05, epochs=2, inner_kl_coefficient=0.25, target_inner_kl=1e-6)
    learner = MetaLearner(case.policy, LinearFeatureBaseline(), case.inner, outer)
    experience = Experience(case.steps)
    first = learner.outer_step(case.meta, {}, experience)
    assert first.state["inner_kl_coefficient"] == 0.5
    second = learner.outer_step(first.meta, deepcopy(first.state), experience)
    assert second.metrics["outer/inner_kl_coefficient"] == 0.5
    fixed = PPO(0.05, epochs=2, inner_kl_coefficient=0.5)
    carried = {"adam": first.state["adam"]}
    objective = case.objective(terms=fixed.terms({}))
    same = fixed.update(first.meta, deepcopy(carried), objective)
    assert torch.equal(flatten(second.meta), flatten(same.meta))
    without = PPO(0.05, epochs=2)
    other = without.update(first.meta, carried, case.objective(terms=without.terms({})))
    assert not torch.equal(flatten(second.meta), flatten(other.meta))
    # the loss after the step has the penalty at that coefficient
    moved = second.metrics["outer/inner_kl"]
    bare = case.objective(terms=without.terms({}))
    bare.measure(first.meta)
    surrogate = float(bare.measure(second.meta).losses.mean())
    assert second.metrics["outer/loss_after"] == pytest.approx(surrogate + 0.5 * moved, rel=1e-10)


# ------------------------------------------------------------------------------------- refusals


def test_a_step_into_what_is_not_finite_is_refused():
    outer = PPO(epochs=1)
    objective = Measuring(0.0)
    broken = torch.tensor([0.5, math.nan])
    objective.measure = lambda meta: Measured(broken, broken, broken)
    with pytest.raises(NonFiniteError, match="outer loss after the step of task 1"):
        outer.update(META, {}, objective)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"step_size": 0}, "^step_size"),
        ({"epochs": 0}, "^epochs"),
        ({"clip": 0}, "^clip"),
        ({"inner_kl_coefficient": -1}, "^inner_kl_coefficient"),
        ({"target_inner_kl": 0.01}, "^target_inner_kl adapts a penalty that is 0"),
        ({"inner_kl_coefficient": 1, "target_inner_kl": 0}, "^target_inner_kl"),
        ({"max_kl": 0}, "^max_kl"),
        ({"max_grad_norm": 0}, "^max_grad_norm"),
        ({"schedule": "stairs"}, "^schedule"),
    ],
)
def test_wrong_arguments_are_named(arguments, name):
    with pytest.raises(UserError, match=name):
        PPO(**arguments)


@pytest.mark.parametrize(
    "inner", [InnerLoop(1, RATE, "log_likelihood"), InnerLoop(1, RATE, "dice"), InnerLoop(0, RATE)]
)
def test_the_penalty_needs_ratio_losses_and_inner_steps(inner):
    case = Case(inner)
    with pytest.raises(UserError, match="inner_kl_coefficient"):
        MetaLearner(case.policy, LinearFeatureBaseline(), inner, PPO(inner_kl_coefficient=5e-4))
    MetaLearner(case.policy, LinearFeatureBaseline(), inner, PPO())
