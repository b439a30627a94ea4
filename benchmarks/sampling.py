"""Sampling speed against bare MuJoCo: `make bench`, or `python -m benchmarks.sampling --help`.

For each environment one collection of 40 tasks x 20 episodes x 100 steps is timed against the
physics alone: `mujoco.batch.Batch` stepped from the same initial states with the same actions, and
one `mujoco.rollout` of the same states and number of steps. Figures are environment steps per
CPU-second of the whole process (all threads), which repeat on a shared machine where wall-clock
time does not. Each round measures all three in turn; the ratio is taken within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import mujoco
import mujoco.rollout
import numpy as np
import torch
from mujoco.batch import Batch

from envs import HalfCheetahDir, HalfCheetahVel, MujocoTaskDistribution, PointNavigation
from envs.task_distribution import Array
from maml_rl.inner_loop import stack
from maml_rl.policies import GaussianMLP
from maml_rl.randomness import Key, Purpose, RowGenerators
from maml_rl.rollout import Rollout
from maml_rl.sampling import Collector

ENVIRONMENTS = {cls.__name__: cls for cls in (HalfCheetahDir, HalfCheetahVel, PointNavigation)}
TARGETS = {"HalfCheetahDir": 0.90, "HalfCheetahVel": 0.90, "PointNavigation": 0.70}
NUM_TASKS, NUM_EPISODES = 40, 20


def cpu_seconds(call: Callable[[], object]) -> float:
    """Return the CPU time of a call, over all threads of this process."""
    start = time.process_time()
    call()
    return time.process_time() - start


class Contest:
    """The sampler and the two yardsticks on one distribution."""

    def __init__(self, distribution: MujocoTaskDistribution, threads: int) -> None:
        self.distribution, self.threads = distribution, threads
        observation_size = distribution.observation_space.shape[0]
        policy = GaussianMLP(observation_size, distribution.action_space.shape[0])
        self.params = stack(policy.initialize(torch.Generator().manual_seed(0)), NUM_TASKS)
        self.tasks = distribution.sample(NUM_TASKS, np.random.default_rng(0))
        self.collector = Collector(distribution, policy, NUM_TASKS, NUM_EPISODES, threads)
        self.rows = NUM_TASKS * NUM_EPISODES
        self.batch = Batch(distribution.model, self.rows, nthread=threads)
        self.pool = mujoco.rollout.Rollout(nthread=threads)
        self.data = [mujoco.MjData(distribution.model) for _ in range(threads)]

    def round(self, number: int) -> dict[str, float]:
        """Measure all three; environment steps per CPU-second."""
        key = Key(number)
        rollouts: list[Rollout] = []
        sampler = cpu_seconds(
            lambda: rollouts.append(self.collector.collect(self.params, self.tasks, key))
        )
        actions = self._applied(rollouts[0])
        state = self._reset(key)
        batch = cpu_seconds(lambda: self._step_batch(actions))
        rollout = cpu_seconds(lambda: self._rollout(state, actions))
        total = self.rows * self.distribution.horizon
        return {
            "sampler": rollouts[0].num_steps() / sampler,
            "batch": total / batch,
            "rollout": total / rollout,
        }

    def _applied(self, rollout: Rollout) -> Array:
        """Return the applied actions, [T, M * B, A]."""
        actions = rollout.actions.numpy().swapaxes(0, 1)
        flat = actions.reshape(len(actions), self.rows, -1)
        return self.distribution.applied(flat).astype(np.float64)

    def _reset(self, key: Key) -> Array:
        """Put the collection's initial states into the batch; return them as full states."""
        rngs = RowGenerators(key.child(Purpose.RESETS), NUM_TASKS, NUM_EPISODES)
        self.batch.reset(stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        for row, rng in enumerate(rngs):
            for field, value in self.distribution.reset(rng).items():
                self.batch.bind(field)[row] = value
        self.batch.forward()
        data, kind = mujoco.MjData(self.distribution.model), mujoco.mjtState.mjSTATE_FULLPHYSICS
        size = mujoco.mj_stateSize(self.distribution.model, kind)
        states = np.empty((self.rows, size))
        for row in range(self.rows):
            self.batch.get_data(row, data)
            mujoco.mj_getState(self.distribution.model, data, states[row], kind)
        return states

    def _step_batch(self, actions: Array) -> None:
        state = {"qpos": self.batch.qpos, "qvel": self.batch.qvel}
        field = next(iter(self.distribution.control(state, actions[0])))
        view = self.batch.bind(field)
        for action in actions:
            view[:] = action
            self.batch.step(nstep=self.distribution.frame_skip)

    def _rollout(self, states: Array, actions: Array) -> None:
        control = np.repeat(actions.swapaxes(0, 1), self.distribution.frame_skip, axis=1)
        model = self.distribution.model
        self.pool.rollout(model, self.data, states, control, nstep=control.shape[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"thousand environment steps per CPU-second; {NUM_TASKS} x {NUM_EPISODES} environments,")
    print(f"{arguments.threads} threads, medians of {arguments.rounds} rounds")
    print(f"{'':16} {'sampler':>8} {'Batch':>8} {'rollout':>8} {'ratio':>6} {'range':>13} target")
    for name, distribution in ENVIRONMENTS.items():
        contest = Contest(distribution(), arguments.threads)
        contest.round(0)  # warm up
        rounds = [contest.round(number) for number in range(1, arguments.rounds + 1)]
        ratios = [r["sampler"] / max(r["batch"], r["rollout"]) for r in rounds]
        speeds = [
            statistics.median(r[part] for r in rounds) / 1e3
            for part in ("sampler", "batch", "rollout")
        ]
        print(
            f"{name:16} " + " ".join(f"{speed:8.1f}" for speed in speeds),
            f"{statistics.median(ratios):6.3f} {min(ratios):6.3f}-{max(ratios):.3f}",
            f"{TARGETS[name]:.2f}",
        )


if __name__ == "__main__":
    main()
