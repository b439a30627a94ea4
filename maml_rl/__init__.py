"""MAML meta-reinforcement learning: policies that adapt to a new task in one gradient step."""

import os

os.environ.setdefault("MKL_CBWR", "AUTO")  # products then do not depend on where in memory rows lie

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
