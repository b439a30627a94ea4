"""The folder of the configuration; imports nothing heavy, for completion in a shell."""

from __future__ import annotations

from pathlib import Path

from maml_rl.files import packaged


def config_directory() -> Path:
    """Folder of the configuration."""
    return packaged("conf")
