"""The meta-gradient and the Fisher product against learn2learn, finite differences, autograd."""

import math
from types import SimpleNamespace

import pytest
import torch

from maml_rl.algorithm.inner_loop.learn2learn import Learn2LearnMAML, Learn2LearnMetaSGD
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.inner_loop.update_rules import MetaSGD
from maml_rl.algorithm.outer_loop.objectives import (
    PostAdaptationObjective,
    flatten,
    graph_memory,
    group_size,
    unflatten,
)
from maml_rl.algorithm.policies import DiagonalGaussian, GaussianMLP
from maml_rl.errors import NonFiniteError
from tests.support.engine import Case, directions, slope

LOSSES = ("likelihood_ratio", "log_likelihood")
STEPS = (1, 3)


def relative(one, other):
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_equals_learn2learn_maml(loss, steps, first_order):
    case = Case(InnerLoop(steps, 0.3, loss, first_order))
    losses, rows = case.objective().losses_and_gradients(case.meta)
    reference = case.objective(Learn2LearnMAML(steps, 0.3, loss, first_order))
    expected_losses, expected_rows = reference.losses_and_gradients(case.meta)
    assert rows.dtype == torch.float64
    assert relative(rows, expected_rows) < 1e-10
    torch.testing.assert_close(losses, expected_losses, rtol=1e-10, atol=1e-12)
    assert float(rows.abs().max()) > 1e-3


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("steps", STEPS)
def test_meta_gradient_equals_learn2learn_meta_sgd(loss, steps):
    case = Case(InnerLoop(steps, 0.3, loss, update=MetaSGD(positive=False)))
    _, rows = case.objective().losses_and_gradients(case.meta)
    _, expected = case.objective(Learn2LearnMetaSGD(steps, 0.3, loss)).losses_and_gradients(
        case.meta
    )
    assert rows.shape[1] == 2 * sum(leaf.numel() for leaf in case.policy.parameters())
    assert relative(rows, expected) < 1e-10
    rates = flatten({name: torch.ones_like(v) for name, v in case.meta.items()})
    rates[: rows.shape[1] // 2] = 0
    assert float((rows * rates).abs().max()) > 1e-4  # the rates' own gradient is not missing


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("rule", "before"), [(None, None), (MetaSGD(positive=False), None), (None, 2), (None, 7)]
)
def test_meta_gradient_equals_finite_differences_of_the_surrogate(loss, steps, rule, before):
    case = Case(InnerLoop(steps, 0.3, loss, update=rule), num_episodes_before=before)
    sizes = [rollout.rewards.shape[2] for rollout in case.rollouts]
    assert sizes == [before or 4] * steps + [4]
    objective = case.objective()
    _, rows = objective.losses_and_gradients(case.meta)
    start, epsilon = flatten(case.meta), 1e-5

    def surrogate(vector):
        return objective.measure(unflatten(vector, case.meta)).losses

    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        change = epsilon * direction
        difference = (surrogate(start + change) - surrogate(start - change)) / (2 * epsilon)
        torch.testing.assert_close(rows @ direction, difference, rtol=1e-6, atol=1e-7)


