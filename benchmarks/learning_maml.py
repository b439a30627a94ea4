"""Figures and numbers of docs/learning_maml.md: `python -m benchmarks.learning_maml [folder]`.

One problem throughout, small enough to know everything about. An episode is one action a; the
reward is exp(-(a - g)^2 / (2 w^2)), and the goal g, -1 or 1, is the task. The policy is a normal
distribution of mean theta, the one parameter that adapts, and of standard deviation sigma. With
s^2 = w^2 + sigma^2 the expected return is J(theta) = w / s * exp(-(theta - g)^2 / (2 s^2)).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from envs import Step, Task, TaskDistribution, Tasks
from maml_rl.algorithm.adaptation import AdaptationStep
from maml_rl.algorithm.advantages import Targets
from maml_rl.algorithm.baselines import LinearFeatureBaseline
from maml_rl.algorithm.inner_loop.loop import InnerLoop, stack
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop import Adam
from maml_rl.algorithm.outer_loop.update import State
from maml_rl.algorithm.policies import GaussianMLP
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.evaluation.curves import save_png
from maml_rl.randomness import Key, Purpose
from maml_rl.sampling import Collector

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
GOALS = (-1.0, 1.0)
WIDTH, STD, STEP_SIZE = 0.5, 0.5, 2.0  # w, sigma, alpha
SPREAD = math.hypot(WIDTH, STD)  # s
THETA = "layers.1.bias"
COLORS = ("tab:blue", "tab:orange")
Values = NDArray[np.float64]


def expected_return(theta: Values | float, goal: Values | float) -> Values:
    """J(theta), the return of a task before adaptation."""
    return WIDTH / SPREAD * np.exp(-((np.asarray(theta) - goal) ** 2) / (2 * SPREAD**2))


def policy_gradient(theta: Values | float, goal: Values | float) -> Values:
    """J'(theta)."""
    return expected_return(theta, goal) * (goal - theta) / SPREAD**2


def adapted(theta: Values | float, goal: float) -> Values:
    """One exact inner step, theta + alpha * J'(theta)."""
    return theta + STEP_SIZE * policy_gradient(theta, goal)


def before(theta: Values | float) -> Values:
    """Mean return over the two tasks before adaptation: what pretraining maximizes."""
    return np.mean([expected_return(theta, goal) for goal in GOALS], axis=0)


def after(theta: Values | float) -> Values:
    """Mean return over the two tasks after one step: what MAML maximizes."""
    return np.mean([expected_return(adapted(theta, goal), goal) for goal in GOALS], axis=0)


class GoalBandit(TaskDistribution):
    """The problem as a task distribution: one step, observation 0, a goal of -1 or 1."""

    name = "goal_bandit"
    horizon = 1
    observation_space = spaces.Box(0.0, 1.0, (1,))
    action_space = spaces.Box(-10.0, 10.0, (1,))

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw goals, each with probability a half."""
        return {"goal": rng.choice(GOALS, size=num_tasks)}

    def finite_tasks(self) -> Tasks:
        """Both tasks."""
        return {"goal": np.array(GOALS)}

    def describe(self, task: Task) -> str:
        """The goal."""
        return f"goal {task['goal']:g}"

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> GoalBandits:
        """Build M x B bandits."""
        return GoalBandits(num_tasks, slots_per_task)


class GoalBandits:
    """M x B bandits that step together."""

    def __init__(self, num_tasks: int, slots: int) -> None:
        self.start = np.zeros((num_tasks, slots, 1))

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the goal of every task's slots."""
        self.goal = tasks["goal"][:, None]

    def reset(self, rngs: Sequence[np.random.Generator]) -> Values:
        """Show 0 everywhere."""
        return self.start.copy()

    def step(self, actions: Values, active: NDArray[np.bool_]) -> Step:
        """Pay what the actions earn; every episode is over."""
        rewards = reward(actions[..., 0].astype(float), self.goal)
        return Step(self.start.copy(), rewards, np.ones(rewards.shape, dtype=bool), {})

    def close(self) -> None:
        """Free nothing."""


def reward(action: Values, goal: Values) -> Values:
    """exp(-(a - g)^2 / (2 w^2))."""
    return np.exp(-((action - goal) ** 2) / (2 * WIDTH**2))


def policy_and_meta(theta: float, inner: InnerLoop) -> tuple[GaussianMLP, Params]:
    """Build the policy and its meta-parameters: all 0 but theta and sigma.

    The hidden unit is then 0 for good, no gradient reaches it, and theta alone is the mean.
    """
    policy = GaussianMLP(observation_size=1, action_size=1, hidden_sizes=(1,), initial_std=STD)
    meta = inner.meta_parameters(policy, policy.initialize(torch.Generator().manual_seed(0)))
    log_std = meta["log_std"].double()
    meta = {name: torch.zeros_like(leaf, dtype=torch.float64) for name, leaf in meta.items()}
    meta |= {THETA: torch.full((1,), theta, dtype=torch.float64), "log_std": log_std}
    return policy.double(), meta


