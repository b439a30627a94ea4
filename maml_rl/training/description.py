"""A run's configuration, derived from the objects that a person's own code trains with."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs.recorded import Recorded, constructor_arguments
from envs.wrappers.task_observed import TaskObserved
from envs.wrappers.trials import Trials
from envs.yaml_text import to_yaml

PLACES = (
    "distribution",
    "learner",
    "sampler",
    "logger",
    "folder",
    "seed",
    "ranks",
)  # nodes of their own
PARTS = ("policy", "baseline", "inner", "outer")  # of a learner, each a node


class NotDescribedError(ValueError):
    """An object that no file can describe; the message says why, and what to write instead."""


PYTHON_ALONE = (
    "maml_rl.load(trainer) and trainer.resume() alone can use this run, for its folder has no "
    "configuration"
)


def derived_configuration(trainer: Recorded) -> tuple[dict[str, str], str | None]:
    """The files that a command stores, made from the trainer's own objects.

    Returns:
        Texts by the files' names, and None; or none, and why an object cannot be described.
    """
    try:
        files = {"config.yaml": _configuration(trainer), "overrides.yaml": []}
    except NotDescribedError as error:
        return {}, str(error)
    return {name: to_yaml(content) for name, content in files.items()}, None


def _configuration(trainer: Recorded) -> dict[str, Any]:
    """The configuration that builds the trainer again.

    Raises:
        NotDescribedError: naming the object that no file can describe.
    """
    given = constructor_arguments(trainer) or {}
    distribution, learner = given["distribution"], given["learner"]
    episodes = None
    if type(distribution) is Trials:
        episodes, distribution = distribution.episodes, distribution.distribution
    observed = type(distribution) is TaskObserved
    algorithm = _node("algorithm", learner, PARTS)
    parts = constructor_arguments(learner) or {}
    for name in PARTS:
        if name not in parts:
            raise NotDescribedError(
                f"the learner of the class {type(learner).__name__} has no {name}."
            )
    config = {
        "seed": given["seed"],
        "requires": {},
        "observe_task": observed,
        "trial_episodes": episodes,
        "ranks": 1,
        "device": algorithm.pop("device", "cpu"),
        "init_from": None,
        "resume": None,
        "env": _node("env", distribution.distribution if observed else distribution),
        **{name: _node(name, parts[name]) for name in PARTS},
        "sampler": _node("sampler", given["sampler"]),
        "trainer": _node("trainer", trainer, PLACES),
        "logger": _node("logger", given["logger"]),
        "algorithm": algorithm,
    }
    for name in ("observation_size", "action_size"):  # which follow from the environment
        config["policy"].pop(name, None)
    return config


def _node(name: str, built: Any, elsewhere: tuple[str, ...] = ()) -> dict[str, Any]:
    """The class of an object, and the arguments that it was made with.

    Args:
        name: dotted key of the node.
        built: the object.
        elsewhere: arguments that are no part of the node.

    Raises:
        NotDescribedError: if they cannot be written down.
    """
    cls = type(built)
    given = constructor_arguments(built)
    if given is None:
        raise NotDescribedError(
            f"{name} is of the class {cls.__name__}, whose arguments are not recorded: let it "
            f"inherit from envs.Recorded."
        )
    values = {
        key: _value(f"{name}.{key}", value) for key, value in given.items() if key not in elsewhere
    }
    return {"_target_": _path(name, cls), **values}


def _value(name: str, value: Any) -> Any:
    """An argument as YAML has it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return _value(name, value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_value(f"{name}.{index}", entry) for index, entry in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(key): _value(f"{name}.{key}", entry) for key, entry in value.items()}
    if isinstance(value, type) and name.endswith(".set_task"):
        return _path(name, value)
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        raise NotDescribedError(
            f"{name} is the {'class' if isinstance(value, type) else 'function'} "
            f"{value.__qualname__}: give an object of a class instead."
        )
    return _node(name, value)


def _path(name: str, cls: type) -> str:
    """The dotted path of a class.

    Raises:
        NotDescribedError: if it cannot be imported by it.
    """
    path = f"{cls.__module__}.{cls.__qualname__}"
    if cls.__module__ != "__main__":
        try:
            if pkgutil.resolve_name(path) is cls:
                return path
        except (ImportError, AttributeError, ValueError):
            pass
    raise NotDescribedError(
        f"{name} is of the class {cls.__name__}, which cannot be imported: write it into a file, "
        f"such as my_parts.py, and import it from there."
    )
