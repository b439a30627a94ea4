import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from envs.checking import TaskDistributionContract
from envs.errors import UserError
from envs.protocol import TaskDistribution
from envs.tasks.bandit import MultiArmedBandit
from tests.support.smoke import smoke_config


class TestMultiArmedBandit(TaskDistributionContract):
    def build(self):
        return MultiArmedBandit(arms=3, horizon=6)


def generators(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


def batch(distribution, probabilities, slots, seeds):
    env = distribution.make(len(probabilities), slots)
    env.set_tasks({"probabilities": np.array(probabilities)})
    return env, env.reset(generators(*seeds))


def test_the_presets_are_the_nine_of_the_paper():
    assert isinstance(MultiArmedBandit(), TaskDistribution)
    sizes = {(MultiArmedBandit(name).arms, MultiArmedBandit(name).horizon) for name in PRESETS}
    assert sizes == {(k, n) for k in (5, 10, 50) for n in (10, 100, 500)}
    default = MultiArmedBandit()
    assert (default.name, default.arms, default.horizon) == ("multi_armed_bandit", 5, 100)
    assert default.observation_space.shape == (1,)
    assert default.action_space == spaces.Discrete(5)
    own = MultiArmedBandit("k10_n500", horizon=7)
    assert (own.arms, own.horizon, own.action_space.n) == (10, 7, 10)


PRESETS = [f"k{k}_n{n}" for k in (5, 10, 50) for n in (10, 100, 500)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"preset": "k5_n11"}, "preset=k5_n11 is unknown.*Did you mean k5_n1"),
        ({"arms": 0}, "arms must be a whole number of at least 1, not 0"),
        ({"horizon": 2.5}, "horizon must be a whole number of at least 1, not 2.5"),
    ],
)
def test_wrong_sizes_are_refused(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        MultiArmedBandit(**arguments)


def test_success_probabilities_are_uniform():
    drawn = MultiArmedBandit().sample(4000, np.random.default_rng(0))["probabilities"]
    assert drawn.shape == (4000, 5)
    # of 20000 uniform numbers the mean has standard error 0.0020, the variance (1/12) 0.0005
    assert drawn.mean() == pytest.approx(1 / 2, abs=0.008)
    assert drawn.var() == pytest.approx(1 / 12, abs=0.002)
    assert abs(np.corrcoef(drawn.T) - np.eye(5)).max() < 0.06  # 4 / sqrt(4000)


def test_a_pull_pays_where_the_row_s_own_uniform_number_is_below_the_probability():
    env, start = batch(MultiArmedBandit(arms=3, horizon=4), [[0.25, 0.75, 0.5]], 2, (3, 4))
    assert start.tolist() == [[[1.0], [1.0]]]
    actions = [[0, 1], [2, 2], [1, 0], [0, 2]]
    steps = [env.step(np.array([now]), np.ones((1, 2), dtype=bool)) for now in actions]
    uniform = [rng.random(4) for rng in generators(3, 4)]
    chances = {0: 0.25, 1: 0.75, 2: 0.5}
    for t, now in enumerate(actions):
        wanted = [float(uniform[b][t] < chances[now[b]]) for b in range(2)]
        assert steps[t].rewards.tolist() == [wanted]
        assert not steps[t].terminated.any()
    # the best arm has 0.75: 0.75 - 0.25, 0.75 - 0.75, 0.75 - 0.5
    assert [step.info["regret"].tolist() for step in steps] == [
        *([[0.5, 0.0]], [[0.25, 0.25]], [[0.0, 0.5]], [[0.5, 0.25]]),
    ]
    rewards = np.array([step.rewards for step in steps])
    assert 0 < rewards.sum() < 8  # both kinds of pull were seen


def test_success_is_as_frequent_as_its_probability():
    env, _ = batch(MultiArmedBandit(arms=2, horizon=10), [[0.2, 0.9], [0.6, 0.3]], 400, range(800))
    arms = np.zeros((2, 400), dtype=int)
    arms[:, 200:] = 1
    active = np.ones((2, 400), dtype=bool)
    rewards = np.array([env.step(arms, active).rewards for _ in range(10)])
    shares = rewards.reshape(10, 2, 2, 200).mean(axis=(0, 3))
    # 2000 pulls each: a standard error of at most 0.011
    assert shares == pytest.approx(np.array([[0.2, 0.9], [0.6, 0.3]]), abs=0.04)


def test_the_optimum_is_the_best_arm_all_the_time():
    bandit = MultiArmedBandit(arms=3, horizon=4)
    tasks = {"probabilities": np.array([[0.25, 0.75, 0.5], [0.125, 0.0, 0.0625]])}
    assert bandit.optimal_return(tasks).tolist() == [3.0, 0.5]  # 4 * 0.75, 4 * 0.125
    assert bandit.optimal_return({"probabilities": tasks["probabilities"][1]}) == 0.5
    # no sequence of arms is worth more, and one is worth as much
    sequences = np.stack(np.meshgrid(*[np.arange(3)] * 4), axis=-1).reshape(-1, 4)
    for task in tasks["probabilities"]:
        best = task[sequences].sum(-1).max()
        assert bandit.optimal_return({"probabilities": task}) == pytest.approx(best, rel=1e-15)


@pytest.mark.parametrize(("preset", "expected"), [("k5_n100", 83.333), ("k10_n10", 9.0909)])
def test_the_optimum_s_mean_is_the_mean_of_the_largest_of_k_uniform_numbers(preset, expected):
    bandit = MultiArmedBandit(preset)
    found = bandit.optimal_return(bandit.sample(20_000, np.random.default_rng(1)))
    # n k / (k + 1); the largest of five has standard deviation 0.141: standard error n 0.001
    assert found.mean() == pytest.approx(expected, abs=0.004 * bandit.horizon)


def test_return_and_regret_make_up_the_optimum():
    bandit = MultiArmedBandit("k5_n10")
    tasks = bandit.sample(50, np.random.default_rng(2))
    env = bandit.make(50, 40)
    env.set_tasks(tasks)
    env.reset(generators(*range(2000)))
    rng, active = np.random.default_rng(3), np.ones((50, 40), dtype=bool)
    steps = [env.step(rng.integers(5, size=(50, 40)), active) for _ in range(10)]
    total = sum(step.rewards + step.info["regret"] for step in steps)
    # the standard error of a task's mean is at most sqrt(10 / 4 / 40) = 0.25, of all 0.035
    assert total.mean(1) == pytest.approx(bandit.optimal_return(tasks), abs=1.1)
    assert total.mean() == pytest.approx(bandit.optimal_return(tasks).mean(), abs=0.14)


def test_a_row_follows_from_its_own_generator_task_and_actions():
    bandit = MultiArmedBandit(arms=2, horizon=5)
    actions = np.random.default_rng(1).integers(2, size=(5, 2, 2))
    active = np.ones((2, 2), dtype=bool)

    def rewards(probabilities, seeds):
        env, _ = batch(bandit, probabilities, 2, seeds)
        return np.array([env.step(now, active).rewards for now in actions])

    first = rewards([[0.4, 0.6], [0.5, 0.3]], (1, 2, 3, 4))
    assert np.array_equal(first, rewards([[0.4, 0.6], [0.5, 0.3]], (1, 2, 3, 4)))
    other = rewards([[0.4, 0.6], [0.9, 0.1]], (1, 2, 8, 9))
    assert np.array_equal(first[:, 0], other[:, 0])
    assert not np.array_equal(first[:, 1], other[:, 1])
    assert not np.array_equal(first[:, 0, 0], rewards([[0.4, 0.6]] * 2, (5, 2, 3, 4))[:, 0, 0])


def test_a_row_that_rests_keeps_its_place():
    probabilities = [[0.5, 0.5]]
    env, _ = batch(MultiArmedBandit(arms=2, horizon=3), probabilities, 2, (0, 1))
    pull = np.zeros((1, 2), dtype=int)
    env.step(pull, np.array([[True, True]]))
    env.step(np.array([[0, 99]]), np.array([[True, False]]))  # an action nobody takes
    step = env.step(pull, np.array([[True, True]]))
    uniform = [rng.random(3) for rng in generators(0, 1)]
    # the first row's third pull, the second's second
    assert step.rewards.tolist() == [[float(uniform[0][2] < 0.5), float(uniform[1][1] < 0.5)]]
    assert (uniform[1][1] < 0.5) != (uniform[1][2] < 0.5)  # its third would have shown


def test_actions_are_whole_numbers_of_any_type_and_others_are_refused():
    env, _ = batch(MultiArmedBandit(arms=3, horizon=2), [[0.1, 0.5, 0.9]], 1, (0,))
    active = np.ones((1, 1), dtype=bool)
    assert env.step(np.array([[2.0]], dtype=np.float32), active).info["regret"] == 0.0
    for wrong in (3, -1, 0.5, np.nan):
        with pytest.raises(UserError, match=r"multi_armed_bandit has actions 0 to 2, not"):
            env.step(np.array([[wrong]]), active)
    env.step(np.array([[1]]), active)
    with pytest.raises(UserError, match="over after 2 steps; reset it first"):
        env.step(np.array([[1]]), active)
    env.reset(generators(1))
    assert env.step(np.array([[1]]), active).info["regret"] == pytest.approx(0.4)


def test_the_number_of_tasks_is_checked_and_the_caller_s_arrays_are_copied():
    env = MultiArmedBandit(arms=2, horizon=1).make(2, 1)
    with pytest.raises(UserError, match="expected 2 tasks, not 3"):
        env.set_tasks({"probabilities": np.full((3, 2), 0.5)})
    mine = np.array([[0.25, 1.0], [0.5, 0.125]])
    env.set_tasks({"probabilities": mine})
    mine[:] = 0.75
    env.reset(generators(0, 1))
    step = env.step(np.array([[0], [1]]), np.ones((2, 1), dtype=bool))
    assert step.info["regret"].tolist() == [[0.75], [0.375]]


def test_the_gymnasium_form_keeps_its_promises():
    env = gymnasium.make("envs:maml_rl/MultiArmedBandit-v0", arms=3, horizon=4).unwrapped
    check_env(env, skip_render_check=True)
    task = {"probabilities": np.array([0.5, 0.25, 0.75])}
    _, info = env.reset(seed=5, options={"task": task})
    assert info["task"]["probabilities"].tolist() == [0.5, 0.25, 0.75]
    uniform = np.random.default_rng(5).random(4)
    for t, (arm, chance) in enumerate([(1, 0.25), (2, 0.75), (0, 0.5), (2, 0.75)]):
        seen, reward, terminated, truncated, info = env.step(np.int64(arm))
        assert seen.tolist() == [1.0]
        assert (reward, terminated, truncated) == (float(uniform[t] < chance), False, t == 3)
        assert info["regret"] == 0.75 - chance
    env.set_task({"probabilities": np.array([0.0, 0.0, 1.0])})
    env.reset()
    assert env.step(2)[1] == 1.0
    assert env.step(1)[1] == 0.0
    drawn = MultiArmedBandit(arms=3).single().reset(seed=6)[1]["task"]["probabilities"]
    assert drawn.tolist() == np.random.default_rng(6).uniform(size=(1, 3))[0].tolist()


def test_the_picture_shows_the_probabilities_and_the_arm_pulled():
    bandit = MultiArmedBandit(arms=2, horizon=4)
    env = bandit.single({"probabilities": np.array([0.2, 0.9])}, "rgb_array", width=320, height=240)
    env.reset(seed=0)
    start = env.render()
    assert (start.shape, start.dtype) == ((240, 320, 3), np.uint8)

    def count(picture, colour):
        return int((picture == np.array(colour, dtype=np.uint8)).all(-1).sum())

    green, gray = (44, 160, 44), (127, 127, 127)  # matplotlib's tab:green, tab:gray
    # bars of equal width: their areas are as their heights, 0.9 / 0.2 = 4.5
    assert count(start, green) / count(start, gray) == pytest.approx(4.5, rel=0.1)
    env.step(1)
    pulled = env.render()
    red = (214, 39, 40)  # tab:red
    assert count(start, red) == 0 < count(pulled, red)
    env.set_task({"probabilities": np.array([0.9, 0.2])})
    env.reset(seed=0)
    assert not np.array_equal(env.render(), start)
    env.close()
    assert bandit.single().render() is None


def test_a_task_is_described_by_its_best_arm():
    task = {"probabilities": np.array([0.25, 0.5, 0.9375])}
    assert MultiArmedBandit(arms=3).describe(task) == "best_arm=2, p=0.938"
    assert MultiArmedBandit().finite_tasks() is None
    assert MultiArmedBandit().applied(3) == 3


def test_its_node_chooses_the_policy_unless_the_command_line_does():
    config = smoke_config("env=multi_armed_bandit")
    assert config.env._target_ == "envs.MultiArmedBandit"
    assert config.env.horizon == 10
    assert config.policy._target_ == "maml_rl.algorithm.policies.CategoricalMLP"
    chosen = smoke_config("env=multi_armed_bandit", "policy=gaussian_mlp").policy
    assert chosen._target_ == "maml_rl.algorithm.policies.GaussianMLP"
    assert smoke_config("env=point_navigation").policy == chosen
