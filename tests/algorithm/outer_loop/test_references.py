"""Every algorithm against an independent reference: learn2learn used directly, or written out.

A reference runs task by task on torch's own modules and distributions. Algorithms are compared away
from where the rollouts were collected, so that no ratio of densities is 1. Reptile, PPO and the
terms of the outer loss have files of their own.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.func import functional_call

from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.learn2learn import Learn2LearnGBML, Learn2LearnMAML
from maml_rl.algorithm.inner_loop.learn2learn_loader import load_learn2learn
from maml_rl.algorithm.inner_loop.loop import InnerLoop, stack
from maml_rl.algorithm.inner_loop.update_rules import MetaSGD
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import PPO, TRPO, Adam, PostAdaptationObjective
from maml_rl.algorithm.outer_loop.objectives import flatten, unflatten
from maml_rl.configuration.building import build_distribution, build_learner
from maml_rl.randomness import Key
from maml_rl.sampling import Collector
from tests.support.bandit import SignBandit
from tests.support.engine import Case, Plain, directions, relative, slope
from tests.support.paths import ROOT
from tests.support.smoke import smoke_config

RATE = 0.3
SMALL = {"hidden_sizes": (3, 2)}


class Reference(NamedTuple):
    """An algorithm on a case's rollouts."""

    case: Case
    leaves: dict[str, torch.Tensor]  # what is learned, by the case's names
    adapted: Callable  # adapted(task): the adapted policy's distribution on the last rollout

    def losses(self):
        last = (self.case.rollouts[-1], self.case.targets[-1])
        tasks = range(self.case.num_tasks)
        return torch.stack([likelihood_ratio(self.adapted(task), *last, task) for task in tasks])

    def rows(self):
        """The gradient of each task's loss, [M, P]."""
        return torch.stack([self._gradient(loss) for loss in self.losses()])

    def frozen(self):
        """The adapted policies' distributions without their graph."""
        parts = [self.adapted(task).base_dist for task in range(self.case.num_tasks)]
        return [Independent(Normal(p.loc.detach(), p.scale.detach()), 1) for p in parts]

    def kl(self, references):
        """The mean KL divergence of the adapted policies from `references`."""
        mask = self.case.rollouts[-1].mask
        each = [
            (mask[task] * kl_divergence(fixed, self.adapted(task))).sum() / mask[task].sum()
            for task, fixed in enumerate(references)
        ]
        return torch.stack(each).mean()

    def hessian_of_kl(self, vectors):
        """The products [N, P] of vectors [N, P] with the Hessian of the mean KL divergence."""
        gradient = self._gradient(self.kl(self.frozen()), create_graph=True)
        assert float(gradient.detach().abs().max()) < 1e-13
        names = list(self.case.meta)
        products = torch.autograd.grad(
            gradient,
            [self.leaves[name] for name in names],
            vectors,
            is_grads_batched=True,
            retain_graph=True,
            materialize_grads=True,
        )
        return torch.cat([product.reshape(len(vectors), -1) for product in products], dim=1)

    def put(self, vector):
        with torch.no_grad():
            for name, part in unflatten(vector, self.case.meta).items():
                self.leaves[name].copy_(part)

    def _gradient(self, value, create_graph=False):
        names = list(self.case.meta)
        grads = torch.autograd.grad(
            value,
            [self.leaves[name] for name in names],
            create_graph=create_graph,
            retain_graph=True,
            materialize_grads=True,
        )
        return torch.cat([grad.reshape(-1) for grad in grads])


def mean_over_steps(terms, rollout, task):
    return -(rollout.mask[task] * terms).sum() / rollout.mask[task].sum()


def likelihood_ratio(distribution, rollout, targets, task):
    log_probs = distribution.log_prob(rollout.actions[task])
    ratio = (log_probs - rollout.log_probs[task]).exp()
    return mean_over_steps(ratio * targets.advantages[task], rollout, task)


def log_likelihood(distribution, rollout, targets, task):
    log_probs = distribution.log_prob(rollout.actions[task])
    return mean_over_steps(log_probs * targets.advantages[task], rollout, task)


