"""Terms of the outer loss against arithmetic, finite differences and exact enumeration."""

import dataclasses
import math
from itertools import product

import numpy as np
import pytest
import torch

from benchmarks.tabular import (
    enumerate_trajectories,
    random_mdp,
    table_params,
    table_policy,
    values,
)
from maml_rl.algorithm.adaptation import AdaptationStep, Experience
from maml_rl.algorithm.advantages import AdvantageEstimator, Targets
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.learn2learn import Learn2LearnGBML, Learn2LearnMAML
from maml_rl.algorithm.inner_loop.loop import InnerLoop
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import Adam, PostAdaptationObjective
from maml_rl.algorithm.outer_loop.terms import (
    Replayed,
    clipped_surrogate,
    entropy_bonus,
    exploration,
    exploration_credit,
    inner_kl,
    inner_kl_penalty,
    post_adaptation_surrogate,
)
from maml_rl.algorithm.policies import DiagonalGaussian
from maml_rl.algorithm.rollout import Rollout
from tests.support.engine import Case, directions, relative, slope


def tensor(data):
    return torch.tensor(data, dtype=torch.float64)


def rollout_of(mask, **leaves):
    """A rollout [1, T, B] of which only some leaves are used."""
    rollout = Rollout(*[torch.zeros(0)] * 8, None, {})
    return rollout._replace(mask=mask, rewards=torch.zeros_like(mask), **leaves)


def targets_of(**leaves):
    return Targets(*[torch.zeros(1)] * 6)._replace(**leaves)


def replay_of(distributions, rollouts, targets=None):
    """A replay of the first tasks, without references."""
    steps = [
        AdaptationStep(rollout, target, {}, None, distribution)
        for distribution, rollout, target in zip(
            distributions, rollouts, targets or [None] * len(rollouts), strict=True
        )
    ]
    return Replayed(steps, None, slice(0, len(rollouts[0].rewards)))


def gaussian(mean, std):
    """One-dimensional normal distributions of one task, means [T][B]."""
    return DiagonalGaussian(tensor(mean)[None, ..., None], tensor([std]).log().view(1, 1, 1, 1))


# ------------------------------------------------------------------ clipped surrogate, inner KL


def clipped_case():
    """Ratios 1.5, 1.5, 0.5, 0.5, 1.1 with advantages of both signs; a sixth step did not happen."""
    ratios = tensor([[[1.5], [1.5], [0.5], [0.5], [1.1], [9.0]]])
    advantages = tensor([[[2.0], [-1.0], [2.0], [-3.0], [1.0], [50.0]]])
    mask = tensor([[[1.0], [1.0], [1.0], [1.0], [1.0], [0.0]]])
    mean = torch.zeros(1, 6, 1, 1, dtype=torch.float64, requires_grad=True)
    distribution = DiagonalGaussian(mean, torch.zeros(1, 1, 1, 1, dtype=torch.float64))
    actions = torch.ones(1, 6, 1, 1, dtype=torch.float64)
    old = distribution.log_prob(actions).detach() - ratios.log()
    rollout = rollout_of(mask, actions=actions, log_probs=old)
    target = targets_of(advantages=advantages)
    return mean, replay_of([distribution], [rollout], [target])


def test_clipped_surrogate_by_hand():
    mean, replayed = clipped_case()
    loss = clipped_surrogate(0.2)(replayed)
    # above the clip:  min(1.5 * 2, 1.2 * 2) = 2.4     min(1.5 * -1, 1.2 * -1) = -1.5
    # below the clip:  min(0.5 * 2, 0.8 * 2) = 1       min(0.5 * -3, 0.8 * -3) = -2.4
    # within:          1.1
    expected = -(2.4 - 1.5 + 1.0 - 2.4 + 1.1) / 5
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(expected, abs=1e-14)
    (gradient,) = torch.autograd.grad(loss.sum(), mean)
    # d ratio / d mean = ratio * (a - mean) = ratio, and nothing where the clip holds
    wanted = [0.0, -1.5 * 1.0, 0.5 * 2.0, 0.0, 1.1, 0.0]
    assert gradient.flatten().tolist() == pytest.approx([-each / 5 for each in wanted], abs=1e-14)


