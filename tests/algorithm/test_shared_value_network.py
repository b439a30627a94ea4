"""The value network that tasks share: its values, its training, and its place in an iteration."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import maml_rl
from envs import UserError
from maml_rl.algorithm.advantages import AdvantageEstimator
from maml_rl.algorithm.baselines import LearnedBaseline, LinearFeatureBaseline
from maml_rl.algorithm.meta_learner import BASELINE
from maml_rl.algorithm.shared_value_network import SharedValueNetwork
from maml_rl.errors import NonFiniteError
from tests.support.baseline_data import M, O, T, returns, rollout
from tests.support.built import Built, to_go
from tests.support.corridor import Corridor
from tests.support.run_files import load
from tests.support.smoke import train_smoke

SHARED = "baseline=shared_value_network"
ALONE = "baseline.fitted=null"
K = 2  # inner steps


def start(network, seed=0):
    """Statistics whose weights and moments are all of some size."""
    generator = torch.Generator().manual_seed(seed)
    drawn = network.initialize(generator, O, K)
    return {
        name: 0.5 * torch.randn(leaf.shape, generator=generator).to(leaf) + 0.1
        if name == "parameters" or name.endswith("mean")
        else torch.rand(leaf.shape, generator=generator).to(leaf) + 0.5
        if name.endswith("variance")
        else leaf
        for name, leaf in drawn.items()
    }


def adaptation(seed=10):
    """K + 1 rollouts of the same tasks, and one beyond."""
    return [rollout(seed + index) for index in range(K + 2)]


def inputs(network, statistics, rollouts, index):
    """Inputs of the network at each step of rollout `index`, [M, T, B, I], by loops."""
    data = {name: leaf.numpy() for name, leaf in statistics.items()}

    def normalized(name, value, entry=...):
        mean, variance = (data[f"{name}_{part}"][entry] for part in ("mean", "variance"))
        return np.clip((value - mean) / np.sqrt(variance + 1e-8), -10, 10)

    present, rows = rollouts[index], np.zeros((M, T, 4, O + 2 + K * network.task_returns))
    for m, b in itertools.product(range(M), range(4)):
        time = 0
        for t in range(T):
            time = 0 if present.first[m, t, b] else time + 1
            seen = np.append(present.observations[m, t, b].double().numpy(), time)
            rows[m, t, b, : O + 1] = normalized("input", seen)
            rows[m, t, b, O + 1] = min(index, K) / K
            for k in range(min(index, K) * network.task_returns):
                episodes = 5 if present.first[:, 1:].any() else 4  # slot 0 holds two
                paid = (rollouts[k].rewards[m] * rollouts[k].mask[m]).double().sum().item()
                rows[m, t, b, O + 2 + k] = normalized("task_return", paid / episodes, k)
    return torch.from_numpy(rows)


def sequential(parameters, sizes):
    """torch's own network of the weights in one row."""
    layers, read = [], 0
    for i, o in itertools.pairwise(sizes):
        layer = nn.Linear(i, o)
        layer.weight.data = parameters[read : read + i * o].view(i, o).T.clone()
        layer.bias.data = parameters[read + i * o : read + i * o + o].clone()
        layers += [layer, nn.Tanh()]
        read += i * o + o
    assert read == len(parameters)
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("task_returns", [False, True])
@pytest.mark.parametrize("hidden", [(), (5, 4)])
def test_values_are_those_of_torch_s_network_on_inputs_written_out(task_returns, hidden):
    network = SharedValueNetwork(hidden, task_returns)
    statistics, rollouts = start(network), adaptation()
    own = sequential(statistics["parameters"], [O + 2 + K * task_returns, *hidden, 1])
    mean, variance = (statistics[f"return_{name}"].item() for name in ("mean", "variance"))
    found = []
    for index in range(K + 2):  # the last is one step more than was trained with
        rows = inputs(network, statistics, rollouts, index)
        expected = own(rows.float())[..., 0].double() * np.sqrt(variance + 1e-8) + mean
        found.append(network.values_of(statistics, rollouts[index], rollouts[:index]))
        assert found[-1].dtype == torch.float64
        torch.testing.assert_close(found[-1], expected, rtol=1e-4, atol=1e-4)
    again = network.values_of(statistics, rollouts[K], [*rollouts[:K], rollouts[0], rollouts[1]])
    assert torch.equal(again, found[K])  # later returns are no inputs
    other = network.values_of(statistics, rollouts[1], rollouts[3:4])
    assert torch.equal(other, found[1]) is not task_returns