def dice(distribution, rollout, targets, task):
    log_probs = distribution.log_prob(rollout.actions[task])
    zeros = log_probs - rollout.log_probs[task]  # whose exponential is DiCE's box, 1 with a score
    through, terms = 0.0, []
    for t, zero in enumerate(zeros):
        through = through + zero
        baseline = (1 - zero.exp()) * targets.values[task, t]
        terms.append(through.exp() * targets.rewards[task, t] + baseline)
    return mean_over_steps(torch.stack(terms), rollout, task)


def loaded_dice(distribution, rollout, targets, task, decay=1.0):
    log_probs = distribution.log_prob(rollout.actions[task])
    zeros = log_probs - rollout.log_probs[task]
    through, terms = torch.zeros_like(zeros[0]), []
    for t, zero in enumerate(zeros):
        before = decay * through
        through = before + zero
        terms.append(targets.advantages[task, t] * (through.exp() - before.exp()))
    return mean_over_steps(torch.stack(terms), rollout, task)


def plain(case, meta):
    """One policy as torch's modules, at the meta-parameters."""
    return Plain({name: leaf for name, leaf in (meta | case.fixed).items() if "/" not in name})


def followed(learner, case, task, loss, policy=None):
    """Adapt one of learn2learn's learners on a task; `policy(learner, o)` where it is a part."""
    policy, clone = policy or (lambda whole, seen: whole(seen)), learner.clone()
    for rollout, targets in zip(case.rollouts[:-1], case.targets[:-1], strict=True):
        distribution = policy(clone, rollout.observations[task])
        clone.adapt(loss(distribution, rollout, targets, task))
    return policy(clone, case.rollouts[-1].observations[task])


def maml(case, meta, loss=likelihood_ratio, first_order=False):
    learner = load_learn2learn("algorithms.maml").MAML(plain(case, meta), RATE, first_order)
    return Reference(
        case,
        dict(learner.module.named_parameters()),
        lambda task: followed(learner, case, task, loss),
    )


def anil(case, meta):
    """learn2learn's ANIL: MAML wraps the head alone; the features are shared."""
    module = plain(case, meta)
    head = load_learn2learn("algorithms.maml").MAML(module.layers[-1], RATE)

    def policy(own_head, observations):
        return module.normal(own_head(module.features(observations)))

    return Reference(
        case,
        dict(module.named_parameters()),
        lambda task: followed(head, case, task, likelihood_ratio, policy),
    )


def first_layer(case, meta):
    """MAML wraps the first layer alone."""
    module = plain(case, meta)
    first = load_learn2learn("algorithms.maml").MAML(module.layers[0], RATE)

    def policy(own_first, observations):
        hidden = torch.tanh(module.layers[1](torch.tanh(own_first(observations))))
        return module.normal(module.layers[2](hidden))

    return Reference(
        case,
        dict(module.named_parameters()),
        lambda task: followed(first, case, task, likelihood_ratio, policy),
    )


def by_hand(case, meta, names):
    """Gradient steps in the parameters `names`, written out."""
    module = plain(case, meta)

    def adapted(task):
        params = dict(module.named_parameters())
        for rollout, targets in zip(case.rollouts[:-1], case.targets[:-1], strict=True):
            distribution = functional_call(module, params, (rollout.observations[task],))
            loss = likelihood_ratio(distribution, rollout, targets, task)
            own = [params[name] for name in names]
            grads = torch.autograd.grad(loss, own, create_graph=True)
            for name, grad in zip(names, grads, strict=True):
                params[name] = params[name] - RATE * grad
        return functional_call(module, params, (case.rollouts[-1].observations[task],))

    return Reference(case, dict(module.named_parameters()), adapted)


def meta_sgd(case, meta):
    module = plain(case, meta)
    learner = load_learn2learn("algorithms.meta_sgd").MetaSGD(module)
    named = dict(module.named_parameters())
    rates = {f"update/{name}": rate for name, rate in zip(named, learner.lrs, strict=True)}
    reference = Reference(
        case, named | rates, lambda task: followed(learner, case, task, likelihood_ratio)
    )
    reference.put(flatten(meta))
    return reference


