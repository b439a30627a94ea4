from itertools import product

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from envs.checking import TaskDistributionContract
from envs.errors import UserError
from envs.protocol import TaskDistribution
from envs.tasks.random_mdp import RandomMDP
from tests.support.smoke import smoke_config

# Two states, two actions. In state 0 action 0 stays for 1, action 1 pays 0 and goes to state 1 with
# probability 3/4; in state 1 action 0 stays for 3, action 1 goes back to 0 for 2.
TASK = {
    "transitions": np.array([[[1.0, 0.0], [0.25, 0.75]], [[0.0, 1.0], [1.0, 0.0]]]),
    "rewards": np.array([[1.0, 0.0], [3.0, 2.0]]),
}


class TestRandomMDP(TaskDistributionContract):
    def build(self):
        return RandomMDP(states=4, actions=3, horizon=6)


def generators(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


def one(leaves):
    return {name: leaf[None] for name, leaf in leaves.items()}


def test_the_defaults_are_the_paper_s():
    mdp = RandomMDP()
    assert isinstance(mdp, TaskDistribution)
    assert (mdp.name, mdp.states, mdp.actions, mdp.horizon) == ("random_mdp", 10, 5, 10)
    assert mdp.observation_space.shape == (10,)
    assert mdp.action_space == spaces.Discrete(5)
    assert mdp.finite_tasks() is None
    with pytest.raises(UserError, match=r"states must be a whole number of at least 1, not 0"):
        RandomMDP(states=0)
    with pytest.raises(UserError, match=r"horizon must be a whole number"):
        RandomMDP(horizon=None)


def test_tasks_are_drawn_as_the_paper_says():
    tasks = RandomMDP().sample(400, np.random.default_rng(0))
    transitions, rewards = tasks["transitions"], tasks["rewards"]
    assert (transitions.shape, rewards.shape) == ((400, 10, 5, 10), (400, 10, 5))
    assert transitions.sum(-1) == pytest.approx(np.ones((400, 10, 5)), abs=1e-12)
    # a flat Dirichlet's component has mean 1/10, variance (1/10) (9/10) / 11 = 0.00818; 200,000 of
    # them give standard errors of 0.0002 and 0.00004
    assert transitions.mean((0, 1, 2)) == pytest.approx(np.full(10, 0.1), abs=0.003)
    assert transitions.var() == pytest.approx(0.1 * 0.9 / 11, abs=0.0002)
    # 20,000 means from N(1, 1): standard errors 0.0071 and 0.0050
    assert rewards.mean() == pytest.approx(1.0, abs=0.03)
    assert rewards.std() == pytest.approx(1.0, abs=0.02)


def test_a_step_pays_the_mean_and_the_noise_and_moves_by_the_row_s_own_numbers():
    mdp = RandomMDP(states=2, actions=2, horizon=5)
    env = mdp.make(1, 3)
    env.set_tasks(one(TASK))
    assert env.reset(generators(0, 1, 2)).tolist() == [[[1.0, 0.0]] * 3]
    actions = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 0, 0]])
    own = [(rng.standard_normal(5), rng.random(5)) for rng in generators(0, 1, 2)]
    states, visited = [0, 0, 0], set()
    for t, now in enumerate(actions):
        step = env.step(now[None].astype(float), np.ones((1, 3), dtype=bool))
        for b, action in enumerate(now):
            noise, uniform = own[b][0][t], own[b][1][t]
            visited.add((states[b], int(action)))
            assert step.rewards[0, b] == TASK["rewards"][states[b], action] + noise
            # to state 0 where the number is below its probability
            states[b] = int(uniform >= TASK["transitions"][states[b], action, 0])
            assert step.observations[0, b].tolist() == np.eye(2)[states[b]].tolist()
        assert not step.terminated.any()
    assert visited == set(product(range(2), range(2)))


def test_states_follow_with_their_probabilities_and_rewards_have_unit_variance():
    mdp = RandomMDP(states=4, actions=2, horizon=1)
    odds = np.array([0.1, 0.2, 0.3, 0.4])
    task = {
        "transitions": np.tile(odds, (4, 2, 1)),
        "rewards": np.tile([2.0, -1.0], (4, 1)),
    }
    env = mdp.make(1, 4000)
    env.set_tasks(one(task))
    env.reset(generators(*range(4000)))
    step = env.step(np.ones((1, 4000), dtype=int), np.ones((1, 4000), dtype=bool))
    # standard errors: of a share at most 0.0078, of the mean 0.016, of the deviation 0.011
    assert step.observations[0].mean(0) == pytest.approx(odds, abs=0.032)
    assert step.rewards.mean() == pytest.approx(-1.0, abs=0.065)
    assert step.rewards.std() == pytest.approx(1.0, abs=0.045)
    moved = step.observations[0].argmax(-1)
    assert abs(np.corrcoef(moved, step.rewards[0])[0, 1]) < 0.064  # 4 / sqrt(4000)


