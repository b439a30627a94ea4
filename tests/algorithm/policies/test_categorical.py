import math

import pytest
import torch
from torch.distributions import Categorical as Reference
from torch.distributions import kl_divergence

from maml_rl.algorithm.policies import Categorical, CategoricalMLP

M, T, B, A = 2, 3, 4, 5


def categorical(seed, scale=1.5):
    generator = torch.Generator().manual_seed(seed)
    return Categorical(scale * torch.randn(M, T, B, A, dtype=torch.float64, generator=generator))


def weights(seed=9):
    """A mask of unequal weights with steps that did not happen."""
    mask = torch.rand(M, T, B, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mask[0, 1:, 2] = 0.0
    return mask


def stacked(policy, count, dtype=torch.float32):
    each = [policy.initialize(torch.Generator().manual_seed(seed)) for seed in range(count)]
    return {name: torch.stack([one[name] for one in each]).to(dtype) for name in each[0]}


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32, torch.float64])
def test_log_prob_equals_torchs_for_whole_numbers_of_any_dtype(dtype):
    distribution = categorical(0)
    actions = torch.randint(A, (M, T, B), generator=torch.Generator().manual_seed(1))
    found = distribution.log_prob(actions.to(dtype))
    torch.testing.assert_close(found, Reference(logits=distribution.logits).log_prob(actions))


def test_log_prob_by_hand_does_not_depend_on_a_shift():
    # odds 1 : 3, whatever is added to both logits
    logits = torch.tensor([0.0, math.log(3.0)]) + 7.0
    distribution = Categorical(logits.expand(1, 2, 1, 2))
    found = distribution.log_prob(torch.tensor([[[0], [1]]]))
    assert found.flatten().tolist() == pytest.approx([math.log(0.25), math.log(0.75)], rel=1e-6)


def test_entropy_and_kl_equal_torchs():
    one, other = categorical(2), categorical(3)
    references = Reference(logits=one.logits), Reference(logits=other.logits)
    torch.testing.assert_close(one.entropy(), references[0].entropy())
    torch.testing.assert_close(one.kl(other), kl_divergence(*references))
    assert one.kl(one).abs().max() == 0.0
    uniform = Categorical(torch.zeros(1, 1, 1, A))
    assert uniform.entropy().item() == pytest.approx(math.log(A), rel=1e-6)


def test_extreme_logits_stay_finite():
    distribution = Categorical(torch.tensor([[[[1e4, 0.0, -1e4]]]]))
    assert distribution.entropy().item() == 0.0
    assert distribution.log_prob(torch.tensor([[[2]]])).item() == -2e4
    assert distribution.kl(Categorical(torch.zeros(1, 1, 1, 3))).item() == pytest.approx(
        math.log(3.0), rel=1e-6
    )


def test_mean_kl_weighs_each_tasks_steps():
    one, other, mask = categorical(2), categorical(3), weights()
    each = kl_divergence(Reference(logits=one.logits), Reference(logits=other.logits))
    expected = torch.stack([(mask[m] * each[m]).sum() / mask[m].sum() for m in range(M)])
    torch.testing.assert_close(one.mean_kl(other, mask), expected)


