"""Task distributions, and their Gymnasium forms under `envs:maml_rl/...`.

Modules are imported when a name of theirs is asked for: `import envs` loads no physics.
"""

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium

from envs.errors import SimulationError, UserError
from envs.recorded import Recorded
from envs.registry import SHIPPED

if TYPE_CHECKING:
    from envs.backends.gymnasium.distribution import GymnasiumTaskDistribution, GymnasiumTasks
    from envs.backends.mujoco.distribution import MujocoTaskDistribution
    from envs.backends.mujoco.fields import State
    from envs.backends.mujoco.model import ASSETS
    from envs.backends.mujoco.preset import Preset
    from envs.backends.mujoco.single import Marker, MujocoTaskEnv
    from envs.checking.contract import TaskDistributionContract
    from envs.protocol import BatchedEnv, Splits, Step, Task, TaskDistribution, Tasks
    from envs.tasks.ant import AntDir, AntGoal, AntHeading, AntRandParams, AntVel
    from envs.tasks.bandit import MultiArmedBandit
    from envs.tasks.classic_control import CartPole, Pendulum
    from envs.tasks.half_cheetah import HalfCheetahDir, HalfCheetahRandParams, HalfCheetahVel
    from envs.tasks.hopper import HopperRandParams, HopperVel
    from envs.tasks.humanoid import HumanoidDir
    from envs.tasks.metaworld import MetaworldML1, MetaworldML10, MetaworldML45
    from envs.tasks.point import PointNavigation, PointNavigationCorners, PointNavigationHalfCircle
    from envs.tasks.random_mdp import RandomMDP
    from envs.tasks.random_parameters import RandomParameters
    from envs.tasks.reacher import ReacherGoal
    from envs.tasks.swimmer import SwimmerDir, SwimmerGoal
    from envs.tasks.walker2d import Walker2dRandParams, Walker2dVel
    from envs.trajectories import Trajectories
    from envs.wrappers.held_out import HeldOut
    from envs.wrappers.task_observed import TaskObserved
    from envs.wrappers.trials import Trials
    from envs.wrappers.union import Union

_OTHERS = {
    "envs.wrappers.held_out": ("HeldOut",),
    "envs.wrappers.union": ("Union",),
    "envs.checking.contract": ("TaskDistributionContract",),
    "envs.backends.gymnasium.distribution": ("GymnasiumTaskDistribution", "GymnasiumTasks"),
    "envs.backends.mujoco.distribution": ("MujocoTaskDistribution",),
    "envs.backends.mujoco.fields": ("State",),
    "envs.backends.mujoco.model": ("ASSETS",),
    "envs.backends.mujoco.preset": ("Preset",),
    "envs.backends.mujoco.single": ("Marker", "MujocoTaskEnv"),
    "envs.tasks.random_parameters": ("RandomParameters",),
    "envs.protocol": ("BatchedEnv", "Splits", "Step", "Task", "TaskDistribution", "Tasks"),
    "envs.wrappers.task_observed": ("TaskObserved",),
    "envs.trajectories": ("Trajectories",),
    "envs.wrappers.trials": ("Trials",),
}
_MODULES = {name: module for module, names in _OTHERS.items() for name in names}
_MODULES |= {target.partition(":")[2]: target.partition(":")[0] for target in SHIPPED.values()}

__all__ = sorted([*_MODULES, "Recorded", "SimulationError", "UserError"])


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module 'envs' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


for _target in SHIPPED.values():
    gymnasium.register(
        f"maml_rl/{_target.partition(':')[2]}-v0",
        entry_point="envs.protocol:make_env",
        kwargs={"distribution": _target},
    )
