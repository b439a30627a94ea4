"""Films and pictures that lie beside an evaluation, as parts of a page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from maml_rl.reporting.blocks import HTML, data_address
from maml_rl.runs.data import FILM_TITLES, RunData
from maml_rl.wording import command

LARGEST_FILE = 8_000_000  # bytes of a film or picture that goes into the page; others are linked
LARGEST_PAGE = 40_000_000  # bytes of all of them
OWN_PICTURES = ("adaptation.png", "comparison.png")  # which the page draws itself
FILMS = {".mp4": "video/mp4", ".webm": "video/webm"}
PICTURES = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg"}
PICTURE_TEXTS = {
    "grid": "return against the parameter of a grid of tasks, before and after adaptation",
    "grid_trajectories": "where episodes went before and after adaptation, tasks of a grid",
    "tasks": "the run's validation and test tasks",
    "trajectories": "where episodes went before and after adaptation",
}


class Media:
    """Films and pictures: in the page up to a size, linked from the page's folder beyond it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._left = folder, LARGEST_PAGE

    def shown(self, file: Path, words: str, outdated: bool = False) -> Any:
        """A file as a part of the page, and what it shows, which may be an earlier evaluation."""
        words += " (of an earlier evaluation)" if outdated else ""
        size = file.stat().st_size
        if size > min(LARGEST_FILE, self._left):
            address = quote(Path(os.path.relpath(file, self._folder)).as_posix())
            return HTML.link(address, f"{words} ({size / 1e6:.1f} MB, in a file of its own)")
        self._left -= size
        source = data_address((FILMS | PICTURES)[file.suffix], file.read_bytes())
        return (
            HTML.film(source, words) if file.suffix in FILMS else HTML.picture(source, words, True)
        )


def gallery(run: RunData, media: Media) -> Any:
    """Films and pictures of a run's evaluation."""
    folder = run.folder.evaluation
    files = _files(folder)
    if not files:
        call = command("evaluate", {"run": run.path, "video": "true"})
        return HTML.hint("None;", call, "records some.")
    evaluated = folder / "evaluation.json"
    made = evaluated.stat().st_mtime if evaluated.is_file() else 0.0
    titles = PICTURE_TEXTS | _film_titles(folder / FILM_TITLES)
    return HTML.gallery(
        media.shown(
            file,
            titles.get(file.stem, file.stem.replace("_", " ")),
            file.stat().st_mtime < made and not file.stem.startswith("grid"),
        )
        for file in files
    )


def _files(folder: Path) -> Sequence[Path]:
    """The files to show; of a film and its smaller GIF the film alone."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    films = {file.stem for file in files if file.suffix in FILMS}
    return [
        file
        for file in files
        if file.suffix in FILMS | PICTURES
        and file.name not in OWN_PICTURES
        and not (file.suffix == ".gif" and file.stem in films)
    ]


def _film_titles(file: Path) -> dict[str, str]:
    """Titles of films, by the stems of their names; empty where none are recorded."""
    try:
        titles = json.loads(file.read_bytes())
        return {Path(name).stem: str(title) for name, title in titles.items()}
    except (OSError, ValueError, AttributeError):
        return {}
