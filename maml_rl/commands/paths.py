"""The folder of the configuration; imports nothing heavy, for completion in a shell."""

from __future__ import annotations

from pathlib import Path


def config_directory() -> Path:
    """Folder of the configuration: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
