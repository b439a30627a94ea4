"""What policies have in common: parts, context, normalization, and the two forms of one network."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from envs import UserError
from maml_rl.algorithm.moments import merge_moments
from maml_rl.algorithm.policies import CategoricalMLP, DiagonalGaussian, GaussianMLP
from maml_rl.algorithm.rollout import Rollout

M, T, B, OBS, A = 2, 3, 4, 3, 2


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def drawn(policy, count=M, dtype=torch.float64, seed=0):
    """Stacked parameters that differ in every leaf, statistics and context too."""
    params = policy.initialize(seeded(seed))
    rows = {}
    for index, (name, leaf) in enumerate(params.items()):
        kind = leaf.dtype if name.startswith("observation_") else dtype
        noise = torch.randn(count, *leaf.shape, dtype=kind, generator=seeded(100 + index))
        rows[name] = leaf.to(kind) + 0.5 * noise
    if "observation_variance" in rows:
        rows["observation_variance"] = rows["observation_variance"].abs() + 0.1
    return rows


def observations(seed=1, dtype=torch.float64, scale=1.0):
    return scale * torch.randn(M, T, B, OBS, dtype=dtype, generator=seeded(seed))


# Names.


def test_parts_are_named_by_the_layers_they_hold():
    policy = GaussianMLP(OBS, A, (5, 4))
    head = ("layers.2.weight", "layers.2.bias")
    body = ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias")
    assert policy.parts == {"all": ("log_std", *body, *head), "head": head, "body": body}
    assert policy.fixed == ()
    assert set(policy.parts["all"]) == set(policy.initialize(seeded(0)))


def test_the_context_is_a_part_that_is_fixed():
    policy = GaussianMLP(OBS, A, (5,), context_size=2)
    assert policy.parts["context"] == ("context",)
    assert "context" in policy.parts["all"]
    assert policy.fixed == ("context",)
    params = policy.initialize(seeded(0))
    assert params["context"].tolist() == [0.0, 0.0]  # adaptation begins at 0
    assert params["layers.0.weight"].shape == (5, OBS + 2)
    assert policy.widest == 5
    assert GaussianMLP(OBS, A, (5,), context_size=9).widest == OBS + 9


def test_statistics_are_fixed_and_no_part():
    policy = GaussianMLP(OBS, A, (5,), normalize_observations=True, context_size=1)
    statistics = ("observation_mean", "observation_variance", "observation_count")
    assert policy.fixed == ("context", *statistics)
    assert not {*statistics} & {name for part in policy.parts.values() for name in part}
    params = policy.initialize(seeded(0))
    assert set(params) == {*policy.parts["all"], *statistics}
    assert [params[name].tolist() for name in statistics] == [[0.0] * OBS, [1.0] * OBS, 0.0]
    assert {params[name].dtype for name in statistics} == {torch.float64}


def test_without_bias_the_layers_have_weights_only():
    policy = CategoricalMLP(OBS, 4, (5,), bias=False)
    weights = ("layers.0.weight", "layers.1.weight")
    assert policy.parts == {"all": weights, "head": weights[1:], "body": weights[:1]}
    params = drawn(policy)
    rows = observations()
    expected = torch.stack(
        [torch.tanh(rows[m] @ params[weights[0]][m].T) @ params[weights[1]][m].T for m in range(M)]
    )
    torch.testing.assert_close(policy.distribution(params, rows)[0].logits, expected)


@pytest.mark.parametrize("wrong", [-1, 1.5, None, True])
def test_a_wrong_context_size_is_refused_by_name(wrong):
    with pytest.raises(UserError, match=r"^context_size must be a whole number of at lea"):
        GaussianMLP(OBS, A, (5,), context_size=wrong)


# Context.


class PlainNetwork(nn.Module):
    """torch's own layers on the concatenation of observation and context."""

    def __init__(self, hidden, context_size, bias):
        super().__init__()
        sizes = [OBS + context_size, *hidden, A]
        layers = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs, bias=bias), nn.Tanh()]
        self.net = nn.Sequential(*layers[:-1])
        self.context = nn.Parameter(torch.zeros(context_size))

    def forward(self, rows):
        return self.net(torch.cat([rows, self.context.expand(*rows.shape[:-1], -1)], -1))

    def put(self, params, m):
        own = {"context": params["context"][m]}
        for name, leaf in params.items():
            if name.startswith("layers."):
                _, index, kind = name.split(".")
                own[f"net.{2 * int(index)}.{kind}"] = leaf[m]
        self.load_state_dict(own)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", [(5,), (6, 4)])
