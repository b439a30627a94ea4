"""The inner loop against written-out arithmetic."""

import pytest
import torch

from envs import UserError
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.learn2learn import Learn2LearnMAML, Learn2LearnMetaSGD
from maml_rl.algorithm.inner_loop.loop import InnerLoop, stack
from maml_rl.algorithm.inner_loop.update_rules import SGD, MetaSGD
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import TRPO
from maml_rl.randomness import Key
from tests.support.engine import Case


@pytest.mark.parametrize("loss", ["likelihood_ratio", "log_likelihood"])
def test_a_step_is_minus_step_size_times_the_policy_gradient_of_each_task(loss):
    case = Case(InnerLoop(1, 0.25, loss))
    rollout, targets = case.rollouts[0], case.targets[0]
    rows = stack(case.meta, 3)
    with torch.no_grad():
        adapted, grads, _ = case.inner.step(case.policy, rows, rows, rollout, targets)
    for task in range(3):
        leaves = {name: leaf.clone().requires_grad_() for name, leaf in case.meta.items()}
        own = {name: leaf[None] for name, leaf in leaves.items()}
        observations = rollout.observations[task : task + 1]
        log_probs = case.policy.distribution(own, observations)[0].log_prob(
            rollout.actions[task : task + 1]
        )[0]
        weight = rollout.mask[task] * targets.advantages[task]
        # at the sampling parameters the gradient of the ratio is the gradient of log pi
        surrogate = -(weight * log_probs).sum() / rollout.mask[task].sum()
        for name, grad in zip(leaves, torch.autograd.grad(surrogate, leaves.values()), strict=True):
            torch.testing.assert_close(grads[name][task], grad, rtol=1e-10, atol=1e-13)
            expected = case.meta[name] - 0.25 * grad
            torch.testing.assert_close(adapted[name][task], expected, rtol=1e-10, atol=1e-13)


def test_a_step_improves_every_task_on_its_own_data():
    case = Case(InnerLoop(1, 0.01))
    rollout, targets = case.rollouts[0], case.targets[0]
    rows = stack(case.meta, 3)
    with torch.no_grad():
        adapted, *_ = case.inner.step(case.policy, rows, rows, rollout, targets)
        before = case.inner.loss(
            case.policy.distribution(rows, rollout.observations)[0], rollout, targets
        )
        after = case.inner.loss(
            case.policy.distribution(adapted, rollout.observations)[0], rollout, targets
        )
    assert (after < before).all()


def test_no_graph_and_no_change_of_the_arguments_under_no_grad():
    case = Case(InnerLoop(1, 0.1))
    rows = stack(case.meta, 3)
    with torch.no_grad():
        adapted, *_ = case.inner.step(case.policy, rows, rows, case.rollouts[0], case.targets[0])
    assert not any(leaf.requires_grad for leaf in [*rows.values(), *adapted.values()])
    assert all(torch.equal(row, case.meta[name].expand_as(row)) for name, row in rows.items())


def test_the_number_of_steps_asked_for_is_taken():
    case = Case(InnerLoop(3, 0.2))
    rows = stack(case.meta, 3)
    with torch.no_grad():
        three = case.adapted(case.meta)
        params = rows
        for rollout, targets in zip(case.rollouts[:3], case.targets[:3], strict=True):
            params, *_ = case.inner.step(case.policy, params, rows, rollout, targets)
    assert all(torch.equal(three[name], params[name]) for name in three)


@pytest.mark.parametrize(
    "inner",
    [
        InnerLoop(1, 0.2),
        InnerLoop(1, 0.2, update=MetaSGD(positive=False)),
        Learn2LearnMAML(1, 0.2),
        Learn2LearnMetaSGD(1, 0.2),
    ],
)
def test_a_scaled_step_goes_that_part_of_the_way_along_the_same_gradient(inner):
    case = Case(inner)
    rows = stack(case.meta, 3)
    arguments = (case.policy, inner.initial_params(rows), rows, case.rollouts[0], case.targets[0])
    with torch.no_grad():
        whole, grads, _ = inner.step(*arguments)
        part, same, _ = inner.step(*arguments, scale=0.25)
    for name, leaf in inner.initial_params(rows).items():
        torch.testing.assert_close(part[name] - leaf, 0.25 * (whole[name] - leaf))
        torch.testing.assert_close(whole[name] - leaf, -0.2 * grads[name])
        torch.testing.assert_close(same[name], grads[name])


def test_only_steps_beyond_the_trained_number_are_scaled():
    case = Case(InnerLoop(1, 0.2))
    learner = MetaLearner(case.policy, LinearFeatureBaseline(), case.inner, TRPO())
    collector, key = case.collector, Key(5)
    full = learner.collect(collector, case.meta, case.tasks, 1, key).adapted
    two = learner.collect(collector, case.meta, case.tasks, 2, key, later_scale=0.5)
    rows = stack(case.meta, 3)
    with torch.no_grad():
        data = two.steps[1]
        expected, *_ = case.inner.step(
            case.policy, full, rows, data.rollout, data.targets, scale=0.5
        )
    assert all(torch.equal(two.adapted[name], expected[name]) for name in expected)


def test_meta_sgd_multiplies_by_its_own_rate():
    rule = MetaSGD(positive=False)
    params = {"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    meta = {"update/w": torch.tensor([[0.5, 0.1], [0.5, 0.1]])}
    grads = {"w": torch.tensor([[2.0, 10.0], [-2.0, 20.0]])}
    adapted = rule(meta, params, grads, 99.0)
    # 1 - 0.5*2, 2 - 0.1*10; 3 + 0.5*2, 4 - 0.1*20
    torch.testing.assert_close(adapted["w"], torch.tensor([[0.0, 1.0], [4.0, 2.0]]))
    learned = rule.learned({"w": torch.zeros(2)}, 0.3)
    torch.testing.assert_close(learned["update/w"], torch.tensor([0.3, 0.3]))


def test_sgd_uses_the_inner_step_size_and_leaves_what_has_no_gradient():
    params = {"w": torch.tensor([[1.0]]), "fixed": torch.tensor([[7.0]])}
    adapted = SGD()({}, params, {"w": torch.tensor([[4.0]])}, 0.25)
    assert adapted["w"].item() == 0.0  # 1 - 0.25 * 4
    assert adapted["fixed"].item() == 7.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "steps must be a whole number of at least 0, not -1"),
        ({"step_size": "big"}, "step_size must be a finite number above 0, not 'big'"),
        ({"step_size": float("nan")}, "step_size must be a finite number above 0, not nan"),
        ({"step_size": -0.1}, "step_size must be a finite number above 0, not -0.1"),
        ({"loss": "likelihood_ration"}, "Did you mean likelihood_ratio"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        InnerLoop(**arguments)
