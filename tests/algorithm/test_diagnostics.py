"""Diagnostics against arithmetic and torch.distributions; that they change nothing; their page."""

import math
import re
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from envs import MultiArmedBandit
from maml_rl.algorithm.adaptation import Experience
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.loop import InnerLoop, stack
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import PPO, TRPO, Adam, Reptile
from maml_rl.algorithm.outer_loop.objectives import Measured
from maml_rl.algorithm.outer_loop.update import direction_metrics, mean_cosine
from maml_rl.algorithm.policies import CategoricalMLP
from maml_rl.randomness import Key
from maml_rl.sampling import Collector
from tests.support.engine import Case, Plain
from tests.support.paths import ROOT
from tests.support.run_files import assert_same_meta, read_metrics, repeatable
from tests.support.smoke import train_smoke


def test_the_mean_cosine_by_hand():
    rows = torch.tensor([[3.0, 4.0], [8.0, 6.0], [0.0, 0.5]])
    # (24 + 24) / (5 * 10) = 0.96; 4 / 5 = 0.8; 6 / 10 = 0.6
    assert mean_cosine(rows) == pytest.approx((0.96 + 0.8 + 0.6) / 3, abs=1e-12)
    assert mean_cosine(rows[:2]) == pytest.approx(0.96, abs=1e-12)
    opposite = torch.tensor([[1e-20, 0.0], [-1e-20, 0.0]], dtype=torch.float64)
    assert mean_cosine(opposite) == pytest.approx(-1.0, abs=1e-12)
    # a row of zeros is orthogonal to all: (0.96 + 0 + 0) / 3
    nothing = torch.tensor([[3.0, 4.0], [8.0, 6.0], [0.0, 0.0]])
    assert mean_cosine(nothing) == pytest.approx(0.32, abs=1e-12)
    assert mean_cosine(rows[:1]) is None


def test_the_mean_cosine_is_that_over_pairs():
    rows = torch.randn(7, 30, generator=torch.Generator().manual_seed(0))
    pairs = [torch.cosine_similarity(a, b, dim=0).item() for a, b in combinations(rows.double(), 2)]
    assert len(pairs) == 21
    assert mean_cosine(rows) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_a_direction_s_norm_and_cosine():
    rows = torch.tensor([[3.0, 4.0], [8.0, 6.0]])
    # the mean is (5.5, 5)
    assert direction_metrics("gradient", rows) == {
        "outer/gradient_norm": pytest.approx(math.sqrt(5.5**2 + 25)),
        "outer/gradient_cosine": pytest.approx(0.96),
    }
    assert direction_metrics("displacement", rows[:1]) == {"outer/displacement_norm": 5.0}


class Scripted:
    """An objective with two tasks' gradients and candidates as a test says."""

    def __init__(self, candidates):
        self.candidates = iter(candidates)

    def losses_and_gradients(self, meta):
        return torch.tensor([1.0, 3.0]), torch.tensor([[3.0, 1.0], [3.0, -1.0]])

    def displacements(self, meta):
        return torch.tensor([[0.3, 0.1], [0.3, -0.1]])

    def fisher_vector_product(self, vector):
        return 4.0 * vector

    def release(self):
        pass

    def measure(self, meta):
        loss, kl = next(self.candidates)
        return Measured(*(torch.full((2,), value) for value in (loss, kl, 0.25)))


META = {"w": torch.tensor([5.0, 6.0])}


def test_rejections_are_the_sizes_refused():
    candidates = [(1.0, 0.03), (2.5, 0.001), (2.0, 0.001), (1.9, 0.019)]
    metrics = TRPO(max_kl=0.02).update(META, {}, Scripted(candidates)).metrics
    assert (metrics["outer/line_search_steps"], metrics["outer/line_search_rejections"]) == (4, 3)
    metrics = TRPO(max_kl=0.02).update(META, {}, Scripted(candidates[3:])).metrics
    assert (metrics["outer/line_search_steps"], metrics["outer/line_search_rejections"]) == (1, 0)
    metrics = TRPO(line_search_steps=3).update(META, {}, Scripted(candidates[:3])).metrics
    assert (metrics["outer/line_search_steps"], metrics["outer/line_search_rejections"]) == (3, 3)


@pytest.mark.parametrize("outer", [TRPO(), Adam(), PPO(epochs=2)], ids=lambda o: type(o).__name__)
def test_every_outer_optimizer_tells_the_agreement_of_its_gradients(outer):
    metrics = outer.update(META, {}, Scripted([(1.9, 0.001)])).metrics
    assert metrics["outer/gradient_norm"] == 3.0  # of (3, 0)
    assert metrics["outer/gradient_cosine"] == pytest.approx(0.8)  # (9 - 1) / 10
    assert ("outer/line_search_rejections" in metrics) == isinstance(outer, TRPO)


