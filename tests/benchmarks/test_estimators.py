"""The losses' derivatives against exact ones, with every trajectory weighed by its probability."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from benchmarks import estimators
from benchmarks.derivatives import (
    Estimator,
    Problem,
    TableBaseline,
    cosines,
    doubly_robust,
    score,
    stepwise_importance_sampling,
)
from benchmarks.tabular import (
    enumerate_trajectories,
    exact_gradient,
    exact_hessian,
    exact_meta_gradient,
    exact_return,
    random_mdp,
    sample,
    table_params,
    table_policy,
)
from maml_rl.algorithm.advantages import AdvantageEstimator
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.losses import (
    LOSSES,
    dice,
    likelihood_ratio,
    loaded_dice,
    log_likelihood,
)
from maml_rl.algorithm.returns import decayed_sum
from maml_rl.algorithm.rollout import masked_mean

S, A, T, GAMMA = 2, 2, 3, 0.8
RNG = np.random.default_rng(0)
MDP = dataclasses.replace(
    random_mdp(RNG, S, A, GAMMA, T, concentration=1.0),
    initial=torch.tensor([0.6, 0.4], dtype=torch.float64),
)
LOGITS = torch.from_numpy(RNG.normal(size=(S, A)))
BEHAVIOUR = torch.from_numpy(RNG.normal(size=(S, A)))
VALUES = torch.from_numpy(RNG.normal(size=(T, S)))  # any numbers will do as a baseline
BASELINES = {
    "none": TableBaseline(torch.zeros(T, S, dtype=torch.float64)),
    "any": TableBaseline(VALUES),
    "fitted": LinearFeatureBaseline(),
}
FIVE = [(name, 1.0) for name in LOSSES] + [("loaded_dice", 0.6)]


def targets_of(rollout, baseline, standardize=False):
    estimate = AdvantageEstimator(
        baseline, GAMMA, 1.0, standardize=standardize, discounted_visits=True
    )
    return estimate(rollout)


def objective(loss, rollout, targets, logits, horizon=T):
    """Return what the loss makes of the discounted return, up to a constant."""
    distribution, _, _ = table_policy(MDP).distribution(
        table_params(logits[None]), rollout.observations
    )
    return -horizon * loss(distribution, rollout, targets)[0]


def derivatives(loss, rollout, targets, logits=LOGITS, horizon=T):
    """Return gradient [S, A] and Hessian [S * A, S * A] of the loss's objective."""
    logits = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        objective(loss, rollout, targets, logits, horizon), logits, create_graph=True
    )
    rows = [
        torch.autograd.grad(entry, logits, retain_graph=True)[0].flatten()
        for entry in gradient.flatten()
    ]
    return gradient.detach(), torch.stack(rows)


