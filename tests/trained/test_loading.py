"""maml_rl.load: what it reads and refuses; adapting to tasks and environments; acting."""

import dataclasses
import json
import shutil
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import maml_rl
from envs import HeldOut, PointNavigation, UserError
from envs.protocol import take_tasks, task_at
from maml_rl.commands.train import train_command
from maml_rl.errors import CheckpointError
from maml_rl.randomness import Key, Purpose
from maml_rl.sampling.one_env import EpisodesInTurn
from maml_rl.trained.loading import load
from tests.support.paths import ROOT
from tests.support.smoke import QUIET


def smoke_run(tmp_path_factory, name, *overrides):
    """A run of one iteration, as train.py leaves it."""
    path = tmp_path_factory.mktemp(name) / "run"
    options = ("experiment=smoke", *QUIET, "trainer.iterations=1", *overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        assert train_command([*options, f"hydra.run.dir={path}"]) == 0
    return path


@pytest.fixture(scope="module")
def trained(trained_run):
    return load(trained_run)


@pytest.fixture(scope="module")
def bandit_run(tmp_path_factory):
    return smoke_run(tmp_path_factory, "bandit", "env=multi_armed_bandit")


@pytest.fixture(scope="module")
def bandit(bandit_run):
    return load(bandit_run)


def mean_of(params, observations):
    """One policy's outputs [N, A] for [N, O], in float64."""
    leaves = {name: leaf[0].double().numpy() for name, leaf in params.items()}
    hidden = np.tanh(observations @ leaves["layers.0.weight"].T + leaves["layers.0.bias"])
    return hidden @ leaves["layers.1.weight"].T + leaves["layers.1.bias"]


# Loading.


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import os, sys, maml_rl; assert os.environ['MKL_CBWR'] == 'AUTO'\n"
        "print({'torch', 'numpy', 'hydra', 'mujoco'} & set(sys.modules))"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
    assert maml_rl.load is load
    with pytest.raises(AttributeError, match="module 'maml_rl' has no attribute 'laod'"):
        _ = maml_rl.laod


def test_what_is_loaded(trained_run, trained):
    assert repr(trained) == "<Trained: point_navigation, maml_trpo, checkpoint best>"
    assert trained.distribution.horizon == 10
    stored = torch.load(trained_run / "checkpoints/last.pt", weights_only=True)["meta"]
    last = load(str(trained_run), "last")
    assert last.checkpoint == "last"
    assert list(last.meta) == list(stored)
    assert all(torch.equal(last.meta[name], stored[name]) for name in stored)
    assert load(trained_run, 2).checkpoint == "iteration_000002"
    goals = json.loads((trained_run / "tasks.json").read_text())
    assert trained.tasks("test")["goal"].tolist() == goals["test"]["goal"]
    assert trained.tasks("validation")["goal"].tolist() == goals["validation"]["goal"]
    assert trained.tasks("test", 3)["goal"].tolist() == goals["test"]["goal"][:3]


def test_what_is_adapted_says_what_it_is(trained):
    adapted = trained.adapt(trained.tasks("test", 2), num_episodes=2)
    before, after = (f"{value:.2f}" for value in adapted.returns.mean(axis=1))
    assert repr(adapted) == (
        f"<Adapted: point_navigation, 2 tasks, return {before} before and {after} after 1 step>"
    )
    task = trained.distribution.describe(task_at(adapted.tasks, 0))
    assert repr(adapted[0]).startswith(f"<AdaptedPolicy: point_navigation, {task}, return -")
    assert repr(trained.policy) == "<AdaptedPolicy: point_navigation, no task>"


def test_without_a_best_checkpoint_the_last_is_loaded(run_copy):
    (run_copy / "checkpoints/best.pt").unlink()
    assert load("run").checkpoint == "last"


def test_test_tasks_come_from_what_is_held_out(trained):
    train, test = PointNavigation(), PointNavigation()
    own = dataclasses.replace(trained, distribution=HeldOut(train, test))
    assert own.source("test") is test
    assert own.source("validation") is own.distribution


REFUSED = [
    (("nowhere",), ("run=nowhere",)),
    ((".",), ("run=.",)),
    (("run", "foo"), ("run=run", "checkpoint=foo")),
    (("run", -1), ("run=run", "checkpoint=-1")),
    (("run", 77), ("run=run", "checkpoint=77")),
]


@pytest.mark.parametrize(("given", "options"), REFUSED, ids=[str(given) for given, _ in REFUSED])
def test_wrong_input_is_refused_as_evaluate_refuses_it(given, options, run_copy, evaluate_cli):
    with pytest.raises(UserError) as refusal:
        load(*given)
    assert evaluate_cli(*options).error == f"error: {refusal.value}"


def test_damaged_runs_are_refused_as_evaluate_refuses_them(
    run_copy, trained_run, bandit_run, evaluate_cli
):
    def refused(error, call=lambda: load("run")):
        with pytest.raises(error) as refusal:
            call()
        assert evaluate_cli("run=run").error == f"error: {refusal.value}"
        return str(refusal.value)

    best = run_copy / "checkpoints/best.pt"
    whole = best.read_bytes()
    best.write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in refused(CheckpointError)
    shutil.copy(bandit_run / "checkpoints/last.pt", best)
    assert "is of another architecture" in refused(CheckpointError)
    shutil.copy(trained_run / "checkpoints/best.pt", best)
    shutil.copy(bandit_run / "tasks.json", run_copy / "tasks.json")
    loaded = load("run")
    words = "run/tasks.json is damaged: it does not hold tasks of point_navigation."
    assert refused(UserError, lambda: loaded.tasks("test")) == words
    config = run_copy / ".hydra/config.yaml"
    config.write_text(
        config.read_text().replace("maml_rl.algorithm.policies.GaussianMLP", "os.system")
    )
    assert "policy._target_=os.system" in refused(UserError)


def test_a_run_trained_on_cuda_is_loaded_anywhere(run_copy):
    config = run_copy / ".hydra/config.yaml"
    config.write_text(config.read_text().replace("device: cpu", "device: cuda"))
    assert load("run").learner.device == "cpu"


# Adapting to tasks.


@pytest.mark.parametrize(
    ("split", "seed", "checkpoint"), [("test", 0, "best"), ("validation", 3, "last")]
)
def test_adapting_gives_what_evaluate_reports(split, seed, checkpoint, run_copy, evaluate_cli):
    options = (f"split={split}", f"seed={seed}", f"checkpoint={checkpoint}", "num_episodes=3")
    assert evaluate_cli("run=run", "steps=3", *options).status == 0
    with open("run/evaluation/evaluation.json") as file:
        curve = json.load(file)["curve"]
    loaded = load("run", checkpoint)
    tasks = loaded.tasks(split)
    adapted = loaded.adapt(tasks, steps=3, num_episodes=3, seed=seed)
    assert adapted.returns.tolist() == [point["per_task"] for point in curve]
    assert adapted.returns.shape == (4, {"test": 4, "validation": 2}[split])
    assert adapted.success is None
    threaded = loaded.adapt(tasks, steps=3, num_episodes=3, seed=seed, threads=2)
    assert np.array_equal(threaded.returns, adapted.returns)
    full = loaded.adapt(tasks, steps=3, num_episodes=3, seed=seed, later_scale=1)
    assert np.array_equal(full.returns[:2], adapted.returns[:2])  # it was trained with one step
    assert not np.array_equal(full.returns[2:], adapted.returns[2:])


def test_each_policy_is_its_own_tasks(trained):
    adapted = trained.adapt(trained.tasks("test"), steps=2, num_episodes=3)
    assert len(adapted) == 4
    last = adapted.rollouts[-1]
    for index, policy in enumerate(adapted):
        assert policy.task["goal"].tolist() == adapted.tasks["goal"][index].tolist()
        assert policy.returns.tolist() == adapted.returns[:, index].tolist()
        # the density of a normal distribution, of the actions after the last step
        std = policy.params["log_std"][0].double().exp().numpy()
        mean = mean_of(policy.params, last.observations[index].double().numpy())
        z = (last.actions[index].double().numpy() - mean) / std
        logs = (-0.5 * z**2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(-1)
        happened = last.mask[index].numpy() > 0
        np.testing.assert_allclose(logs[happened], last.log_probs[index].numpy()[happened], 1e-4)
    assert adapted[-1].task["goal"].tolist() == adapted.tasks["goal"][3].tolist()
    with pytest.raises(IndexError):
        adapted[4]


def test_no_step_is_the_policy_before_adaptation(trained):
    tasks = trained.tasks("test")
    before = trained.adapt(tasks, steps=0, num_episodes=2)
    assert before.returns.tolist() == trained.adapt(tasks, 1, num_episodes=2).returns[:1].tolist()
    observation = np.array([0.3, -0.2])
    assert before[2].act(observation).tolist() == trained.policy.act(observation).tolist()
    assert trained.policy.task is None


def test_tasks_are_drawn_from_their_seed(trained):
    tasks = trained.sample_tasks(3, seed=5)
    assert tasks["goal"].shape == (3, 2)
    assert np.array_equal(trained.sample_tasks(3, seed=5)["goal"], tasks["goal"])
    assert not np.isclose(trained.sample_tasks(3, seed=6)["goal"], tasks["goal"]).any()
    listed = {"goal": tasks["goal"].tolist()}
    one, other = (trained.adapt(own, num_episodes=2).returns for own in (tasks, listed))
    assert np.array_equal(one, other)
    assert one.shape == (2, 3)


@pytest.mark.parametrize(
    "tasks",
    [
        *(
            {},
            {"goal": [0.1, 0.2]},
            {"goal": 0.5},
            {"direction": [1.0]},
            {"goal": np.zeros((0, 2))},
        ),
        *({"goal": [[0.1, 0.2], [0.3]]}, {"goal": [[np.nan, 0]]}, {"goal": [["a", "b"]]}, 3, None),
    ],
    ids=str,
)
def test_other_tasks_are_refused(tasks, trained):
    with pytest.raises(UserError) as refusal:
        trained.adapt(tasks)
    assert str(refusal.value) == (
        "tasks of point_navigation must be finite arrays {'goal': [M, 2]}, such as "
        'trained.tasks("test") or trained.sample_tasks(4).'
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": -1}, "steps must be a whole number of at least 0, not -1."),
        ({"num_episodes": 0}, "num_episodes must be a whole number of at least 1, not 0."),
        ({"seed": 0.5}, "seed must be a whole number of at least 0, not 0.5."),
        ({"later_scale": 2}, "later_scale must be a finite number above 0 and of at most 1"),
        ({"threads": 0}, "threads must be a whole number of at least 1, not 0."),
    ],
)
def test_wrong_numbers_are_refused(options, words, trained):
    with pytest.raises(UserError, match=words):
        trained.adapt(trained.tasks("test"), **options)


# Adapting to an environment.


def test_an_environment_is_adapted_to_as_its_batched_form_is(trained):
    tasks = take_tasks(trained.tasks("test"), slice(1, 2))
    env = trained.distribution.single(task_at(tasks, 0))
    policy = trained.adapt(env, steps=3, num_episodes=1, seed=4)
    env.step(np.zeros(2, dtype=np.float32))  # it is still open
    env.close()
    assert policy.task["goal"].tolist() == tasks["goal"][0].tolist()

    class Batched:
        """The batched form with the random numbers of a first episode; the point's start is 0."""

        num_tasks = 1

        def __init__(self):
            from maml_rl.sampling import Collector

            self.inner = Collector(trained.distribution, trained.learner.policy, 1, 1)

        def collect(self, params, tasks, key):
            return self.inner.collect(params, tasks, key.child(0))

    key = Key(4, (Purpose.TEST,))
    found = trained.learner.collect(Batched(), trained.meta, tasks, 3, key, 0.5)
    wanted = [float(rollout.mean_return()) for rollout in found.rollouts]
    np.testing.assert_allclose(policy.returns, wanted, rtol=1e-5)
    assert len(set(policy.returns.tolist())) == 4  # the policies and their noise differ
    for name, leaf in found.adapted.items():
        np.testing.assert_allclose(policy.params[name], leaf, rtol=1e-4, atol=1e-5)


def test_episodes_follow_one_another(trained):
    task = {"goal": np.array([0.1, -0.3])}
    env = trained.distribution.single(task)
    policy = trained.adapt(env, steps=0, num_episodes=3, seed=1)
    mean = trained.policy
    std = mean.params["log_std"][0].exp().numpy()
    totals, key = [], Key(1, (Purpose.TEST, 0))
    for episode in range(3):
        noise = key.generator(episode, Purpose.ACTIONS, 0).standard_normal(
            (10, 1, 2), dtype=np.float32
        )
        observation, _ = env.reset(seed=0)  # the point always starts at 0
        totals.append(0.0)
        for t in range(10):
            action = mean_of(mean.params, observation) + std * noise[t, 0]
            scaled = np.clip(trained.distribution.action_scale * action, -0.1, 0.1)
            observation, reward, terminated, _, _ = env.step(scaled)
            totals[-1] += reward
            if terminated:
                break
    assert len(set(totals)) == 3
    assert policy.returns == pytest.approx([np.mean(totals)], rel=1e-5)


class Shifted(gymnasium.Env):
    """A bandit whose arms are numbered from 3, of which arm 4 pays; it is cut off at step 2."""

    def __init__(self, observations, actions=5, start=3):
        self.observation_space = spaces.Box(-np.inf, np.inf, (observations,))
        self.action_space = spaces.Discrete(actions, start=start)
        self.taken = []

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.full(self.observation_space.shape, 0.5, dtype=np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.taken.append(action)
        self.steps += 1
        seen = np.full(self.observation_space.shape, 0.5, dtype=np.float32)
        return seen, float(action == 4), False, self.steps == 2, {}


def test_any_environment_with_the_spaces_will_do(bandit):
    size, arms = bandit.distribution.observation_space.shape[0], bandit.distribution.action_space.n
    env = Shifted(size, int(arms))
    policy = bandit.adapt(env, steps=3, num_episodes=40, later_scale=1)
    assert len(env.taken) == 4 * 40 * 2
    assert set(env.taken) == set(range(3, 3 + arms))
    shares = [np.mean(np.array(own) == 4) for own in np.split(np.array(env.taken), 4)]
    assert policy.returns == pytest.approx([2 * share for share in shares])
    assert policy.task is None
    assert policy.act(np.full(size, 0.5)) in range(arms)


def test_other_environments_are_refused(trained, bandit):
    def refused(run, env, words, **options):
        with pytest.raises(UserError, match=words):
            run.adapt(env, **options)

    refused(
        trained,
        Shifted(3),
        "the environment observes 3 numbers and the run's point_navigation 2: give one with the",
    )
    refused(trained, Shifted(2), r"the environment takes actions Discrete\(5, start=3\) and the")
    size = bandit.distribution.observation_space.shape[0]
    refused(bandit, Shifted(size, 2), r"the environment takes actions Discrete\(2, start=3\)")
    env = trained.distribution.single()
    refused(trained, env, "has another task after every reset", num_episodes=2)
    env.set_task({"goal": np.array([0.2, 0.1])})
    assert trained.adapt(env, num_episodes=2).task["goal"].tolist() == [0.2, 0.1]
    unlike = spaces.Box(-0.2, 0.2, (2,))
    refused(trained, gymnasium.wrappers.RescaleAction(env, unlike.low, unlike.high), "-0.2, 0.2")
    graph = gymnasium.Wrapper(env)
    graph.observation_space = spaces.Sequence(spaces.Discrete(3))
    refused(trained, graph, "the environment observes no fixed number of numbers")


def test_episodes_in_turn_make_one_rollout(trained):
    env = trained.distribution.single({"goal": np.array([0.2, 0.1])})
    in_turn = EpisodesInTurn(env, trained.distribution, trained.learner.policy, 3)
    rollout = in_turn.collect(trained.policy.params, {}, Key(0))
    assert rollout.observations.shape == (1, 10, 3, 2)
    assert rollout.final_observations.shape == (1, 3, 2)
    assert rollout.first[0].sum(0).tolist() == [1, 1, 1]
    assert rollout.num_steps() == 30
    returns = [float(rollout.rewards[0, :, slot].sum()) for slot in range(3)]
    assert float(rollout.mean_return()) == pytest.approx(np.mean(returns), rel=1e-6)
    assert len(set(returns)) == 3


# Acting.


def test_the_mean_action_is_scaled_and_clipped(trained):
    rng = np.random.default_rng(0)
    observations = 3 * rng.normal(size=(50, 2))
    policy = trained.adapt(trained.tasks("test"), num_episodes=2)[1]
    mean = trained.distribution.action_scale * mean_of(policy.params, observations)
    wanted = np.clip(mean, -0.1, 0.1)
    assert (np.abs(mean) > 0.1).any()
    assert (np.abs(mean) < 0.1).any()
    actions = policy.act(observations)
    assert actions.dtype == trained.distribution.action_space.dtype
    np.testing.assert_allclose(actions, wanted, atol=1e-6)
    np.testing.assert_allclose([policy.act(own) for own in observations], wanted, atol=1e-6)
    assert trained.distribution.action_space.contains(policy.act(observations[0]))


def test_a_drawn_action_is_mean_plus_std_times_noise(trained):
    policy, observation = trained.policy, np.array([0.2, -0.1])
    std = policy.params["log_std"][0].exp().numpy()
    noise = np.random.default_rng(3).standard_normal(2)
    scale = trained.distribution.action_scale
    wanted = np.clip(scale * (mean_of(policy.params, observation) + std * noise), -0.1, 0.1)
    drawn = policy.act(observation, deterministic=False, rng=np.random.default_rng(3))
    np.testing.assert_allclose(drawn, wanted, atol=1e-6)
    rng = np.random.default_rng(3)
    several = [policy.act(observation, False, rng).tolist() for _ in range(2)]
    assert several[0] != several[1]


def test_numbered_actions(bandit):
    policy = bandit.policy
    size, arms = policy.network.observation_size, policy.network.action_size
    observations = np.random.default_rng(1).normal(size=(6, size))
    logits = mean_of(policy.params, observations)
    best = policy.act(observations)
    assert best.tolist() == logits.argmax(-1).tolist()
    assert len(set(best.tolist())) > 1
    first = policy.act(observations[0])
    assert (type(first), first) == (int, best[0])
    drawn = policy.act(np.repeat(observations[:1], 20_000, 0), False, np.random.default_rng(0))
    chances = np.exp(logits[0]) / np.exp(logits[0]).sum()
    # three standard errors of a share are below 3 * 0.5 / sqrt(20000) = 0.011
    np.testing.assert_allclose(np.bincount(drawn, minlength=arms) / 20_000, chances, atol=0.011)


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        ([0.1], r"an observation of point_navigation must have shape \[2\], or \[N, 2\] for"),
        (0.1, r"not \[\]\."),
        (np.ones((1, 1, 2)), r"not \[1, 1, 2\]\."),
        ([0.1, np.nan], "the observation holds something that is not a finite number."),
        (["a", "b"], "not a finite number"),
    ],
)
def test_other_observations_are_refused(observation, words, trained):
    with pytest.raises(UserError, match=words):
        trained.policy.act(observation)


def test_drawing_needs_a_generator(trained):
    with pytest.raises(UserError, match=r"add rng=np\.random\.default_rng"):
        trained.policy.act([0.1, 0.2], deterministic=False)
