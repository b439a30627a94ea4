"""Checks of a user's input; an error is one sentence that says what to write instead."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from envs.errors import ArgumentError

LONGEST_LIST = 190  # characters of choices named in an error


def integer_at_least(name: str, value: object, least: int = 1) -> int:
    """`value` as an int.

    Raises:
        ArgumentError: if it is not a whole number of at least `least`.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 12e6
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ArgumentError(
            f"{name} must be a whole number of at least {least}, not {value!r}.", name
        )
    return int(value)


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> float:
    """`value` as a finite float within the bounds given (`above` is exclusive).

    Raises:
        ArgumentError: if it is not a finite number, or outside the bounds.
    """
    limits = [f"above {above:g}"] if above is not None else []
    limits += [f"of at least {least:g}"] if least is not None else []
    limits += [f"of at most {most:g}"] if most is not None else []
    wanted = " ".join(["a finite number", " and ".join(limits)]).strip()
    if least is not None and most is not None:
        wanted = f"a number from {least:g} to {most:g}"
    try:
        result = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:
        result = math.inf
    if isinstance(value, bool) or not math.isfinite(result):
        raise ArgumentError(f"{name} must be {wanted}, not {value!r}.", name)
    low = (above is not None and result <= above) or (least is not None and result < least)
    if low or (most is not None and result > most):
        raise ArgumentError(f"{name} must be {wanted}, not {value!r}.", name)
    return result


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """`value`, one of `choices`.

    Raises:
        ArgumentError: naming the choices (the first of many), and the nearest.
    """
    known = sorted(choices)
    if isinstance(value, str) and value in known:
        return value
    near = get_close_matches(value, known, n=1) if isinstance(value, str) else []
    hint = f" Did you mean {near[0]}?" if near else ""
    written = "null" if value is None else value
    raise ArgumentError(f"{name}={written} is unknown; choose one of {listed(known)}.{hint}", name)


def listed(choices: Sequence[str]) -> str:
    """Choices in an error, the first ones of many."""
    fitting = [i for i in range(len(choices)) if len(", ".join(choices[: i + 1])) <= LONGEST_LIST]
    more = len(choices) - len(fitting)
    return ", ".join(choices[: len(fitting)]) + (f" and {more} more" if more else "")


def flag(name: str, value: object) -> bool:
    """`value`, true or false.

    Raises:
        ArgumentError: otherwise.
    """
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be true or false, not {value!r}.", name)
    return value


def pair(name: str, value: object) -> tuple[float, float]:
    """`value` as a range: two numbers, the lower one first; either may be infinite.

    Raises:
        ArgumentError: otherwise.
    """
    parts = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else []
    parts = [math.inf if part == ".inf" else part for part in parts]  # YAML's, in a list of Hydra's
    real = all(isinstance(part, numbers.Real) and not math.isnan(part) for part in parts)
    if len(parts) != 2 or not real or parts[0] > parts[1]:
        raise ArgumentError(
            f"{name} must be two numbers in brackets, the lower one first, [low, high], not "
            f"{value!r}.",
            name,
        )
    return float(parts[0]), float(parts[1])