def test_all_values_are_zero_before_the_first_update():
    network = SharedValueNetwork(task_returns=True)
    statistics = network.initialize(torch.Generator().manual_seed(0), O, K)
    rollouts = adaptation()
    assert network.values_of(statistics, rollouts[1], rollouts[:1]).abs().max() == 0
    assert statistics["parameters"].abs().max() > 0.1  # the hidden layers are drawn


@pytest.mark.parametrize("task_returns", [False, True])
@pytest.mark.parametrize("batch_size", [10_000, 17])
def test_updates_are_those_of_torch_s_adam(task_returns, batch_size):
    """Two updates: the moments, of the data as of Adam, are carried on."""
    network = SharedValueNetwork((6,), task_returns, 3, batch_size, 2e-3)
    statistics = network.initialize(torch.Generator().manual_seed(1), O, K)
    own = sequential(statistics["parameters"], [O + 2 + K * task_returns, 6, 1])
    adam, taken = torch.optim.Adam(own.parameters(), 2e-3), 0
    goals, seen, paid = [], [], []
    for iteration in range(2):
        rollouts = adaptation(20 + 10 * iteration)[: K + 1]
        targets = [returns(30 + 10 * iteration + k) for k in range(K + 1)]
        happened = [row.mask > 0 for row in rollouts]
        after = network.updated(statistics, rollouts, targets)
        assert all(after[name].dtype == leaf.dtype for name, leaf in statistics.items())
        assert list(after) == list(statistics)
        statistics = after
        # moments over all steps, or tasks, of both iterations
        goals += [row[mask] for row, mask in zip(targets, happened, strict=True)]
        seen += [row.observations[mask] for row, mask in zip(rollouts, happened, strict=True)]
        paid.append([row.mean_return().tolist() for row in rollouts[:K]])
        for name, rows in [
            ("return", torch.cat(goals).numpy()),
            ("input", torch.cat(seen).double().numpy()),
            ("task_return", np.concatenate(paid, axis=1).T),
        ]:
            size = O if name == "input" else None  # the time apart
            for part, value in [("mean", rows.mean(0)), ("variance", rows.var(0))]:
                known = statistics[f"{name}_{part}"].numpy()
                assert (known[:size] if size else known) == pytest.approx(value, rel=1e-9)
            assert statistics[f"{name}_count"] == len(rows)
        mean, variance = (statistics[f"return_{part}"] for part in ("mean", "variance"))
        aims = ((torch.cat(goals[-K - 1 :]) - mean) / (variance + 1e-8).sqrt()).float()
        rows = torch.cat(
            [
                inputs(network, statistics, rollouts, index)[mask].float()
                for index, mask in enumerate(happened)
            ]
        )
        generator = torch.Generator().manual_seed(taken)
        for _ in range(3):
            order = torch.randperm(len(aims), generator=generator)
            for batch in order.tensor_split(-(-len(aims) // batch_size)):
                loss = ((own(rows[batch])[:, 0] - aims[batch]) ** 2).mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
                taken += 1
        assert statistics["step"] == taken
        expected = torch.cat(
            [part for layer in own[::2] for part in (layer.weight.T.flatten(), layer.bias)]
        )
        torch.testing.assert_close(statistics["parameters"], expected, rtol=1e-3, atol=1e-5)


def test_an_update_leaves_what_it_was_given():
    network, rollouts = SharedValueNetwork((3,)), adaptation()[: K + 1]
    statistics = start(network)
    before = {name: leaf.clone() for name, leaf in statistics.items()}
    network.updated(statistics, rollouts, [returns(k) for k in range(K + 1)])
    assert all(torch.equal(leaf, before[name]) for name, leaf in statistics.items())


def test_steps_that_did_not_happen_do_not_count():
    network, targets = SharedValueNetwork((3,), True), [returns(k) for k in range(K + 1)]
    rollouts, after = adaptation()[: K + 1], []
    garbage = [
        row._replace(observations=row.observations + 3.0 * (1 - row.mask)[..., None])
        for row in rollouts
    ]
    for rows in (rollouts, garbage):
        after.append(network.updated(start(network), rows, targets))
    assert all(torch.equal(leaf, after[1][name]) for name, leaf in after[0].items())


def test_advantages_of_given_values_are_those_written_out():
    """Rewards 1, 2, 4 and values 3, 1, 0.5; discount 0.5, lambda 0.5."""
    data = rollout()._replace(final_observations=torch.zeros(1, 1, O))
    leaves = ("observations", "actions", "rewards", "discounts", "first", "mask", "log_probs")
    data = data._replace(**{name: getattr(data, name)[:1, :3, 2:3] for name in leaves})
    data = data._replace(rewards=torch.tensor([1.0, 2.0, 4.0])[None, :, None])
    given = torch.tensor([3.0, 1.0, 0.5]).double()[None, :, None]
    targets = AdvantageEstimator(None, 0.5, 0.5, standardize=False)(data, given)
    # 4 - 0.5; 2 + 0.5 * 0.5 - 1 + 0.25 * 3.5; 1 + 0.5 * 1 - 3 + 0.25 * 2.125
    assert targets.advantages.flatten().tolist() == [-0.96875, 2.125, 3.5]
    assert targets.values.flatten().tolist() == [3.0, 0.5, 0.125]  # discounted to the start
    # returns 3, 4, 4: 1 - (0 + 9 + 12.25) / (4 / 9 + 1 / 9 + 1 / 9)
    assert targets.explained_variance.item() == pytest.approx(1 - 21.25 / (6 / 9))


def test_a_fitted_baseline_takes_what_the_network_leaves():
    data, given = rollout(), returns(4)
    targets = AdvantageEstimator(LinearFeatureBaseline(0.1), 0.9, 0.8, False)(data, given)
    plain = AdvantageEstimator(None, 0.9, 0.8, False)
    baseline = LinearFeatureBaseline(0.1)
    rest = baseline.values(baseline.fit(data, plain.returns(data) - given), data)[0]
    expected = plain(data, given + rest)
    for name, leaf in expected._asdict().items():
        torch.testing.assert_close(getattr(targets, name), leaf)
    assert (rest.abs() > 0.1).any()


def test_a_return_that_is_not_finite_is_refused_with_its_task():
    data = rollout()
    data.rewards[1, 3, 2] = torch.inf
    with pytest.raises(NonFiniteError, match="return of task 1 is not finite"):
        AdvantageEstimator(None)(data, returns())


# Within an iteration.

PAYS = {"length": np.full(12, 6), "pay": np.tile([1.5, -1.5, 2.5, -2.5], 3)}


def trained(*overrides, iterations=20):
    """A learner of tasks that differ in the pay of a step alone, after some iterations."""
    often = ("baseline.step_size=0.01", "baseline.epochs=40")
    built = Built(
        *(SHARED, ALONE, "algorithm=maml_adam", *often, *overrides),
        distribution=Corridor(),
        tasks=PAYS,
        num_tasks=12,
    )
    meta, state = built.meta, {}
    for iteration in range(iterations):
        pays = np.random.default_rng(iteration).uniform(-3.0, 3.0, 12)
        built.tasks = PAYS | {"pay": pays}
        update = built.outer_step(built.collect(meta, key=iteration), meta, state)
        meta, state = update.meta, update.state
    built.tasks = PAYS
    return built, meta


def test_returns_tell_tasks_apart_that_differ_in_pay_alone():
    explained = {}
    for flag in ("true", "false"):
        built, meta = trained(f"baseline.task_returns={flag}")
        steps = built.collect(meta, key=99).steps
        explained[flag] = [step.targets.explained_variance for step in steps]
    assert explained["true"][1].min() > 0.9  # after adaptation
    assert explained["true"][0].max() < 0.5  # no return is known yet
    assert max(values.max() for values in explained["false"]) < 0.5


def test_values_of_an_iteration_come_from_the_statistics_before_it():
    built, meta = trained("baseline.task_returns=true", "inner.steps=2", iterations=2)
    experience = built.collect(meta, key=7)
    after = built.outer_step(experience, meta).meta
    assert built.learner.advantages.baseline is None
    for name, leaf in meta.items():
        assert torch.equal(leaf, experience.adapted.get(name, leaf)) or not name.startswith(
            BASELINE
        )
    expected = {}
    for key, source in (("before", meta), ("after", after)):
        statistics = {
            name.removeprefix(BASELINE): leaf
            for name, leaf in source.items()
            if name.startswith(BASELINE)
        }
        expected[key] = [
            built.learner.learned.values_of(statistics, rollout, experience.rollouts[:index])
            for index, rollout in enumerate(experience.rollouts)
        ]
    for index, step in enumerate(experience.steps):
        assert (expected["after"][index] - expected["before"][index]).abs().max() > 0.01
        given = AdvantageEstimator(None, 0.99)(step.rollout, expected["before"][index])
        for name, leaf in given._asdict().items():
            assert torch.equal(getattr(step.targets, name), leaf)


def test_the_network_is_fitted_to_discounted_returns_of_all_rollouts():
    built = Built(SHARED, ALONE, "inner.steps=2", distribution=Corridor())
    experience = built.collect()
    meta = built.outer_step(experience).meta
    rows = np.concatenate([to_go(row, 0.99)[row.mask.numpy() > 0] for row in experience.rollouts])
    found = [meta[f"{BASELINE}return_{name}"].item() for name in ("mean", "variance", "count")]
    assert found == pytest.approx([rows.mean(), rows.var(), len(rows)])
    assert meta[f"{BASELINE}task_return_count"] == 3  # tasks
    paid = torch.stack([row.mean_return() for row in experience.rollouts[:2]], dim=1)
    torch.testing.assert_close(meta[f"{BASELINE}task_return_mean"], paid.mean(0))


def test_values_follow_the_unit_of_normalized_returns():
    options = ("algorithm.normalize_returns=true", "algorithm.standardize_advantages=false")
    built, meta = trained("baseline.task_returns=true", *options, iterations=3)
    moved = {}
    for variance in (1.0, 25.0):
        changed = meta | {"statistics/return_variance": torch.tensor(variance).double()}
        moved[variance] = built.collect(changed).steps[0].targets.advantages
    torch.testing.assert_close(moved[25.0], moved[1.0] / 5, rtol=1e-4, atol=1e-5)


def test_the_policy_starts_as_with_any_other_baseline():
    shared, linear = Built(SHARED), Built()
    for name, leaf in linear.meta.items():
        assert torch.equal(shared.meta[name], leaf)
    assert isinstance(shared.learner.learned, LearnedBaseline)
    assert linear.learner.learned is None
    with pytest.raises(UserError, match=r"task_returns=true needs inner\.steps of at least 1"):
        SharedValueNetwork(task_returns=True).initialize(torch.Generator(), O, 0)


class AverageStep:
    """A baseline of a user: gamma aside, the mean return to go of all that came before."""

    fitted = None

    def initialize(self, generator, observation_size, steps):
        return {"sum": torch.zeros(()).double(), "count": torch.zeros(()).double()}

    def values_of(self, statistics, rollout, earlier):
        mean = statistics["sum"] / statistics["count"].clamp_min(1)
        return mean.expand(rollout.rewards.shape)

    def updated(self, statistics, rollouts, returns):
        happened = [
            (row * rollout.mask, rollout.mask)
            for row, rollout in zip(returns, rollouts, strict=True)
        ]
        return {
            "sum": statistics["sum"] + sum(row.sum() for row, _ in happened),
            "count": statistics["count"] + sum(mask.sum().double() for _, mask in happened),
        }


def test_a_user_s_learned_baseline_is_carried_on_too(tmp_path):
    options = (f"baseline._target_={__name__}.AverageStep", "~baseline.ridge")
    train_smoke(tmp_path / "run", *options)
    stored = maml_rl.load(tmp_path / "run", "last")
    assert type(stored.learner.learned) is AverageStep
    sampled = load(tmp_path / "run/checkpoints/last.pt")["env_steps"]
    assert stored.meta[f"{BASELINE}count"] == sampled
    assert stored.meta[f"{BASELINE}sum"] != 0
    adapted = stored.adapt(stored.tasks("test"), steps=2, num_episodes=2)
    assert adapted.returns.shape == (3, 4)