def test_first_order_gradient_is_the_gradient_at_the_adapted_parameters():
    case = Case(InnerLoop(1, 0.3, first_order=True))
    _, rows = case.objective().losses_and_gradients(case.meta)
    with torch.no_grad():
        adapted = case.adapted(case.meta)
    adapted = {name: leaf.detach().requires_grad_() for name, leaf in adapted.items()}
    rollout, targets = case.rollouts[-1], case.targets[-1]
    log_probs = case.policy.distribution(adapted, rollout.observations)[0].log_prob(rollout.actions)
    ratio = (log_probs - rollout.log_probs).exp()
    loss = -(ratio * targets.advantages * rollout.mask).sum((1, 2)) / rollout.mask.sum((1, 2))
    grads = torch.autograd.grad(loss.sum(), list(adapted.values()))
    expected = torch.cat([grad.flatten(1) for grad in grads], dim=1)
    torch.testing.assert_close(rows, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rule", [None, MetaSGD(positive=False)])
def test_fisher_product_equals_the_hessian_of_the_mean_kl(loss, steps, rule):
    case = Case(InnerLoop(steps, 0.3, loss, update=rule))
    objective = case.objective()
    objective.losses_and_gradients(case.meta)
    mask = case.rollouts[-1].mask

    def adapted_distribution(vector):
        adapted = case.adapted(unflatten(vector, case.meta))
        return case.policy.distribution(adapted, case.rollouts[-1].observations)[0]

    start = flatten(case.meta).requires_grad_()
    reference = DiagonalGaussian(*(part.detach() for part in adapted_distribution(start)))
    divergence = reference.mean_kl(adapted_distribution(start), mask).mean()
    (slope,) = torch.autograd.grad(divergence, start, create_graph=True)
    assert float(slope.detach().abs().max()) < 1e-14
    vector = torch.randn(
        len(start), generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    (expected,) = torch.autograd.grad(slope @ vector, start)
    assert relative(objective.fisher_vector_product(vector), expected) < 1e-12


@pytest.mark.parametrize("rule", [None, MetaSGD(positive=False)])
def test_the_first_order_fisher_matrix_is_symmetric_and_positive(rule):
    case = Case(InnerLoop(2, 0.3, first_order=True, update=rule))
    objective = case.objective()
    _, rows = objective.losses_and_gradients(case.meta)
    one, other = rows[0], rows[1]
    forth = one @ objective.fisher_vector_product(other)
    back = other @ objective.fisher_vector_product(one)
    torch.testing.assert_close(forth, back, rtol=1e-12, atol=0)
    assert one @ objective.fisher_vector_product(one) > 0


OTHERS = [
    *({"activation": name} for name in ("elu", "gelu", "silu", "softplus")),
    {"activation": "torch.atan"},
    {"layer_normalization": True},
]


@pytest.mark.parametrize("options", OTHERS, ids=lambda options: str(*options.values()))
def test_gradient_and_fisher_product_go_through_other_networks_too(options):
    case = Case(InnerLoop(2, 0.03), hidden_sizes=(8, 8), **options)
    ours, theirs = case.objective(), case.objective(Learn2LearnMAML(2, 0.03))
    meta = case.moved(0.3)  # where no layer's outputs are all 0, which normalization blows up
    (_, rows), (_, expected) = (o.losses_and_gradients(meta) for o in (ours, theirs))
    kinks = 1e-2 if options.get("activation") == "elu" else 1e-4  # of its second derivative
    assert relative(rows, expected) < 1e-9

    def loss(at):
        return ours.measure(at).losses.mean()

    def divergence(at):
        return ours.measure(at).kl.mean()

    for direction in directions(rows.shape[1]):
        found = float(rows.mean(0) @ direction)
        assert found == pytest.approx(float(slope(loss, meta, direction)), rel=kinks, abs=1e-7)
        # the KL is 0 with slope 0 here: 2 KL(theta + e d) / e^2 is its curvature along d
        curved = float(direction @ ours.fisher_vector_product(direction))
        ahead, back = (unflatten(flatten(meta) + e * direction, case.meta) for e in (1e-4, -1e-4))
        finite = float(divergence(ahead) + divergence(back)) / 1e-8
        assert curved == pytest.approx(finite, rel=1e-3)


@pytest.mark.parametrize("inner", [Learn2LearnMAML(2, 0.3), Learn2LearnMetaSGD(2, 0.3)])
def test_fisher_product_goes_through_learn2learn_too(inner):
    rule = MetaSGD(positive=False) if isinstance(inner, Learn2LearnMetaSGD) else None
    case = Case(InnerLoop(2, 0.3, update=rule))
    ours, theirs = case.objective(), case.objective(inner)
    _, rows = ours.losses_and_gradients(case.meta)
    theirs.losses_and_gradients(case.meta)
    expected = theirs.fisher_vector_product(rows[0])
    assert relative(ours.fisher_vector_product(rows[0]), expected) < 1e-10


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_results_are_bit_identical_for_every_group_size(size):
    case = Case(InnerLoop(2, 0.3), num_tasks=7, hidden_sizes=(16, 16), dtype=torch.float32)
    whole, grouped = case.objective(tasks_per_group=7), case.objective(tasks_per_group=size)
    losses, rows = whole.losses_and_gradients(case.meta)
    group_losses, group_rows = grouped.losses_and_gradients(case.meta)
    assert torch.equal(losses, group_losses)
    assert torch.equal(rows, group_rows)
    vector = rows.mean(0)
    assert torch.equal(whole.fisher_vector_product(vector), grouped.fisher_vector_product(vector))
    moved = unflatten(flatten(case.meta) - 0.1 * vector, case.meta)
    for one, other in zip(whole.measure(moved), grouped.measure(moved), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("budget", [0, 2**30])
def test_a_share_of_the_tasks_has_fisher_matrices(size, budget):
    case = Case(InnerLoop(1, 0.3), num_tasks=5, dtype=torch.float32)
    shared = case.objective(fisher_share=0.4, tasks_per_group=size, graph_budget=budget)
    losses, rows = shared.losses_and_gradients(case.meta)
    whole = case.objective()
    assert torch.equal(torch.cat(whole.losses_and_gradients(case.meta)[:1]), losses)
    assert torch.equal(whole.losses_and_gradients(case.meta)[1], rows)
    # the mean of the first two tasks' Fisher matrices: 0.4 of 5
    vector = rows.mean(0)
    first = PostAdaptationObjective(
        case.policy, case.inner, [step.tasks(0, 2) for step in case.steps], fixed=case.fixed
    )
    first.losses_and_gradients(case.meta)
    assert torch.equal(shared.fisher_vector_product(vector), first.fisher_vector_product(vector))
    assert whole.fisher_vector_product(vector).sub(shared.fisher_vector_product(vector)).any()


@pytest.mark.parametrize(("share", "tasks"), [(0.55, 11), (0.51, 11), (1e-9, 1), (1.0, 20)])
def test_a_share_is_rounded_up_as_it_is_written(share, tasks):
    case = Case(InnerLoop(1, 0.3), num_tasks=20, num_episodes=2, horizon=2)
    shared = case.objective(fisher_share=share)
    _, rows = shared.losses_and_gradients(case.meta)
    first = PostAdaptationObjective(
        case.policy, case.inner, [step.tasks(0, tasks) for step in case.steps], fixed=case.fixed
    )
    first.losses_and_gradients(case.meta)
    vector = rows.mean(0)
    assert torch.equal(shared.fisher_vector_product(vector), first.fisher_vector_product(vector))


def test_graphs_recomputed_beyond_the_budget_give_the_same_bits():
    case = Case(InnerLoop(1, 0.3), num_tasks=5, dtype=torch.float32)
    kept = case.objective(tasks_per_group=2)
    recomputed = case.objective(tasks_per_group=2, graph_budget=0)
    _, rows = kept.losses_and_gradients(case.meta)
    _, same = recomputed.losses_and_gradients(case.meta)
    assert torch.equal(rows, same)
    vector = rows.sum(0)
    for _ in range(2):
        product = recomputed.fisher_vector_product(vector)
        assert torch.equal(kept.fisher_vector_product(vector), product)


def test_group_size_follows_from_shapes_alone():
    policy = GaussianMLP(20, 6, (64, 64))
    assert group_size(policy, 40, 100, 20) == 2  # 2 x 2000 x 64 activations of a layer
    assert group_size(policy, 5, 6, 4) == 5
    assert group_size(GaussianMLP(20, 6, (1000,)), 40, 100, 20) == 1


def test_on_a_gpu_a_group_is_as_large_as_its_memory():
    policy = GaussianMLP(20, 6, (64, 64))
    # a task's graph: 20 layers' activations x 2 rollouts x 2000 steps x 64 units x 4 bytes
    task = 20 * 2 * 2000 * 64 * 4
    assert group_size(policy, 40, 100, 20, memory=35 * 2**30) == 40
    assert group_size(policy, 40, 100, 20, memory=10 * task) == 10
    assert group_size(policy, 40, 100, 20, memory=10 * task - 1) == 9
    assert group_size(policy, 40, 100, 20, memory=1) == 1
    recurrent = GaussianMLP(20, 6, (), memory_size=64)
    assert group_size(recurrent, 40, 100, 20, memory=30 * task) == 10  # three gates


def test_graphs_may_take_a_quarter_of_a_gpus_memory(monkeypatch):
    properties = SimpleNamespace(total_memory=140 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert graph_memory(torch.device("cuda")) == 35 * 2**30
    assert graph_memory(torch.device("cpu")) is None


def test_surrogate_at_the_start_is_minus_the_mean_advantage():
    case = Case(InnerLoop(1, 0.3))
    losses, _ = case.objective().losses_and_gradients(case.meta)
    rollout, targets = case.rollouts[-1], case.targets[-1]
    mean = (targets.advantages * rollout.mask).sum((1, 2)) / rollout.mask.sum((1, 2))
    torch.testing.assert_close(losses, -mean, rtol=0, atol=1e-12)  # every ratio is 1


def test_the_outer_loss_is_computed_on_the_rollout_after_adaptation():
    case = Case(InnerLoop(1, 0.3))
    before, _ = case.objective().losses_and_gradients(case.meta)
    changed = case.targets[-1]._replace(advantages=case.targets[-1].advantages + 2.5)
    case.steps[-1] = case.steps[-1]._replace(targets=changed)
    after, _ = case.objective().losses_and_gradients(case.meta)
    torch.testing.assert_close(after, before - 2.5, rtol=0, atol=1e-12)


def test_kl_of_the_start_is_zero_and_grows_quadratically():
    case = Case(InnerLoop(1, 0.3))
    objective = case.objective()
    _, rows = objective.losses_and_gradients(case.meta)
    direction = rows.mean(0)
    curvature = float(direction @ objective.fisher_vector_product(direction))
    start = objective.measure(case.meta).kl
    assert float(start.abs().max()) < 1e-14
    small = unflatten(flatten(case.meta) + 1e-3 * direction, case.meta)
    moved = objective.measure(small).kl
    assert math.isclose(float(moved.mean()), 0.5 * 1e-6 * curvature, rel_tol=1e-2)


def test_a_loss_that_is_not_finite_names_the_task():
    case = Case(InnerLoop(1, 0.3))
    advantages = case.targets[-1].advantages.clone()
    advantages[1, 2, 3] = float("nan")
    changed = case.targets[-1]._replace(advantages=advantages)
    case.steps[-1] = case.steps[-1]._replace(targets=changed)
    with pytest.raises(NonFiniteError, match="outer loss of task 1"):
        case.objective().losses_and_gradients(case.meta)
