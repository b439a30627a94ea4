"""Programs of the repository as processes."""

import subprocess
import sys

from tests.support.paths import ROOT


def process(*arguments, cwd, program="train.py"):
    """Start a program of the repository, with its output in pipes."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / program), *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