def test_reptile_tells_the_agreement_of_its_displacements():
    metrics = Reptile().update(META, {}, Scripted([(2.0, 0.0), (1.9, 0.001)])).metrics
    assert metrics["outer/displacement_norm"] == pytest.approx(0.3)
    assert metrics["outer/displacement_cosine"] == pytest.approx(0.8)
    assert not [name for name in metrics if "gradient" in name]


def learner_of(case, outer=None):
    return MetaLearner(case.policy, LinearFeatureBaseline(), case.inner, outer or TRPO())


def collected(case):
    learner = learner_of(case)
    return learner, learner.collect(case.collector, case.meta, case.tasks, case.inner.steps, Key(3))


@pytest.mark.parametrize("steps", [1, 3])
def test_the_inner_kl_is_torch_s(steps):
    """By torch's own modules and kl_divergence, a task and an inner step at a time."""
    case = Case(InnerLoop(steps, 0.3))
    learner, experience = collected(case)
    mask = experience.rollouts[0].mask.clone()
    mask[0, -2:, -1] = 0.0  # an episode that ended two steps early
    rollouts = [experience.rollouts[0]._replace(mask=mask), *experience.rollouts[1:]]
    params = [step.params for step in experience.steps]
    assert all(torch.equal(params[0][name], row) for name, row in stack(case.meta, 3).items())
    expected = []
    for step in range(steps):
        for task in range(3):
            before, after = (
                Plain({name: leaf[task] for name, leaf in params[which].items()})
                for which in (step, step + 1)
            )
            observations, weights = rollouts[step].observations[task], rollouts[step].mask[task]
            with torch.no_grad():
                divergence = kl_divergence(before(observations), after(observations))  # [T, B]
            expected.append(float((divergence * weights).sum() / weights.sum()))
    first = experience.steps[0]._replace(rollout=rollouts[0])
    metrics = learner.diagnostics(case.meta, Experience([first, *experience.steps[1:]]))
    assert metrics["inner/kl"] == pytest.approx(np.mean(expected), rel=1e-9)
    assert metrics["inner/kl"] > 1e-3
    whole = learner.diagnostics(case.meta, experience)
    assert abs(whole["inner/kl"] / metrics["inner/kl"] - 1) > 1e-4  # the mask counts


def test_the_inner_kl_of_categorical_policies_is_torch_s():
    distribution = MultiArmedBandit(arms=4, horizon=5)
    size = distribution.observation_space.shape[0]
    policy = CategoricalMLP(size, 4, (6,)).double()
    drawn = policy.initialize(torch.Generator().manual_seed(0))
    meta = {name: leaf.double() for name, leaf in drawn.items()}
    inner = InnerLoop(1, 0.5)
    learner = MetaLearner(policy, LinearFeatureBaseline(), inner, TRPO())
    tasks = distribution.sample(3, np.random.default_rng(0))
    collector = Collector(distribution, policy, 3, 4)
    experience = learner.collect(collector, meta, tasks, 1, Key(0))
    rollout = experience.rollouts[0]
    logits = [
        policy.distribution(params, rollout.observations, None, rollout.first)[0].logits.detach()
        for params in (stack(meta, 3), experience.adapted)
    ]
    before, after = (Categorical(logits=each) for each in logits)
    weights = rollout.mask / rollout.mask.sum((1, 2), keepdim=True)
    expected = (kl_divergence(before, after) * weights).sum((1, 2)).mean()
    metrics = learner.diagnostics(meta, experience)
    assert metrics["inner/kl"] == pytest.approx(float(expected), rel=1e-9)
    assert metrics["inner/kl"] > 1e-3
    assert "policy/std" not in metrics


@pytest.mark.parametrize("adapted", [None, ["head"]])
def test_the_inner_gradients_cosine_is_of_the_first_step_and_of_what_adapts(adapted):
    case = Case(InnerLoop(2, 0.3, adapted=adapted))
    learner, experience = collected(case)
    params, expected = stack(case.meta, 3), []
    targets, rollout = experience.steps[0].targets, experience.rollouts[0]
    names = list(learner.inner.adapted_names(case.policy))
    for task in range(3):
        plain = Plain({name: leaf[task] for name, leaf in params.items()})
        score = plain(rollout.observations[task]).log_prob(rollout.actions[task])
        own = dict(plain.named_parameters())
        grads = torch.autograd.grad(
            -(score * targets.advantages[task]).mean(), [own[name] for name in names]
        )
        expected.append(torch.cat([grad.flatten() for grad in grads]))
    pairs = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in combinations(expected, 2)]
    metrics = learner.diagnostics(case.meta, experience)
    assert metrics["inner/grad_cosine"] == pytest.approx(np.mean(pairs), abs=1e-9)
    assert 1e-3 < abs(metrics["inner/grad_cosine"]) < 0.999


@pytest.mark.parametrize(
    "outer", [TRPO(), Adam(), PPO(), Reptile()], ids=lambda o: type(o).__name__
)
def test_diagnostics_do_not_depend_on_the_size_of_a_group(outer):
    case = Case(InnerLoop(1, 0.1), num_tasks=5, dtype=torch.float32)
    alone, *others = (
        outer.update(case.meta, {}, case.objective(tasks_per_group=size)).metrics
        for size in (1, 2, 5)
    )
    assert [name for name in alone if name.endswith("_cosine")]
    assert all(other == alone for other in others)


