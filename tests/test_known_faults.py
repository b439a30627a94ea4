"""Twelve faults that other systems had, one test each: none of them may appear here.

Each test says the fault, and where it was found. They go through the objects that the commands
build, so that what is tested is what runs.
"""

import json
import math
import random
import shutil

import numpy as np
import pytest
import torch

from envs import HalfCheetahDir, PointNavigation
from envs.wrappers.task_observed import TaskObserved
from maml_rl.algorithm.adaptation import Experience
from maml_rl.algorithm.advantages import AdvantageEstimator
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.diagnostics import gradient_rows
from maml_rl.algorithm.inner_loop.loop import stack
from maml_rl.algorithm.rollout import Rollout, masked_mean
from maml_rl.commands.resume import resume
from maml_rl.configuration.building import build_trainer
from maml_rl.randomness import Key, Purpose
from tests.support.built import Built, first_moments, numpy_features, read_tasks, to_go
from tests.support.corridor import Corridor
from tests.support.run_files import load, read_metrics, repeatable
from tests.support.smoke import smoke_config, train_smoke


def scaled(step, by):
    return step._replace(targets=step.targets._replace(advantages=step.targets.advantages * by))


# Nothing is subtracted from the returns, so that the loss at the start, minus the mean advantage of
# a rollout, tells one rollout from another (otherwise it is 0).
RAW = ("algorithm.standardize_advantages=false", "baseline.ridge=1e9")


def test_fault_1_the_meta_loss_on_the_batch_before_adaptation():
    """RLlib's torch version took the batch one step too early."""
    built = Built("algorithm=maml_adam", *RAW, "inner.steps=2", "inner.step_size=0.3")
    experience = built.collect()
    # what is kept was collected by the policies that it says
    rows = stack(built.meta, 3)
    for params, which in [(rows, 0), (experience.adapted, -1)]:
        rollout = experience.rollouts[which]
        found = built.log_probs(params, rollout) * rollout.mask
        torch.testing.assert_close(found, rollout.log_probs, rtol=1e-4, atol=1e-4)
    # at the start every ratio is 1, so the loss is minus the mean advantage of the last rollout
    last = experience.rollouts[-1]
    means = [
        float(masked_mean(step.targets.advantages, step.rollout.mask).mean())
        for step in experience.steps
    ]
    assert np.abs(np.diff(means)).min() > 0.02  # so that another batch would be noticed
    loss = built.outer_step(experience).metrics["outer/loss"]
    assert loss == pytest.approx(-means[-1], rel=1e-4)
    # other advantages of the last rollout change loss and gradient in proportion
    *before, after = experience.steps
    doubled = Experience([*before, scaled(after, -2.0)])
    assert built.outer_step(doubled).metrics["outer/loss"] == pytest.approx(-2 * loss, rel=1e-5)
    gradient = first_moments(built.outer_step(experience))
    torch.testing.assert_close(first_moments(built.outer_step(doubled)), -2.0 * gradient)
    # those of earlier rollouts act through adaptation alone: not at all where steps are tiny
    tiny = Built("algorithm=maml_adam", *RAW, "inner.steps=2", "inner.step_size=1e-9")
    same = tiny.collect()
    altered = Experience([*(scaled(step, -3.0) for step in same.steps[:-1]), same.steps[-1]])
    one, other = (first_moments(tiny.outer_step(each)) for each in (same, altered))
    torch.testing.assert_close(one, other)
    moved = Experience([*(scaled(step, -3.0) for step in before), after])
    assert (first_moments(built.outer_step(moved)) - gradient).norm() > 0.01 * gradient.norm()
    assert last.rewards.shape == (3, 10, 4)


def test_fault_2_a_baseline_that_is_not_the_one_fitted():
    """garage's optimizer held another copy of the value function than the one used.

    Values must satisfy the normal equations of the very rollout they are subtracted in:
    X'D (y - v) = ridge * w, nearly 0, for every task and every rollout.
    """
    built = Built("algorithm.standardize_advantages=false", "inner.steps=2", num_episodes=6)
    experience = built.collect()
    discount = built.config.algorithm.discount
    previous = None
    for rollout, targets, *_ in experience.steps:
        features = numpy_features(rollout)
        time = np.arange(10)[None, :, None]
        values = targets.values.double().numpy() / discount**time
        returns = to_go(rollout, discount)
        # with lambda 1, an advantage is the return to go less the value
        assert targets.advantages.numpy() == pytest.approx(
            (returns - values) * rollout.mask.numpy(), abs=1e-4
        )
        for m in range(3):
            happened = rollout.mask[m].numpy() > 0
            x, residual = features[m][happened], (returns - values)[m][happened]
            assert np.abs(x.T @ residual).max() < 0.01  # ridge * w, and float32 results
            if previous is not None:  # the last rollout's values would not do
                stale = returns[m][happened] - previous[m][happened]
                assert np.abs(x.T @ stale).max() > 0.1
        previous = values


