"""The shipped task distributions by name, and those that installed packages publish."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from envs.arguments import one_of
from envs.errors import UserError, cause
from envs.protocol import TaskDistribution, check_complete, check_distribution, snake_case

ENTRY_POINTS = "maml_rl.task_distributions"
"""The group of entry points under which a package publishes distributions: name = module:Class."""

CLASSES = {
    "ant": ("AntDir", "AntGoal", "AntHeading", "AntRandParams", "AntVel"),
    "bandit": ("MultiArmedBandit",),
    "classic_control": ("CartPole", "Pendulum"),
    "half_cheetah": ("HalfCheetahDir", "HalfCheetahRandParams", "HalfCheetahVel"),
    "hopper": ("HopperRandParams", "HopperVel"),
    "humanoid": ("HumanoidDir",),
    "metaworld": ("MetaworldML1", "MetaworldML10", "MetaworldML45"),
    "point": ("PointNavigation", "PointNavigationCorners", "PointNavigationHalfCircle"),
    "random_mdp": ("RandomMDP",),
    "reacher": ("ReacherGoal",),
    "swimmer": ("SwimmerDir", "SwimmerGoal"),
    "walker2d": ("Walker2dRandParams", "Walker2dVel"),
}
"""The shipped classes by their module in `envs.tasks`."""

SHIPPED = dict(
    sorted(
        (snake_case(name), f"envs.tasks.{module}:{name}")
        for module, names in CLASSES.items()
        for name in names
    )
)
"""Targets by name, as module:Class; the name is the class's in snake case, and conf/env/'s too."""

GYMNASIUM = "envs.backends.gymnasium.distribution:GymnasiumTasks"
"""The class of the name gymnasium, which needs an id and a class that sets tasks."""

MADE_OF_OTHERS = {
    "gymnasium": "any Gymnasium environment: env.id=... env.set_task=...",
    "held_out": "trains on one distribution, tests on another: env.train, env.test",
    "union": "a mixture of distributions: env.members",
}
"""Nodes of conf/env that are nothing by themselves, and what they are made of."""

PLAIN = bool | int | float | str | None
"""What YAML holds in one value."""


class Arguments(NamedTuple):
    """The arguments of a class."""

    defaults: dict[str, Any]  # by name; `inspect.Parameter.empty` where there is none
    any_name: bool  # whether it takes others too

    @property
    def plain(self) -> dict[str, Any]:
        """The defaults in the form of YAML; null where there is none, or no form."""
        return {name: _plain(default) for name, default in self.defaults.items()}


def arguments(built: Any) -> Arguments:
    """The arguments of a class, with those that `**options` hands on to its base classes.

    The numbers of a distribution's presets are arguments; null keeps the preset's.
    """
    owners = [owner for owner in getattr(built, "__mro__", ()) if "__init__" in vars(owner)]
    functions = [vars(owner)["__init__"] for owner in owners if owner is not object] or [built]
    if functions == [built] and isinstance(built, type):
        return Arguments({}, False)
    defaults: dict[str, Any] = {}
    any_name = False
    for function in functions:
        parameters = list(inspect.signature(function).parameters.values())
        for parameter in parameters[1:] if function is not built else parameters:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                defaults.setdefault(parameter.name, parameter.default)
        any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not any_name:
            break
    for preset in list(getattr(built, "presets", {}).values())[:1] if any_name else ():
        for field in dataclasses.fields(preset) if dataclasses.is_dataclass(preset) else ():
            defaults.setdefault(field.name, None)
        any_name = False
    return Arguments(defaults, any_name)


def _plain(value: Any) -> Any:
    """A default in the form of YAML, or None."""
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return value if isinstance(value, PLAIN) else None


def import_from_working_folder() -> None:
    """Let a user's modules be imported from the working folder.

    A package `envs` of theirs stays behind this one, which worker processes import by that path.
    """
    here, package = str(Path.cwd()), Path(__file__).parent
    sys.path.insert(0, here)
    other = PathFinder.find_spec(package.name, [here])
    if other and other.origin and not Path(other.origin).parent.samefile(package):
        sys.path.insert(0, str(package.parent))


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
    named = {**SHIPPED, "gymnasium": GYMNASIUM}
    target = str(named.get(name) or getattr(published().get(name), "value", name))
    if name in MADE_OF_OTHERS and name not in named:
        raise UserError(
            f"{name} is made of other distributions ({MADE_OF_OTHERS[name]}): name those, or a "
            f"class of your own that builds it."
        )
    if target == name and "." not in name and ":" not in name:
        one_of("name", name, [*SHIPPED, *published()])
    try:
        constructor = pkgutil.resolve_name(target)
    except Exception as error:  # importing a user's file may raise anything
        raise UserError(f"{name} cannot be imported ({cause(error)}).") from error
    if not callable(constructor):
        raise UserError(f"{name} is no class.")
    return constructor


def build(name: str, arguments: Mapping[str, Any] | None = None) -> TaskDistribution:
    """Build the distribution that a name or a target stands for.

    Raises:
        UserError: if there is none, it cannot be built with these arguments, or is none.
    """
    constructor, given = resolve(name), dict(arguments or {})
    _check_arguments(name, constructor, given)
    check_complete(constructor)
    try:
        built = constructor(**given)
    except UserError:
        raise
    except Exception as error:  # a user's constructor may raise anything
        raise UserError(f"{name} cannot be built ({cause(error)}).") from error
    check_distribution(name, built)
    checked: TaskDistribution = built
    return checked


def _check_arguments(name: str, constructor: Any, given: Mapping[str, Any]) -> None:
    """Refuse a class that only sets tasks, and arguments that a class does not take."""
    if sets_tasks(constructor):
        more = [f"{key}={value}" for key, value in given.items() if key != "id"]
        words = [f"id={given.get('id', 'Pendulum-v1')}", f"set_task={name}", *more]
        raise UserError(
            f"{name} sets the tasks of a Gymnasium environment and is no distribution by itself: "
            f"write gymnasium {' '.join(words)} for it."
        )
    try:
        known = arguments(constructor)
    except ValueError:  # not every class tells
        return
    try:
        inspect.signature(constructor).bind(**given)
        for key in given:
            if not known.any_name and key not in known.defaults:
                raise TypeError(f"got an unexpected keyword argument {key!r}")
    except TypeError as error:
        listed = ", ".join(known.defaults) or "none"
        raise UserError(f"{name}: {error}; its arguments are {listed}.") from error


def sets_tasks(constructor: Any) -> bool:
    """Whether a class writes tasks into a Gymnasium environment, and is no distribution itself."""
    return not hasattr(constructor, "make") and all(
        hasattr(constructor, method) for method in ("sample", "apply")
    )


def missing_package(error: BaseException | None) -> str | None:
    """The missing package, not of this project, that caused an error, or None."""
    while error is not None:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package not in ("", "envs"):
            return package
        error = error.__cause__
    return None