def exact_rollout(theta: float) -> tuple[Rollout, Targets]:
    """All actions at once, each weighed by its probability: [2, 1, B] for the two tasks.

    A mask may hold any weight, so that means over such a rollout are expectations.
    """
    offsets = np.linspace(-8, 8, 401)
    weights = np.exp(-(offsets**2) / 2)
    shape = (len(GOALS), 1, len(offsets))
    actions = theta + STD * offsets
    rewards = torch.from_numpy(reward(actions, np.array(GOALS)[:, None]))[:, None]
    mask = torch.from_numpy(weights / weights.sum()).expand(shape)
    log_probs = torch.from_numpy(-(offsets**2) / 2 - math.log(STD * math.sqrt(2 * math.pi)))
    zeros = torch.zeros(shape, dtype=torch.float64)
    rollout = Rollout(
        observations=zeros[..., None],
        actions=torch.from_numpy(actions).expand(shape)[..., None],
        rewards=rewards,
        discounts=zeros,
        first=torch.ones_like(zeros),
        mask=mask,
        log_probs=log_probs.expand(shape),
        final_observations=zeros[:, 0, :, None],
        state=None,
        info={},
    )
    mean = (rewards * mask).sum((1, 2))
    advantages = rewards - mean[:, None, None]
    ones = torch.ones_like(mean)
    return rollout, Targets(advantages, rewards, mean[:, None, None] + zeros, ones, mean, ones)


def meta_gradient(theta: float, loss: str = "likelihood_ratio", first_order: bool = False) -> float:
    """d/dtheta of the mean return after one step, through the library's inner loop.

    The chain rule: J'(theta') * d theta' / d theta, the second factor by automatic differentiation.
    """
    inner = InnerLoop(step_size=STEP_SIZE, loss=loss, first_order=first_order, adapted=[THETA])
    policy, meta = policy_and_meta(theta, inner)
    rows = {name: leaf.requires_grad_() for name, leaf in stack(meta, len(GOALS)).items()}
    rollout, targets = exact_rollout(theta)
    moved = inner.adapt(policy, rows, [AdaptationStep(rollout, targets, rows)])[THETA]  # [2, 1]
    outer = policy_gradient(moved.detach().numpy()[:, 0], np.array(GOALS))
    weights = torch.from_numpy(outer)[:, None]
    (gradient,) = torch.autograd.grad(moved, rows[THETA], grad_outputs=weights)
    return float(gradient.mean())


def train(steps: int = 1, first_order: bool = False, start: float = 0.5) -> Values:
    """Meta-train theta from `start` on sampled episodes: theta before each of 60 iterations."""
    distribution = GoalBandit()
    inner = InnerLoop(steps, STEP_SIZE, first_order=first_order, adapted=[THETA])
    policy, meta = policy_and_meta(start, inner)
    log_std = meta["log_std"]
    learner = MetaLearner(
        policy, LinearFeatureBaseline(), inner, Adam(0.05), standardize_advantages=False
    )
    collector = Collector(distribution, policy, num_tasks=20, num_episodes=20)
    state: State = {}
    thetas = [start]
    for iteration in range(60):
        key = Key(0, (Purpose.TRAINING, iteration))
        tasks = distribution.sample(20, key.generator(Purpose.TASKS))
        experience = learner.collect(collector, meta, tasks, steps, key)
        meta, state, _ = learner.outer_step(meta, state, experience)
        meta["log_std"] = log_std  # sigma stays, so that the formulas hold
        thetas.append(float(meta[THETA]))
    return np.array(thetas)


LEARNERS: dict[str, dict[str, Any]] = {
    "MAML": {},
    "first-order MAML": {"first_order": True},
    "pretrained": {"steps": 0},
}


def trained() -> dict[str, Values]:
    """Every learner's theta over the iterations."""
    return {name: train(**options) for name, options in LEARNERS.items()}


def exact_gradient(theta: float, difference: float = 1e-5) -> float:
    """The slope of `after`, by central differences."""
    return float((after(theta + difference) - after(theta - difference)) / (2 * difference))