def test_fault_3_advantages_divided_by_their_variance():
    """garage and metaworld-algorithms divided by the variance, not the standard deviation."""
    built = Built()
    raw = Built("algorithm.standardize_advantages=false")
    for scaled_step, raw_step in zip(
        built.collect(steps=0).steps, raw.collect(steps=0).steps, strict=True
    ):
        one, other = scaled_step.targets, raw_step.targets
        deviations = []
        for m in range(3):
            mask = raw.collect(steps=0).rollouts[0].mask[m] > 0
            plain = other.advantages[m][mask].double().numpy()
            deviation = plain.std()
            deviations.append(deviation)
            expected = (plain - plain.mean()) / deviation
            assert one.advantages[m][mask].numpy() == pytest.approx(expected, rel=1e-3, abs=1e-4)
            assert one.scale[m].item() == pytest.approx(deviation, rel=1e-4)
        # far from 1, where variance and standard deviation are the same
        assert max(abs(math.log(deviation)) for deviation in deviations) > 0.3
    # rewards in another unit leave standardized advantages as they were
    rollout = built.collect(steps=0).rollouts[0]
    expected, found = (
        built.learner.advantages(rollout._replace(rewards=unit * rollout.rewards)).advantages
        for unit in (1.0, 10.0)
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_fault_4_one_adaptation_step_whatever_number_was_asked_for(run_copy, evaluate_cli):
    """garage took one step at test time. This run was trained with one; five are asked for."""
    outcome = evaluate_cli("run=run", "steps=5", "num_episodes=3", "threads=1", "later_scale=0.5")
    assert (outcome.status, outcome.err) == (0, "")
    result = json.loads((run_copy / "evaluation/evaluation.json").read_text())
    curve = np.array([point["per_task"] for point in result["curve"]])
    assert curve.shape == (6, 4)
    assert len(np.unique(curve)) == 24  # no two steps alike, for no task
    # the same by hand: a step of plain gradient descent for each task, later ones halved
    built = Built(num_tasks=4, num_episodes=3, tasks=read_tasks(run_copy, "test"))
    meta = load(run_copy / "checkpoints/best.pt")["meta"]
    params = stack(meta, 4)
    for step in range(6):
        rollout = built.collector.collect(params, built.tasks, Key(0, (Purpose.TEST, step)))
        assert rollout.mean_return().numpy() == pytest.approx(curve[step], rel=1e-3)
        weights = rollout.mask * built.learner.advantages(rollout).advantages
        leaves = {name: leaf.clone().requires_grad_() for name, leaf in params.items()}
        losses = -(weights * built.log_probs(leaves, rollout)).sum((1, 2)) / rollout.mask.sum(
            (1, 2)
        )
        grads = torch.autograd.grad(losses.sum(), leaves.values())
        size = 0.1 if step == 0 else 0.05
        params = {
            name: leaf - size * grad
            for (name, leaf), grad in zip(params.items(), grads, strict=True)
        }


@pytest.mark.parametrize("inner", ["sgd", "learn2learn_maml"])
def test_fault_5_the_outer_step_size_used_inside(inner):
    """learn2learn's ProMP example ignored the inner step size and used the outer one."""
    sizes = [(0.25, 7e-3), (0.25, 0.2), (0.5, 7e-3)]
    moved = []
    for inner_size, outer_size in sizes:
        built = Built(
            *("algorithm=maml_adam", *RAW, f"inner={inner}"),
            *(f"inner.step_size={inner_size}", f"outer.step_size={outer_size}"),
        )
        experience = built.collect()
        moved.append({name: experience.adapted[name] - leaf for name, leaf in built.meta.items()})
        # in the outer loop too: with another inner step size, ratios at the start were not 1 and
        # the loss not minus the mean advantage
        own, rollout = experience.steps[-1].targets, experience.rollouts[-1]
        expected = -float(masked_mean(own.advantages, rollout.mask).mean())
        update = built.outer_step(experience)
        assert update.metrics["outer/loss"] == pytest.approx(expected, rel=1e-4)
        # Adam's first step is its own size, of every parameter that has a gradient
        change = (update.meta["layers.0.weight"] - built.meta["layers.0.weight"]).abs()
        assert change.max().item() == pytest.approx(outer_size, rel=1e-2)
    for name, leaf in moved[0].items():
        assert torch.equal(moved[1][name], leaf)  # the outer size plays no part
        torch.testing.assert_close(moved[2][name], 2.0 * leaf, rtol=1e-4, atol=1e-6)


def test_fault_6_log_probabilities_averaged_over_action_dimensions():
    """learn2learn's examples averaged them; six dimensions would be a step six times too small."""
    built = Built("env=half_cheetah_dir", "env.horizon=4", "inner.step_size=0.3")
    experience = built.collect()
    rollout, targets = experience.rollouts[0], experience.steps[0].targets
    assert rollout.actions.shape[-1] == 6
    leaves = {name: leaf.requires_grad_() for name, leaf in stack(built.meta, 3).items()}
    log_probs = built.log_probs(leaves, rollout)
    torch.testing.assert_close(rollout.log_probs, log_probs.detach(), rtol=1e-5, atol=1e-5)
    # -6 (1 + log 2 pi) / 2 on average where std is 1; averaged it was a sixth
    assert rollout.log_probs.mean().item() == pytest.approx(-8.51, abs=0.5)
    losses = -(rollout.mask * targets.advantages * log_probs).sum((1, 2)) / rollout.mask.sum((1, 2))
    grads = torch.autograd.grad(losses.sum(), leaves.values())
    for (name, leaf), grad in zip(leaves.items(), grads, strict=True):
        expected = leaf.detach() - 0.3 * grad
        torch.testing.assert_close(experience.adapted[name], expected, rtol=1e-4, atol=1e-5)
    norms = torch.cat([grad.flatten(1) for grad in grads], 1).norm(dim=1)
    found = gradient_rows(experience.steps[0].gradients).norm(dim=1)
    torch.testing.assert_close(found, norms, rtol=1e-4, atol=1e-5)


def test_fault_7_time_that_runs_over_episodes_and_a_ridge_that_is_the_action_size():
    """One system's time feature ran over concatenated episodes, and its ridge was the action size.

    The fit is the one of numpy with the configuration's ridge and each episode's own time, whatever
    the number of actions.
    """
    for env, ridge in [("point_navigation", 1e-5), ("half_cheetah_dir", 1e-5), ("corridor", 0.5)]:
        distribution = Corridor() if env == "corridor" else None
        chosen = "point_navigation" if env == "corridor" else env
        built = Built(f"env={chosen}", f"baseline.ridge={ridge}", distribution=distribution)
        baseline = built.learner.advantages.baseline
        assert baseline.ridge == ridge
        rollout = built.collect(steps=0).rollouts[0]
        returns = to_go(rollout, 0.99)
        values, _ = baseline.values(baseline.fit(rollout, torch.from_numpy(returns)), rollout)
        features = numpy_features(rollout)
        for m in range(3):
            happened = rollout.mask[m].numpy() > 0
            x, y = features[m][happened], returns[m][happened]
            weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
            assert values[m].numpy()[happened] == pytest.approx(x @ weights, rel=1e-6, abs=1e-6)
    # two episodes in a slot: the second one's time begins at 0, as in a slot of its own
    generator = torch.Generator().manual_seed(0)
    seen = torch.randn(1, 8, 1, 2, generator=generator)
    paid = torch.randn(1, 8, 1, generator=generator)
    one_slot = two_episodes(seen, paid, first=[1, 0, 0, 0, 1, 0, 0, 0])
    side_by_side = two_episodes(
        *(torch.cat(leaf.chunk(2, dim=1), dim=2) for leaf in (seen, paid)), first=[1, 0, 0, 0]
    )
    estimate = AdvantageEstimator(LinearFeatureBaseline(0.5), standardize=False)
    found, expected = estimate(one_slot), estimate(side_by_side)
    for name in ("advantages", "values", "rewards"):
        slots = torch.cat(getattr(found, name).chunk(2, dim=1), dim=2)
        torch.testing.assert_close(slots, getattr(expected, name))
    running = estimate(one_slot._replace(first=torch.eye(8)[:1, :, None]))  # the fault itself
    assert (running.advantages - found.advantages).abs().max() > 0.05


def two_episodes(seen, paid, first):
    begins = torch.tensor(first, dtype=torch.float32)[None, :, None].expand(paid.shape).clone()
    ones = torch.ones(paid.shape)
    return Rollout(
        observations=seen,
        actions=torch.zeros(*paid.shape, 1),
        rewards=paid,
        discounts=ones,
        first=begins,
        mask=ones,
        log_probs=torch.zeros(paid.shape),
        final_observations=seen[:, -1],
        state=None,
        info={},
    )


def test_fault_8_more_episodes_for_tasks_that_end_early():
    """ProMP's sampler stopped on total steps, so that short tasks were sampled more often."""
    tasks = {"length": np.array([2, 3, 9]), "pay": np.array([1.0, -0.5, 2.0])}
    built = Built(distribution=Corridor(), tasks=tasks, num_episodes=5)
    experience = built.collect()
    for rollout in experience.rollouts:
        assert (rollout.first * rollout.mask).sum((1, 2)).tolist() == [5, 5, 5]
        assert rollout.mask.sum((1, 2)).tolist() == [2 * 5, 3 * 5, 6 * 5]  # 9 is cut off at 6
        assert rollout.num_steps() == (2 + 3 + 6) * 5
        assert rollout.mask[0, 2:].sum() == rollout.mask[1, 3:].sum() == 0
        total = (rollout.rewards * rollout.mask).sum((1, 2)) / 5
        torch.testing.assert_close(rollout.mean_return().float(), total)
    # every task counts the same in the outer loss, however many steps it gave
    built = Built("algorithm=maml_adam", *RAW, distribution=Corridor(), tasks=tasks, num_episodes=5)
    experience = built.collect()
    own, mask = experience.steps[-1].targets.advantages, experience.rollouts[-1].mask
    each = [float((own[m] * mask[m]).sum() / mask[m].sum()) for m in range(3)]
    loss = built.outer_step(experience).metrics["outer/loss"]
    assert loss == pytest.approx(-np.mean(each), rel=1e-4)
    pooled = float((own * mask).sum() / mask.sum())
    assert abs(pooled - np.mean(each)) > 0.1


def test_fault_9_environment_steps_read_as_the_iteration(run_copy):
    """metaworld-algorithms resumed with the steps as the index of the iteration, and stopped."""
    done = load(run_copy / "checkpoints/last.pt")
    assert done["iteration"] == 2
    assert done["env_steps"] > 5  # more than the iterations asked for below
    shutil.copytree(run_copy, run_copy.parent / "other")
    overrides = {override.key_or_group: override for override in parsed("trainer.iterations=5")}
    assert resume("run", overrides) == 0
    lines = read_metrics("run")
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5]
    after = load("run/checkpoints/last.pt")
    assert after["iteration"] == 5
    assert after["env_steps"] == lines[-1]["env_steps"]
    assert lines[1]["env_steps"] == done["env_steps"] < lines[2]["env_steps"]
    added = np.diff([line["env_steps"] for line in lines])
    assert (added > 0).all()
    assert (added <= 2 * 2 * 2 * 10).all()  # tasks, episodes, collections, steps
    # a limit in steps is one in steps
    limit = done["env_steps"] + 1
    overrides = parsed("trainer.iterations=null", f"trainer.env_steps={limit}")
    assert resume("other", {override.key_or_group: override for override in overrides}) == 0
    assert [line["iteration"] for line in read_metrics("other")] == [1, 2, 3]