def test_a_context_is_appended_to_every_observation(hidden, bias):
    policy = CategoricalMLP(OBS, A, hidden, context_size=2, bias=bias)
    params = {name: leaf.requires_grad_() for name, leaf in drawn(policy).items()}
    rows = observations()
    weights = torch.randn(M, T, B, A, dtype=torch.float64, generator=seeded(5))
    logits = policy.distribution(params, rows)[0].logits
    grads = dict(
        zip(params, torch.autograd.grad((weights * logits).sum(), params.values()), strict=True)
    )
    plain = PlainNetwork(hidden, 2, bias).double()
    for m in range(M):
        plain.put(params, m)
        plain.zero_grad()
        expected = plain(rows[m])
        torch.testing.assert_close(logits[m], expected, rtol=1e-12, atol=1e-12)
        (weights[m] * expected).sum().backward()
        torch.testing.assert_close(grads["context"][m], plain.context.grad)
        for index in range(len(hidden) + 1):
            layer = plain.net[2 * index]
            torch.testing.assert_close(grads[f"layers.{index}.weight"][m], layer.weight.grad)
            if bias:
                torch.testing.assert_close(grads[f"layers.{index}.bias"][m], layer.bias.grad)


def test_a_context_of_zero_changes_nothing():
    with_context, without = (GaussianMLP(OBS, A, (5,), context_size=n) for n in (3, 0))
    params = drawn(with_context)
    params["context"].zero_()
    own = {name: leaf for name, leaf in params.items() if name != "context"}
    own["layers.0.weight"] = params["layers.0.weight"][..., :OBS].contiguous()
    torch.testing.assert_close(
        with_context.distribution(params, observations())[0].mean,
        without.distribution(own, observations())[0].mean,
    )


# Normalization.


def linear(**options):
    """A policy whose logits are its weights times what its first layer is given."""
    return CategoricalMLP(OBS, OBS, (), bias=False, normalize_observations=True, **options)


def test_observations_are_normalized_and_cut_at_ten_deviations():
    # (7 - 1) / sqrt(4) = 3; (0.5 - 0) / sqrt(0.25) = 1; (25 - 3) / sqrt(4) = 11, cut to 10;
    # (-40 - 1) / 2 = -20.5, cut to -10; the identity shows them as logits
    params = {
        "layers.0.weight": torch.eye(OBS, dtype=torch.float64)[None],
        "observation_mean": torch.tensor([[1.0, 0.0, 3.0]], dtype=torch.float64),
        "observation_variance": torch.tensor([[4.0, 0.25, 4.0]], dtype=torch.float64),
        "observation_count": torch.tensor([9.0], dtype=torch.float64),
    }
    seen = torch.tensor([[7.0, 0.5, 25.0], [-40.0, 0.0, 3.0]], dtype=torch.float64)[None, None]
    found = linear().distribution(params, seen)[0].logits[0, 0]
    assert found[0].tolist() == pytest.approx([3.0, 1.0, 10.0], rel=1e-7)
    assert found[1].tolist() == pytest.approx([-10.0, 0.0, 0.0], abs=1e-7)