def gbml(case, meta, transform, wrapped=None):
    """learn2learn's GBML around the whole policy, or around its head."""
    transforms = load_learn2learn("optim.transforms")
    linear = load_learn2learn("nn.kroneckers").KroneckerLinear
    kind = {
        "meta_curvature": transforms.MetaCurvatureTransform,
        "kronecker": transforms.KroneckerTransform(linear),
    }[transform]
    module = plain(case, meta)
    part = module.layers[-1] if wrapped == "head" else module
    learner = load_learn2learn("algorithms.gbml").GBML(part, kind, lr=RATE).double()
    learned = {f"update/{name}": p for name, p in learner.compute_update.named_parameters()}

    def policy(own, observations):
        if wrapped == "head":
            return module.normal(own(module.features(observations)))
        return own(observations)

    reference = Reference(
        case,
        dict(module.named_parameters()) | learned,
        lambda task: followed(learner, case, task, likelihood_ratio, policy),
    )
    reference.put(flatten(meta))
    return reference


class Algorithm(NamedTuple):
    """How the engine has it, and the reference."""

    inner: Callable  # inner(steps=...)
    reference: Callable  # reference(case, meta)
    policy: Mapping = MappingProxyType({})


def engine(**options):
    return partial(InnerLoop, step_size=RATE, **options)


def learn2learn_gbml(transform, **options):
    return partial(Learn2LearnGBML, transform, step_size=RATE, **options)


ALGORITHMS = {
    "maml": Algorithm(engine(), maml),
    "maml_log_likelihood": Algorithm(
        engine(loss="log_likelihood"), partial(maml, loss=log_likelihood)
    ),
    "maml_dice": Algorithm(engine(loss="dice"), partial(maml, loss=dice)),
    "maml_loaded_dice": Algorithm(engine(loss="loaded_dice"), partial(maml, loss=loaded_dice)),
    "decayed_loaded_dice": Algorithm(
        engine(loss="loaded_dice", dice_decay=0.6),
        partial(maml, loss=partial(loaded_dice, decay=0.6)),
    ),
    "fomaml": Algorithm(engine(first_order=True), partial(maml, first_order=True)),
    "fomaml_log_likelihood": Algorithm(
        engine(loss="log_likelihood", first_order=True),
        partial(maml, loss=log_likelihood, first_order=True),
    ),
    "anil": Algorithm(engine(adapted=["head"]), anil),
    "first_layer": Algorithm(engine(adapted=["layers.0.*"]), first_layer),
    "log_std": Algorithm(engine(adapted=["log_std"]), partial(by_hand, names=["log_std"])),
    "meta_sgd": Algorithm(engine(update=MetaSGD(positive=False)), meta_sgd),
    "meta_curvature": Algorithm(
        learn2learn_gbml("meta_curvature"), partial(gbml, transform="meta_curvature")
    ),
    "kronecker": Algorithm(learn2learn_gbml("kronecker"), partial(gbml, transform="kronecker")),
    "meta_curvature_of_the_head": Algorithm(
        learn2learn_gbml("meta_curvature", adapted=["head"]),
        partial(gbml, transform="meta_curvature", wrapped="head"),
    ),
    "cavia": Algorithm(
        engine(adapted=["context"]), partial(by_hand, names=["context"]), {"context_size": 3}
    ),
}
DIFFERENTIABLE = {  # a function of the meta-parameters, so that finite differences apply
    **{name: ALGORITHMS[name] for name in ("anil", "cavia", "meta_curvature", "kronecker")},
    **{name: ALGORITHMS[name] for name in ("maml_dice", "maml_loaded_dice")},
    "meta_sgd_positive": Algorithm(engine(update=MetaSGD(positive=True)), None),
    "meta_sgd_per_tensor": Algorithm(engine(update=MetaSGD(True, per="tensor")), None),
    "meta_sgd_of_the_head": Algorithm(
        engine(update=MetaSGD(positive=True), adapted=["head"]), None
    ),
}