def parsed(*overrides):
    from maml_rl.commands.cli import parse_overrides

    return parse_overrides([*overrides, "logger.tensorboard=false", "logger.progress=false"])


def test_fault_10_directions_taken_for_radians():
    """VariBAD's ant fed +-1 to cos and sin. A direction is a sign that multiplies the velocity."""
    env = HalfCheetahDir()
    before = {"qpos": np.array([0.3] + [0.0] * 8)}
    after = {"qpos": np.array([0.7] + [0.0] * 8)}
    action = np.array([0.5, -1.0, 0.0, 0.25, 1.0, -0.5])
    cost = 0.05 * (0.25 + 1.0 + 0.0625 + 1.0 + 0.25)
    forward, backward = (
        env.reward(before, action, after, {"direction": sign}) for sign in (1.0, -1.0)
    )
    # 0.4 m in 0.05 s is 8 m/s; cos(1) * 8 would be 4.3 in both directions
    assert forward == pytest.approx(8.0 - cost, rel=1e-12)
    assert backward == pytest.approx(-8.0 - cost, rel=1e-12)
    assert set(env.sample(50, np.random.default_rng(0))["direction"]) == {1.0, -1.0}
    # batched: the same actions from the same start, in both directions
    batch = env.make(2, 1)
    batch.set_tasks({"direction": np.array([1.0, -1.0])})
    batch.reset([np.random.default_rng(7) for _ in range(2)])
    actions = np.broadcast_to(10.0 * action, (2, 1, 6))
    step = batch.step(actions, np.ones((2, 1), dtype=bool))
    velocity = step.info["x_velocity"][:, 0]
    assert velocity[0] == velocity[1] != 0.0
    assert step.rewards[:, 0] == pytest.approx([velocity[0] - cost, -velocity[0] - cost], rel=1e-6)
    batch.close()
    # and an oracle is shown the sign itself
    observed = TaskObserved(env).make(2, 1)
    observed.set_tasks({"direction": np.array([1.0, -1.0])})
    assert observed.reset([np.random.default_rng(7)] * 2)[:, 0, -1].tolist() == [1.0, -1.0]
    observed.close()