def test_the_statistics_a_policy_starts_with_change_nothing_but_extremes():
    normalizing, plain = (
        CategoricalMLP(OBS, A, (5,), normalize_observations=flag) for flag in (True, False)
    )
    start = normalizing.initialize(seeded(0))
    rows = {name: leaf[None] for name, leaf in start.items()}
    own = {name: leaf for name, leaf in rows.items() if not name.startswith("observation_")}
    seen = observations(dtype=torch.float32)[:1]
    torch.testing.assert_close(
        normalizing.distribution(rows, seen)[0].logits, plain.distribution(own, seen)[0].logits
    )


def test_normalization_keeps_the_dtype_of_the_observations():
    policy = GaussianMLP(OBS, A, (5,), normalize_observations=True)
    params = drawn(policy, dtype=torch.float32)
    assert params["observation_mean"].dtype == torch.float64
    assert (
        policy.distribution(params, observations(dtype=torch.float32))[0].mean.dtype
        == torch.float32
    )


def test_a_coordinate_that_never_moves_is_divided_by_no_zero():
    params = {
        "layers.0.weight": torch.eye(OBS)[None],
        "observation_mean": torch.tensor([[2.0, 2.0, 2.0]], dtype=torch.float64),
        "observation_variance": torch.zeros(1, OBS, dtype=torch.float64),
        "observation_count": torch.tensor([9.0], dtype=torch.float64),
    }
    seen = torch.tensor([2.0, 2.0, 2.1])[None, None, None]
    found = linear().distribution(params, seen)[0].logits.flatten().tolist()
    assert found == [0.0, 0.0, 10.0]  # 0.1 / 1e-4 = 1000, cut


def rollout_of(seen, mask):
    zeros = torch.zeros(mask.shape)
    return Rollout(
        observations=seen,
        actions=zeros[..., None],
        rewards=zeros,
        discounts=zeros,
        first=zeros,
        mask=mask,
        log_probs=zeros,
        final_observations=1e6 + seen[:, -1],
        state=None,
        info={},
    )


def test_statistics_are_those_of_the_steps_that_happened_in_all_tasks():
    policy = GaussianMLP(OBS, A, (5,), normalize_observations=True)
    params = policy.initialize(seeded(0))
    rollouts, kept = [], []
    for seed in (1, 2, 3):
        seen = 5.0 + seed * observations(seed, torch.float32)
        mask = (torch.rand(M, T, B, generator=seeded(seed + 10)) > 0.3).float()
        seen[mask == 0] = 1e6  # what did not happen must not count
        rollouts.append(rollout_of(seen, mask * torch.tensor([1.0, 2.0, 0.5, 1.0])))
        kept.append(seen[mask > 0].double().numpy())
    found = policy.statistics(policy.statistics(params, rollouts[:1]), rollouts[1:])
    rows = np.concatenate(kept)
    assert found["observation_count"].item() == len(rows)
    assert found["observation_mean"].numpy() == pytest.approx(rows.mean(0), rel=1e-12)
    assert found["observation_variance"].numpy() == pytest.approx(rows.var(0), rel=1e-12)
    assert params["observation_count"].item() == 0.0  # returned, not written


def test_without_normalization_there_are_no_statistics():
    policy = GaussianMLP(OBS, A, (5,))
    rollout = rollout_of(observations(), torch.ones(M, T, B))
    assert policy.statistics(policy.initialize(seeded(0)), [rollout]) == {}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
@pytest.mark.parametrize("shape", [(), (OBS,)])
def test_merged_moments_are_those_of_all_rows_in_any_order(order, shape):
    sizes = (7, 1, 40, 2)
    batches = [
        10.0 * index + (1 + index) * torch.randn(size, *shape, generator=seeded(index)).double()
        for index, size in enumerate(sizes)
    ]
    mean, variance, count = torch.zeros(shape), torch.ones(shape), torch.zeros(())
    moments = (mean.double(), variance.double(), count.double())
    for index in order:
        moments = merge_moments(*moments, batches[index])
    rows = torch.cat(batches).numpy()
    assert moments[2].item() == 50
    assert moments[0].numpy() == pytest.approx(rows.mean(0), rel=1e-12)
    assert moments[1].numpy() == pytest.approx(rows.var(0), rel=1e-12)


