"""Policies as programs of torch's own; rollouts as npz and as Minari datasets."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs import HalfCheetahDir, MultiArmedBandit, PointNavigation, TaskObserved, Union, UserError
from envs.protocol import task_at
from maml_rl.algorithm.policies import CategoricalMLP, GaussianMLP
from maml_rl.algorithm.rollout import Rollout
from maml_rl.sampling.actions import applied_actions, scaling
from maml_rl.trained.adapted import AdaptedPolicy
from maml_rl.trained.export import export_policy
from maml_rl.trained.rollout_files import save_rollouts, to_minari
from tests.support.corridor import Corridor

ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        ours = ("maml_rl", "envs", "hydra", "omegaconf", "mujoco", "gymnasium")
        if name.partition(".")[0] in ours:
            raise ImportError(f"{name} was asked for")
sys.meta_path.insert(0, Refuse())
import numpy, torch
for name in sys.argv[1:]:
    program = torch.export.load(name + ".pt2").module()
    rows = torch.from_numpy(numpy.load(name + ".npy"))
    for count in (1, 3, len(rows)):
        numpy.save(f"{name}_{count}.npy", program(rows[:count]).detach().numpy())
"""


def one_policy(distribution, network, seed=0):
    """A policy whose every parameter is away from where it begins."""
    generator = torch.Generator().manual_seed(seed)
    params = network.initialize(generator)
    for name, leaf in params.items():
        if name == "observation_count":
            leaf.fill_(50)
        elif name == "observation_variance":
            leaf.copy_(torch.rand(leaf.shape, generator=generator) + 0.1)
        else:
            leaf += 0.3 * torch.randn(leaf.shape, generator=generator)
    stacked = {name: leaf[None] for name, leaf in params.items()}
    return AdaptedPolicy(distribution, network, stacked, None, np.empty(0))


def network_for(distribution, kind=GaussianMLP, **options):
    sizes = (
        distribution.observation_space.shape[0],
        spaces.utils.flatdim(distribution.action_space),
    )
    return kind(*sizes, **options)


def policies():
    cheetah, point = HalfCheetahDir(action_scale=0.3), PointNavigation()
    bandit = MultiArmedBandit()
    return {
        "gaussian": one_policy(cheetah, network_for(cheetah, hidden_sizes=(16, 16))),
        "context": one_policy(
            point,
            network_for(
                point, hidden_sizes=(8,), context_size=3, normalize_observations=True
            ),
        ),
        "numbered": one_policy(
            bandit, network_for(bandit, CategoricalMLP, activation="relu")
        ),
    }  # fmt: skip


