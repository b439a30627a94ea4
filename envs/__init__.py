"""Task distributions, and their Gymnasium forms under `envs:maml_rl/...`.

Modules are imported when a name of theirs is asked for: `import envs` loads no physics.
"""

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium

from envs.checks import UserError
from envs.registry import SHIPPED

if TYPE_CHECKING:
    from envs.ant import AntDir, AntGoal, AntHeading, AntRandParams, AntVel
    from envs.bandit import MultiArmedBandit
    from envs.classic_control import CartPole, Pendulum
    from envs.combined import HeldOut, Union
    from envs.contract import TaskDistributionContract
    from envs.gymnasium_env import GymnasiumTaskDistribution, GymnasiumTasks
    from envs.half_cheetah import HalfCheetahDir, HalfCheetahRandParams, HalfCheetahVel
    from envs.hopper import HopperRandParams, HopperVel
    from envs.humanoid import HumanoidDir
    from envs.metaworld import MetaworldML1, MetaworldML10, MetaworldML45
    from envs.mujoco import (
        ASSETS,
        Marker,
        MujocoTaskDistribution,
        MujocoTaskEnv,
        Preset,
        SimulationError,
        State,
    )
    from envs.point import PointNavigation, PointNavigationCorners, PointNavigationHalfCircle
    from envs.random_parameters import RandomParameters
    from envs.reacher import ReacherGoal
    from envs.swimmer import SwimmerDir, SwimmerGoal
    from envs.tabular import RandomMDP
    from envs.task_distribution import BatchedEnv, Splits, Step, TaskDistribution, Tasks
    from envs.task_observed import TaskObserved
    from envs.trajectories import Trajectories
    from envs.trials import Trials
    from envs.walker2d import Walker2dRandParams, Walker2dVel

__all__ = [
    "ASSETS",
    "AntDir",
    "AntGoal",
    "AntHeading",
    "AntRandParams",
    "AntVel",
    "BatchedEnv",
    "CartPole",
    "GymnasiumTaskDistribution",
    "GymnasiumTasks",
    "HalfCheetahDir",
    "HalfCheetahRandParams",
    "HalfCheetahVel",
    "HeldOut",
    "HopperRandParams",
    "HopperVel",
    "HumanoidDir",
    "Marker",
    "MetaworldML1",
    "MetaworldML10",
    "MetaworldML45",
    "MujocoTaskDistribution",
    "MujocoTaskEnv",
    "MultiArmedBandit",
    "Pendulum",
    "PointNavigation",
    "PointNavigationCorners",
    "PointNavigationHalfCircle",
    "Preset",
    "RandomMDP",
    "RandomParameters",
    "ReacherGoal",
    "SimulationError",
    "Splits",
    "State",
    "Step",
    "SwimmerDir",
    "SwimmerGoal",
    "TaskDistribution",
    "TaskDistributionContract",
    "TaskObserved",
    "Tasks",
    "Trajectories",
    "Trials",
    "Union",
    "UserError",
    "Walker2dRandParams",
    "Walker2dVel",
]

_OTHERS = {
    "envs.combined": ("HeldOut", "Union"),
    "envs.contract": ("TaskDistributionContract",),
    "envs.gymnasium_env": ("GymnasiumTaskDistribution", "GymnasiumTasks"),
    "envs.mujoco": (
        *(
            "ASSETS",
            "Marker",
            "MujocoTaskDistribution",
            "MujocoTaskEnv",
            "Preset",
            "SimulationError",
        ),
        "State",
    ),
    "envs.random_parameters": ("RandomParameters",),
    "envs.task_distribution": ("BatchedEnv", "Splits", "Step", "TaskDistribution", "Tasks"),
    "envs.task_observed": ("TaskObserved",),
    "envs.trajectories": ("Trajectories",),
    "envs.trials": ("Trials",),
}
_MODULES = {target.partition(":")[2]: target.partition(":")[0] for target in SHIPPED.values()} | {
    name: module for module, names in _OTHERS.items() for name in names
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module 'envs' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


for _target in SHIPPED.values():
    gymnasium.register(
        f"maml_rl/{_target.partition(':')[2]}-v0",
        entry_point="envs.task_distribution:make_env",
        kwargs={"distribution": _target},
    )
