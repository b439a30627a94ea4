"""MAML meta-reinforcement learning: policies that adapt to a new task in one gradient step."""

import os

os.environ.setdefault("MKL_CBWR", "AUTO")  # products then do not depend on where in memory rows lie
