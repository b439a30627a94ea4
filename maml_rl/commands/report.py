"""`python -m maml_rl.commands.report <folder>`: one HTML page of a run, or of several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from envs.errors import UserError
from envs.tools.arguments import run
from maml_rl.reporting.report import report
from maml_rl.wording import python

USAGE = """usage: python -m maml_rl.commands.report <folder> [<folder> ...] [out=<page>]

Make one self-contained HTML page of a run, or of all runs in the folders (a multirun's, or a glob),
with a comparison of those of the same environment. The page is <folder>/report.html, or report.html
where several folders are given, or `out`.
"""


def report_command(arguments: Sequence[str]) -> int:
    """Make the page that the arguments ask for."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    places = [part for part in arguments if not part.startswith("out=")]
    outs = [part.removeprefix("out=") for part in arguments if part.startswith("out=")]
    for place in places:
        option = re.match(r"\w+=", place) and not Path(place).exists()
        if place.startswith("-") or option:
            raise UserError(f"{place} is unknown; give folders of runs, and out=<page>.")
    if not places:
        call = f"{python()} -m maml_rl.commands.report <run folder>"
        raise UserError(f"no folder was given: write {call}.")
    print(f"report: {report(places, Path(outs[-1]) if outs else None)}")
    return 0


if __name__ == "__main__":
    run(report_command)
