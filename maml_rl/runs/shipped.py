"""The trained initializations that ship with the code: pretrained/, a run folder by each name.

They are only read. What a run folder would take up otherwise, its evaluations and films, goes below
outputs/ in the working folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from maml_rl.files import packaged

OUTPUTS = Path("outputs") / "pretrained"  # a folder of evaluations for each
NAME = re.compile(r"\w+", re.ASCII)


def shipped_folder() -> Path:
    """The folder of them all."""
    return packaged("pretrained")


def shipped_runs() -> dict[str, Path]:
    """Folders of the initializations by their names, in alphabetical order."""
    configs = sorted(shipped_folder().glob("*/.hydra/config.yaml"))
    return {config.parents[1].name: config.parents[1] for config in configs}


def shipped_name(path: Path) -> str | None:
    """Name of the initialization whose folder `path` is; None of any other folder."""
    absolute = path.resolve()
    return absolute.name if absolute.parent == shipped_folder() else None


def run_path(given: str | Path) -> Path:
    """The folder that was given; by an initialization's name, where no such folder exists, its."""
    path = Path(str(given))
    return path if path.exists() else shipped_runs().get(str(given), path)


def missing_run(given: str | Path) -> str:
    """The sentence where a run's folder does not exist; of a bare name it lists those there are."""
    names = ", ".join(shipped_runs())
    if not names or not NAME.fullmatch(str(given)):
        return "there is no such folder; give the folder of a run."
    return (
        f"there is no such folder; give the folder of a run, or the name of a trained "
        f"initialization: {names}."
    )
