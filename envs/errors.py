"""The errors of task distributions."""

from __future__ import annotations

import re
from collections.abc import Collection


class UserError(ValueError):
    """A wrong input. Its message is one sentence for the person who made it; no traceback."""


class NoGymnasiumFormError(UserError):
    """A distribution has no Gymnasium environment of one task."""


class ArgumentError(UserError):
    """A wrong argument, named as its constructor names it.

    Names of arguments stand at the beginning of the message, and before equals signs.

    Args:
        message: one sentence.
        names: of the arguments in it.
    """

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.names = names

    def within(self, node: str, elsewhere: Collection[str] = ()) -> UserError:
        """Error of an object that a configuration's node describes.

        Args:
            node: dotted key, which is put before the arguments' names.
            elsewhere: arguments that do not come from the node.
        """
        names = "|".join(re.escape(name) for name in self.names if name not in elsewhere)
        if not names:
            return self
        named = rf"^(?:{names})\b|(?<![\w.])(?:{names})(?==)"
        return UserError(re.sub(named, lambda name: f"{node}.{name[0]}", str(self)))


class SimulationError(RuntimeError):
    """A simulation became unstable, gave a value that is not finite, or its worker died."""


def one_line(error: BaseException) -> str:
    """The message of an error, on one line."""
    return " ".join(str(error).split())


def cause(error: BaseException) -> str:
    """The kind and the message of an error, on one line."""
    return f"{type(error).__name__}: {one_line(error)}".rstrip(": .")