def compared(name, steps=1, **options):
    """A case, a point near where it was collected, and the reference there."""
    algorithm = ALGORITHMS[name]
    case = Case(algorithm.inner(steps=steps), **SMALL, **algorithm.policy, **options)
    meta = case.moved(0.1)
    return case, meta, algorithm.reference(case, meta)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_meta_gradient_equals_the_reference(name, steps):
    case, meta, reference = compared(name, steps)
    losses, rows = case.objective().losses_and_gradients(meta)
    torch.testing.assert_close(losses, reference.losses().detach(), rtol=1e-12, atol=1e-13)
    expected = reference.rows()
    assert relative(rows, expected) < 1e-11
    for part in unflatten(expected.abs().max(0).values, case.meta).values():
        assert float(part.max()) > 1e-5  # everything learned has a gradient, in both


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_fisher_product_equals_the_hessian_of_the_references_kl(name, steps):
    case, meta, reference = compared(name, steps)
    objective = case.objective()
    objective.losses_and_gradients(meta)
    vector = directions(len(flatten(meta)))[0]
    (expected,) = reference.hessian_of_kl(vector[None])
    assert relative(objective.fisher_vector_product(vector), expected) < 1e-11
    assert float(expected.abs().max()) > 1e-3


def trust_region_step(reference, max_kl, damping):
    """TRPO with the whole Fisher matrix: the new parameters and how many sizes were tried."""
    start = torch.cat([reference.leaves[name].detach().flatten() for name in reference.case.meta])
    gradient, references = reference.rows().mean(0), reference.frozen()
    identity = torch.eye(len(start), dtype=torch.float64)
    matrix = reference.hessian_of_kl(identity) + damping * identity
    direction = torch.linalg.solve(matrix, gradient)
    step = -((2 * max_kl / (direction @ matrix @ direction)) ** 0.5) * direction
    before = float(reference.losses().detach().mean())
    for tried in range(15):
        reference.put(start + 0.8**tried * step)
        with_step = float(reference.losses().detach().mean())
        if with_step < before and float(reference.kl(references).detach()) <= max_kl:
            return start + 0.8**tried * step, tried + 1
    raise AssertionError("no size was accepted")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_outer_step_of_trpo_equals_the_dense_natural_gradient_of_the_reference(name):
    case, meta, reference = compared(name)
    outer = TRPO(max_kl=0.02, cg_iterations=60, damping=0.3)
    update = outer.update(meta, {}, case.objective())
    expected, tried = trust_region_step(reference, 0.02, 0.3)
    step, wanted = flatten(update.meta) - flatten(meta), expected - flatten(meta)
    assert relative(step, wanted) < 1e-3  # the conjugate gradient stops at a residual of 1e-5
    assert update.metrics["outer/line_search_steps"] == tried
    assert float(wanted.norm()) > 0.01


