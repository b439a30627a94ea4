"""The shipped task distributions by name, and those that installed packages publish."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from envs.arguments import one_of
from envs.errors import UserError

ENTRY_POINTS = "maml_rl.task_distributions"
"""The group of entry points under which a package publishes distributions: name = module:Class."""

SHIPPED = {
    "ant_dir": "envs.tasks.ant:AntDir",
    "ant_goal": "envs.tasks.ant:AntGoal",
    "ant_heading": "envs.tasks.ant:AntHeading",
    "ant_rand_params": "envs.tasks.ant:AntRandParams",
    "ant_vel": "envs.tasks.ant:AntVel",
    "cart_pole": "envs.tasks.classic_control:CartPole",
    "half_cheetah_dir": "envs.tasks.half_cheetah:HalfCheetahDir",
    "half_cheetah_rand_params": "envs.tasks.half_cheetah:HalfCheetahRandParams",
    "half_cheetah_vel": "envs.tasks.half_cheetah:HalfCheetahVel",
    "hopper_rand_params": "envs.tasks.hopper:HopperRandParams",
    "hopper_vel": "envs.tasks.hopper:HopperVel",
    "humanoid_dir": "envs.tasks.humanoid:HumanoidDir",
    "metaworld_ml1": "envs.tasks.metaworld:MetaworldML1",
    "metaworld_ml10": "envs.tasks.metaworld:MetaworldML10",
    "metaworld_ml45": "envs.tasks.metaworld:MetaworldML45",
    "multi_armed_bandit": "envs.tasks.bandit:MultiArmedBandit",
    "pendulum": "envs.tasks.classic_control:Pendulum",
    "point_navigation": "envs.tasks.point:PointNavigation",
    "point_navigation_corners": "envs.tasks.point:PointNavigationCorners",
    "point_navigation_half_circle": "envs.tasks.point:PointNavigationHalfCircle",
    "random_mdp": "envs.tasks.random_mdp:RandomMDP",
    "reacher_goal": "envs.tasks.reacher:ReacherGoal",
    "swimmer_dir": "envs.tasks.swimmer:SwimmerDir",
    "swimmer_goal": "envs.tasks.swimmer:SwimmerGoal",
    "walker2d_rand_params": "envs.tasks.walker2d:Walker2dRandParams",
    "walker2d_vel": "envs.tasks.walker2d:Walker2dVel",
}
"""Targets by name, as module:Class; the name is the class's in snake case, and conf/env/'s too."""


MADE_OF_OTHERS = {
    "gymnasium": "any Gymnasium environment: env.id=... env.set_task=...",
    "held_out": "trains on one distribution, tests on another: env.train, env.test",
    "union": "a mixture of distributions: env.members",
}
"""Nodes of conf/env that are nothing by themselves, and what they are made of."""


def published() -> dict[str, EntryPoint]:
    """Distributions of installed packages by name; names of this project come first."""
    return {
        entry.name: entry
        for entry in entry_points(group=ENTRY_POINTS)
        if entry.name not in {**SHIPPED, **MADE_OF_OTHERS}
    }


def resolve(name: str) -> Any:
    """Class that a name, or a target such as my_tasks.HopperVelocity, stands for.

    Raises:
        UserError: if there is none, or its module cannot be imported.
    """
    target = str(SHIPPED.get(name) or getattr(published().get(name), "value", name))
    if name in MADE_OF_OTHERS:
        raise UserError(
            f"{name} is made of other distributions ({MADE_OF_OTHERS[name]}): name those, or a "
            f"class of your own that builds it."
        )
    if target == name and "." not in name and ":" not in name:
        one_of("name", name, [*SHIPPED, *published()])
    try:
        constructor = pkgutil.resolve_name(target)
    except Exception as error:  # importing a user's file may raise anything
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{name} cannot be imported ({why}).") from error
    if not callable(constructor):
        raise UserError(f"{name} is no class.")
    return constructor


def build(name: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """Build the distribution that a name or a target stands for.

    Raises:
        UserError: if there is none, or it cannot be built with these arguments.
    """
    constructor, given = resolve(name), dict(arguments or {})
    _check_arguments(name, constructor, given)
    try:
        return constructor(**given)
    except UserError:
        raise
    except Exception as error:  # a user's constructor may raise anything
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{name} cannot be built ({why}).") from error


def _check_arguments(name: str, constructor: Any, given: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(constructor)
    except ValueError:  # not every class tells
        return
    try:
        signature.bind(**given)
    except TypeError as error:
        known = ", ".join(signature.parameters) or "none"
        raise UserError(f"{name}: {error}; its arguments are {known}.") from error


def missing_package(error: BaseException | None) -> str | None:
    """The missing package, not of this project, that caused an error, or None."""
    while error is not None:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package not in ("", "envs"):
            return package
        error = error.__cause__
    return None
