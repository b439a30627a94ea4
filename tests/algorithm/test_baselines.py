import numpy as np
import pytest
import torch

from envs import UserError
from maml_rl.algorithm.baselines import LinearFeatureBaseline, step_in_episode
from maml_rl.errors import NonFiniteError
from tests.support.baseline_data import B, M, O, T, returns, rollout


def loop_features(observation, step):
    """o, o^2, t, t^2, t^3, 1 of Duan et al. 2016, o clipped to [-10, 10], t a hundredth."""
    o, t = np.clip(observation.double().numpy(), -10, 10), step / 100
    return np.concatenate([o, o**2, [t, t**2, t**3, 1.0]])


def loop_step(first, m, t, b):
    begins = [s for s in range(t + 1) if first[m, s, b] > 0]
    return t - begins[-1]


def loop_fit(data, targets, m, ridge):
    """Least squares with rows sqrt(ridge) I appended, on the steps of task m that happened."""
    steps = [(t, b) for t in range(T) for b in range(B) if data.mask[m, t, b] > 0]
    rows = [
        loop_features(data.observations[m, t, b], loop_step(data.first, m, t, b)) for t, b in steps
    ]
    size = len(rows[0])
    matrix = np.concatenate([rows, np.sqrt(ridge) * np.eye(size)])
    target = np.concatenate([[float(targets[m, t, b]) for t, b in steps], np.zeros(size)])
    return np.linalg.lstsq(matrix, target, rcond=None)[0]


def test_time_restarts_at_each_episode():
    first = torch.tensor([[1, 0, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0]]).mT[None].float()
    assert step_in_episode(first)[0, :, 0].tolist() == [0, 1, 2, 0, 1, 0]
    assert step_in_episode(first)[0, :, 1].tolist() == [0, 1, 2, 3, 4, 5]


def test_features_by_hand():
    # o = (0.5, -20 -> -10), t = 30 / 100
    features = LinearFeatureBaseline().features(torch.tensor([0.5, -20.0]), torch.tensor(30.0))
    expected = [0.5, -10.0, 0.25, 100.0, 0.3, 0.09, 0.027, 1.0]
    assert features.dtype == torch.float64
    assert features.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ridge", [1e-5, 0.7])
def test_the_fit_of_each_task_equals_least_squares_with_ridge(ridge):
    data, targets = rollout(), returns()
    weights = LinearFeatureBaseline(ridge).fit(data, targets)
    assert weights.shape == (M, 2 * O + 4)
    values, _ = LinearFeatureBaseline(ridge).values(weights, data)
    for m in range(M):
        expected = loop_fit(data, targets, m, ridge)
        # t^3 <= 1e-3: its weight is ill determined, what it predicts is not
        rows = [
            loop_features(data.observations[m, t, 2], loop_step(data.first, m, t, 2))
            for t in range(T)
        ]
        assert values[m, :, 2].numpy() == pytest.approx(rows @ expected, rel=1e-6, abs=1e-6)
        if ridge > 0.1:
            assert weights[m].numpy() == pytest.approx(expected, rel=1e-6)


def test_values_and_final_value_by_loop():
    data = rollout()
    weights = torch.randn(M, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    values, final = LinearFeatureBaseline().values(weights, data)
    for m in range(M):
        for b in range(B):
            for t in range(T):
                step = loop_step(data.first, m, t, b)
                expected = loop_features(data.observations[m, t, b], step) @ weights[m].numpy()
                assert values[m, t, b].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
            step = loop_step(data.first, m, T - 1, b) + 1
            expected = loop_features(data.final_observations[m, b], step) @ weights[m].numpy()
            assert final[m, b].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_value_linear_in_the_features_is_found():
    data = rollout()
    truth = torch.tensor([[1.0, -2.0, 0.1, 0.2, 3.0, 4.0, -5.0, 6.0]] * M, dtype=torch.float64)
    exact, _ = LinearFeatureBaseline().values(truth, data)
    baseline = LinearFeatureBaseline(1e-9)
    values, _ = baseline.values(baseline.fit(data, exact), data)
    torch.testing.assert_close(values, exact, rtol=1e-4, atol=1e-4)


def test_tasks_do_not_influence_each_other():
    data, targets = rollout(), returns()
    alone = [
        LinearFeatureBaseline().fit(data.tasks(m, m + 1), targets[m : m + 1]) for m in range(M)
    ]
    together = LinearFeatureBaseline().fit(data, targets)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-9)
    changed = data._replace(observations=data.observations.clone())
    changed.observations[1] *= -3.0
    again = LinearFeatureBaseline().fit(changed, targets)
    assert torch.equal(again[[0, 2]], together[[0, 2]])
    assert not torch.equal(again[1], together[1])