def assert_equal(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def enumerated(loss, baseline="any"):
    rollout = enumerate_trajectories(MDP, LOGITS)
    return derivatives(loss, rollout, targets_of(rollout, BASELINES[baseline]))


def score_function(state, action):
    """Return the gradient of log pi(action | state) in the flattened table."""
    slope = np.zeros((S, A))
    slope[state] = -LOGITS.softmax(-1)[state].numpy()
    slope[state, action] += 1.0
    return slope.ravel()


def curvature_of_log(state):
    """Return the Hessian of log pi(action | state), the same for every action: p p' - diag(p)."""
    chances = LOGITS.softmax(-1)[state].numpy()
    block = np.zeros((S, A, S, A))
    block[state, :, state] = np.outer(chances, chances) - np.diag(chances)
    return block.reshape(S * A, S * A)


def terms_of_the_hessian(values=VALUES, horizon=T):
    """Sum the Hessian's kinds of terms over all trajectories, by plain loops.

    With g_t the gradient of log pi(a_t | s_t) and G_t the return to go less the baseline, they are
    E sum_t gamma^t G_t times: the Hessian of log pi(a_t | s_t); g_t g_t'; and, with the steps
    before, sum_{k < t} (g_k g_t' + g_t g_k').
    """
    curvature, squares, cross = np.zeros((3, S * A, S * A))
    chances = LOGITS.softmax(-1).numpy()
    moves, rewards = MDP.transitions.numpy(), MDP.rewards.numpy()
    for states in itertools.product(range(S), repeat=horizon):
        for actions in itertools.product(range(A), repeat=horizon):
            steps = list(zip(states, actions, strict=True))
            weight = MDP.initial[states[0]].item() * np.prod([chances[step] for step in steps])
            weight *= np.prod(
                [moves[s, a, n] for (s, a), n in zip(steps, states[1:], strict=False)]
            )
            slopes = [score_function(*step) for step in steps]
            for t, (state, _) in enumerate(steps):
                to_go = sum(GAMMA ** (k - t) * rewards[steps[k]] for k in range(t, horizon))
                factor = weight * GAMMA**t * (to_go - values[t, state].item())
                before = sum(slopes[:t], np.zeros(S * A))
                curvature += factor * curvature_of_log(state)
                squares += factor * np.outer(slopes[t], slopes[t])
                cross += factor * (np.outer(before, slopes[t]) + np.outer(slopes[t], before))
    return tuple(torch.from_numpy(matrix) for matrix in (curvature, squares, cross))


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize(("name", "decay"), FIVE)
def test_every_loss_has_the_exact_gradient(name, decay, baseline):
    gradient, _ = enumerated(LOSSES[name](decay), baseline)
    assert_equal(gradient, exact_gradient(MDP, LOGITS))


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("name", ["dice", "loaded_dice"])
def test_dice_and_loaded_dice_have_the_exact_hessian_whatever_the_baseline(name, baseline):
    _, hessian = enumerated(LOSSES[name](1.0), baseline)
    assert_equal(hessian, exact_hessian(MDP, LOGITS))


def test_third_derivatives_of_loaded_dice_are_exact_too():
    rollout = enumerate_trajectories(MDP, LOGITS)
    targets = targets_of(rollout, BASELINES["any"])

    logits = LOGITS.clone().requires_grad_()
    direction = torch.linspace(-1.0, 1.0, S * A, dtype=torch.float64).view(S, A)

    def third(value):
        for _ in range(3):
            (slope,) = torch.autograd.grad(value, logits, create_graph=True)
            value = (slope * direction).sum()
        return value.detach()

    expected = third(exact_return(MDP, logits))
    assert expected.abs() > 0.01
    for loss in (dice, loaded_dice(1.0)):
        assert_equal(third(objective(loss, rollout, targets, logits)), expected)


def test_the_terms_written_out_sum_to_the_exact_hessian():
    assert_equal(sum(terms_of_the_hessian()), exact_hessian(MDP, LOGITS))


def test_log_likelihood_keeps_only_the_curvature_of_the_log_probabilities():
    _, hessian = enumerated(log_likelihood)
    curvature, squares, cross = terms_of_the_hessian()
    assert_equal(hessian, curvature)
    exact = exact_hessian(MDP, LOGITS)
    assert_equal(exact - hessian, squares + cross)
    assert (exact - hessian).norm() > 0.5 * exact.norm()  # far from a detail


def test_log_likelihood_hessian_vanishes_with_a_perfect_baseline():
    # For a softmax it is the baseline's error times the Fisher information: no information at all.
    rollout = enumerate_trajectories(MDP, LOGITS)
    problem = Problem(MDP, LOGITS, LOGITS, torch.zeros(S, dtype=torch.float64))
    targets = targets_of(rollout, problem.critic("exact", LOGITS))
    _, hessian = derivatives(log_likelihood, rollout, targets)
    assert hessian.abs().max() < 1e-14
    assert exact_hessian(MDP, LOGITS).abs().max() > 0.01


def test_likelihood_ratio_misses_exactly_the_terms_of_two_steps():
    _, hessian = enumerated(likelihood_ratio)
    curvature, squares, cross = terms_of_the_hessian()
    assert_equal(hessian, curvature + squares)
    exact = exact_hessian(MDP, LOGITS)
    assert_equal(exact - hessian, cross)
    assert cross.norm() > 0.1 * exact.norm()


def test_loaded_dices_decay_weighs_the_terms_of_two_steps():
    # decay^(t - k) for the actions of steps k and t: with 0 it is LVC, with 1 it is exact
    lvc, half, full = (enumerated(loaded_dice(decay))[1] for decay in (0.0, 0.5, 1.0))
    assert_equal(lvc, enumerated(likelihood_ratio)[1])
    assert_equal(full, exact_hessian(MDP, LOGITS))
    distances = (half - lvc).norm(), (full - lvc).norm()
    assert 0.25 * distances[1] < distances[0] < 0.5 * distances[1]  # 0.5 and 0.25 for lags 1 and 2


def test_with_one_step_only_the_likelihood_ratio_is_exact_and_the_log_likelihood_not():
    mdp = dataclasses.replace(MDP, horizon=1)
    rollout = enumerate_trajectories(mdp, LOGITS)
    targets = targets_of(rollout, BASELINES["any"])
    exact = exact_hessian(mdp, LOGITS)
    _, ratio = derivatives(likelihood_ratio, rollout, targets, horizon=1)
    assert_equal(ratio, exact)
    _, log = derivatives(log_likelihood, rollout, targets, horizon=1)
    curvature, squares, cross = terms_of_the_hessian(horizon=1)
    assert_equal(log, curvature)
    assert_equal(exact - log, squares)
    assert cross.abs().max() == 0.0
    assert (log - exact).norm() > 0.1 * exact.norm()


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("loss", [stepwise_importance_sampling, doubly_robust])
def test_off_policy_forms_are_exact_at_another_policy_than_the_one_that_sampled(loss, baseline):
    rollout = enumerate_trajectories(MDP, BEHAVIOUR)
    gradient, hessian = derivatives(loss, rollout, targets_of(rollout, BASELINES[baseline]))
    assert_equal(gradient, exact_gradient(MDP, LOGITS))
    assert_equal(hessian, exact_hessian(MDP, LOGITS))


def test_off_policy_the_likelihood_ratio_is_the_first_order_expansion():
    # sum_t gamma^t sum_s d_t(s) sum_a pi(a|s) A_t(s, a), with visits and values of the behaviour
    problem = Problem(MDP, LOGITS, BEHAVIOUR, torch.tensor([0.3, -0.7], dtype=torch.float64))
    rollout = enumerate_trajectories(MDP, BEHAVIOUR)
    targets = targets_of(rollout, problem.critic("noisy", BEHAVIOUR))
    gradient, hessian = derivatives(likelihood_ratio, rollout, targets)
    limit = problem.limit(Estimator("", likelihood_ratio, "noisy"))
    assert_equal(hessian, limit)
    exact = exact_gradient(MDP, LOGITS)
    assert (gradient - exact).norm() > 0.05 * exact.norm()  # biased already in the gradient


@pytest.mark.parametrize("loss", [likelihood_ratio, log_likelihood])
def test_limits_of_the_benchmark_equal_enumeration(loss):
    problem = Problem(MDP, LOGITS, LOGITS, torch.tensor([0.3, -0.7], dtype=torch.float64))
    rollout = enumerate_trajectories(MDP, LOGITS)
    targets = targets_of(rollout, problem.critic("noisy", LOGITS))
    assert_equal(
        derivatives(loss, rollout, targets)[1], problem.limit(Estimator("", loss, "noisy"))
    )


def with_second_order_baseline(distribution, rollout, targets):
    """DiCE with both baselines of Mao et al. 2019 written out, as a loss [1].

    sum_t r_t box(a_0 ... a_t) + (1 - box(a_t)) b_t - (1 - box(a_t)) (1 - box(a_0 ... a_{t-1})) b_t
    """
    log_probs = distribution.log_prob(rollout.actions)
    log_ratios = log_probs - log_probs.detach()
    through = log_ratios.cumsum(1)
    now, before = log_ratios.exp(), (through - log_ratios).exp()
    terms = through.exp() * targets.rewards + (1 - now) * targets.values
    return -masked_mean(terms - (1 - now) * (1 - before) * targets.values, rollout.mask)


@pytest.mark.parametrize("baseline", BASELINES)
def test_loaded_dice_is_dice_with_a_second_order_baseline(baseline):
    rollout = sample(MDP, LOGITS[None], 5, torch.Generator().manual_seed(0))
    targets = targets_of(rollout, BASELINES[baseline])
    loaded = derivatives(loaded_dice(1.0), rollout, targets)
    written = derivatives(with_second_order_baseline, rollout, targets)
    assert_equal(loaded[0], written[0])
    assert_equal(loaded[1], written[1])
    plain = derivatives(dice, rollout, targets)
    assert_equal(loaded[0], plain[0])  # the first-order baseline is the whole difference there
    same = (loaded[1] - plain[1]).abs().max() < 1e-12
    assert same == (baseline == "none")


@pytest.mark.parametrize(("name", "decay"), FIVE)
def test_two_episodes_in_one_slot_count_as_two_slots(name, decay):
    apart = sample(MDP, LOGITS[None], 8, torch.Generator().manual_seed(1))

    def joined(leaf):
        return leaf.unflatten(2, (4, 2)).movedim(3, 1).flatten(1, 2)  # [1, 2 T, 4, ...]

    together = apart._map(lambda leaf: joined(leaf) if leaf.shape[1] == T else leaf)
    together = together._replace(final_observations=apart.final_observations[:, 1::2])
    assert together.first[0, :, 0].tolist() == [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    loss, found = LOSSES[name](decay), []
    for rollout in (apart, together):
        found.append(derivatives(loss, rollout, targets_of(rollout, BASELINES["any"])))
    assert_equal(found[0][0], found[1][0])
    assert_equal(found[0][1], found[1][1])
    assert found[0][1].abs().max() > 0.01


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 1.0])
def test_decayed_sum_equals_a_loop_with_resets(decay):
    # several episodes a slot, one of them of a single step; the last slot has one episode
    rows = [[1, 0, 0, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]]
    first = torch.tensor([rows, rows[::-1]], dtype=torch.float64).mT.contiguous()
    terms = torch.from_numpy(np.random.default_rng(3).normal(size=(2, 7, 3))).requires_grad_()
    expected = torch.zeros(2, 7, 3, dtype=torch.float64)
    for m, b in itertools.product(range(2), range(3)):
        carry = torch.zeros((), dtype=torch.float64)
        for t in range(7):
            carry = terms[m, t, b] + (0.0 if first[m, t, b] else decay) * carry
            expected[m, t, b] = carry
    found = decayed_sum(terms, decay, first)
    assert_equal(found, expected)
    weights = torch.linspace(-1, 2, 42, dtype=torch.float64).view(2, 7, 3)
    slopes = [torch.autograd.grad((sums * weights).sum(), terms)[0] for sums in (found, expected)]
    assert_equal(*slopes)


