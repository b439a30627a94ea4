import numpy as np
import pytest
from gymnasium import spaces

from envs import UserError
from envs.tasks.classic_control import CartPole, Pendulum

ALL = np.ones((1, 1), dtype=bool)


def test_a_step_of_cart_pole_solves_the_equations_with_the_tasks_length_and_mass():
    env = CartPole().single({"pole_length": np.array(1.6), "pole_mass": np.array(0.25)})
    env.reset(seed=0)
    env.env.unwrapped.state = np.array([0.1, -0.2, 0.05, 0.3])
    observation, reward, *_ = env.step(1)
    # Florian 2007, equations 23 and 24, no friction: half length l = 0.8, m = 0.25, cart 1, F = 10
    sin, cos, force, half, mass, total = np.sin(0.05), np.cos(0.05), 10.0, 0.8, 0.25, 1.25
    angular = (9.8 * sin + cos * (-force - mass * half * 0.3**2 * sin) / total) / (
        half * (4 / 3 - mass * cos**2 / total)
    )
    linear = (force + mass * half * (0.3**2 * sin - angular * cos)) / total
    expected = [0.1 - 0.02 * 0.2, -0.2 + 0.02 * linear, 0.05 + 0.02 * 0.3, 0.3 + 0.02 * angular]
    assert observation == pytest.approx(np.array(expected), rel=1e-6)
    assert observation[3] == pytest.approx(0.3 + 0.02 * -8.28, abs=2e-3)
    assert reward == 1.0


def test_a_step_of_pendulum_has_the_tasks_gravity():
    env = Pendulum().single({"gravity": np.array(6.0)})
    env.reset(seed=0)
    env.env.unwrapped.state = np.array([0.5, -1.0])
    observation, reward, *_ = env.step(np.array([1.5]))
    # a rod: acceleration = 3 g / (2 l) sin(angle) + 3 u / (m l^2) = 9 sin(0.5) + 4.5, for 0.05 s
    velocity = -1.0 + 0.05 * (9.0 * np.sin(0.5) + 4.5)  # -0.559
    angle = 0.5 + 0.05 * velocity
    assert observation == pytest.approx(np.array([np.cos(angle), np.sin(angle), velocity]))
    assert reward == pytest.approx(-(0.5**2 + 0.1 * 1.0**2 + 0.001 * 1.5**2))


def test_tasks_fill_their_ranges():
    poles = CartPole(pole_length=(0.4, 1.0), pole_mass=(0.1, 0.3)).sample(
        3000, np.random.default_rng(0)
    )
    for name, (low, high) in {"pole_length": (0.4, 1.0), "pole_mass": (0.1, 0.3)}.items():
        values = poles[name]
        assert low <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.01)
    assert abs(np.corrcoef(poles["pole_length"], poles["pole_mass"])[0, 1]) < 0.06
    gravities = Pendulum(gravity=(1.0, 3.0)).sample(3000, np.random.default_rng(1))["gravity"]
    assert gravities.mean() == pytest.approx(2.0, abs=0.05)
    assert (gravities.min(), gravities.max()) == pytest.approx((1.0, 3.0), abs=0.01)


def test_names_spaces_and_limits_are_gymnasiums():
    pole, pendulum = CartPole(), Pendulum(horizon=30)
    assert (pole.name, pole.horizon, pole.action_space) == ("cart_pole", 500, spaces.Discrete(2))
    assert (pendulum.name, pendulum.horizon) == ("pendulum", 30)
    assert pole.observation_space.shape == (4,)
    assert pendulum.applied(np.array([0.5, 3.0, -7.0])).tolist() == [1.0, 2.0, -2.0]


def test_a_fallen_pole_ends_the_episode():
    env = CartPole().make(1, 1)
    env.set_tasks({"pole_length": np.array([0.5]), "pole_mass": np.array([0.1])})
    env.reset([np.random.default_rng(0)])
    ended = [env.step(np.array([[1]]), ALL) for _ in range(6)]  # pushed the same way all the time
    while not ended[-1].terminated[0, 0]:
        ended.append(env.step(np.array([[1]]), ALL))
    assert 5 < len(ended) < 12
    assert abs(ended[-1].observations[0, 0, 2]) > np.radians(12)
    assert not ended[-1].truncated.any()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: CartPole(pole_length=(0.0, 1.0)), "pole_length must be a range of numbers ab"),
        (lambda: CartPole(pole_mass=(0.3, 0.1)), r"pole_mass must be two numbers in brackets"),
        (lambda: Pendulum(gravity=9.8), "gravity must be two numbers in brackets"),
        (lambda: Pendulum(horizon=0), "horizon must be a whole number of at least 1"),
    ],
)
def test_wrong_ranges_are_refused(build, sentence):
    with pytest.raises(UserError, match=sentence):
        build()
