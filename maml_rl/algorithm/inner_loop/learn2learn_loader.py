"""learn2learn without its unused dependencies.

`import learn2learn` imports gym, torchvision and qpth, which are dead or large and which this
project does not use. Its subpackages utils, algorithms, optim and nn need none of them. Where a
full installation imports, it is used as it is. Elsewhere the package modules `learn2learn` and
`learn2learn.algorithms` are created with their path alone, so that the submodules import without
running the packages' own __init__; `learn2learn` then carries the functions of `learn2learn.utils`,
which GBML and the transforms look up on it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from envs.errors import UserError

BARE = ("learn2learn", "learn2learn.algorithms")


def load_learn2learn(submodule: str) -> ModuleType:
    """Import `learn2learn.<submodule>`, for example "algorithms.maml".

    Raises:
        UserError: if learn2learn is not installed.
    """
    if "learn2learn" not in sys.modules and not _imports_whole():
        _create_bare_packages()
    return importlib.import_module(f"learn2learn.{submodule}")


def _imports_whole() -> bool:
    """Import the full package where its own dependencies are there; leave nothing half-imported."""
    before = set(sys.modules)
    try:
        importlib.import_module("learn2learn")
    except Exception:  # whatever its dead dependencies raise
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "learn2learn":
                del sys.modules[name]
        return False
    return True


def _create_bare_packages() -> None:
    spec = importlib.util.find_spec("learn2learn")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "learn2learn is not installed: run `make setup`, or `pip install --no-deps "
            "--config-settings=--build-option=build_ext learn2learn==0.2.0` (it needs gcc)."
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    for name in BARE:
        package = ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        package.__spec__ = importlib.util.spec_from_loader(name, None, is_package=True)
        sys.modules[name] = package
    utils = importlib.import_module("learn2learn.utils")
    public = {key: value for key, value in vars(utils).items() if not key.startswith("_")}
    vars(sys.modules["learn2learn"]).update(public)
    vars(sys.modules["learn2learn"])["utils"] = utils