@pytest.mark.parametrize("name", ALGORITHMS)
def test_two_outer_steps_of_adam_equal_torchs_adam_on_the_reference(name):
    case, meta, reference = compared(name)
    leaves = [reference.leaves[each] for each in case.meta]
    optimizer = torch.optim.Adam(leaves, lr=0.01)
    moved, state = meta, {}
    for _ in range(2):
        update = Adam(0.01).update(moved, state, case.objective())
        moved, state = update.meta, update.state
        optimizer.zero_grad()
        reference.losses().mean().backward(inputs=leaves)
        optimizer.step()
    expected = torch.cat([leaf.detach().flatten() for leaf in leaves])
    torch.testing.assert_close(flatten(moved), expected, rtol=0, atol=1e-9)
    assert float((expected - flatten(meta)).abs().max()) > 0.015


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_meta_gradient_equals_finite_differences(name, steps):
    algorithm = DIFFERENTIABLE[name]
    case = Case(algorithm.inner(steps=steps), **SMALL, **algorithm.policy)
    meta, objective = case.moved(0.1), case.objective()
    _, rows = objective.losses_and_gradients(meta)
    for direction in directions(rows.shape[1]):
        expected = slope(lambda at: objective.measure(at).losses, meta, direction)
        torch.testing.assert_close(rows @ direction, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_fisher_product_equals_second_differences_of_the_kl(name):
    algorithm = DIFFERENTIABLE[name]
    case = Case(algorithm.inner(steps=1), **SMALL, **algorithm.policy)
    meta, objective = case.moved(0.1), case.objective()
    objective.losses_and_gradients(meta)
    start, epsilon = flatten(meta), 1e-4
    for direction in directions(len(start)):
        ahead, behind = (
            objective.measure(unflatten(start + sign * epsilon * direction, meta)).kl.mean()
            for sign in (1, -1)
        )
        curvature = direction @ objective.fisher_vector_product(direction)
        torch.testing.assert_close(curvature, (ahead + behind) / epsilon**2, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "adapted",
    [["head"], ["body"], ["layers.0.*"], ["log_std"], ["layers.1.bias", "log_std"]],
    ids=str,
)
def test_what_does_not_adapt_keeps_its_value_and_is_learned_all_the_same(adapted):
    case = Case(InnerLoop(2, RATE, adapted=adapted), **SMALL)
    names = case.inner.adapted_names(case.policy)
    after = case.adapted(case.meta)
    for name, leaf in case.meta.items():
        kept = torch.equal(after[name], leaf.expand_as(after[name]))
        assert kept == (name not in names), name
    _, rows = case.objective().losses_and_gradients(case.meta)
    for gradient in unflatten(rows.abs().max(0).values, case.meta).values():
        assert float(gradient.max()) > 1e-4
    theirs = case.objective(Learn2LearnMAML(2, RATE, adapted=adapted))
    assert relative(theirs.losses_and_gradients(case.meta)[1], rows) < 1e-11
    ours = case.objective()
    ours.losses_and_gradients(case.meta)
    products = [each.fisher_vector_product(rows[0]) for each in (ours, theirs)]
    assert relative(*products) < 1e-11


@pytest.mark.parametrize(
    ("loss", "decay"), [("dice", 1.0), ("loaded_dice", 1.0), ("loaded_dice", 0.7)]
)
def test_dice_through_learn2learns_class_is_the_engines(loss, decay):
    case = Case(InnerLoop(2, RATE, loss, dice_decay=decay), **SMALL)
    ours = case.objective()
    theirs = case.objective(Learn2LearnMAML(2, RATE, loss, dice_decay=decay))
    _, rows = ours.losses_and_gradients(case.meta)
    assert relative(theirs.losses_and_gradients(case.meta)[1], rows) < 1e-11
    products = [each.fisher_vector_product(rows[0]) for each in (ours, theirs)]
    assert relative(*products) < 1e-11


@pytest.mark.parametrize("loss", ["dice", "loaded_dice"])
def test_the_inner_gradient_of_dice_is_the_policy_gradient_written_out(loss):
    case = Case(InnerLoop(1, RATE, loss), **SMALL)
    rollout, gamma = case.rollouts[0], 0.99
    rewards = rollout.rewards.numpy()
    horizon = rewards.shape[1]
    returns = np.zeros_like(rewards)
    for t in reversed(range(horizon)):
        returns[:, t] = rewards[:, t] + (gamma * returns[:, t + 1] if t + 1 < horizon else 0)
    baseline = LinearFeatureBaseline()
    weights = baseline.fit(rollout, torch.from_numpy(returns))
    residual = returns - baseline.values(weights, rollout)[0].numpy()
    rows = stack(case.meta, case.num_tasks)
    with torch.no_grad():
        step = case.inner.step(case.policy, rows, rows, rollout, case.targets[0])
    for task in range(case.num_tasks):
        own = residual[task] - residual[task].mean()
        # DiCE scores the discounted return, so that step t weighs gamma^t; Loaded DiCE's
        # advantages have the field's weights, 1 each
        powers = gamma ** np.arange(horizon)[:, None] if loss == "dice" else 1.0
        credit = torch.from_numpy(powers * own / residual[task].std())
        module = plain(case, case.meta)
        log_probs = module(rollout.observations[task]).log_prob(rollout.actions[task])
        score = -(credit * log_probs).sum() / credit.numel()
        expected = torch.autograd.grad(score, list(module.parameters()))
        named = zip(module.named_parameters(), expected, strict=True)
        for (name, _), gradient in named:
            torch.testing.assert_close(step.grads[name][task], gradient, rtol=1e-6, atol=1e-9)


def split(rows, case):
    """Gradients [M, P] as those of the policy [M, N] and those of the update rule by name."""
    parts = [unflatten(row, case.meta) for row in rows]
    names = [name for name in case.meta if name.startswith("update/")]
    policy = torch.stack(
        [flatten({n: leaf for n, leaf in part.items() if n not in names}) for part in parts]
    )
    return policy, {name: torch.stack([part[name] for part in parts]) for name in names}


def test_positive_step_sizes_follow_the_chain_rule():
    raw = Case(InnerLoop(2, RATE, update=MetaSGD(positive=False)), **SMALL)
    meta = raw.moved(0.05)
    _, rows = raw.objective().losses_and_gradients(meta)
    logarithms = {
        n.replace("update/", "update/log/"): leaf.log() if n.startswith("update/") else leaf
        for n, leaf in meta.items()
    }
    positive = raw.objective(InnerLoop(2, RATE, update=MetaSGD(positive=True)))
    _, found = positive.losses_and_gradients(logarithms)
    (policy, rates), (same_policy, log_rates) = split(rows, raw), split(found, raw)
    torch.testing.assert_close(same_policy, policy, rtol=1e-10, atol=1e-13)
    for name, gradient in rates.items():  # d/dlog a = a * d/da
        torch.testing.assert_close(log_rates[name], meta[name] * gradient, rtol=1e-10, atol=1e-13)
    assert max(float(gradient.abs().max()) for gradient in rates.values()) > 1e-3


@pytest.mark.parametrize("positive", [False, True])
def test_one_rate_per_tensor_has_the_sum_of_its_parameters_gradients(positive):
    each = Case(InnerLoop(2, RATE, update=MetaSGD(positive)), **SMALL)
    whole = Case(InnerLoop(2, RATE, update=MetaSGD(positive, per="tensor")), **SMALL)
    prefix = "update/log/" if positive else "update/"
    assert whole.meta[f"{prefix}layers.0.weight"].shape == (1, 1)
    policy, rates = split(each.objective().losses_and_gradients(each.meta)[1], each)
    same_policy, sums = split(whole.objective().losses_and_gradients(whole.meta)[1], whole)
    torch.testing.assert_close(same_policy, policy, rtol=1e-10, atol=1e-13)
    for name, gradient in rates.items():
        expected = gradient.flatten(1).sum(1)
        torch.testing.assert_close(sums[name].flatten(), expected, rtol=1e-10, atol=1e-12)


def test_step_sizes_stay_positive_however_far_an_outer_step_goes():
    for positive in (True, False):
        case = Case(InnerLoop(1, RATE, update=MetaSGD(positive)), **SMALL)
        updated = Adam(step_size=20.0).update(case.meta, {}, case.objective()).meta
        rule = case.inner.update
        rates = [rule.rate(updated, name) for name in case.policy.parts["all"]]
        least = min(float(rate.min()) for rate in rates)
        # a first step of Adam moves each number by 20: to 0.3 exp(-20), or to 0.3 - 20
        expected = RATE * np.exp(-20.0) if positive else RATE - 20.0
        assert least == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("transform", ["meta_curvature", "kronecker"])
@pytest.mark.parametrize("adapted", [None, ["head"]])
def test_gbml_begins_as_maml(transform, adapted):
    case = Case(InnerLoop(2, RATE, adapted=adapted), **SMALL)
    inner = Learn2LearnGBML(transform, 2, RATE, adapted=adapted)
    meta = inner.meta_parameters(case.policy, case.meta)
    learned = [leaf for name, leaf in meta.items() if name.startswith("update/")]
    assert all(leaf.dtype == torch.float64 for leaf in learned)
    with torch.no_grad():
        rows = stack(meta, case.num_tasks)
        found = inner.adapt(case.policy, rows, case.steps[:-1])
    for name, leaf in case.adapted(case.meta).items():
        torch.testing.assert_close(found[name], leaf, rtol=0, atol=1e-14)
    _, maml_rows = case.objective().losses_and_gradients(case.meta)
    _, gbml_rows = case.objective(inner).losses_and_gradients(meta)
    torch.testing.assert_close(gbml_rows[:, : maml_rows.shape[1]], maml_rows, rtol=0, atol=1e-13)


def test_gbml_can_adapt_a_context_along_with_the_rest():
    """The transforms belong to the parameters by order; what is fixed comes last in the replay."""
    case = Case(Learn2LearnGBML("meta_curvature", 1, RATE), **SMALL, context_size=2)
    meta = case.moved(0.1)
    reference = gbml(case, meta, "meta_curvature")
    losses, rows = case.objective().losses_and_gradients(meta)
    torch.testing.assert_close(losses, reference.losses().detach(), rtol=1e-12, atol=1e-13)
    assert relative(rows, reference.rows()) < 1e-11


@pytest.mark.parametrize(
    "outer", [TRPO(), Adam(0.05), PPO(0.05, epochs=2)], ids=["trpo", "adam", "ppo"]
)
def test_the_context_begins_at_zero_and_no_outer_step_moves_it(outer):
    case = Case(InnerLoop(2, 1.0, adapted=["context"]), **SMALL, context_size=3)
    learner = MetaLearner(case.policy, LinearFeatureBaseline(), case.inner, outer)
    meta, state = learner.initialize(3), {}
    meta = {name: leaf.double() for name, leaf in meta.items()}
    for iteration in range(2):
        assert torch.equal(meta["context"], torch.zeros(3, dtype=torch.float64))
        experience = learner.collect(case.collector, meta, case.tasks, 2, Key(iteration))
        contexts = experience.adapted["context"]
        assert len({tuple(row.tolist()) for row in contexts}) == 3  # each task found its own
        for name, leaf in experience.adapted.items():
            assert name == "context" or torch.equal(leaf, meta[name].expand_as(leaf))
        update = learner.outer_step(meta, state, experience)
        assert list(update.meta) == list(meta)
        for name, leaf in update.meta.items():
            assert torch.equal(leaf, meta[name]) == (name == "context"), name
        meta, state = update.meta, update.state


def test_first_columns_for_the_context_are_those_of_concatenated_observations():
    case = Case(InnerLoop(1, RATE, adapted=["context"]), **SMALL, context_size=3)
    context = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    params = case.moved(0.3) | {"context": context}
    observations = case.rollouts[0].observations[:1]
    found, _, _ = case.policy.distribution(stack(params, 1), observations)
    expected = Plain(params)(observations[0])
    torch.testing.assert_close(found.mean[0], expected.base_dist.loc, rtol=1e-13, atol=1e-14)
    without, _, _ = case.policy.distribution(stack(params | case.fixed, 1), observations)
    assert float((found.mean - without.mean).abs().min()) > 1e-3


def everything(case, tasks_per_group):
    """Losses, gradients, a Fisher product and measurements, in one vector."""
    objective = case.objective(tasks_per_group=tasks_per_group)
    losses, rows = objective.losses_and_gradients(case.meta)
    product = objective.fisher_vector_product(rows.mean(0))
    return torch.cat([losses, rows.flatten(), product, *objective.measure(case.moved(0.05))])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_cavia_is_bit_identical_for_every_group_size(size):
    inner = InnerLoop(2, 1.0, adapted=["context"])
    case = Case(inner, hidden_sizes=(16, 16), dtype=torch.float32, context_size=3)
    assert torch.equal(everything(case, size), everything(case, 3))


@pytest.mark.parametrize("hidden_sizes", [(5, 4), (33, 7)], ids=str)
@pytest.mark.parametrize(
    ("name", "horizon"), [("anil", 17), ("cavia", 5), ("maml_loaded_dice", 17)]
)
def test_groups_are_bit_identical_whatever_the_width_of_a_layer(hidden_sizes, name, horizon):
    """Tasks' matrices then begin at addresses that are no multiple of a cache line."""
    algorithm = ALGORITHMS[name]
    case = Case(
        algorithm.inner(steps=1),
        num_tasks=5,
        num_episodes=3,
        horizon=horizon,
        hidden_sizes=hidden_sizes,
        dtype=torch.float32,
        **algorithm.policy,
    )
    whole = everything(case, 5)
    for size in (1, 2):
        assert torch.equal(everything(case, size), whole)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    ("inner", "options"),
    [
        (InnerLoop(1, RATE, "loaded_dice"), {"num_episodes": 1, "horizon": 50}),
        (InnerLoop(1, RATE), {"distribution": SignBandit(), "num_episodes": 40}),
    ],
    ids=["one_episode", "one_action"],
)
def test_groups_are_bit_identical_where_a_product_has_one_column(inner, options, size):
    case = Case(inner, num_tasks=5, hidden_sizes=(64, 64), dtype=torch.float32, **options)
    assert torch.equal(everything(case, size), everything(case, 5))


