"""Conjugate gradient, the trust region and the line search."""

import pytest
import torch

from envs import UserError
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.outer_loop import TRPO, Adam
from maml_rl.algorithm.outer_loop.objectives import Measured, flatten
from maml_rl.algorithm.outer_loop.trpo import conjugate_gradient
from maml_rl.algorithm.policies import GaussianMLP
from tests.support.engine import Case


def test_conjugate_gradient_solves_a_symmetric_system():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(6, dtype=torch.float64)
    target = torch.randn(6, generator=generator, dtype=torch.float64)
    solution, residual = conjugate_gradient(lambda v: matrix @ v, target, 6)
    torch.testing.assert_close(solution, torch.linalg.solve(matrix, target))
    torch.testing.assert_close(residual, target - matrix @ solution, rtol=0, atol=1e-10)
    calls = []
    conjugate_gradient(lambda v: (calls.append(1), matrix @ v)[1], target, 2)
    assert len(calls) == 2


def test_the_full_step_has_the_size_of_the_trust_region():
    case = Case(InnerLoop(1, 0.1), num_episodes=10)
    objective = case.objective()
    _, rows = objective.losses_and_gradients(case.meta)
    outer = TRPO(damping=0.1, cg_iterations=50)
    gradient = rows.mean(0)
    step = outer._full_step(objective, gradient, 0.02)
    mapped = objective.fisher_vector_product(step) + 0.1 * step
    # half the squared length in the metric is max_kl, and the step solves (F + 0.1) x ~ -gradient
    torch.testing.assert_close(0.5 * step @ mapped, torch.tensor(0.02, dtype=torch.float64))
    cosine = torch.nn.functional.cosine_similarity(mapped, -gradient, dim=0)
    assert float(cosine) > 0.999999
    assert float(gradient @ step) < 0


def test_an_accepted_step_lowers_the_loss_within_the_bound():
    case = Case(InnerLoop(1, 0.1), num_tasks=4, num_episodes=10)
    objective = case.objective()
    update = TRPO(max_kl=0.01).update(case.meta, {}, objective)
    losses, divergences, _ = objective.measure(update.meta)
    metrics = update.metrics
    assert metrics["outer/accepted"] == 1.0
    assert metrics["outer/loss_after"] == float(losses.mean()) < metrics["outer/loss"]
    assert metrics["outer/kl"] == float(divergences.mean()) <= 0.01
    assert metrics["outer/kl"] > 0.001
    assert not torch.equal(flatten(update.meta), flatten(case.meta))


class Stubborn:
    """An objective whose candidates are what a test says: (loss, kl) in turn."""

    def __init__(self, candidates):
        self.candidates = iter(candidates)
        self.released = False

    def losses_and_gradients(self, meta):
        return torch.tensor([1.0, 3.0]), torch.tensor([[3.0, 1.0], [3.0, -1.0]])

    def fisher_vector_product(self, vector):
        return 4.0 * vector

    def release(self):
        self.released = True

    def measure(self, meta):
        loss, kl = next(self.candidates)
        return Measured(torch.tensor([loss, loss]), torch.tensor([kl, kl]), torch.zeros(2))


META = {"w": torch.tensor([5.0, 6.0])}


def test_the_line_search_wants_improvement_and_the_bound_and_backtracks():
    # mean loss before: 2. Too far, no better, equal, then good: the fourth size, 0.5^3 of the step.
    objective = Stubborn([(1.0, 0.03), (2.5, 0.001), (2.0, 0.001), (1.9, 0.019)])
    outer = TRPO(max_kl=0.02, damping=0.0, backtrack_ratio=0.5)
    update = outer.update(META, {}, objective)
    assert update.metrics["outer/line_search_steps"] == 4
    assert update.metrics["outer/accepted"] == 1.0
    assert update.metrics["outer/loss"] == 2.0
    # gradient (3, 0), F = 4: direction (0.75, 0), curvature 2.25, step -sqrt(0.04/2.25) direction
    expected = torch.tensor([5.0 - (0.04 / 2.25) ** 0.5 * 0.75 / 8, 6.0])
    torch.testing.assert_close(update.meta["w"], expected)
    assert objective.released


def test_parameters_stay_what_they_were_when_no_size_is_accepted():
    objective = Stubborn([(2.5, 0.0), (1.0, 0.5), (float("nan"), 0.0)])
    update = TRPO(line_search_steps=3).update(META, {}, objective)
    assert update.metrics["outer/accepted"] == 0.0
    assert torch.equal(update.meta["w"], META["w"])
    assert update.metrics["outer/line_search_steps"] == 3
    assert update.metrics["outer/kl"] == 0.0  # the policies did not move
    assert update.metrics["outer/loss_after"] == update.metrics["outer/loss"]


def test_a_tiny_gradient_is_followed_as_far_as_a_large_one():
    class Tiny(Stubborn):
        def losses_and_gradients(self, meta):
            return torch.tensor([2.0]), torch.tensor([[3e-9, 0.0]])

    update = TRPO(max_kl=0.02, damping=0.0).update(META, {}, Tiny([(1.9, 0.019)]))
    # F = 4: the step has length sqrt(2 * 0.02 / 4) whatever the gradient's
    torch.testing.assert_close(update.meta["w"], torch.tensor([5.0 - 0.1, 6.0]))


def test_a_direction_that_seems_of_negative_curvature_ends_the_conjugate_gradient():
    target = torch.tensor([1.0, 2.0])
    solution, residual = conjugate_gradient(lambda v: -v, target, 5)
    assert torch.equal(solution, torch.zeros(2))
    assert torch.equal(residual, target)


def test_a_zero_gradient_leaves_the_parameters():
    class Flat(Stubborn):
        def losses_and_gradients(self, meta):
            return torch.tensor([1.0]), torch.zeros(1, 2)

    update = TRPO(line_search_steps=2).update(META, {}, Flat([(1.0, 0.0), (1.0, 0.0)]))
    assert torch.equal(update.meta["w"], META["w"])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"max_kl": 0}, "^max_kl"),
        ({"cg_iterations": 0}, "^cg_iterations"),
        ({"damping": -1}, "^damping"),
        ({"line_search_steps": 1.5}, "^line_search_steps"),
        ({"backtrack_ratio": 1.0}, "^backtrack_ratio"),
        ({"fisher_share": 0}, "^fisher_share"),
        ({"fisher_share": 1.1}, "^fisher_share"),
    ],
)
def test_wrong_arguments_are_named(arguments, name):
    with pytest.raises(UserError, match=name):
        TRPO(**arguments)


def test_an_activation_without_fisher_products_is_refused():
    mish = GaussianMLP(2, 1, (4,), "torch.nn.functional.mish")
    atan = GaussianMLP(2, 1, (4,), "torch.atan")
    TRPO().check(InnerLoop(), atan)
    with pytest.raises(UserError, match="no Fisher products through mish: use outer=adam"):
        TRPO().check(InnerLoop(), mish)
    Adam().check(InnerLoop(), mish)