def test_steps_that_did_not_happen_change_nothing():
    data, targets = rollout(), returns()
    garbage = (data.mask == 0) * 1e6
    other = data._replace(observations=data.observations - garbage[..., None])
    fitted = LinearFeatureBaseline().fit(data, targets)
    assert torch.equal(LinearFeatureBaseline().fit(other, targets + garbage), fitted)


@pytest.mark.parametrize("value", [0.7, 1e9])
def test_rank_deficient_features_still_give_finite_weights(value):
    data = rollout()
    same = torch.full_like(data.observations, value)  # both columns equal and constant
    data = data._replace(observations=same, final_observations=same[:, -1])
    weights = LinearFeatureBaseline().fit(data, returns())
    values, final = LinearFeatureBaseline().values(weights, data)
    assert all(torch.isfinite(leaf).all() for leaf in (weights, values, final))
    # o and o^2 are multiples of the constant 1: what is left to fit is time, and the mean is met
    residual = ((returns() - values) * data.mask).sum((1, 2)) / data.mask.sum((1, 2))
    assert residual.abs().max() < 1e-3


def test_the_ridge_grows_only_for_tasks_that_need_it(monkeypatch):
    data, targets = rollout(), returns()
    usual, calls, solve = LinearFeatureBaseline().fit(data, targets), [], torch.linalg.solve_ex

    def failing(matrix, target):
        weights, info = solve(matrix, target)
        calls.append(matrix.diagonal(dim1=1, dim2=2).clone())
        if len(calls) < 3:
            info[1] = 1
        return weights, info

    monkeypatch.setattr(torch.linalg, "solve_ex", failing)
    weights = LinearFeatureBaseline().fit(data, targets)
    assert len(calls) == 3
    # task 1's ridge goes 1e-5, 1e-4, 1e-3: the diagonal gains 9.9e-4
    assert (calls[2] - calls[0])[1].numpy() == pytest.approx(np.full(8, 9.9e-4), abs=1e-9)
    assert torch.equal(calls[2][[0, 2]], calls[0][[0, 2]])
    assert torch.equal(weights[[0, 2]], usual[[0, 2]])


def test_a_task_that_no_ridge_helps_is_named(monkeypatch):
    solve = torch.linalg.solve_ex

    def failing(matrix, target):
        weights, info = solve(matrix, target)
        weights[2] = torch.nan
        return weights, info

    monkeypatch.setattr(torch.linalg, "solve_ex", failing)
    words = "the baseline of task 2 has no finite weights, whatever its ridge up to 10000"
    with pytest.raises(NonFiniteError, match=words):
        LinearFeatureBaseline().fit(rollout(), returns())


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_returns_that_are_not_finite_are_refused(wrong):
    targets = returns()
    targets[1, 2, 0] = wrong
    with pytest.raises(NonFiniteError, match="a return of task 1 is not finite"):
        LinearFeatureBaseline().fit(rollout(), targets)


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan"), None])
def test_a_wrong_ridge_is_refused(ridge):
    with pytest.raises(UserError, match=r"^ridge must be a finite number above 0"):
        LinearFeatureBaseline(ridge)
