"""MAML meta-reinforcement learning: policies that adapt to a new task in one gradient step."""

import os

os.environ.setdefault("MKL_CBWR", "AUTO")  # products then do not depend on where in memory rows lie

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maml_rl.trained.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import `load` when it is asked for: `import maml_rl` alone loads no torch."""
    if name != "load":
        raise AttributeError(f"module 'maml_rl' has no attribute {name!r}")
    from maml_rl.trained.loading import load

    return load
