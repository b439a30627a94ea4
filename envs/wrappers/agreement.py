"""Agreement of distributions that are made into one."""

from __future__ import annotations

from collections.abc import Mapping

from envs.arguments import integer_at_least
from envs.errors import ArgumentError
from envs.protocol import TaskDistribution, check_distribution


def check_alike(named: Mapping[str, TaskDistribution]) -> int:
    """Check that distributions have the same spaces and horizon; return the horizon.

    Raises:
        UserError: naming two that differ, and in what, or one that is no distribution.
    """
    for key, member in named.items():
        check_distribution(key, member)
    (first, reference), *rest = named.items()
    for part in ("observation_space", "action_space", "horizon"):
        for key, member in rest:
            if getattr(member, part) != getattr(reference, part):
                raise ArgumentError(
                    f"{first} and {key} must have the same {part}, but {reference.name} has "
                    f"{getattr(reference, part)} and {member.name} has {getattr(member, part)}: "
                    f"choose distributions on one body, with one preset.",
                    first,
                )
    return reference.horizon


def check_horizon(given: int | None, shared: int) -> None:
    """Check that the horizon of a combination is the horizon of its parts.

    Raises:
        UserError: if it is not.
    """
    if given is not None and integer_at_least("horizon", given) != shared:
        raise ArgumentError(
            f"horizon={given} must be the horizon of the distributions combined, which is "
            f"{shared}: give it to each of them.",
            "horizon",
        )
