"""Task distributions that installed packages publish, in the commands that train and evaluate."""

import json
import sys
from pathlib import Path

import gymnasium
import pytest
from omegaconf import OmegaConf

from tests.support.run_files import read_metrics
from tests.support.smoke import SMOKE

PUBLISHED = """
from envs import HalfCheetahVel, PointNavigation


class FarNavigation(PointNavigation):
    def sample(self, num_tasks, rng):
        return {"goal": 2.0 + rng.uniform(size=(num_tasks, 2))}
"""
CORRIDOR = """
import gymnasium
import numpy as np
from gymnasium import spaces

from envs import GymnasiumTaskDistribution


class CorridorEnv(gymnasium.Env):
    observation_space = spaces.Box(-10.0, 10.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, width=0.2):
        self.width, self.door = width, 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.1, 0.1)
        return np.array([self.x], np.float32), {}

    def step(self, action):
        self.x = float(np.clip(self.x + self.width * action[0], -10, 10))
        return np.array([self.x], np.float32), -abs(self.x - self.door), False, False, {}


gymnasium.register("Corridor-v0", entry_point=CorridorEnv, max_episode_steps=6)


class Corridor(GymnasiumTaskDistribution):
    def __init__(self, id="Corridor-v0", **options):
        super().__init__(id, **options)

    def sample(self, num_tasks, rng):
        return {"door": rng.uniform(-2.0, 2.0, size=num_tasks)}

    def apply(self, env, task):
        env.door = float(task["door"])
"""


@pytest.fixture
def package(work):
    """An installed package that publishes one distribution, and one that is not there."""
    (work / "their_tasks.py").write_text(PUBLISHED)
    info = work / "their_tasks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-tasks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[maml_rl.task_distributions]\nfar_navigation = their_tasks:FarNavigation\n"
        "gone = their_tasks:Gone\nhalf_cheetah_dir = their_tasks:FarNavigation\n"
        "corridor = their_corridor:Corridor\n"
    )
    (work / "their_corridor.py").write_text(CORRIDOR)
    yield
    sys.modules.pop("their_tasks", None)
    sys.modules.pop("their_corridor", None)
    gymnasium.registry.pop("Corridor-v0", None)


def test_a_published_distribution_is_found_by_its_name(package, work, train_cli, evaluate_cli):
    outcome = train_cli(*SMOKE, "env=far_navigation", "env.arrival=0.5", "hydra.run.dir=run")
    assert (outcome.status, outcome.err) == (0, "")
    goals = json.loads((work / "run/tasks.json").read_text())["test"]["goal"]
    assert all(2 <= x <= 3 for goal in goals for x in goal)
    config = OmegaConf.load("run/.hydra/config.yaml").env
    assert (config._target_, config.arrival) == ("their_tasks.FarNavigation", 0.5)
    assert evaluate_cli("run=run", "steps=1", "num_episodes=2", "threads=1").status == 0


def test_a_published_gymnasium_environment_keeps_its_defaults(package, train_cli, evaluate_cli):
    sizes = [option for option in SMOKE if not option.startswith("experiment")]
    sizes += ["trainer.iterations=1", "trainer.num_tasks=2", "trainer.num_episodes=2"]
    sizes += ["trainer.validation_tasks=2", "trainer.validation_episodes=2", "trainer.test_tasks=2"]
    # two rollouts of 2 tasks x 2 episodes, of the 6 steps that the id is registered with or others
    cases = {"a": ([], 6), "b": (["env.horizon=3"], 3), "c": (["env.kwargs={width: 0.5}"], 6)}
    for folder, (options, horizon) in cases.items():
        outcome = train_cli("env=corridor", *options, *sizes, f"hydra.run.dir={folder}")
        assert (outcome.status, outcome.err) == (0, "")
        assert read_metrics(folder)[-1]["env_steps"] == 2 * 2 * 2 * horizon
        assert OmegaConf.load(f"{folder}/.hydra/config.yaml").env.id == "Corridor-v0"
    assert evaluate_cli("run=b", "steps=1", "num_episodes=2", "threads=1").status == 0
    assert train_cli("resume=b", "trainer.iterations=2").status == 0
    assert (
        "env.horizn is unknown; did you mean env.horizon?"
        in train_cli("env=corridor", "env.horizn=3").error
    )


def test_a_published_class_that_is_missing_is_named(package, train_cli):
    outcome = train_cli(*SMOKE, "env=gone", "hydra.run.dir=run")
    assert outcome.status == 2
    assert outcome.error.startswith("error: gone cannot be imported (AttributeError: ")
    assert not Path("run").exists()


def test_a_shipped_name_wins_and_unknown_names_are_told_the_published_ones(package, train_cli):
    assert train_cli(*SMOKE, "env=half_cheetah_dir", "--cfg=job").out.count("FarNavigation") == 0
    outcome = train_cli(*SMOKE, "env=far_navigatoin")
    assert outcome.status == 2
    assert outcome.error.endswith("Did you mean far_navigation?")
