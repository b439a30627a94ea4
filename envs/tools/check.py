"""Check a task distribution: `python -m envs.check half_cheetah_vel preset=promp`."""

from __future__ import annotations

from collections.abc import Sequence

from envs.checking import check
from envs.errors import UserError
from envs.protocol import TaskDistribution
from envs.registry import SHIPPED, build, missing_package
from envs.tools.arguments import one_name, read

USAGE = """usage: python -m envs.check <name or target> [argument=value ...]
       python -m envs.check all

Check what every task distribution promises and say in words what is wrong and where. A name is one
of `python -m envs.list`; a target is a class, my_tasks.HopperVelocity, found from here; arguments
go to its constructor. Exits with 0 if all is well, 1 if something is wrong, 2 if there is nothing
to check. The same checks are a test: inherit envs.TaskDistributionContract.
"""


def check_command(arguments: Sequence[str]) -> int:
    """Check one distribution, or all of this project."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    names, options = read(arguments)
    name = one_name(names, "python -m envs.check half_cheetah_vel preset=promp")
    if name == "all":
        if options:
            raise UserError("all takes no arguments: they differ between distributions.")
        return max(_check_shipped(shipped) for shipped in SHIPPED)
    return _report(name, build(name, options))


def _check_shipped(name: str) -> int:
    """Check one of this project's distributions; it is left out where its package is missing."""
    try:
        distribution = build(name)
    except UserError as error:
        package = missing_package(error)
        if package is None:
            raise
        print(f"{name}: passed over, it needs the package {package}\n")
        return 0
    status = _report(name, distribution)
    print()
    return status


def _report(name: str, distribution: TaskDistribution) -> int:
    """Print a line for each check; return the exit status."""
    preset = f", preset {distribution.preset_name}" if distribution.preset_name else ""
    print(f"{name}{preset}", flush=True)
    wrong = 0
    for finding in check(distribution):
        wrong += finding.status == "wrong"
        print(f"  {finding.status:8}{finding.check:14}{finding.sentence}", flush=True)
    print(f"{wrong} of the checks went wrong" if wrong else "all is well")
    return int(wrong > 0)
