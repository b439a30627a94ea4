"""Cost of an iteration: `python -m benchmarks.iteration [experiment=half_cheetah_dir_full ...]`.

Prints CPU-seconds (all threads) of sampling and of the outer loop per iteration, after one to warm
up, and the peak memory above what the imports take. Options are those of train.py.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from maml_rl.commands.cli import compose
from maml_rl.configuration.building import build_trainer
from maml_rl.randomness import Key, Purpose

ITERATIONS = 4


def peak_mebibytes() -> float:
    """Peak memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    imports = peak_mebibytes()
    options = sys.argv[1:] or ["experiment=half_cheetah_dir_finn2017"]
    config = compose("config", options)
    OmegaConf.set_struct(config, False)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(config, Path(folder))
    learner, distribution = trainer.learner, trainer.distribution
    collector = trainer.sampler.collector(
        distribution, learner.policy, trainer.num_tasks, trainer.num_episodes
    )
    meta = learner.initialize(0)
    state: dict[str, Any] = {}
    sampling, outer = [], []
    for iteration in range(ITERATIONS):
        key = Key(0, (Purpose.TRAINING, iteration))
        tasks = distribution.sample(trainer.num_tasks, key.generator(Purpose.TASKS))
        start = time.process_time()
        experience = learner.collect(collector, meta, tasks, learner.inner.steps, key)
        middle = time.process_time()
        update = learner.outer_step(meta, state, experience)
        sampling.append(middle - start)
        outer.append(time.process_time() - middle)
        meta, state = update.meta, update.state
    first, second = statistics.median(sampling[1:]), statistics.median(outer[1:])
    print(f"{' '.join(options)}: {first + second:.2f} CPU-seconds an iteration")
    print(f"  sampling {first:.2f}, outer loop {second:.2f} (medians of {ITERATIONS - 1})")
    print(f"  peak memory {peak_mebibytes() - imports:.0f} MiB above {imports:.0f} MiB of imports")


if __name__ == "__main__":
    main()