def numbers(tree):
    """The leaves of nested dictionaries and lists, in order; tensors as lists of numbers."""
    if isinstance(tree, dict):
        return [leaf for key in tree for leaf in (key, *numbers(tree[key]))]
    if isinstance(tree, list | tuple):
        return [leaf for each in tree for leaf in numbers(each)]
    return [tree.tolist() if isinstance(tree, torch.Tensor) else tree]


def outer_updates(config, monkeypatch):
    """One iteration's outer update with task groups of 3, 1 and 2, graphs kept or rebuilt."""
    distribution = build_distribution(config)
    learner = build_learner(config, distribution)
    count = config.trainer.num_tasks
    collector = Collector(distribution, learner.policy, count, config.trainer.num_episodes)
    meta, tasks = learner.initialize(0), distribution.sample(count, np.random.default_rng(0))
    experience = learner.collect(collector, meta, tasks, learner.inner.steps, Key(0))
    updates = []
    for size, budget in ((count, 2**40), (1, 2**40), (2, 0)):
        objective = partial(PostAdaptationObjective, tasks_per_group=size, graph_budget=budget)
        monkeypatch.setattr("maml_rl.algorithm.meta_learner.PostAdaptationObjective", objective)
        updates.append(learner.outer_step(meta, {}, experience, progress=0.1))
    return meta, updates


