"""The speed of a distribution, which is measured and not judged."""

from __future__ import annotations

import time
from contextlib import closing

import numpy as np

from envs.checking.drawn import drawn_tasks
from envs.episodes import CheckedEnv, generators, row_seeds, standard_actions
from envs.protocol import TaskDistribution

SLOW = 1000  # environment steps per CPU-second below which the speed is called slow
SECONDS = 1.0  # of the processor that the speed is measured over


def check_speed(distribution: TaskDistribution, seconds: float = SECONDS) -> str:
    """Measure environment steps per CPU-second of this process, 64 rows; judges nothing."""
    tasks, seeds = drawn_tasks(distribution, 8), row_seeds(8, 8)
    actions = standard_actions(distribution, min(distribution.horizon, 100), 8, 8)
    taken, spent = 0, 0.0
    with closing(CheckedEnv(distribution, 8, 8)) as env:
        env.run(tasks, seeds, actions[:1])
        while spent < seconds:
            begun = time.process_time()
            now, active = env.unchecked, np.ones((8, 8), dtype=bool)
            now.reset(generators(seeds + taken))
            for action in actions:
                taken += int(active.sum())
                active = active & ~now.step(action, active).ended
                if not active.any() or time.process_time() - begun > seconds:
                    break
            spent += max(time.process_time() - begun, 1e-6)
    speed = taken / spent
    slow = ", which is slow" if speed < SLOW else ""
    return f"{_rounded(speed)} environment steps per CPU-second{slow}"


def _rounded(value: float) -> str:
    """Write a number with two digits that count, and its thousands apart."""
    return f"{float(f'{value:.2g}'):,.0f}"