def test_the_optimum_by_hand():
    # T = 1: Q(0) = 1, 0; Q(1) = 3, 2.
    # T = 2: Q(0) = 1 + 1, 0 + 1/4 1 + 3/4 3 = 2, 2.5;  Q(1) = 3 + 3, 2 + 1 = 6, 3.
    # T = 3: Q(0) = 1 + 2.5, 0 + 1/4 2.5 + 3/4 6 = 3.5, 5.125;  Q(1) = 3 + 6, 2 + 2.5 = 9, 4.5.
    mdp = RandomMDP(states=2, actions=2, horizon=3)
    assert mdp.optimal_action_values(TASK).tolist() == [
        [[3.5, 5.125], [9.0, 4.5]],
        [[2.0, 2.5], [6.0, 3.0]],
        [[1.0, 0.0], [3.0, 2.0]],
    ]
    assert mdp.optimal_return(TASK) == 5.125
    assert RandomMDP(states=2, actions=2, horizon=1).optimal_return(TASK) == 1.0
    assert mdp.describe(TASK) == "optimal_return=5.125"
    # one state is a bandit: T max r
    bandit = {"transitions": np.ones((1, 3, 1)), "rewards": np.array([[0.5, 1.25, -2.0]])}
    assert RandomMDP(states=1, actions=3, horizon=4).optimal_return(bandit) == 5.0


def value_of(task, policy):
    """Expected return from state 0 of a deterministic policy[t][s], by forward propagation."""
    states, total = np.eye(len(task["rewards"]))[0], 0.0
    for choices in policy:
        every = np.arange(len(states))
        total += states @ task["rewards"][every, choices]
        states = states @ task["transitions"][every, choices]
    return total


def test_the_optimum_is_the_best_of_all_policies():
    mdp = RandomMDP(states=3, actions=2, horizon=3)
    tasks = mdp.sample(4, np.random.default_rng(5))
    rules = list(product(range(2), repeat=3))
    for m in range(4):
        task = {name: leaf[m] for name, leaf in tasks.items()}
        values = [value_of(task, policy) for policy in product(rules, repeat=3)]
        assert len(values) == 8**3
        assert mdp.optimal_return(tasks)[m] == pytest.approx(max(values), rel=1e-13)
        assert mdp.optimal_return(task) == mdp.optimal_return(tasks)[m]


def play(mdp, tasks, slots, choose):
    """Returns and regrets [M, B] of a policy choose(t, states [M, B]) -> actions."""
    num_tasks = len(tasks["rewards"])
    env = mdp.make(num_tasks, slots)
    env.set_tasks(tasks)
    seen = env.reset(generators(*range(num_tasks * slots)))
    returns, regrets = np.zeros((2, num_tasks, slots))
    for t in range(mdp.horizon):
        step = env.step(choose(t, seen.argmax(-1)), np.ones((num_tasks, slots), dtype=bool))
        seen = step.observations
        returns += step.rewards
        regrets += step.info["regret"]
    return returns, regrets


def test_the_best_policy_earns_the_optimum_and_a_random_one_the_optimum_less_its_regret():
    mdp = RandomMDP(states=4, actions=3, horizon=5)
    tasks = mdp.sample(6, np.random.default_rng(8))
    best, rows = mdp.optimal_action_values(tasks).argmax(-1), np.arange(6)[:, None]
    optimum = mdp.optimal_return(tasks)
    returns, regrets = play(mdp, tasks, 500, lambda t, states: best[rows, t, states])
    assert (regrets == 0).all()
    # five noises of unit variance and the states' own: a standard error of about 0.13 a task
    assert returns.mean(1) == pytest.approx(optimum, abs=0.5)
    rng = np.random.default_rng(9)
    returns, regrets = play(mdp, tasks, 500, lambda t, states: rng.integers(3, size=states.shape))
    assert (regrets.mean(1) > 1).all()
    assert (returns + regrets).mean(1) == pytest.approx(optimum, abs=0.5)