def numbers(thetas: Mapping[str, Values]) -> dict[str, float]:
    """The numbers that the page quotes, by name."""
    grid = np.linspace(0, 2, 2001)
    best = {"before": grid[before(grid).argmax()], "after": grid[after(grid).argmax()]}
    quoted: dict[str, Any] = {
        "one step from 0 towards the goal 1": adapted(0.0, GOALS[1]),
        "meta-gradient at 0.5, differences": exact_gradient(0.5),
        "meta-gradient at 0.5, likelihood_ratio": meta_gradient(0.5),
        "meta-gradient at 0.5, first order": meta_gradient(0.5, first_order=True),
        "meta-gradient at 0.5, log_likelihood": meta_gradient(0.5, "log_likelihood"),
        "meta-gradient at 0.9, likelihood_ratio": meta_gradient(0.9),
        "meta-gradient at 0.9, first order": meta_gradient(0.9, first_order=True),
    }
    for when, theta in best.items():
        quoted |= {
            f"best theta {when} a step": theta,
            f"its return before a step, best {when}": before(theta),
            f"its return after a step, best {when}": after(theta),
        }
    for name, path in thetas.items():
        quoted |= {
            f"{name}, theta after 60 iterations": path[-1],
            f"{name}, return after a step": after(path[-1]),
        }
    return {name: float(value) for name, value in quoted.items()}


def draw_objectives() -> Figure:
    """Returns as functions of the initialization: of each task, and of both after one step."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    theta = np.linspace(-1.8, 1.8, 721)
    for goal, color in zip(GOALS, COLORS, strict=True):
        left.plot(theta, expected_return(theta, goal), color=color, label=f"goal {goal:g}")
        start, end = 0.0, float(adapted(0.0, goal))
        left.annotate(
            "",
            (end, float(expected_return(end, goal))),
            (start, float(expected_return(start, goal))),
            arrowprops={"arrowstyle": "->", "color": color, "lw": 1.5},
        )
    left.set(title="One task: a step from 0", xlabel="theta", ylabel="expected return")
    right.plot(theta, before(theta), "--", color="0.4", label="before a step: pretraining")
    right.plot(theta, after(theta), color="tab:green", label="after a step: MAML")
    for function, color in ((before, "0.4"), (after, "tab:green")):
        best = theta[function(theta).argmax()]
        right.plot(abs(best), function(best), "o", color=color)
    right.set(title="Mean of both tasks", xlabel="theta")
    for axes in (left, right):
        axes.set_ylim(0, 0.98)
        axes.legend(loc="upper center", ncols=2, fontsize=8, frameon=False)
    return figure


def draw_meta_gradients() -> Figure:
    """The slope of the return after one step, exact and by the forms of the inner loop."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    theta = np.linspace(-1.2, 1.2, 121)
    exact = [exact_gradient(value) for value in theta]
    axes.plot(theta, exact, color="0.7", lw=6, label="slope of the green curve, by differences")
    forms: dict[str, dict[str, Any]] = {
        "likelihood_ratio": {},
        "first_order=true": {"first_order": True},
        "log_likelihood": {"loss": "log_likelihood"},
    }
    for (name, options), style in zip(forms.items(), ("k-", "r-", "b:"), strict=True):
        values = [meta_gradient(float(value), **options) for value in theta]
        axes.plot(theta, values, style, lw=2 if style == "b:" else 1.2, label=name)
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.set(title="The meta-gradient", xlabel="theta", ylabel="d return after a step / d theta")
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    return figure


def draw_training(thetas: Mapping[str, Values]) -> Figure:
    """Theta of three learners during training, and MAML's policies before and after one step."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for (name, path), style in zip(thetas.items(), ("k-", "r-", "k--"), strict=True):
        left.plot(path, style, label=name)
        middle.plot(after(path), style)
    left.set(title="Initialization", xlabel="iteration", ylabel="theta", ylim=(-0.5, 1.6))
    left.legend(fontsize=8, frameon=False, loc="upper left")
    middle.set(title="Return after a step", xlabel="iteration", ylim=(0, 0.8))
    start = float(thetas["MAML"][-1])
    _draw_density(right, start, "0.4", "before")
    for goal, color in zip(GOALS, COLORS, strict=True):
        _draw_density(right, float(adapted(start, goal)), color, f"after, goal {goal:g}")
        right.axvline(goal, color=color, lw=0.8, ls=":")
    right.set(title="MAML's policies", xlabel="action", ylim=(0, 1.35), yticks=[])
    right.legend(fontsize=8, frameon=False, loc="upper center")
    return figure


def _draw_density(axes: Axes, mean: float, color: str, label: str) -> None:
    """Draw the density of actions around a mean."""
    actions = np.linspace(-2.8, 2.8, 281)
    density = np.exp(-(((actions - mean) / STD) ** 2) / 2) / (STD * math.sqrt(2 * math.pi))
    axes.plot(actions, density, color=color, label=label)


def main(folder: Path) -> None:
    """Draw the three figures into a folder and print the numbers."""
    thetas = trained()
    save_png(draw_objectives(), folder / "learning_maml_objectives.png")
    save_png(draw_meta_gradients(), folder / "learning_maml_gradients.png")
    save_png(draw_training(thetas), folder / "learning_maml_training.png")
    for name, value in numbers(thetas).items():
        print(f"{name:45} {value:6.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=IMAGES, help="for the figures")
    main(parser.parse_args().folder)
