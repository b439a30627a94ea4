"""One program over ranks: processes that each train on their share of an iteration's tasks."""

from maml_rl.parallel.communicator import ALONE, Alone, Communicator, is_known, was_shared
from maml_rl.parallel.distributed import Distributed

__all__ = ["ALONE", "Alone", "Communicator", "Distributed", "is_known", "was_shared"]