class Recording(PointNavigation):
    """Keeps every batch of tasks that was drawn."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.drawn = []

    def sample(self, num_tasks, rng):
        tasks = super().sample(num_tasks, rng)
        self.drawn.append(tasks["goal"])
        return tasks


def test_fault_11_tasks_from_a_global_random_state(tmp_path, monkeypatch):
    """ProMP and learn2learn drew them from numpy's global state, and workers repeated tasks."""
    target = "env._target_=tests.test_known_faults.Recording"
    runs = []
    for number, seed in enumerate((1, 2)):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
        trainer = build_trainer(
            smoke_config(target, "trainer.iterations=3", f"sampler.threads={number + 1}"),
            tmp_path / str(number),
        )
        trainer.distribution.drawn.clear()  # validation and test
        trainer.run(trainer.begin())
        runs.append(np.concatenate(trainer.distribution.drawn))
        # what is not drawn from is not advanced either
        assert random.getstate() == states[0]
        assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), states[2])
    assert np.array_equal(runs[0], runs[1])
    one, other = (repeatable(read_metrics(tmp_path / name)) for name in "01")
    assert one == other
    # 3 iterations x 2 tasks, none twice, and none of those kept for validation and test
    kept = [*trainer.splits.validation["goal"], *trainer.splits.test["goal"]]
    assert len(np.unique(np.concatenate([runs[0], kept]), axis=0)) == 3 * 2 + 2 + 4
    # nor do tasks repeat one another's noise: actions differ, slot by slot
    noise = Built().collect(steps=0).rollouts[0].actions[:, 0].flatten(0, 1)
    assert len(torch.unique(noise, dim=0)) == 3 * 4


