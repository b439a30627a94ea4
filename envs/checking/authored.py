"""The user's part of a distribution: its classes, their names, and the state that it keeps."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from types import CodeType
from typing import Any

import numpy as np

from envs.episodes import ContractError, name_of
from envs.protocol import TaskDistribution

FOUNDATIONS = tuple(
    f"{module}." for module in ("builtins", "envs.backends", "envs.protocol", "envs.wrappers")
)
"""Modules whose classes are there to be inherited from."""

PARTS = ("train", "held_out", "distribution", "set_task", "members")
"""Attributes that hold what a distribution is made of."""

SETTING_TASKS = ("apply", "describe", "finite_tasks", "name", "sample")
"""Names of a class that sets the tasks of a Gymnasium environment."""

SYNONYMS = {"done": "terminated", "is_done": "terminated", "termination": "terminated"}
"""Names that other libraries have for a method."""


def authored_parts(distribution: Any) -> list[Any]:
    """A distribution and its parts: members, the wrapped one, the class that sets tasks."""
    parts, waiting = [], [distribution]
    while waiting:
        part = waiting.pop(0)
        parts.append(part)
        held = [getattr(part, "__dict__", {}).get(name) for name in PARTS]
        lists = [value if isinstance(value, list) else [value] for value in held]
        waiting += [inner for inner in itertools.chain(*lists) if inner is not None]
    return parts


def authored_classes(cls: type) -> list[type]:
    """A class and its bases, without the base classes of the project and of libraries."""
    return [base for base in cls.__mro__ if not f"{base.__module__}.".startswith(FOUNDATIONS)]


# Names.


def check_names(distribution: TaskDistribution) -> str:
    """No public name is a misspelt method, which would never be called."""
    for part in authored_parts(distribution):
        for written, meant in _misspelt(part):
            raise ContractError(
                f"{name_of(distribution)}: nothing calls {type(part).__name__}.{written}; write "
                f"{meant} if that is meant, and _{written} if it is a helper."
            )
    return "every public name is a known one, or in use"


def _misspelt(part: Any) -> Iterator[tuple[str, str]]:
    """Names that nothing uses and that resemble one which could be defined, and that one."""
    classes = authored_classes(type(part))
    written = {name for base in classes for name in vars(base)}
    known = set(dir(object) if isinstance(part, TaskDistribution) else SETTING_TASKS)
    for base in type(part).__mro__:
        if base not in classes:
            known |= {*vars(base), *inspect.get_annotations(base)}
    free = known - written - getattr(part, "__dict__", {}).keys()
    nearby = {_plain(name): name for name in free if not name.startswith("_")}
    for name in sorted(written - known - _names_in_use(classes)):
        near = get_close_matches(_plain(name), nearby, n=1, cutoff=0.8)
        if not name.startswith("_") and (near or SYNONYMS.get(name) in free):
            yield name, nearby[near[0]] if near else SYNONYMS[name]


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _names_in_use(classes: Sequence[type]) -> set[str]:
    """Names that the code of these classes and of their modules' functions refers to."""
    modules = [
        vars(sys.modules[base.__module__]) for base in classes if base.__module__ in sys.modules
    ]
    values = [value for base in (*map(vars, classes), *modules) for value in base.values()]
    inner = ("fget", "func", "__func__")  # of a property, a cached one, a class method
    functions = [
        inspect.unwrap(
            next((function for at in inner if (function := getattr(value, at, None))), value)
        )
        for value in values
        if not isinstance(value, type)
    ]
    codes = [function.__code__ for function in functions if inspect.isfunction(function)]
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return names


# What is kept between calls.

CACHED = ("name", "_arguments")  # by the base class


def fresh(distribution: TaskDistribution) -> TaskDistribution:
    """A copy without the state of later episodes; the distribution itself if it has none."""
    try:
        return copy.deepcopy(distribution)
    except Exception:  # an author's attributes may be of any kind
        return distribution


def kept_state(distribution: Any) -> dict[str, bytes]:
    """Fingerprints of the attributes of a distribution's objects and classes, by name."""
    attributes = [
        values
        for part in authored_parts(distribution)
        for values in (getattr(part, "__dict__", {}), *map(_data, authored_classes(type(part))))
        if authored_classes(type(part))
    ]
    return {
        f"{index}.{name}": _fingerprint(value)
        for index, values in enumerate(attributes)
        for name, value in values.items()
        if name not in (*PARTS, *CACHED)
    }


def changed_names(before: Mapping[str, bytes], distribution: Any) -> list[str]:
    """Attributes that have changed, as self.name."""
    now = kept_state(distribution)
    names = [key.partition(".")[2] for key, value in now.items() if before.get(key) != value]
    return [f"self.{name}" for name in dict.fromkeys(names)]


def _data(cls: type) -> dict[str, Any]:
    """Attributes of a class that are no methods."""
    return {
        name: value
        for name, value in vars(cls).items()
        if not name.startswith("__") and not callable(value) and not hasattr(value, "__get__")
    }


def _fingerprint(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception:  # an author's attributes may be of any kind
        return str(id(value)).encode()


# Global generators of random numbers.


@contextmanager
def leaving_global_generators(
    distribution: TaskDistribution, call: str, implies: Iterable[str] = ()
) -> Iterator[None]:
    """Raise if numpy's, Python's or torch's global generator was drawn from meanwhile."""
    before = _global_generators()
    yield
    for library, state in _global_generators().items():
        if state != before.get(library, state):
            raise ContractError(
                f"{name_of(distribution)}.{call} draws from {library}'s global generator: draw "
                f"from the generators it is given, and from nothing else.",
                implies,
            )


def _global_generators() -> dict[str, Any]:
    """States of the global generators, by library."""
    states: dict[str, Any] = {
        "Python": random.getstate(),
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
    }
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().tolist()
    return states