def test_inner_kl_is_the_mean_over_inner_steps_of_the_kl_from_the_sampling_policy():
    masks = [tensor([[[1.0, 1.0], [1.0, 0.0]]]), tensor([[[1.0, 0.0], [0.0, 0.0]]])]
    rollouts = [*(rollout_of(mask) for mask in masks), rollout_of(masks[0])]
    references = [
        gaussian([[0.0, 1.0], [2.0, 5.0]], 1.0),
        gaussian([[1.0, 0.0], [0.0, 0.0]], 0.5),
        gaussian([[0.0, 0.0], [0.0, 0.0]], 1.0),
    ]
    now = [
        gaussian([[0.5, 1.0], [0.0, 9.0]], 2.0),
        gaussian([[1.5, 7.0], [7.0, 7.0]], 0.25),
        gaussian([[8.0, 8.0], [8.0, 8.0]], 3.0),
    ]
    replayed = replay_of(now, rollouts)._replace(references=references)
    # KL(N(m, s) || N(n, r)) = log(r / s) + (s^2 + (m - n)^2) / (2 r^2) - 1/2
    first = [math.log(2) + (1 + d**2) / 8 - 0.5 for d in (0.5, 0.0, 2.0)]
    second = math.log(0.25 / 0.5) + (0.25 + 0.5**2) / (2 * 0.0625) - 0.5
    expected = (sum(first) / 3 + second) / 2
    assert inner_kl(replayed).tolist() == pytest.approx([expected], abs=1e-13)
    assert inner_kl_penalty(0.3)(replayed).tolist() == pytest.approx([0.3 * expected], abs=1e-13)
    assert inner_kl(replayed._replace(references=None)).tolist() == [0.0]
    alone = replay_of(now[-1:], rollouts[-1:])._replace(references=references[-1:])
    assert inner_kl(alone).tolist() == [0.0]  # no inner steps


# ------------------------------------------------------------------------------- entropy bonus


def test_entropy_bonus_by_hand():
    log_std = tensor([[0.5, -1.0], [0.0, 0.25]]).view(2, 1, 1, 2)
    mean = torch.zeros(2, 3, 1, 2, dtype=torch.float64)
    mask = tensor([[[1.0], [1.0], [0.0]], [[1.0], [0.0], [0.0]]])
    replayed = replay_of([DiagonalGaussian(mean, log_std)], [rollout_of(mask)])
    # two dimensions: log(2 pi e) + the sum of log_std, which is -0.5 and 0.25
    constant = math.log(2 * math.pi * math.e)
    expected = [-0.01 * (constant - 0.5), -0.01 * (constant + 0.25)]
    assert entropy_bonus(0.01)(replayed).tolist() == pytest.approx(expected, abs=1e-15)


def test_entropy_of_the_adapted_policies_is_differentiated_through_the_adaptation():
    case = Case(InnerLoop(2, 0.3))
    objective = case.objective(terms=[entropy_bonus(0.7)])
    meta = case.moved(0.1)
    losses, rows = objective.losses_and_gradients(meta)
    with torch.no_grad():
        log_std = case.adapted(meta)["log_std"]
    expected = -0.7 * (log_std.sum(1) + math.log(2 * math.pi * math.e))
    torch.testing.assert_close(losses, expected, rtol=1e-13, atol=0)
    for direction in directions(rows.shape[1]):
        difference = slope(lambda at: objective.measure(at).losses, meta, direction)
        torch.testing.assert_close(rows @ direction, difference, rtol=1e-6, atol=1e-8)
    others = torch.ones(rows.shape[1], dtype=torch.float64)
    others[:2] = 0.0  # log_std's own
    assert float((rows * others).abs().max()) > 1e-3


# --------------------------------------------------------------------------------- exploration


