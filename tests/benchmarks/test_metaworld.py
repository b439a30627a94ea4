"""Meta-World's protocol: its environments to the bit, the agent against `trained.adapt`, counts."""

import json
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("metaworld", reason="Meta-World is not installed")

import metaworld
from metaworld.evaluation import Timestep
from metaworld.policies import ENV_POLICY_MAP
from metaworld.sawyer_xyz_env import SawyerMocapBase

from benchmarks.metaworld import Episodes, evaluated, metaworld_command, success_by_round
from benchmarks.metaworld_agents import AdaptingAgent, RememberingAgent
from envs.errors import UserError
from envs.tasks.metaworld import MetaworldML1, MetaworldML10, _Bridged, vector_environments
from envs.wrappers.trials import Trials
from maml_rl.algorithm.adaptation import distribution_on
from maml_rl.commands.train import train_command
from maml_rl.trained.loading import load
from tests.support.smoke import QUIET

pytestmark = pytest.mark.filterwarnings("ignore:Constant.s. may be too high")  # the scripts' own


def smoke_run(tmp_path_factory, name, *overrides):
    """A run of ML1 that has learned nothing."""
    path = tmp_path_factory.mktemp(name) / "run"
    options = ("experiment=smoke", *QUIET, "trainer.iterations=1", "env=metaworld_ml1", *overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        assert train_command([*options, f"hydra.run.dir={path}"]) == 0
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained run of MAML."""
    return smoke_run(tmp_path_factory, "ml1")


@pytest.fixture(scope="module")
def trained(run):
    return load(run)


class Scripted:
    """Meta-World's script for a class where `solves` is true, else actions of 0."""

    def __init__(self, envs, name="reach-v3", solves=None):
        self.envs, self.script = envs, ENV_POLICY_MAP[name]()
        self.solves = solves or (lambda env, goal: True)
        self.goal, self.adapted, self.evaluated = -1, 0, 0

    def init(self):
        self.goal += 1

    def reset(self, env_mask):
        self.evaluated += env_mask.sum()

    def adapt_action(self, observations):
        return np.zeros((len(observations), 4), dtype=np.float32), {}

    def step(self, timestep):
        self.adapted += (timestep.terminated | timestep.truncated).sum()

    def adapt(self):
        pass

    def eval_action(self, observations):
        actions = np.zeros((len(observations), 4))
        for env, target in enumerate(self.envs.get_attr("_target_pos")):
            if self.solves(env, self.goal):
                seen = np.append(observations[env, :-3], target)  # the script is told the goal
                actions[env] = self.script.get_action(seen)
        return np.clip(actions, -1, 1).astype(np.float32)


def test_the_environments_are_metaworlds_to_the_bit(monkeypatch):
    """The same goals in the same order, two of them in turn for each of two environments."""
    monkeypatch.setattr(metaworld, "_N_GOALS", 4)  # the first of the 50
    with monkeypatch.context() as patch:
        patch.setattr(SawyerMocapBase, "reset_mocap_welds", _Bridged.reset_mocap_welds)
        theirs = metaworld.make_ml_envs_test("push-v3", seed=5, meta_batch_size=2)
        ours = vector_environments(MetaworldML1("push-v3", seed=5), goals=4, meta_batch=2)
        rng, seen = np.random.default_rng(0), []
        for _ in range(2):
            for envs in (theirs, ours):
                envs.call("sample_tasks")
            start = theirs.reset()[0]
            assert np.array_equal(start, ours.reset()[0])
            assert not start[:, -3:].any()  # the goal is hidden
            seen += [tuple(target) for target in ours.get_attr("_target_pos")]
            for action in rng.uniform(-1, 1, size=(5, 2, 4)).astype(np.float32):
                wanted, found = theirs.step(action), ours.step(action)
                for left, right in zip(wanted[:4], found[:4], strict=True):
                    assert np.array_equal(left, right)
    assert len(set(seen)) == 4
    assert theirs.get_attr("terminate_on_success") == ours.get_attr("terminate_on_success")


def test_every_test_class_has_its_goals(monkeypatch):
    monkeypatch.setattr("envs.tasks.metaworld.GOALS", 2)  # of each class: fifty take seconds
    distribution = MetaworldML10(seed=47)
    envs = vector_environments(distribution, goals=2, meta_batch=10, horizon=3)
    tests = distribution.held_out
    drawn = tests.sample(40, np.random.default_rng(0))
    wanted = {(int(c), *vector) for c, vector in zip(*drawn.values(), strict=True)}
    ids = {name: number for number, name in enumerate(metaworld.ML1.ENV_NAMES)}
    found = set()
    for (task,) in envs.get_attr("tasks"):
        vector = pickle.loads(task.data)["rand_vec"]
        found.add((ids[task.env_name], *vector, *[0.0] * (6 - len(vector))))
    assert found == wanted
    assert len(found) == 10
    agent = Scripted(envs, solves=lambda env, goal: False)
    successes = success_by_round(agent, envs, 1, Episodes(1, 1, 1))
    assert successes.rates == {name: [0.0] for name in sorted(tests.classes)}


def test_the_agent_adapts_as_the_run_does(trained):
    """Two inner steps on the same data give the same parameters, the later one scaled too."""
    adapted = trained.adapt(trained.tasks("test", 2), steps=2, num_episodes=3, seed=1)
    agent = AdaptingAgent(trained, 2)
    for rollout in adapted.rollouts[:2]:
        horizon = rollout.rewards.shape[1]
        for slot in range(3):
            for t in range(horizon):
                step = [leaf[:, t, slot].numpy() for leaf in rollout[:3]]
                sampled = {
                    "actions": step[1],
                    "log_probs": rollout.log_probs[:, t, slot].numpy(),
                }
                ended = np.full(2, t == horizon - 1)
                agent.step(Timestep(*step, np.zeros(2, dtype=bool), ended, sampled))
        recorded = agent.rollout()
        for name in rollout._fields[:7]:
            assert torch.equal(getattr(recorded, name), getattr(rollout, name)), name
        agent.adapt()
    assert list(agent.params) == list(adapted.params)
    for name, leaf in adapted.params.items():
        assert not torch.equal(leaf[0], leaf[1]) or not leaf.numel()
        torch.testing.assert_close(agent.params[name], leaf, rtol=1e-6, atol=1e-7)
    agent.init()
    initial = trained.policy.params
    assert all(torch.equal(agent.params[name][1:], initial[name]) for name in initial)


def test_the_agent_records_what_it_sampled(trained):
    """Log densities are those of the actions before they are clipped; the mean acts afterwards."""
    envs = vector_environments(trained.distribution, goals=2, meta_batch=2, horizon=4)
    envs.call("sample_tasks")
    agent, (observations, _) = AdaptingAgent(trained, 2, seed=3), envs.reset()
    for _ in range(8):
        actions, sampled = agent.adapt_action(observations)
        assert np.array_equal(actions, np.clip(sampled["actions"], -1, 1))
        following, *rest, _ = envs.step(actions)
        agent.step(Timestep(observations, actions, *rest, sampled))
        observations = following
    rollout = agent.rollout()
    assert rollout.actions.shape == (2, 4, 2, 4)
    assert (rollout.actions.abs() > 1).any()
    network = trained.learner.policy
    log_probs = distribution_on(network, agent.params, rollout).log_prob(rollout.actions)
    torch.testing.assert_close(rollout.log_probs, log_probs, rtol=1e-5, atol=1e-5)
    assert torch.equal(rollout.rewards.isfinite(), torch.ones(2, 4, 2, dtype=torch.bool))
    wanted = [trained.policy.act(row) for row in observations]
    np.testing.assert_allclose(agent.eval_action(observations), wanted, rtol=1e-6)


def test_the_script_solves_reach_and_an_untrained_run_does_not(trained):
    envs = vector_environments(trained.distribution, goals=2, meta_batch=1, horizon=100)
    agent = Scripted(envs)
    assert success_by_round(agent, envs, 2, Episodes()).rates == {"reach-v3": [1.0, 1.0]}
    assert agent.adapted == 2 * 10
    assert agent.evaluated == 2 * (1 + 3)  # at the beginning, and where an episode ends
    untrained = AdaptingAgent(trained, 1)
    successes = success_by_round(untrained, envs, 2, Episodes(1, 1, 1))
    assert successes.rates == {"reach-v3": [0.0, 0.0]}


def test_of_a_class_with_several_environments_the_first_to_succeed_are_counted(trained):
    """One of two goals is solved: abreast its three quick episodes are all that is counted."""
    envs = vector_environments(trained.distribution, goals=2, meta_batch=2, horizon=200)
    abreast = Scripted(envs, solves=lambda env, goal: env == 0)
    assert success_by_round(abreast, envs, 1, Episodes(1, 1, 3)).rates == {"reach-v3": [1.0]}
    envs = vector_environments(trained.distribution, goals=2, meta_batch=1, horizon=200)
    in_turn = Scripted(envs, solves=lambda env, goal: goal == 0)
    assert success_by_round(in_turn, envs, 2, Episodes(1, 1, 3)).rates == {"reach-v3": [1.0, 0.0]}


SHORT = ("--goals", "2", "--adaptation-episodes", "1", "--evaluation-episodes", "1")


def test_the_command_writes_beside_the_evaluation(run, call, monkeypatch):
    short = partial(vector_environments, horizon=20)
    monkeypatch.setattr("benchmarks.metaworld.vector_environments", short)
    outcome = call(metaworld_command, str(run), *SHORT)
    assert (outcome.status, outcome.err) == (0, "")
    assert "0.000 [0.000, 0.000]" in outcome.out
    assert "2 goals of each class, 1 episode, by the mean action" in outcome.out
    content = json.loads((run / "evaluation" / "metaworld_protocol.json").read_text())
    assert content["by_round"] == {"reach-v3": [0.0, 0.0]}
    terms = ("env", "goals", "meta_batch", "steps", "adaptation_episodes", "evaluation_episodes")
    assert [content[name] for name in terms] == ["metaworld_ml1", 2, 1, 1, 1, 1]
    abreast = call(
        metaworld_command, str(run), *SHORT, "--meta-batch", "2", "--out", "abreast.json"
    )
    assert "the first 1 episode to end in 2 environments" in abreast.out
    content = json.loads(Path("abreast.json").read_text())
    assert (content["by_round"], "success_ci95" in content) == ({"reach-v3": [0.0]}, False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--goals", "51"), "--goals must be at most Meta-World's 50, not 51."),
        (("--goals", "0"), "--goals must be a whole number of at least 1, not 0."),
        (("--meta-batch", "3"), "the 40 test goals of metaworld_ml1 cannot be divided evenly"),
        (("--checkpoint", "77"), "checkpoint=77"),
    ],
)
def test_wrong_options_are_refused(arguments, sentence, run, call):
    outcome = call(metaworld_command, str(run), *arguments)
    assert outcome.status == 2
    assert sentence in outcome.error