def test_diagnostics_change_no_other_number(tmp_path, monkeypatch):
    options = ("inner.steps=2", "trainer.num_tasks=3")
    train_smoke(tmp_path / "with", *options)
    monkeypatch.setattr("maml_rl.algorithm.meta_learner.inner_step_metrics", lambda *arguments: {})
    monkeypatch.setattr(
        "maml_rl.algorithm.outer_loop.trpo.direction_metrics", lambda name, rows: {}
    )
    train_smoke(tmp_path / "without", *options)
    one, other = (repeatable(read_metrics(tmp_path / name)) for name in ("with", "without"))
    added = {"inner/grad_norm", "inner/kl", "inner/grad_cosine"}
    added |= {"outer/gradient_norm", "outer/gradient_cosine"}
    assert [{k: v for k, v in line.items() if k not in added} for line in one] == other
    assert added <= one[0].keys()
    for name in ("last", "best"):
        assert_same_meta(
            *(tmp_path / run / f"checkpoints/{name}.pt" for run in ("with", "without"))
        )


def test_gains_and_shares_add_up(tmp_path):
    train_smoke(tmp_path, "inner.steps=3")
    for line in read_metrics(tmp_path):
        for step in (1, 2, 3):
            gain = line[f"return/step_{step}"] - line[f"return/step_{step - 1}"]
            assert line[f"gain/step_{step}"] == gain
        assert sum(line[f"gain/step_{step}"] for step in (1, 2, 3)) == pytest.approx(
            line["adaptation_gain"], abs=1e-9
        )
        for part in ("sampling", "outer_loop"):
            share = line[f"seconds/{part}"] / line["seconds/iteration"]
            assert line[f"seconds/share_{part}"] == share
        parts = ("sampling", "outer_loop", "diagnostics", "validation")
        total = sum(line[f"seconds/{part}"] for part in parts)
        assert 0.9 * line["seconds/iteration"] < total <= line["seconds/iteration"]


RUNS = {  # options, and the keys whose absence or presence says that the right ones are left out
    "maml_trpo": (["inner.steps=2"], {"inner/kl", "outer/line_search_rejections"}),
    "promp": ([], {"outer/inner_kl", "outer/gradient_cosine"}),
    "reptile": ([], {"outer/displacement_cosine"}),
    "pretrained": ([], {"outer/gradient_cosine"}),
    "ppo": (["inner.steps=0"], {"outer/inner_kl_coefficient"}),
    "maml_adam": (["trainer.num_tasks=1"], {"outer/gradient_norm"}),
    "bandit": (["env=multi_armed_bandit"], {"inner/kl"}),
    "learn2learn": (["inner=learn2learn_maml"], {"inner/kl", "inner/grad_cosine", "policy/std"}),
    "unstable": (["sampler.on_unstable=end_episode"], {"unstable_episodes"}),
    "success": (["env=point_navigation_half_circle", "env.sparse=false"], {"success/step_0"}),
}
ALGORITHMS = {
    "ppo": "maml_ppo",
    "unstable": "maml_trpo",
    "bandit": "maml_trpo",
    "learn2learn": "maml_trpo",
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The keys that each of `RUNS` wrote."""
    written = {}
    for name, (options, _) in RUNS.items():
        path = tmp_path_factory.mktemp(name)
        algorithm = ALGORITHMS.get(name, "maml_trpo" if name == "success" else name)
        sizes = ("trainer.iterations=1", "trainer.validation_tasks=4")
        train_smoke(path, f"algorithm={algorithm}", *sizes, *options)
        (line,) = read_metrics(path)
        assert all(math.isfinite(value) for value in line.values())
        written[name] = set(line)
    return written


def test_keys_that_make_no_sense_are_left_out(keys):
    for name, (_, expected) in RUNS.items():
        assert expected <= keys[name], name
    for name in ("pretrained", "ppo"):  # no inner loop
        assert not [key for key in keys[name] if key.startswith(("inner/", "gain/"))]
    assert not [key for key in keys["maml_adam"] if key.endswith("_cosine")]  # one task
    assert not [key for key in keys["reptile"] if "gradient" in key or "line_search" in key]
    for name in ("promp", "reptile", "ppo", "maml_adam"):
        assert not [key for key in keys[name] if "line_search" in key]
    assert "policy/std" not in keys["bandit"]
    assert [key for key in keys["maml_trpo"] if key.startswith("gain/")] != []


def test_the_page_has_every_key_and_no_other(keys):
    page = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `([\w/]+)` \|", page, flags=re.MULTILINE)
    documented = {row for row in rows if row not in ("default", "wandb", "mlflow")}
    written = {re.sub(r"step_\d+$", "step_k", key) for key in set.union(*keys.values())}
    assert written - documented == set()
    assert documented - written == set()
    assert len(rows) == len(set(rows))
