"""Task distributions, and their Gymnasium forms under `envs:maml_rl/...`."""

import gymnasium

from envs.checks import UserError
from envs.half_cheetah import HalfCheetahDir, HalfCheetahVel
from envs.mujoco import MujocoTaskDistribution, MujocoTaskEnv, Preset, SimulationError
from envs.point import PointNavigation
from envs.task_distribution import BatchedEnv, Splits, Step, TaskDistribution, Tasks

__all__ = [
    "BatchedEnv",
    "HalfCheetahDir",
    "HalfCheetahVel",
    "MujocoTaskDistribution",
    "MujocoTaskEnv",
    "PointNavigation",
    "Preset",
    "SimulationError",
    "Splits",
    "Step",
    "TaskDistribution",
    "Tasks",
    "UserError",
]

for _name in ("HalfCheetahDir", "HalfCheetahVel", "PointNavigation"):
    gymnasium.register(
        f"maml_rl/{_name}-v0",
        entry_point="envs.mujoco:make_env",
        kwargs={"distribution": f"envs:{_name}"},
    )
