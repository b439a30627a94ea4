"""The gated recurrent unit against torch's own, its derivatives, and policies with memory."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call

from maml_rl.algorithm.forward_mode import dual_level
from maml_rl.algorithm.outer_loop.objectives import group_size
from maml_rl.algorithm.policies import CategoricalMLP, GaussianMLP
from maml_rl.algorithm.policies.recurrent import PREFIX, GatedUnit, gated_unit

M, T, B, OBS, H, A = 3, 6, 4, 5, 7, 2


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def stacked(seed=0, dtype=torch.float64):
    """Parameters of M units that differ in every leaf."""
    unit = GatedUnit(OBS, H)
    unit.initialize(seeded(seed))
    return {
        f"{PREFIX}{name}": leaf.detach().to(dtype)
        + 0.3 * torch.randn(M, *leaf.shape, dtype=dtype, generator=seeded(index))
        for index, (name, leaf) in enumerate(unit.named_parameters())
    }


def rows(seed=1):
    return torch.randn(M, T, B, OBS, dtype=torch.float64, generator=seeded(seed))


def state(seed=2):
    return torch.randn(M, B, H, dtype=torch.float64, generator=seeded(seed))


def beginning(*where):
    """1 at the given (task, step, slot), [M, T, B]."""
    first = torch.zeros(M, T, B, dtype=torch.float64)
    for place in where:
        first[place] = 1
    return first


def torch_s(params, task, inputs, start):
    """torch.nn.GRU's states [T, B, H] with one task's parameters."""
    unit = torch.nn.GRU(OBS, H, dtype=torch.float64)
    own = {f"{name.removeprefix(PREFIX)}_l0": leaf[task] for name, leaf in params.items()}
    return functional_call(unit, own, (inputs[task], start[task][None]))[0]


def test_values_and_gradients_are_torch_s():
    params = {name: leaf.requires_grad_() for name, leaf in stacked().items()}
    inputs, start = rows().requires_grad_(), state().requires_grad_()
    leaves = [*params.values(), inputs, start]
    states, last = gated_unit(params, inputs, start, None)
    expected = torch.stack([torch_s(params, task, inputs, start) for task in range(M)])
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-14)
    assert torch.equal(last, states[:, -1])
    weights = torch.randn(M, T, B, H, dtype=torch.float64, generator=seeded(3))
    own = torch.autograd.grad((weights * states).sum(), leaves)
    theirs = torch.autograd.grad((weights * expected).sum(), leaves)
    for one, other in zip(own, theirs, strict=True):
        assert one.abs().max() > 0.1
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_memory_begins_anew_where_first_says_so():
    params, inputs, start = stacked(), rows(), state()
    first = beginning((0, 0, 1), (1, 3, 2), (1, 0, 2))
    states, _ = gated_unit(params, inputs, start, first)
    nothing = torch.zeros_like(start)
    # row (0, 1) reads all six steps from nothing; row (1, 2) the last three, whatever came before
    torch.testing.assert_close(states[0, :, 1], torch_s(params, 0, inputs, nothing)[:, 1])
    torch.testing.assert_close(
        states[1, 3:, 2], torch_s(params, 1, inputs[:, 3:], nothing)[:, 2], rtol=0, atol=1e-14
    )
    torch.testing.assert_close(states[2, :, 0], torch_s(params, 2, inputs, start)[:, 0])
    assert (states[0, 0, 1] - gated_unit(params, inputs, start, None)[0][0, 0, 1]).abs().max() > 0.1


def test_steps_taken_one_at_a_time_are_the_whole():
    params, inputs = stacked(), rows()
    first = beginning((0, 0), (1, 0), (2, 0), (1, 3, 2))
    whole, end = gated_unit(params, inputs, None, first)
    now, parts = None, []
    for t in range(T):
        step, now = gated_unit(params, inputs[:, t : t + 1], now, first[:, t : t + 1])
        parts.append(step)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-15)
    torch.testing.assert_close(now, end, rtol=0, atol=1e-15)
    with torch.inference_mode():
        assert torch.equal(gated_unit(params, inputs, None, first)[0], whole)


def small():
    """Two tasks, three steps, and what gradients are checked of."""
    inputs = rows()[:2, :3, :2].clone().requires_grad_()
    params = {name: leaf[:2].clone().requires_grad_() for name, leaf in stacked().items()}
    first = beginning((0, 0), (1, 2, 1))[:2, :3, :2]

    def run(inputs, start, *leaves):
        return gated_unit(dict(zip(params, leaves, strict=True)), inputs, start, first)[0]

    return run, (inputs, state()[:2, :2].clone().requires_grad_(), *params.values())


def test_derivatives_of_both_orders_are_those_of_finite_differences():
    run, arguments = small()
    assert torch.autograd.gradcheck(run, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, arguments, fast_mode=True)


def test_forward_mode_gives_the_same_derivative_as_backward_mode():
    run, arguments = small()
    directions = [
        torch.randn(own.shape, dtype=own.dtype, generator=seeded(i))
        for i, own in enumerate(arguments)
    ]
    with dual_level():
        duals = [
            forward_ad.make_dual(own.detach(), along)
            for own, along in zip(arguments, directions, strict=True)
        ]
        tangent = forward_ad.unpack_dual(run(*duals)).tangent
    weights = torch.randn(tangent.shape, dtype=tangent.dtype, generator=seeded(9))
    gradients = torch.autograd.grad((weights * run(*arguments)).sum(), arguments)
    pulled = sum((own * along).sum() for own, along in zip(gradients, directions, strict=True))
    assert float((weights * tangent).sum()) == pytest.approx(float(pulled), rel=1e-12)
    assert abs(float(pulled)) > 0.1


def test_the_initialization():
    unit = GatedUnit(OBS, H)
    unit.initialize(seeded(0))
    for gate in unit.weight_hh.detach().chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(H), rtol=0, atol=1e-6)
    bound = (6 / (OBS + H)) ** 0.5  # Glorot's, of one gate
    largest = unit.weight_ih.detach().abs().max()
    assert 0.9 * bound < largest <= bound
    assert not unit.bias_ih.any()
    assert not unit.bias_hh.any()


# Policies.


def policy_of(kind, **options):
    return kind(OBS, A, (), memory_size=H, **options)


def parameters(policy, seed=0):
    """Stacked parameters of M policies, all drawn anew."""
    drawn = [policy.initialize(seeded(seed + task)) for task in range(M)]
    return {name: torch.stack([own[name] for own in drawn]).double() for name in drawn[0]}


@pytest.mark.parametrize("kind", [GaussianMLP, CategoricalMLP])
def test_the_layers_read_the_memory(kind):
    policy = policy_of(kind)
    params = parameters(policy)
    distribution, values, end = policy.distribution(
        params, rows(), policy.initial_state(M, B).double(), beginning((0, 0), (1, 0), (2, 0))
    )
    remembered, last = gated_unit(params, rows(), None, None)
    expected = (
        remembered @ params["layers.0.weight"].mT[:, None] + params["layers.0.bias"][:, None, None]
    )
    found = distribution.mean if kind is GaussianMLP else distribution.logits
    torch.testing.assert_close(found, expected)
    assert values is None
    assert torch.equal(end, last)
    # as a module it is one policy that remembers too
    one = policy_of(kind).double()
    functional = functional_call(one, {n: leaf[1] for n, leaf in params.items()}, rows()[1:2])
    torch.testing.assert_close(functional[0], found[1:2])


def test_names_sizes_and_state():
    policy = policy_of(GaussianMLP)
    memory = tuple(f"memory.{name}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    assert policy.parts["body"] == memory
    assert policy.parts["head"] == ("layers.0.weight", "layers.0.bias")
    assert (policy.observation_size, policy.action_size, policy.recurrent) == (OBS, A, True)
    assert policy.widest == 3 * H
    assert policy.initial_state(2, 5).shape == (2, 5, H)
    assert GaussianMLP(OBS, A, (4,)).initial_state(2, 5) is None
    assert GaussianMLP(OBS, A, (4,)).recurrent is False
    assert policy.initialize(seeded(0))["log_std"].tolist() == [0.0, 0.0]  # a deviation of 1


def test_observations_are_normalized_before_they_are_read():
    policy = policy_of(GaussianMLP, normalize_observations=True)
    params = parameters(policy)
    plain = {name: leaf for name, leaf in params.items() if not name.startswith("observation")}
    params["observation_mean"] += 2.0
    params["observation_variance"] *= 4.0
    params["observation_count"] += 10.0
    found = policy.distribution(params, rows())[0].mean
    expected = policy_of(GaussianMLP).distribution(plain, (rows() - 2.0) / 2.0)[0].mean
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_the_size_of_a_task_group_follows_from_a_step_and_from_what_is_kept():
    policy = GaussianMLP(28, 6, (), memory_size=64)  # 192 units in all gates
    assert group_size(policy, 40, 500, 4) == 40  # 500 steps x 4 x 192 activations, 40 times
    assert group_size(policy, 40, 1000, 4) == 20
    assert group_size(policy, 40, 10, 100) == 13  # a step of 13 x 100 rows fits the cache
