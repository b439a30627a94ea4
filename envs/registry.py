"""The shipped task distributions by name, and those that installed packages publish."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from envs.checks import UserError, one_of

ENTRY_POINTS = "maml_rl.task_distributions"
"""The group of entry points under which a package publishes distributions: name = module:Class."""

SHIPPED = {
    "ant_dir": "envs.ant:AntDir",
    "ant_goal": "envs.ant:AntGoal",
    "ant_heading": "envs.ant:AntHeading",
    "ant_rand_params": "envs.ant:AntRandParams",
    "ant_vel": "envs.ant:AntVel",
    "cart_pole": "envs.classic_control:CartPole",
    "half_cheetah_dir": "envs.half_cheetah:HalfCheetahDir",
    "half_cheetah_rand_params": "envs.half_cheetah:HalfCheetahRandParams",
    "half_cheetah_vel": "envs.half_cheetah:HalfCheetahVel",
    "hopper_rand_params": "envs.hopper:HopperRandParams",
    "hopper_vel": "envs.hopper:HopperVel",
    "humanoid_dir": "envs.humanoid:HumanoidDir",
    "metaworld_ml1": "envs.metaworld:MetaworldML1",
    "metaworld_ml10": "envs.metaworld:MetaworldML10",
    "metaworld_ml45": "envs.metaworld:MetaworldML45",
    "multi_armed_bandit": "envs.bandit:MultiArmedBandit",
    "pendulum": "envs.classic_control:Pendulum",
    "point_navigation": "envs.point:PointNavigation",
    "point_navigation_corners": "envs.point:PointNavigationCorners",
    "point_navigation_half_circle": "envs.point:PointNavigationHalfCircle",
    "random_mdp": "envs.tabular:RandomMDP",
    "reacher_goal": "envs.reacher:ReacherGoal",
    "swimmer_dir": "envs.swimmer:SwimmerDir",
    "swimmer_goal": "envs.swimmer:SwimmerGoal",
    "walker2d_rand_params": "envs.walker2d:Walker2dRandParams",
    "walker2d_vel": "envs.walker2d:Walker2dVel",
}
"""Targets by name, as module:Class; the name is the class's in snake case, and conf/env/'s too."""


MADE_OF_OTHERS = {
    "gymnasium": "any Gymnasium environment: env.id=... env.set_task=...",
    "held_out": "trains on one distribution, tests on another: env.train, env.test",
    "union": "a mixture of distributions: env.members",
}
"""Nodes of conf/env that are nothing by themselves, and what they are made of."""


def published() -> dict[str, EntryPoint]:
    """Return what installed packages publish, by name; names of this project come first."""
    return {
        entry.name: entry
        for entry in entry_points(group=ENTRY_POINTS)
        if entry.name not in {**SHIPPED, **MADE_OF_OTHERS}
    }


def resolve(name: str) -> Any:
    """Return the class that a name, or a target such as my_tasks.HopperVelocity, stands for.

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
        found = pkgutil.resolve_name(target)
    except Exception as error:  # importing a user's file may raise anything
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{name} cannot be imported ({why}).") from error
    if not callable(found):
        raise UserError(f"{name} is no class.")
    return found


def build(name: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """Build the distribution that a name or a target stands for.

    Raises:
        UserError: if there is none, or it cannot be built with these arguments.
    """
    found, given = resolve(name), dict(arguments or {})
    _check_arguments(name, found, given)
    try:
        return found(**given)
    except UserError:
        raise
    except Exception as error:  # a user's constructor may raise anything
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{name} cannot be built ({why}).") from error


def _check_arguments(name: str, found: Any, given: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(found)
    except ValueError:  # not every class tells
        return
    try:
        signature.bind(**given)
    except TypeError as error:
        known = ", ".join(signature.parameters) or "none"
        raise UserError(f"{name}: {error}; its arguments are {known}.") from error


def missing_package(error: BaseException | None) -> str | None:
    """Return the package, not of this project, whose absence is behind an error, or None."""
    while error is not None:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package not in ("", "envs"):
            return package
        error = error.__cause__
    return None