def test_a_row_follows_from_its_own_generator_task_and_actions():
    mdp = RandomMDP(states=3, actions=2, horizon=6)
    tasks = mdp.sample(3, np.random.default_rng(1))
    actions = np.random.default_rng(2).integers(2, size=(6, 2, 2))

    def rewards(chosen, seeds):
        env = mdp.make(2, 2)
        env.set_tasks({name: leaf[chosen] for name, leaf in tasks.items()})
        env.reset(generators(*seeds))
        steps = [env.step(now, np.ones((2, 2), dtype=bool)) for now in actions]
        return np.array([step.rewards for step in steps])

    first = rewards([0, 1], (1, 2, 3, 4))
    assert np.array_equal(first, rewards([0, 1], (1, 2, 3, 4)))
    other = rewards([0, 2], (1, 2, 8, 9))
    assert np.array_equal(first[:, 0], other[:, 0])
    assert not np.isclose(first[:, 1], other[:, 1]).any()
    assert not np.isclose(first[:, 0, 0], rewards([0, 1], (5, 2, 3, 4))[:, 0, 0]).any()


def test_a_row_that_rests_keeps_its_state_and_its_place():
    mdp = RandomMDP(states=3, actions=2, horizon=4)
    task = mdp.sample(1, np.random.default_rng(3))
    actions = np.array([1, 0, 1, 1])
    env = mdp.make(1, 2)
    env.set_tasks(task)
    env.reset(generators(5, 5))
    alone = [env.step(np.full((1, 2), a), np.array([[True, False]])) for a in actions]
    late = [env.step(np.full((1, 2), a), np.array([[False, True]])) for a in actions]
    for first, second in zip(alone, late, strict=True):
        assert first.rewards[0, 0] == second.rewards[0, 1]
        assert first.observations[0, 0].tolist() == second.observations[0, 1].tolist()
        assert first.info["regret"][0, 0] == second.info["regret"][0, 1]
        assert first.observations[0, 1].tolist() == [1.0, 0.0, 0.0]  # still at the start


def test_the_gymnasium_form_keeps_its_promises():
    env = gymnasium.make("envs:maml_rl/RandomMDP-v0", states=3, actions=2, horizon=4).unwrapped
    check_env(env, skip_render_check=True)
    mdp = RandomMDP(states=3, actions=2, horizon=4)
    tasks = mdp.sample(1, np.random.default_rng(4))
    batch = mdp.make(1, 1)
    batch.set_tasks(tasks)
    start, info = env.reset(seed=7, options={"task": {k: leaf[0] for k, leaf in tasks.items()}})
    assert batch.reset(generators(7))[0, 0].tolist() == start.tolist() == [1.0, 0.0, 0.0]
    assert info["task"]["rewards"].tolist() == tasks["rewards"][0].tolist()
    for t, action in enumerate((1, 0, 0, 1)):
        seen, reward, terminated, truncated, info = env.step(action)
        step = batch.step(np.array([[action]]), np.ones((1, 1), dtype=bool))
        assert seen.tolist() == step.observations[0, 0].tolist()
        assert (reward, info["regret"]) == (step.rewards[0, 0], step.info["regret"][0, 0])
        assert (terminated, truncated) == (False, t == 3)
    with pytest.raises(UserError, match="random_mdp is over after 4 steps"):
        env.step(0)
    first = env.reset()[1]["task"]["rewards"]
    assert np.array_equal(first, env.reset()[1]["task"]["rewards"])  # fixed
    free = mdp.single()
    drawn = [free.reset(seed=1 if i < 2 else None)[1]["task"]["rewards"] for i in range(3)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.isclose(drawn[1], drawn[2]).any()


def test_the_picture_shows_the_rewards_and_where_the_episode_is():
    mdp = RandomMDP(states=2, actions=2, horizon=4)
    env = mdp.single(TASK, "rgb_array")
    env.reset(seed=0)
    start = env.render()
    assert (start.shape, start.dtype) == ((480, 480, 3), np.uint8)
    red = np.array([214, 39, 40], dtype=np.uint8)  # tab:red

    def outlined(picture):
        return np.flatnonzero((picture == red).all(-1).any(1)).mean()

    # the largest mean reward, of state 1 (below) and action 0 (on the left), is the brightest:
    # viridis ends in yellow (253, 231, 37); the colour bar has it at its top right
    yellow = np.argwhere((abs(start - np.array([253.0, 231.0, 37.0])) < 3).all(-1))
    cell = yellow[yellow[:, 1] < 300]
    assert len(cell) > 1000
    assert cell[:, 0].min() > 220
    assert cell[:, 1].max() < 240
    moved = False
    for _ in range(4):
        state = int(env.step(1)[0].argmax())
        moved = moved or state == 1
        assert (outlined(env.render()) > outlined(start) + 100) == (state == 1)
    assert moved
    assert mdp.single().render() is None


def test_its_node_chooses_the_policy():
    config = smoke_config("env=random_mdp")
    assert (config.env._target_, config.env.states) == ("envs.RandomMDP", 10)
    assert config.policy._target_ == "maml_rl.algorithm.policies.CategoricalMLP"