def test_exploration_by_hand():
    case = Case(InnerLoop(2, 0.3))
    credit, meta = tensor([0.5, -2.0, 3.0]), case.moved(0.1)
    objective = case.objective(terms=[exploration(0.7, credit)])
    start, _ = objective.losses_and_gradients(case.meta)
    torch.testing.assert_close(start, torch.zeros_like(start), rtol=0, atol=1e-12)
    with torch.no_grad():
        rows = {name: leaf.expand(3, *leaf.shape) for name, leaf in meta.items()}
        replayed = case.inner.replay(case.policy, rows, case.steps)
    expected = []
    for task in range(3):
        moved = 0.0
        for step, rollout in zip(replayed[:-1], case.rollouts[:-1], strict=True):
            distribution = step.distribution
            normal = torch.distributions.Normal(
                distribution.mean[task], distribution.log_std[task].exp()
            )
            log_probs = normal.log_prob(rollout.actions[task]).sum(-1)
            moved += float((log_probs - rollout.log_probs[task]).sum())
        expected.append(-0.7 * float(credit[task]) * moved)
    assert objective.measure(meta).losses.tolist() == pytest.approx(expected, rel=1e-11)
    assert min(abs(each) for each in expected) > 0.1


def test_exploration_equals_finite_differences():
    case = Case(InnerLoop(2, 0.3))
    meta, credit = case.moved(0.1), tensor([0.5, -2.0, 3.0])
    objective = case.objective(terms=[exploration(0.7, credit)])
    _, rows = objective.losses_and_gradients(meta)
    for direction in directions(rows.shape[1]):
        difference = slope(lambda at: objective.measure(at).losses, meta, direction)
        torch.testing.assert_close(rows @ direction, difference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2])
def test_every_task_has_its_own_credit_whatever_the_group_size(size):
    case = Case(InnerLoop(1, 0.3))
    terms = [post_adaptation_surrogate, exploration(0.7, tensor([0.5, -2.0, 3.0]))]
    _, rows = case.objective(terms=terms).losses_and_gradients(case.meta)
    _, grouped = case.objective(terms=terms, tasks_per_group=size).losses_and_gradients(case.meta)
    assert torch.equal(rows, grouped)


def test_exploration_credit_by_hand():
    mask = tensor(
        [
            [[1, 1], [1, 0], [1, 0]],  # episodes of 3 and 1 steps: 2 on average
            [[1, 1], [1, 1], [0, 0]],  # 2
            [[1, 1], [1, 1], [1, 0]],  # 2.5
        ]
    )
    first = torch.zeros_like(mask)
    first[:, 0] = 1.0
    rollout = rollout_of(mask, first=first)
    target = targets_of(mean_return=tensor([1.0, 2.0, 6.0]), scale=tensor([2.0, 0.5, 1.0]))
    # less the mean of the others: 1 - 4, 2 - 3.5, 6 - 1.5; divided by scale * steps
    expected = [-3.0 / (2.0 * 2.0), -1.5 / (0.5 * 2.0), 4.5 / (1.0 * 2.5)]
    assert exploration_credit(rollout, target).tolist() == pytest.approx(expected, abs=1e-15)
    alone = exploration_credit(rollout.tasks(2, 3), target.tasks(2, 3))
    assert alone.tolist() == pytest.approx([6.0 / 2.5])  # no other task: no baseline


def test_exploration_credit_counts_every_episode_of_a_slot():
    # one slot: an episode of 2 steps, another of 1, the last step did not happen
    mask, first = tensor([[[1.0], [1.0], [1.0], [0.0]]]), tensor([[[1.0], [0.0], [1.0], [0.0]]])
    target = targets_of(mean_return=tensor([3.0]), scale=tensor([2.0]))
    credit = exploration_credit(rollout_of(mask, first=first), target)
    assert credit.tolist() == [3.0 / (2.0 * 1.5)]


def test_the_learner_adds_the_terms_that_its_weights_ask_for():
    case = Case(InnerLoop(1, 0.3, "log_likelihood"))
    learner = MetaLearner(
        case.policy,
        LinearFeatureBaseline(),
        case.inner,
        Adam(),
        exploration_weight=0.4,
        entropy_coefficient=0.2,
    )
    experience = Experience(case.steps)
    metrics = learner.outer_step(case.meta, {}, experience).metrics
    credit = exploration_credit(case.rollouts[-1], case.targets[-1])
    terms = [post_adaptation_surrogate, exploration(0.4, credit), entropy_bonus(0.2)]
    losses, rows = case.objective(terms=terms).losses_and_gradients(case.meta)
    assert metrics["outer/loss"] == float(losses.mean())
    assert metrics["outer/gradient_norm"] == float(rows.mean(0).norm())
    for fewer in (terms[:1], terms[:2], terms[::2]):
        _, others = case.objective(terms=fewer).losses_and_gradients(case.meta)
        assert relative(others, rows) > 1e-3


