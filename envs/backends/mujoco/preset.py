"""The numbers of a body that papers leave vague."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from envs.arguments import flag, integer_at_least, number, pair
from envs.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Preset:
    """Numbers that papers leave vague, by the name of a source. Body-specific presets extend it."""

    frame_skip: int
    horizon: int
    action_scale: float = 1.0

    def override(self, values: Mapping[str, Any]) -> Preset:
        """This preset with some of its numbers replaced; None keeps a number.

        Raises:
            UserError: naming the number that is unknown, or whose value is of another kind.
        """
        given = {name: value for name, value in values.items() if value is not None}
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in given:
            if name not in known:
                raise ArgumentError(
                    f"{name} is unknown; there is {', '.join(sorted(known))}.", name
                )
        return dataclasses.replace(
            self, **{name: _like(name, value, known[name]) for name, value in given.items()}
        )


def _like(name: str, value: Any, default: Any) -> Any:
    """Check that `value` is of the kind of a preset's number, and return it as that."""
    if isinstance(default, bool):
        return flag(name, value)
    if isinstance(default, int):
        return integer_at_least(name, value)
    if isinstance(default, tuple):
        return pair(name, value)
    return number(name, value, above=0 if name == "action_scale" else None)