@pytest.mark.parametrize("moved", ["first", "second"])
def test_mean_kl_curvature_is_the_hessian_vector_product(moved):
    at, tangent, mask = categorical(4), categorical(5), weights()

    def divergence(logits):
        pair = (Categorical(logits), at) if moved == "first" else (at, Categorical(logits))
        return pair[0].mean_kl(pair[1], mask).sum()

    size = at.logits.numel()
    hessian = torch.autograd.functional.hessian(divergence, at.logits).reshape(size, size)
    found = at.mean_kl_curvature(tangent, mask)
    torch.testing.assert_close(found.logits.flatten(), hessian @ tangent.logits.flatten())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sample_has_the_probabilities(dtype):
    count = 50000
    logits = torch.tensor([1.0, -0.5, 0.3, -3.0], dtype=dtype)
    noise = torch.randn(1, 1, count, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    actions = Categorical(logits.expand(1, 1, count, 4)).sample(noise)
    assert actions.shape == (1, 1, count)
    found = torch.bincount(actions.flatten(), minlength=4).double()
    expected = count * logits.double().softmax(-1)
    # chi-square with 3 degrees of freedom: 16.3 is exceeded once in a thousand times
    assert ((found - expected) ** 2 / expected).sum() < 16.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", [10.0, 40.0])
def test_sample_copes_with_extreme_noise(dtype, extreme):
    distribution = Categorical(torch.tensor([[[[0.0, 2.0, -2.0]]]], dtype=dtype))
    noise = torch.tensor([-extreme, 0.0, extreme], dtype=dtype)
    for index in range(3):  # the action with the large noise is taken, whichever it is
        found = distribution.sample(noise.roll(index)[None, None, None])
        assert found.item() == (2 + index) % 3
    low = distribution.sample(torch.full((1, 1, 1, 3), -extreme, dtype=dtype))
    assert low.item() == 1  # equal noise: the most probable action
    high = distribution.sample(torch.full((1, 1, 1, 3), extreme, dtype=dtype))
    assert high.item() == 1 if extreme == 10.0 else high.item() in range(3)  # beyond: a tie


def test_over_time_joins_single_steps():
    whole = categorical(6)
    steps = [Categorical(whole.logits[:, t : t + 1]) for t in range(T)]
    assert torch.equal(Categorical.over_time(steps).logits, whole.logits)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden_sizes", [(), (6,), (7, 6)])
def test_stacked_parameters_give_what_each_module_gives(hidden_sizes, bias):
    policy = CategoricalMLP(4, A, hidden_sizes, bias=bias)
    params = stacked(policy, M, torch.float64)
    generator = torch.Generator().manual_seed(7)
    observations = torch.randn(M, T, B, 4, dtype=torch.float64, generator=generator)
    distribution, value, state = policy.distribution(params, observations)
    assert (value, state, policy.initial_state(M, B)) == (None, None, None)
    assert distribution.logits.shape == (M, T, B, A)
    module = CategoricalMLP(4, A, hidden_sizes, bias=bias).double()
    for m in range(M):
        module.load_state_dict({name: leaf[m] for name, leaf in params.items()})
        own = module(observations[m : m + 1])
        torch.testing.assert_close(distribution.logits[m : m + 1], own.logits)


def test_context_and_normalization_give_what_the_module_gives():
    policy = CategoricalMLP(4, A, (6,), context_size=2, normalize_observations=True)
    params = stacked(policy, M)
    generator = torch.Generator().manual_seed(8)
    params["context"] = torch.randn(M, 2, generator=generator)
    params["observation_mean"] = torch.randn(M, 4, generator=generator).double()
    params["observation_variance"] = 2.0 + torch.rand(M, 4, generator=generator).double()
    observations = torch.randn(M, T, B, 4, generator=generator)
    distribution, _, _ = policy.distribution(params, observations)
    for m in range(M):
        policy.load_state_dict({name: leaf[m] for name, leaf in params.items()})
        own = policy(observations[m : m + 1])
        torch.testing.assert_close(distribution.logits[m : m + 1], own.logits)


def test_without_layers_and_bias_it_is_a_table():
    policy = CategoricalMLP(3, 2, hidden_sizes=(), bias=False)
    table = torch.arange(6.0).view(1, 3, 2)
    states = torch.tensor([2, 0, 1])
    observations = torch.nn.functional.one_hot(states, 3).float()[None, :, None]
    distribution, _, _ = policy.distribution({"layers.0.weight": table.mT}, observations)
    assert distribution.logits[0, :, 0].tolist() == [[4.0, 5.0], [0.0, 1.0], [2.0, 3.0]]


def test_names_of_parts_and_of_what_is_fixed():
    plain = CategoricalMLP(4, A, (8,))
    body = ("layers.0.weight", "layers.0.bias")
    head = ("layers.1.weight", "layers.1.bias")
    assert plain.fixed == ()
    assert plain.parts == {"all": (*body, *head), "head": head, "body": body}
    table = CategoricalMLP(4, A, (), bias=False)
    names = ("layers.0.weight",)
    assert table.parts == {"all": names, "head": names, "body": ()}
    full = CategoricalMLP(4, A, (8,), context_size=2, normalize_observations=True)
    statistics = ("observation_mean", "observation_variance", "observation_count")
    assert full.fixed == ("context", *statistics)
    assert full.parts["context"] == ("context",)
    assert set(full.parts["all"]) == {"context", *body, *head}
    assert full.metrics({}) == {}


def test_initialization_is_glorot_uniform_and_depends_on_its_generator_only():
    policy = CategoricalMLP(30, 6, (64,))
    one, again, other = (
        policy.initialize(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert list(one) == list(policy.state_dict())
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["layers.0.weight"], other["layers.0.weight"])
    bound = math.sqrt(6 / (30 + 64))
    assert 0.97 * bound < one["layers.0.weight"].abs().max() <= bound
    assert torch.equal(one["layers.1.bias"], torch.zeros(6))