def test_a_count_of_zero_forgets_the_values_it_starts_with():
    rows = torch.tensor([[1.0], [4.0]], dtype=torch.float64)
    start = torch.tensor([99.0]).double(), torch.tensor([7.0]).double(), torch.zeros(()).double()
    mean, variance, count = merge_moments(*start, rows)
    assert (mean.tolist(), variance.tolist(), count.item()) == ([2.5], [2.25], 2.0)


def test_moments_far_from_zero_keep_their_digits():
    # the sum-of-squares formula loses a variance of 1 at a mean of 1e8: 1e16 + 1 is 1e16
    rows = 1e8 + torch.tensor([[-1.0], [1.0]], dtype=torch.float64).repeat(500, 1)
    moments = torch.zeros(1).double(), torch.ones(1).double(), torch.zeros(()).double()
    for part in rows.split(100):
        moments = merge_moments(*moments, part)
    assert moments[1].item() == pytest.approx(1.0, rel=1e-6)


# Module and stacked form.


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_the_module_gives_what_the_stacked_parameters_give(bias, context_size, normalize):
    def build():
        return CategoricalMLP(
            OBS, A, (5, 4), "tanh", context_size, normalize_observations=normalize, bias=bias
        )

    params, rows = drawn(build()), observations(scale=4.0)
    whole = build().distribution(params, rows)[0].logits
    module = build().double()
    for m in range(M):
        module.load_state_dict({name: leaf[m] for name, leaf in params.items()})
        torch.testing.assert_close(module(rows[m : m + 1]).logits[0], whole[m])


def test_the_gaussian_module_normalizes_and_has_a_context_too():
    policy = GaussianMLP(OBS, A, (5,), context_size=2, normalize_observations=True)
    params, rows = drawn(policy), observations(scale=20.0)
    whole = policy.distribution(params, rows)[0]
    module = GaussianMLP(OBS, A, (5,), context_size=2, normalize_observations=True).double()
    for m in range(M):
        module.load_state_dict({name: leaf[m] for name, leaf in params.items()})
        own = module(rows[m : m + 1])
        torch.testing.assert_close(own.mean[0], whole.mean[m])
        torch.testing.assert_close(own.log_std[0], whole.log_std[m])


# Distributions.


def gaussian(seed=0):
    mean = torch.randn(M, T, B, A, dtype=torch.float64, generator=seeded(seed))
    log_std = 0.7 * torch.randn(M, 1, 1, A, dtype=torch.float64, generator=seeded(seed + 1))
    return DiagonalGaussian(mean, log_std)


def test_a_gaussian_s_entropy_and_mode_are_torchs():
    distribution = gaussian()
    reference = Independent(Normal(distribution.mean, distribution.log_std.exp()), 1)
    assert distribution.entropy().shape == (M, T, B)
    torch.testing.assert_close(distribution.entropy(), reference.entropy())
    torch.testing.assert_close(distribution.mode(), reference.mode)


def test_a_gaussian_s_entropy_by_hand():
    # A = 2, std (1, 2): log 2 + log(2 pi e), whatever the mean
    distribution = DiagonalGaussian(
        torch.tensor([[[[3.0, -7.0]]]]), torch.tensor([[[[0.0, math.log(2.0)]]]])
    )
    expected = math.log(2.0) + math.log(2.0 * math.pi * math.e)
    assert distribution.entropy().item() == pytest.approx(expected, rel=1e-6)


def test_a_gaussian_s_entropy_is_differentiated_in_log_std_alone():
    distribution = gaussian()
    mean, log_std = (part.requires_grad_() for part in distribution)
    entropy = DiagonalGaussian(mean, log_std).entropy()
    by_mean, by_log_std = torch.autograd.grad(entropy.sum(), (mean, log_std), allow_unused=True)
    assert by_mean is None
    assert by_log_std.flatten().tolist() == [T * B] * (M * A)  # 1 a step