def test_other_runs_are_refused(trained_run, call):
    outcome = call(metaworld_command, str(trained_run))
    assert outcome.status == 2
    assert "was trained on PointNavigation (point_navigation)" in outcome.error


@pytest.fixture(scope="module")
def memory_run(tmp_path_factory):
    """An untrained run of RL²."""
    return smoke_run(tmp_path_factory, "rl2", "algorithm=rl2")


def test_inner_steps_with_a_memory_are_refused(memory_run):
    trained = load(memory_run)
    both = replace(trained, distribution=trained.distribution.distribution)
    with pytest.raises(UserError, match="adapts by inner steps and has a memory too"):
        evaluated(both, 1, Episodes(), None, 0)


class Acting(RememberingAgent):
    """Notes the applied actions, and the log densities of those that were sampled."""

    def __init__(self, *arguments):
        self.actions, self.log_probs = [], []
        super().__init__(*arguments)

    def adapt_action(self, observations):
        actions, sampled = super().adapt_action(observations)
        self.actions.append(actions)
        self.log_probs.append((sampled["actions"], sampled["log_probs"]))
        return actions, sampled

    def eval_action(self, observations):
        self.actions.append(super().eval_action(observations))
        return self.actions[-1]


def test_a_memory_goes_through_the_trial_of_its_training(memory_run):
    """Two episodes of adaptation and one after them, as `Trials` shows and the network reads them.

    The second episode of evaluation is the first again: the memory is restored.
    """
    trained = load(memory_run)
    inner, network = trained.distribution.distribution, trained.learner.policy
    envs = vector_environments(inner, goals=2, meta_batch=2, horizon=10, reward_observed=True)
    agent = Acting(trained, 2)
    success_by_round(agent, envs, 1, Episodes(1, 2, 4))
    actions = np.array(agent.actions)
    assert len(actions) == 20 + 20  # four episodes of a class are two of each environment
    assert np.array_equal(actions[20:30], actions[30:])
    for env, vector in enumerate(envs.get_attr("_last_rand_vec")):
        task = {"class": np.array(metaworld.ML1.ENV_NAMES.index("reach-v3")), "rand_vec": vector}
        single = Trials(inner, 3).single(task)
        seen = [single.reset(seed=0)[0]]
        seen += [single.step(action)[0] for action in actions[:29, env]]
        rows = torch.tensor(np.array(seen), dtype=torch.float32)[None, :, None]
        distribution = network.distribution(trained.policy.params, rows)[0]
        sampled, log_probs = zip(*[(a[env], p[env]) for a, p in agent.log_probs], strict=True)
        padded = torch.zeros(1, 30, 1, 4)
        padded[0, :20, 0] = torch.tensor(np.array(sampled))
        found = distribution.log_prob(padded)[0, :20, 0]
        np.testing.assert_allclose(found, log_probs, rtol=1e-4, atol=1e-4)
        mean = distribution.mode()[0, 20:, 0].clamp(-1, 1)
        np.testing.assert_allclose(actions[20:30, env], mean, rtol=1e-4, atol=1e-5)


def test_the_command_evaluates_a_memory(memory_run, call, monkeypatch):
    short = partial(vector_environments, horizon=20)
    monkeypatch.setattr("benchmarks.metaworld.vector_environments", short)
    outcome = call(metaworld_command, f"run={memory_run}", *SHORT, "--steps", "2")
    assert (outcome.status, outcome.err) == (0, "")
    assert "success after 2 episodes" in " ".join(outcome.out.split())
    content = json.loads((memory_run / "evaluation" / "metaworld_protocol.json").read_text())
    assert (content["kind"], content["by_round"]) == ("memory", {"reach-v3": [0.0, 0.0]})
