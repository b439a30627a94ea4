import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from envs import UserError
from maml_rl.algorithm.policies import DiagonalGaussian, GaussianMLP
from maml_rl.algorithm.policies.activations import activation_named

M, T, B, A = 2, 3, 4, 3


def gaussian(seed):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(M, T, B, A, dtype=torch.float64, generator=generator)
    log_std = 0.5 * torch.randn(M, 1, 1, A, dtype=torch.float64, generator=generator)
    return DiagonalGaussian(mean, log_std)


def reference(distribution):
    return Independent(Normal(distribution.mean, distribution.log_std.exp()), 1)


def weights(seed=9):
    """A mask of unequal weights with steps that did not happen."""
    mask = torch.rand(M, T, B, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mask[0, 1:, 2] = 0.0
    return mask


def stacked(policy, count, dtype=torch.float32):
    each = [policy.initialize(torch.Generator().manual_seed(seed)) for seed in range(count)]
    params = {name: torch.stack([one[name] for one in each]).to(dtype) for name in each[0]}
    params["log_std"] = params["log_std"] + torch.arange(count)[:, None] * 0.3 - 0.2
    return params


def test_log_prob_is_summed_over_action_dimensions():
    distribution, actions = gaussian(0), gaussian(1).mean
    found = distribution.log_prob(actions)
    assert found.shape == (M, T, B)
    torch.testing.assert_close(found, reference(distribution).log_prob(actions))


def test_log_prob_by_hand():
    # A = 2, std (1, 2), mean (0, 1), action (1, 5): -(1 + 4) / 2 - log 2 - log(2 pi)
    distribution = DiagonalGaussian(
        torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[0.0, math.log(2.0)]]]])
    )
    found = distribution.log_prob(torch.tensor([[[[1.0, 5.0]]]])).item()
    assert found == pytest.approx(-2.5 - math.log(2.0) - math.log(2.0 * math.pi), rel=1e-6)


def test_kl_equals_torchs():
    one, other = gaussian(2), gaussian(3)
    torch.testing.assert_close(one.kl(other), kl_divergence(reference(one), reference(other)))
    assert one.kl(one).abs().max() == 0.0


def test_mean_kl_weighs_each_tasks_steps():
    one, other, mask = gaussian(2), gaussian(3), weights()
    each = kl_divergence(reference(one), reference(other))
    expected = torch.stack([(mask[m] * each[m]).sum() / mask[m].sum() for m in range(M)])
    torch.testing.assert_close(one.mean_kl(other, mask), expected)


def test_sample_is_mean_plus_std_times_noise():
    distribution = DiagonalGaussian(
        torch.tensor([[[[0.5, -1.0]]]]), torch.tensor([[[[math.log(2.0), math.log(0.1)]]]])
    )
    found = distribution.sample(torch.tensor([[[[-1.5, 3.0]]]]))
    assert found.flatten().tolist() == pytest.approx([0.5 - 3.0, -1.0 + 0.3])


@pytest.mark.parametrize("moved", ["first", "second"])
def test_mean_kl_curvature_is_the_hessian_vector_product(moved):
    at, tangent, mask = gaussian(4), gaussian(5), weights()
    split, shapes = at.mean.numel(), (at.mean.shape, at.log_std.shape)

    def unflatten(flat):
        return DiagonalGaussian(flat[:split].view(shapes[0]), flat[split:].view(shapes[1]))

    def divergence(flat):
        pair = (unflatten(flat), at) if moved == "first" else (at, unflatten(flat))
        return pair[0].mean_kl(pair[1], mask).sum()

    def flatten(distribution):
        return torch.cat([distribution.mean.flatten(), distribution.log_std.flatten()])

    hessian = torch.autograd.functional.hessian(divergence, flatten(at))
    found = at.mean_kl_curvature(tangent, mask)
    assert (found.mean.shape, found.log_std.shape) == shapes
    torch.testing.assert_close(flatten(found), hessian @ flatten(tangent))