@pytest.mark.parametrize("build", [PointNavigation, HalfCheetahDir])
def test_fault_12_changes_of_the_model_that_compound(build):
    """ProMP kept references to a model's parameters, not copies, and scaled them at every task.

    No task changes the model here: it is to the bit what it was when it was made, and
    an episode from the same generators is the same however many tasks came before.
    """
    distribution = build()
    before = arrays(distribution.model)
    assert {"body_mass", "body_inertia", "geom_friction", "dof_damping"} <= before.keys()
    assert len(before) > 100
    actions = np.random.default_rng(0).normal(size=(5, 2, 3, distribution.action_space.shape[0]))
    active = np.ones((2, 3), dtype=bool)
    env = distribution.make(2, 3)
    single = distribution.single()
    seen = []
    for round_ in range(3):
        tasks = distribution.sample(2, np.random.default_rng(round_ % 2))
        given = {name: leaf.copy() for name, leaf in tasks.items()}
        env.set_tasks(tasks)
        episode = [env.reset([np.random.default_rng(row) for row in range(6)])]
        for action in actions:
            step = env.step(10.0 * action, active)
            episode += [step.observations, step.rewards[..., None]]
        single.reset(seed=round_, options={"task": {name: leaf[0] for name, leaf in tasks.items()}})
        single.step(single.action_space.high)
        seen.append(np.concatenate(episode, -1))
        assert all(np.array_equal(tasks[name], leaf) for name, leaf in given.items())
        assert differing(distribution.model, before) == []
    assert np.array_equal(seen[0], seen[2])  # round 2's task is round 0's
    assert not np.array_equal(seen[0], seen[1])
    env.close()
    single.close()
    assert differing(build().model, before) == []  # nor does a second distribution differ


def arrays(model):
    """Copies of every array of numbers in a model."""
    found = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    return {name: leaf.copy() for name, leaf in found.items() if isinstance(leaf, np.ndarray)}


def differing(model, before):
    now = arrays(model)
    assert now.keys() == before.keys()
    return [name for name, leaf in before.items() if not np.array_equal(leaf, now[name])]


def test_tasks_that_end_early_train(tmp_path):
    """The corridor above runs through a whole iteration, unequal lengths and all."""
    metrics = train_smoke(
        tmp_path,
        "env._target_=tests.support.corridor.Corridor",
        "~env.horizon",
        "trainer.iterations=1",
        "trainer.num_tasks=4",
    )
    assert metrics["env_steps"] < 4 * 2 * 2 * 6
    assert math.isfinite(metrics["outer/loss"])