def test_an_exported_policy_acts_as_it_did_without_the_project(tmp_path):
    made = policies()
    rows = {}
    for name, policy in made.items():
        size = policy.network.observation_size
        rows[name] = np.random.default_rng(7).normal(size=(64, size)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", rows[name])
        assert policy.export(tmp_path / f"{name}.pt2") == tmp_path / f"{name}.pt2"
    assert not list(tmp_path.glob("*partial*"))
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *made],
        cwd=tmp_path,
        env={"PATH": "", "HOME": os.environ.get("HOME", "")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, policy in made.items():
        for count in (1, 3, 64):
            found = np.load(tmp_path / f"{name}_{count}.npy")
            wanted = policy.act(rows[name][:count])
            assert found.shape == wanted.shape
            if name == "numbered":
                assert found.dtype == np.int64
                assert found.tolist() == wanted.tolist()
            else:
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
        spread = wanted.reshape(64, -1).max(0) - wanted.reshape(64, -1).min(0)
        assert (spread > 0).all()  # actions do depend on what is observed


def test_what_normalization_and_context_are_to_an_action(tmp_path):
    """The exported program against the formula, in float64."""
    policy = policies()["context"]
    leaves = {name: leaf[0].double().numpy() for name, leaf in policy.params.items()}
    rows = np.random.default_rng(2).normal(size=(20, 2))
    seen = (rows - leaves["observation_mean"]) / np.sqrt(leaves["observation_variance"] + 1e-8)
    inputs = np.concatenate([seen, np.tile(leaves["context"], (20, 1))], axis=1)
    hidden = np.tanh(inputs @ leaves["layers.0.weight"].T + leaves["layers.0.bias"])
    mean = hidden @ leaves["layers.1.weight"].T + leaves["layers.1.bias"]
    wanted = np.clip(policy.distribution.action_scale * mean, -0.1, 0.1)
    assert (abs(wanted) == 0.1).any()
    assert (abs(wanted) < 0.1).any()
    program = torch.export.load(policy.export(tmp_path / "policy.pt2")).module()
    found = program(torch.from_numpy(rows.astype(np.float32))).detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_network_itself_is_left_alone(tmp_path):
    policy = policies()["gaussian"]
    before = (policy.network.activation, {n: p.clone() for n, p in policy.params.items()})
    policy.export(tmp_path / "policy.pt2")
    assert policy.network.activation is before[0]
    assert all(torch.equal(policy.params[name], leaf) for name, leaf in before[1].items())


def test_what_cannot_be_exported_is_refused(tmp_path):
    policy = policies()["context"]
    with pytest.raises(UserError, match=r"must end in \.pt2, not 'policy.pt'"):
        policy.export(tmp_path / "policy.pt")

    class Rounded(GaussianMLP):
        def outputs(self, params, observations):
            return torch.from_numpy(super().outputs(params, observations).numpy().round(1))

    rounded = network_for(policy.distribution, Rounded, hidden_sizes=(8,))
    with pytest.raises(UserError, match="Rounded cannot be exported: its distribution"):
        export_policy(rounded, policy.params, policy.distribution, tmp_path / "policy.pt2")
    assert list(tmp_path.iterdir()) == []


# Scale and clip.


class Squashed(PointNavigation):
    """Applies actions in a way of its own."""

    def applied(self, action):
        return 0.1 * np.tanh(action)


def test_scale_and_bounds_of_a_distribution():
    cheetah = HalfCheetahDir(action_scale=0.3)
    for distribution in (cheetah, TaskObserved(cheetah), Union([cheetah, cheetah])):
        scale, low, high = scaling(distribution)
        assert (scale, low.tolist(), high.tolist()) == (0.3, [-1.0] * 6, [1.0] * 6)
    # 0.3 * 2 = 0.6; 0.3 * 5 = 1.5, clipped to 1
    actions = np.array([[2.0, 5.0, -5.0, 0.0, 1.0, -1.0]], dtype=np.float32)
    np.testing.assert_allclose(
        applied_actions(cheetah, actions), [[0.6, 1, -1, 0, 0.3, -0.3]], rtol=1e-6
    )
    with pytest.raises(UserError, match=r"squashed.applied\(action\) is not clip"):
        scaling(Squashed())


def test_a_distribution_that_applies_actions_as_they_are():
    plain = Corridor()
    for bound in (1.0, 100.0):  # far bounds are none either
        plain.action_space = spaces.Box(-bound, bound, (2,))
        scale, low, high = scaling(plain)
        assert (scale, low.tolist(), high.tolist()) == (1.0, [-np.inf] * 2, [np.inf] * 2)
    assert applied_actions(plain, np.array([3.0, -2.0])).tolist() == [3.0, -2.0]


# Rollouts.


def a_rollout(seed, discrete=False):
    """M = 2 tasks, T = 4 steps, B = 3 episodes, O = 3, A = 2, of unequal length."""
    rng = np.random.default_rng(seed)

    def tensor(*shape):
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    lengths = np.array([[4, 2, 4], [1, 3, 4]])
    steps = np.arange(4)[None, :, None]
    mask = torch.from_numpy((steps < lengths[:, None]).astype(np.float32))
    ended = torch.from_numpy((steps == lengths[:, None] - 1) & (lengths[:, None] < 4))
    first = torch.zeros(2, 4, 3)
    first[:, 0] = 1
    numbers = torch.from_numpy(rng.integers(5, size=(2, 4, 3)).astype(np.float32))
    return Rollout(
        observations=tensor(2, 4, 3, 3),
        actions=numbers if discrete else tensor(2, 4, 3, 2),
        rewards=tensor(2, 4, 3) * mask,
        discounts=1 - ended.float(),
        first=first,
        mask=mask,
        log_probs=tensor(2, 4, 3),
        final_observations=tensor(2, 3, 3),
        state=None,
        info={"success": (tensor(2, 4, 3) > 0).float()},
    )


TASKS = {"goal": np.array([[0.5, -0.25], [0.125, 1.0]]), "mass": np.array([2.0, 3.0])}


def test_rollouts_are_read_as_plain_arrays(tmp_path):
    rollouts = [a_rollout(seed) for seed in range(3)]
    path = save_rollouts(tmp_path / "new" / "rollouts.npz", rollouts, TASKS)
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    shapes = {name: array.shape for name, array in arrays.items()}
    scalars = ("rewards", "discounts", "first", "mask", "log_probs", "info/success")
    assert shapes == {
        "observations": (3, 2, 4, 3, 3),
        "actions": (3, 2, 4, 3, 2),
        **dict.fromkeys(scalars, (3, 2, 4, 3)),
        "final_observations": (3, 2, 3, 3),
        "task/goal": (2, 2),
        "task/mass": (2,),
    }
    for step, rollout in enumerate(rollouts):
        for name in ("observations", "actions", "rewards", "discounts", "first", "mask"):
            assert np.array_equal(arrays[name][step], getattr(rollout, name))
        assert np.array_equal(arrays["log_probs"][step], rollout.log_probs)
        assert np.array_equal(arrays["final_observations"][step], rollout.final_observations)
        assert np.array_equal(arrays["info/success"][step], rollout.info["success"])
        # an episode begins where `first` is 1: the mean return from the file alone
        sums = (arrays["rewards"][step] * arrays["mask"][step]).sum((1, 2))
        returns = sums / arrays["first"][step].sum((1, 2))
        np.testing.assert_allclose(returns, rollout.mean_return(), rtol=1e-5)
    assert np.array_equal(arrays["task/goal"], TASKS["goal"])
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(UserError, match=r"must end in \.npz, not 'rollouts.npy'"):
        save_rollouts(tmp_path / "rollouts.npy", rollouts, TASKS)


@pytest.fixture
def minari(tmp_path, monkeypatch):
    """Minari, which keeps its datasets where this test does."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return pytest.importorskip("minari")


class Reaching:
    """What a distribution says of spaces and actions."""

    name = "reaching"
    observation_space = spaces.Box(-np.inf, np.inf, (3,), dtype=np.float64)
    action_space = spaces.Box(-1, 1, (2,), dtype=np.float32)

    def applied(self, action):
        return np.clip(0.5 * action, -1, 1)


def test_a_minari_dataset_has_every_episode(minari):
    rollout = a_rollout(1)
    made = to_minari("reaching/adapted-v0", rollout, TASKS, Reaching(), algorithm_name="maml_trpo")
    stored = minari.load_dataset("reaching/adapted-v0")
    assert (made.total_episodes, stored.total_episodes) == (6, 6)
    assert stored.total_steps == 4 + 2 + 4 + 1 + 3 + 4
    assert stored.observation_space == Reaching.observation_space
    assert stored.storage.metadata["algorithm_name"] == "maml_trpo"
    options = [own["options"]["task"] for own in stored.storage.get_episode_metadata(range(6))]
    for index, episode in enumerate(stored.iterate_episodes()):
        task, slot = divmod(index, 3)
        length = int(rollout.mask[task, :, slot].sum())
        seen = [*rollout.observations[task, :length, slot], rollout.final_observations[task, slot]]
        np.testing.assert_array_equal(episode.observations, np.stack(seen))
        sampled = rollout.actions[task, :length, slot].numpy()
        np.testing.assert_allclose(episode.actions, np.clip(0.5 * sampled, -1, 1))
        np.testing.assert_array_equal(episode.rewards, rollout.rewards[task, :length, slot])
        before = [False] * (length - 1)
        assert episode.terminations.tolist() == [*before, length < 4]
        assert episode.truncations.tolist() == [*before, length == 4]
        for name, leaf in task_at(TASKS, task).items():
            np.testing.assert_array_equal(options[index][name], leaf)
    with pytest.raises(UserError, match="there is a local Minari dataset reaching/adapted-v0"):
        to_minari("reaching/adapted-v0", rollout, TASKS, Reaching())


def test_minari_takes_numbered_actions(minari):
    bandit, rollout = MultiArmedBandit(), a_rollout(2, discrete=True)
    tasks = bandit.sample(2, np.random.default_rng(0))
    to_minari("bandit-v0", rollout, tasks, bandit)
    stored = minari.load_dataset("bandit-v0")
    episode = next(stored.iterate_episodes([1]))  # task 0, slot 1: two steps
    assert episode.actions.dtype == np.int64
    assert episode.actions.tolist() == rollout.actions[0, :2, 1].tolist()


def test_without_minari_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UserError, match=r"Minari is not installed here: pip install"):
        to_minari("reaching-v0", a_rollout(0), TASKS, Reaching())