ACTIVATIONS = ("tanh", "relu", "elu", "gelu", "silu", "softplus", "torch.atan")


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden_sizes", [(5,), (7, 6)])
def test_stacked_parameters_give_what_each_module_gives(activation, hidden_sizes, normalized):
    policy = GaussianMLP(4, A, hidden_sizes, activation, layer_normalization=normalized)
    params = stacked(policy, M, torch.float64)
    generator = torch.Generator().manual_seed(6)
    observations = torch.randn(M, T, B, 4, dtype=torch.float64, generator=generator)
    distribution, value, state = policy.distribution(params, observations)
    assert (value, state, policy.initial_state(M, B)) == (None, None, None)
    assert distribution.mean.shape == (M, T, B, A)
    assert distribution.log_std.shape == (M, 1, 1, A)
    module = GaussianMLP(4, A, hidden_sizes, activation, layer_normalization=normalized).double()
    for m in range(M):
        module.load_state_dict({name: leaf[m] for name, leaf in params.items()})
        own = module(observations[m : m + 1])
        torch.testing.assert_close(distribution.mean[m : m + 1], own.mean)
        torch.testing.assert_close(distribution.log_std[m : m + 1], own.log_std)


@pytest.mark.parametrize("name", ["elu", "gelu", "silu", "softplus"])
def test_activations_are_those_of_torch(name):
    column = torch.linspace(-2.0, 2.0, 9)
    modules = {"elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU, "softplus": nn.Softplus}
    torch.testing.assert_close(activation_named(name)(column), modules[name]()(column))


def test_layer_normalization_by_hand():
    # One hidden layer of two units. Observation 1, weights 3 and 1: 3, 1, of mean 2 and deviation
    # 1: normalized 1, -1; gains 2 and 0.5, biases 0 and 1: 2, 0.5; relu; output 1 * 2 + 10 * 0.5.
    policy = GaussianMLP(1, 1, (2,), "relu", layer_normalization=True)
    params = {
        "layers.0.weight": torch.tensor([[[3.0], [1.0]]]),
        "layers.0.bias": torch.zeros(1, 2),
        "layers.1.weight": torch.tensor([[[1.0, 10.0]]]),
        "layers.1.bias": torch.zeros(1, 1),
        "norms.0.weight": torch.tensor([[2.0, 0.5]]),
        "norms.0.bias": torch.tensor([[0.0, 1.0]]),
        "log_std": torch.zeros(1, 1),
    }
    assert set(params) == set(policy.parts["all"])
    assert policy.parts["body"] == (
        *("layers.0.weight", "layers.0.bias", "norms.0.weight", "norms.0.bias"),
    )
    mean = policy.distribution(params, torch.ones(1, 1, 1, 1))[0].mean
    assert mean.item() == pytest.approx(7.0, rel=1e-4)


def test_the_module_is_a_plain_multilayer_perceptron():
    policy = GaussianMLP(2, 1, (3,))
    policy.initialize(torch.Generator().manual_seed(0))
    observation = torch.tensor([0.3, -0.7])
    first, second = policy.layers
    expected = second.weight @ torch.tanh(first.weight @ observation + first.bias) + second.bias
    torch.testing.assert_close(policy(observation[None, None, None]).mean.flatten(), expected)


def test_acting_on_one_step_equals_the_whole_rollout():
    policy = GaussianMLP(4, A, (8,))
    params = stacked(policy, M)
    observations = torch.randn(M, T, B, 4, generator=torch.Generator().manual_seed(7))
    whole, _, _ = policy.distribution(params, observations)
    for t in range(T):
        one, _, _ = policy.distribution(params, observations[:, t : t + 1])
        torch.testing.assert_close(one.mean, whole.mean[:, t : t + 1])


def test_initialization_is_glorot_uniform_with_zero_biases():
    policy = GaussianMLP(30, 6, (64, 50), initial_std=0.7)
    params = policy.initialize(torch.Generator().manual_seed(0))
    for index, (inputs, outputs) in enumerate([(30, 64), (64, 50), (50, 6)]):
        weight, bound = params[f"layers.{index}.weight"], math.sqrt(6 / (inputs + outputs))
        assert weight.shape == (outputs, inputs)
        assert 0.97 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert torch.equal(params[f"layers.{index}.bias"], torch.zeros(outputs))
    assert params["log_std"].tolist() == pytest.approx([math.log(0.7)] * 6)


def test_orthogonal_weights_and_a_small_last_layer():
    policy = GaussianMLP(30, 6, (64, 50), initialization="orthogonal", output_gain=0.01)
    params = policy.initialize(torch.Generator().manual_seed(0))
    for index, gain in enumerate([1.0, 1.0, 0.01]):
        weight = params[f"layers.{index}.weight"] / gain
        narrow = weight if weight.shape[0] < weight.shape[1] else weight.T
        torch.testing.assert_close(narrow @ narrow.T, torch.eye(len(narrow)), rtol=0, atol=1e-5)
    plain = GaussianMLP(30, 6, (64, 50)).initialize(torch.Generator().manual_seed(0))
    small = GaussianMLP(30, 6, (64, 50), output_gain=0.5)
    halved = small.initialize(torch.Generator().manual_seed(0))
    torch.testing.assert_close(halved["layers.2.weight"], plain["layers.2.weight"] / 2)
    torch.testing.assert_close(halved["layers.1.weight"], plain["layers.1.weight"], rtol=0, atol=0)
    for wrong in ({"initialization": "zeros"}, {"output_gain": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            GaussianMLP(30, 6, **wrong)


def test_initialization_depends_on_its_generator_only():
    policy = GaussianMLP(4, 2, (8,))
    one, again, other = (
        policy.initialize(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["layers.0.weight"], other["layers.0.weight"])
    one["layers.0.weight"].zero_()  # a copy, not the module's own
    assert torch.equal(policy.layers[0].weight, other["layers.0.weight"])
    assert list(one) == list(policy.state_dict())


def test_the_standard_deviation_has_a_floor():
    policy = GaussianMLP(4, 2, (8,), minimum_std=0.5)
    params = stacked(policy, 1)
    params["log_std"] = torch.log(torch.tensor([[0.1, 2.0]]))
    distribution, _, _ = policy.distribution(params, torch.randn(1, 2, 3, 4))
    assert distribution.log_std.exp().flatten().tolist() == pytest.approx([0.5, 2.0])
    policy.load_state_dict({name: leaf[0] for name, leaf in params.items()})
    own = policy(torch.randn(1, 2, 3, 4))
    assert own.log_std.exp().flatten().tolist() == pytest.approx([0.5, 2.0])
    one = {name: leaf[0] for name, leaf in params.items()}
    assert policy.metrics(one) == {"policy/std": pytest.approx(1.25)}


def test_defaults_follow_the_literature():
    policy = GaussianMLP(20, 6)
    assert [layer.out_features for layer in policy.layers] == [64, 64, 6]
    assert (policy.observation_size, policy.action_size, policy.widest) == (20, 6, 64)
    params = policy.initialize(torch.Generator().manual_seed(0))
    assert policy.metrics(params) == {"policy/std": 1.0}
    assert policy.minimum_log_std == pytest.approx(math.log(1e-6))


@pytest.mark.parametrize("shape", [(2, 3, 4), (4,), (2, 3, 4, 4, 1)])
def test_observations_of_another_rank_are_refused(shape):
    policy = GaussianMLP(4, 2, (8,))
    with pytest.raises(ValueError, match=r"^observations must be \[M, T, B, O\], not \("):
        policy.distribution(stacked(policy, 2), torch.randn(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "tahn"}, "activation=tahn is unknown; choose one of elu, "),
        ({"hidden_sizes": ()}, "hidden_sizes is empty"),
        ({"hidden_sizes": (8, 0)}, "hidden_sizes must be a whole number of at least 1"),
        ({"initial_std": 0.0}, "initial_std must be a finite number above 0, not 0.0"),
        ({"minimum_std": -1.0}, "minimum_std must be a finite number above 0, not -1.0"),
    ],
)
def test_wrong_settings_are_refused_by_name(arguments, message):
    with pytest.raises(UserError) as error:
        GaussianMLP(4, 2, **arguments)
    assert str(error.value).startswith(message)