def meta_gradient(loss, step_size):
    """Return MAML's meta-gradient with both expectations enumerated: the library's losses."""
    logits = LOGITS.clone().requires_grad_()
    rollout = enumerate_trajectories(MDP, LOGITS)
    inner = objective(loss, rollout, targets_of(rollout, BASELINES["any"]), logits)
    adapted = logits + step_size * torch.autograd.grad(inner, logits, create_graph=True)[0]
    second = enumerate_trajectories(MDP, adapted.detach())
    outer = objective(likelihood_ratio, second, targets_of(second, BASELINES["any"]), adapted)
    return torch.autograd.grad(outer, logits)[0]


@pytest.mark.parametrize("step_size", [0.5, 5.0])
def test_meta_gradient_is_exact_where_the_inner_hessian_is(step_size):
    exact = exact_meta_gradient(MDP, LOGITS, step_size)
    assert_equal(meta_gradient(dice, step_size), exact)
    assert_equal(meta_gradient(loaded_dice(1.0), step_size), exact)
    for loss in (likelihood_ratio, log_likelihood):
        assert (meta_gradient(loss, step_size) - exact).norm() > 0.005 * exact.norm()


def test_standardizing_keeps_the_directions_of_the_derivatives():
    # Advantages and what Loaded DiCE weighs are divided by one number; their mean is a baseline.
    rollout = enumerate_trajectories(MDP, LOGITS)
    estimate = AdvantageEstimator(BASELINES["any"], GAMMA, 1.0, discounted_visits=True)
    targets = estimate(rollout)
    for loss in (dice, loaded_dice(1.0)):
        gradient, hessian = derivatives(loss, rollout, targets)
        assert_equal(targets.scale * gradient, exact_gradient(MDP, LOGITS))
        assert_equal(targets.scale * hessian, exact_hessian(MDP, LOGITS))


