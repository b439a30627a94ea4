"""A user's class in a node: its arguments, and the overrides that it needs."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from envs.errors import UserError
from envs.registry import Arguments, arguments, sets_tasks

NODES = ("env", "policy", "baseline", "inner", "outer", "algorithm")


def adapted_overrides(
    overrides: Sequence[Override], compose: Callable[[list[str]], DictConfig]
) -> list[str]:
    """Rewrite overrides so that a class named by `<node>._target_=` starts from a node of its own.

    Numbers of the replaced node that the class does not take are removed, and the class's arguments
    need no plus. Hydra refuses two more forms, which work here: `~key` of a null, and a dictionary
    for an empty one.

    Args:
        overrides: of one run or of several.
        compose: gives the configuration of overrides.
    """
    targets = {
        node: str(override.value())
        for node in NODES
        for override in overrides
        if override.key_or_group == f"{node}._target_" and not override.is_sweep_override()
    }
    concerned = [override for override in overrides if _concerns(override, targets)]
    if not concerned:
        return [str(override.input_line) for override in overrides]
    config = compose(
        [
            str(override.input_line)
            for override in overrides
            if override not in concerned and not override.is_sweep_override()  # of several values
        ]
    )
    taken = {
        node: accepted for node, target in targets.items() if (accepted := _arguments(node, target))
    }
    adapted = [
        _adapted(override, config, taken) if override in concerned else str(override.input_line)
        for override in overrides
    ]
    given = [override.key_or_group for override in overrides]
    return [line for line in adapted if line] + _taken_away(config, taken, given)


def _concerns(override: Override, targets: Collection[str]) -> bool:
    """Whether an override is of a node with a user's class, or of a form that Hydra refuses."""
    node = override.key_or_group.partition(".")[0]
    refused = override.is_delete() or _is_dictionary(override)
    return (node in targets and "." in override.key_or_group) or (refused and node in NODES)


def _taken_away(
    config: DictConfig, taken: Mapping[str, Arguments], given: Sequence[str]
) -> list[str]:
    """Overrides that remove a replaced node's numbers, except those that the user gave."""
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


def _arguments(node: str, target: str) -> Arguments | None:
    """The arguments of a class; None where it cannot be imported, which is refused later."""
    try:
        constructor = pkgutil.resolve_name(target)
    except Exception:  # importing a person's file may raise anything
        return None
    check_node(node, target, constructor)
    try:
        return arguments(constructor)
    except (TypeError, ValueError):  # not every class tells
        return None


def check_node(node: str, target: str, constructor: object) -> None:
    """Refuse a class that only sets tasks in place of a distribution.

    Raises:
        UserError: with the options that it is for.
    """
    if node == "env" and sets_tasks(constructor):
        raise UserError(
            f"env._target_={target} sets the tasks of a Gymnasium environment: write "
            f"env=gymnasium env.id=Pendulum-v1 env.set_task={target}, with the environment's id."
        )


def _is_dictionary(override: Override) -> bool:
    return not override.is_sweep_override() and isinstance(override.value(), dict)


def _adapted(override: Override, config: DictConfig, taken: dict[str, Arguments]) -> str:
    """An override in the form for Hydra; empty where nothing is left to do.

    Raises:
        UserError: naming an argument that a user's class does not take.
    """
    key, line = override.key_or_group, str(override.input_line)
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
