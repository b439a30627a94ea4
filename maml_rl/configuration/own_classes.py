"""A user's class in a node: its arguments, and the overrides that it needs."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from envs.errors import UserError

NODES = ("env", "policy", "baseline", "inner", "outer", "algorithm")
PLAIN = bool | int | float | str | None


class Arguments(NamedTuple):
    """The arguments of a class."""

    defaults: dict[str, Any]  # by name; `inspect.Parameter.empty` where there is none
    any_name: bool  # whether it takes others too

    @property
    def plain(self) -> dict[str, Any]:
        """The defaults as YAML has them; null where there is none, or none that YAML can hold."""
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
    """A default as YAML has it, or None."""
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return value if isinstance(value, PLAIN) else None


def adapted_overrides(
    overrides: Sequence[Override], compose: Callable[[list[str]], DictConfig]
) -> list[str]:
    """Rewrite overrides so that a class named by `<node>._target_=` starts from a node of its own.

    Numbers of the node that it replaces and that it does not take are taken away, and its own can
    be given without a plus. Elsewhere, `~key` of a null and a dictionary for an empty one, both of
    which Hydra refuses, do what they say.

    Args:
        overrides: of one run or of several.
        compose: gives the configuration of overrides.
    """
    lines = [str(override.input_line) for override in overrides]
    targets = {
        node: str(override.value())
        for node in NODES
        for override in overrides
        if override.key_or_group == f"{node}._target_" and not override.is_sweep_override()
    }
    touched = [_concerns(override, targets) for override in overrides]
    if not any(touched):
        return lines
    config = compose(
        [  # without a sweep's several values too: composing takes one
            line
            for line, concerned, override in zip(lines, touched, overrides, strict=True)
            if not concerned and not override.is_sweep_override()
        ]
    )
    taken = {node: taken_by for node, target in targets.items() if (taken_by := _arguments(target))}
    adapted = [
        _adapted(override, line, config, taken) if concerned else line
        for override, line, concerned in zip(overrides, lines, touched, strict=True)
    ]
    given = [override.key_or_group for override in overrides]
    return [line for line in adapted if line] + _taken_away(config, taken, given)


def _concerns(override: Override, targets: Collection[str]) -> bool:
    """Whether an override is of a node with a person's class, or of a kind that Hydra refuses."""
    node = override.key_or_group.partition(".")[0]
    refused = override.is_delete() or _is_dictionary(override)
    return (node in targets and "." in override.key_or_group) or (refused and node in NODES)


def _taken_away(
    config: DictConfig, taken: Mapping[str, Arguments], given: Sequence[str]
) -> list[str]:
    """Overrides that take a replaced node's numbers away, but for those that a person gave."""
    return [
        f"~{node}.{key}"
        for node, arguments_of in taken.items()
        for key, value in config[node].items_ex(resolve=False)
        if value is not None
        and not str(key).startswith("_")
        and key not in arguments_of.defaults
        and not arguments_of.any_name
        and not any(name == f"{node}.{key}" or name.startswith(f"{node}.{key}.") for name in given)
    ]


def _arguments(target: str) -> Arguments | None:
    """The arguments of a class; None where it cannot be imported, which is refused later."""
    try:
        return arguments(pkgutil.resolve_name(target))
    except Exception:  # importing a person's file may raise anything
        return None


def _is_dictionary(override: Override) -> bool:
    return not override.is_sweep_override() and isinstance(override.value(), dict)


def _adapted(override: Override, line: str, config: DictConfig, taken: dict[str, Arguments]) -> str:
    """An override in the form for Hydra; empty where nothing is left to do.

    Raises:
        UserError: naming an argument that a person's class does not take.
    """
    key = override.key_or_group
    node, _, name = key.partition(".")
    if override.is_delete():
        parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else None
        last = key.rpartition(".")[2]
        null = isinstance(parent, DictConfig) and last in parent and parent[last] is None
        return "" if null else line
    accepted = taken.get(node)
    known = accepted is not None and (
        accepted.any_name or name.partition(".")[0] in accepted.defaults
    )
    if accepted is not None and not known and name != "_target_":
        near = get_close_matches(name, accepted.defaults, n=1)
        hint = f" Did you mean {node}.{near[0]}?" if near else ""
        takes = ", ".join(accepted.defaults) or "nothing"
        raise UserError(f"{key} is unknown: the class of {node} takes {takes}.{hint}")
    empty = _is_dictionary(override) and OmegaConf.select(config, key) == {}
    return f"++{line.lstrip('+')}" if (known and name != "_target_") or empty else line