@pytest.mark.parametrize(
    "term",
    [exploration(0.7, tensor([0.5, -2.0, 3.0])), inner_kl_penalty(0.5)],
    ids=["exploration", "inner_kl"],
)
@pytest.mark.parametrize("kind", [Learn2LearnMAML, Learn2LearnGBML])
def test_terms_of_earlier_policies_go_through_first_order_learn2learn_too(kind, term):
    case = Case(kind(steps=1, step_size=0.3, first_order=True))
    meta = case.meta | {n: leaf for n, leaf in case.moved(0.1).items() if "/" not in n}
    rows = []
    for inner in (InnerLoop(1, 0.3, first_order=True), case.inner):  # GBML's transforms are 1
        objective = case.objective(inner, terms=[post_adaptation_surrogate, term])
        objective.measure(case.meta)  # the references
        rows.append(objective.losses_and_gradients(meta)[1])
    policys = sum(leaf.numel() for leaf in case.policy.parameters())
    assert relative(rows[1][:, :policys], rows[0][:, :policys]) < 1e-11


# ------------------------------------------------------------ E-MAML's gradient by enumeration


class Zero:
    """No baseline."""

    def fit(self, rollout, returns, bootstrap=None):
        return torch.zeros(len(returns), 1, dtype=torch.float64)

    def values(self, weights, rollout):
        return torch.zeros_like(rollout.rewards), torch.zeros_like(rollout.rewards[:, 0])


STEP_SIZE, HORIZON = 3.0, 2


def problem():
    """Two states, two actions, two steps: 32 trajectories."""
    rng = np.random.default_rng(3)
    mdp = random_mdp(rng, 2, 2, discount=0.8, horizon=HORIZON, concentration=1.0)
    mdp = dataclasses.replace(mdp, initial=tensor([0.3, 0.7]))
    return mdp, tensor(rng.normal(size=(2, 2)))


ESTIMATE = AdvantageEstimator(Zero(), 0.8, standardize=False, discounted_visits=True)


def joined(rollouts):
    """Rollouts side by side as tasks."""
    leaves = {
        name: torch.cat([getattr(each, name) for each in rollouts])
        for name in rollouts[0]._fields[:8]
    }
    return rollouts[0]._replace(**leaves)


def batches(mdp, logits, episodes):
    """Every pre-adaptation batch of `episodes` trajectories as a task: mask 1, [N^B, T, B]."""
    every = enumerate_trajectories(mdp, logits)
    choices = torch.tensor(list(product(range(every.mask.shape[2]), repeat=episodes)))

    def chosen(leaf, slots):
        return leaf[0].movedim(slots - 1, 0)[choices].movedim(1, slots)

    leaves = {name: chosen(getattr(every, name), 2) for name in every._fields[:7]}
    leaves["final_observations"] = chosen(every.final_observations, 1)
    return every._replace(**leaves | {"mask": torch.ones_like(leaves["mask"])}), choices


def exact(mdp, logits, batch, probability, advantages):
    """J(theta) = sum_D p(D | theta) V(U(theta, D)) and V(U(theta, D)), [] and [D].

    U is theta plus the step size times the mean over steps of A grad log pi, which is the table
    (state seen) (action taken - pi). p(D | theta) is `probability` at the logits that sampled.
    """
    seen, taken = batch.observations, torch.nn.functional.one_hot(batch.actions, 2).double()
    odds = logits.softmax(-1)
    chosen = (seen @ odds.log() * taken).sum(-1)
    score = torch.einsum("dtb,dtbs,dtba->dsa", advantages, seen, taken - seen @ odds)
    adapted = logits + STEP_SIZE * score / batch.mask[0].numel()
    after = values(mdp, adapted)[:, 0] @ mdp.initial
    ratio = (chosen - batch.log_probs).sum((1, 2)).exp()
    return (probability * ratio * after).sum(), after, adapted.detach()


