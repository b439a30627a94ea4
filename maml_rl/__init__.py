"""MAML meta-reinforcement learning: policies that adapt to a new task in one gradient step."""

import os

os.environ.setdefault("MKL_CBWR", "AUTO")  # products then do not depend on where in memory rows lie

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maml_rl.commands.python import train
    from maml_rl.trained.loading import load

__all__ = ["load", "train"]


def __getattr__(name: str) -> Any:
    """Import `load` and `train` when they are asked for: `import maml_rl` alone loads no torch."""
    if name == "load":
        from maml_rl.trained.loading import load

        return load
    if name == "train":
        from maml_rl.commands.python import train

        return train
    raise AttributeError(f"module 'maml_rl' has no attribute {name!r}")


def _require_sibling() -> None:
    """Refuse another package `envs`, which lies in front of the sibling of this one.

    Raises:
        ImportError: naming that package and what to do.
    """
    spec = find_spec("envs")
    where = Path(spec.origin).parent if spec and spec.origin else None
    if where is None or not where.samefile(Path(__file__).parents[1] / "envs"):
        raise ImportError(
            f"maml_rl needs the package envs that is installed with it, and `import envs` gives "
            f"{where}: rename that folder, or work in another one."
        )


_require_sibling()