NAMES = sorted(path.stem for path in (ROOT / "conf" / "algorithm").glob("*.yaml"))
OPTIONS = (
    "algorithm.entropy_coefficient=0.01",
    "algorithm.exploration_weight=0.1",
    "inner.loss=log_likelihood",
    "algorithm.standardize_advantages=false",
    "algorithm.normalize_returns=true",
    "policy.normalize_observations=true",
)


@pytest.mark.parametrize(
    "overrides",
    [
        *((f"algorithm={name}",) for name in NAMES if name != "random"),
        OPTIONS,
        ("algorithm=promp", OPTIONS[0]),
    ],
    ids=lambda overrides: overrides[0],
)
def test_an_iteration_is_bit_identical_for_every_group_size(overrides, monkeypatch):
    sizes = ("trainer.num_tasks=3", "trainer.num_episodes=4", "env.horizon=7")
    config = smoke_config(*sizes, "policy.hidden_sizes=[16,16]", *overrides)
    if "cg_iterations" in config.outer:
        config.outer.cg_iterations, config.outer.max_kl = 2, 1e-3
    for steps in (1, 2) if config.inner.steps else (0,):
        config.inner.steps = steps
        meta, (first, *others) = outer_updates(config, monkeypatch)
        assert not torch.equal(flatten(first.meta), flatten(meta))
        for other in others:
            assert numbers(other.meta) == numbers(first.meta)
            assert numbers(other.state) == numbers(first.state)
            assert other.metrics == first.metrics
