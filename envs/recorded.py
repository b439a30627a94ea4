"""Objects that keep the arguments they were made with, so that a file can describe them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Recorded:
    """Base class of objects that keep their constructor's arguments."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the class's constructor record its arguments."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]


def constructor_arguments(built: Any) -> dict[str, Any] | None:
    """The arguments that an object was made with, defaults too; None where they are unknown."""
    if "_arguments" in vars(built):
        return dict(vars(built)["_arguments"])
    if dataclasses.is_dataclass(built):
        return {field.name: getattr(built, field.name) for field in dataclasses.fields(built)}
    return {} if type(built).__init__ is object.__init__ else None


def record(built: Recorded, **changed: Any) -> None:
    """Record other values of some arguments, of a copy that was changed afterwards."""
    vars(built)["_arguments"] = (constructor_arguments(built) or {}) | changed


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that first records its arguments; that of a base class, called by it, not."""
    signature = inspect.signature(init)
    keywords = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind is parameter.VAR_KEYWORD
    ]

    @functools.wraps(init)
    def recorded(self: Any, *args: Any, **kwargs: Any) -> None:
        if "_arguments" not in vars(self):
            with suppress(TypeError):  # wrong arguments, which the call itself refuses
                bound = signature.bind(self, *args, **kwargs)
                bound.apply_defaults()
                values = dict(list(bound.arguments.items())[1:])
                for name in keywords:
                    values |= values.pop(name)
                vars(self)["_arguments"] = values
        init(self, *args, **kwargs)

    return recorded