class Enumeration:
    """Everything about E-MAML on the problem with batches of `episodes` trajectories."""

    def __init__(self, episodes):
        self.mdp, self.logits = problem()
        every = enumerate_trajectories(self.mdp, self.logits)
        self.batch, choices = batches(self.mdp, self.logits, episodes)
        self.probability = every.mask[0, 0][choices].prod(1)
        self.targets = ESTIMATE(self.batch)
        _, after, self.adapted = self.at(self.logits)
        self.credit = after / HORIZON
        self.post = joined([enumerate_trajectories(self.mdp, table) for table in self.adapted])
        self.post_targets = ESTIMATE(self.post)

    def at(self, logits):
        return exact(self.mdp, logits, self.batch, self.probability, self.targets.advantages)

    def gradient(self):
        logits = self.logits.clone().requires_grad_()
        return torch.autograd.grad(self.at(logits)[0], logits)[0]

    def expected(self, terms, loss="log_likelihood"):
        """The engine's gradient in expectation over batches, of the return, [S, A]."""
        policy, inner = table_policy(self.mdp), InnerLoop(1, STEP_SIZE, loss)
        meta = {name: leaf[0] for name, leaf in table_params(self.logits[None]).items()}
        objective = PostAdaptationObjective(
            policy,
            inner,
            [
                AdaptationStep(self.batch, self.targets, {}),
                AdaptationStep(self.post, self.post_targets, {}),
            ],
            terms=[post_adaptation_surrogate, *terms],
        )
        _, rows = objective.losses_and_gradients(meta)
        return -HORIZON * (self.probability @ rows).view(2, 2).mT  # weights are [A, S]


@pytest.fixture(scope="module", params=[1, 2])
def enumeration(request):
    return Enumeration(request.param)


def test_the_enumeration_is_complete(enumeration):
    assert enumeration.probability.sum().item() == pytest.approx(1.0, abs=1e-13)
    returns = enumeration.post_targets.mean_return
    torch.testing.assert_close(returns, HORIZON * enumeration.credit, rtol=1e-12, atol=0)
    at = {"logits": enumeration.logits}
    gradient = enumeration.gradient()
    for direction in directions(4):
        difference = slope(lambda point: enumeration.at(point["logits"])[0], at, direction)
        found = gradient.flatten() @ direction
        torch.testing.assert_close(found, difference, rtol=1e-8, atol=1e-10)


def test_e_maml_is_exact_with_weight_one_and_maml_alone_is_not(enumeration):
    gradient = enumeration.gradient()
    e_maml = enumeration.expected([exploration(1.0, enumeration.credit)])
    torch.testing.assert_close(e_maml, gradient, rtol=0, atol=1e-12)
    assert relative(enumeration.expected([]), gradient) > 0.1
    half = enumeration.expected([exploration(0.5, enumeration.credit)])
    assert relative(half, gradient) > 0.05


def test_with_ratios_in_the_inner_loss_exploration_is_counted_twice(enumeration):
    """likelihood_ratio keeps, in expectation, terms of the Hessian that exploration stands for."""
    gradient, terms = enumeration.gradient(), [exploration(1.0, enumeration.credit)]
    alone = relative(enumeration.expected([], "likelihood_ratio"), gradient)
    both = relative(enumeration.expected(terms, "likelihood_ratio"), gradient)
    assert alone < 0.05
    assert both > 5 * alone


def test_leaving_out_the_tasks_own_return_keeps_the_expectation():
    enumeration = Enumeration(1)
    post, targets = enumeration.post, enumeration.post_targets
    count = len(enumeration.probability)
    credit = torch.zeros(count, dtype=torch.float64)
    for own, other in product(range(count), repeat=2):
        pair = joined([post.tasks(own, own + 1), post.tasks(other, other + 1)])
        both = Targets(*(leaf[[own, other]] for leaf in targets))
        credit[own] += enumeration.probability[other] * exploration_credit(pair, both)[0]
    assert abs(float(enumeration.probability @ credit)) < 1e-12  # centred
    found = enumeration.expected([exploration(1.0, credit)])
    torch.testing.assert_close(found, enumeration.gradient(), rtol=0, atol=1e-12)