def test_score_by_hand():
    # mean (2, 0), truth (1, 0): squared bias 1, less variance (1 + 1) / 2 = 1; spread sqrt(2)
    found = score(torch.tensor([[3.0, 0.0], [1.0, 0.0]]), torch.tensor([1.0, 0.0]))
    assert found["bias_squared"] == pytest.approx(0.0, abs=1e-6)
    assert found["spread"] == pytest.approx(2**0.5, rel=1e-6)
    assert found["cosine"] == pytest.approx(1.0, rel=1e-6)
    assert found["correlation"] == pytest.approx(1.0, rel=1e-6)
    shifted = torch.tensor([[2.0, 1.0, 0.0]])
    assert cosines(shifted, torch.tensor([1.0, 0.0, -1.0])).item() == pytest.approx(2 / 10**0.5)
    moved = score(shifted, torch.tensor([1.0, 0.0, -1.0]))
    assert (moved["correlation"], moved["spread"]) == (pytest.approx(1.0), 0.0)
    assert moved["bias_squared"] == pytest.approx(3 / 2)


def test_the_benchmark_measures_and_writes_its_table(monkeypatch):
    monkeypatch.setattr(estimators, "PROBLEMS", 2)
    rows = estimators.measure("on-policy", estimators.ON[:1], (4, 8), 16)
    quantities = {row["quantity"] for row in rows if row["trajectories"] == 8}
    assert quantities == {"gradient", estimators.HESSIAN, estimators.META, estimators.ALL}
    hessian = estimators.select(rows, quantity=estimators.HESSIAN)
    found = {row["trajectories"]: row for row in hessian}
    # half the squared spread with twice the trajectories, up to chance; the limit is known
    assert 1.1 < found[4]["spread"] / found[8]["spread"] < 1.9
    assert found[4]["correlation"] < found[8]["correlation"] < found[0]["correlation"] < 0.95
    lines = estimators.table(hessian, "correlation", (8, 0)).splitlines()
    assert lines[0] == "| estimator | critic | 8 | unlimited |"
    expected = f"| {found[8]['correlation']:.2f} | {found[0]['correlation']:.2f} |"
    assert lines[2] == f"| LVC (likelihood ratio) | noisy {expected}"


def test_what_is_kept_has_the_published_order():
    """What docs/estimators.md says of the kept data."""

    def column(setting, quantity, size, name="correlation"):
        own = {"setting": setting, "quantity": quantity, "trajectories": size}
        return {row["estimator"]: row[name] for row in estimators.select(estimators.read(), **own)}

    lvc, loaded, naive, plain = (estimators.ON[index].name for index in (0, 1, 3, 5))
    meta = column("on-policy", estimators.META, 32)
    assert meta[lvc] > meta[loaded] > meta[naive] > meta[plain]
    for size in (32, 128, 512, 2048, 4096):
        away = column("off-policy", estimators.HESSIAN, size)
        assert away[lvc] > away[loaded] > away[plain]
    hessian = column("on-policy", estimators.HESSIAN, 4096)
    assert hessian[loaded] > hessian[lvc]  # with enough trajectories the unbiased one wins
    assert hessian[naive] < 0.1
    spread = column("on-policy", estimators.ALL, 512, "spread")
    assert 1.5 < spread[estimators.ON[4].name] / spread[lvc] < 2.5
