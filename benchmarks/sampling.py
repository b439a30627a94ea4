"""Sampling speed against bare MuJoCo: `make bench`, or `python -m benchmarks.sampling --help`.

For each MuJoCo environment one collection of all tasks and episodes is timed against the physics
alone: `mujoco.batch.Batch` stepped from the same initial states with the same actions, on the same
rows (episodes that ended are not stepped, tasks with dynamics of their own keep them); and, where
episodes do not end and tasks share a model, one `mujoco.rollout` of the same states and number of
steps. Figures are environment steps per CPU-second of the whole process (all threads), which repeat
on a shared machine where wall-clock time does not. Each round measures all in turn; the ratio is
taken within a round. Last, half-cheetah is compared with Gymnasium's AsyncVectorEnv.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import mujoco
import mujoco.rollout
import numpy as np
import torch
from mujoco.batch import Batch

from envs.backends.mujoco.batch import BatchedMujoco
from envs.backends.mujoco.distribution import MujocoTaskDistribution
from envs.protocol import Array
from envs.registry import SHIPPED, resolve
from maml_rl.algorithm.inner_loop.loop import stack
from maml_rl.algorithm.policies import GaussianMLP
from maml_rl.algorithm.rollout import Rollout
from maml_rl.randomness import Key, Purpose, RowGenerators
from maml_rl.sampling import Collector

TARGET = 0.90  # of the physics' speed, from bodies of 10 microseconds a control step up
NUM_TASKS, NUM_EPISODES, HORIZON = 20, 20, 100
ASYNC_TARGET, ASYNC_STEPS = 5.0, (500, 3500)


def mujoco_distributions() -> dict[str, MujocoTaskDistribution]:
    """Build every shipped MuJoCo distribution at the benchmark's horizon."""
    distributions = {}
    for name, target in SHIPPED.items():
        if not target.startswith("envs.tasks.metaworld"):
            cls = resolve(name)
            if isinstance(cls, type) and issubclass(cls, MujocoTaskDistribution):
                distributions[name] = cls(horizon=HORIZON)
    return distributions


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU time of a call, over all threads of this process."""
    start = time.process_time()
    call()
    return time.process_time() - start


class Contest:
    """The sampler and its yardsticks on one distribution."""

    def __init__(self, distribution: MujocoTaskDistribution, threads: int) -> None:
        self.distribution, self.threads = distribution, threads
        observation_size = distribution.observation_space.shape[0]
        policy = GaussianMLP(observation_size, distribution.action_space.shape[0])
        self.params = stack(policy.initialize(torch.Generator().manual_seed(0)), NUM_TASKS)
        self.tasks = distribution.sample(NUM_TASKS, np.random.default_rng(0))
        self.collector = Collector(distribution, policy, NUM_TASKS, NUM_EPISODES, threads)
        self.rows = NUM_TASKS * NUM_EPISODES
        env = BatchedMujoco(distribution, NUM_TASKS, NUM_EPISODES, threads)
        env.set_tasks(self.tasks)
        self.batch: Batch = env._batch  # with the tasks' models in it
        self.pool = mujoco.rollout.Rollout(nthread=threads)
        self.data = [mujoco.MjData(distribution.model) for _ in range(threads)]

    def round(self, number: int) -> dict[str, float]:
        """Measure all; environment steps per CPU-second."""
        key = Key(number)
        rollouts: list[Rollout] = []
        sampler = cpu_seconds(
            lambda: rollouts.append(self.collector.collect(self.params, self.tasks, key))
        )
        actions, active = self._applied(rollouts[0]), self._active(rollouts[0])
        state = self._reset(key)
        batch = cpu_seconds(lambda: self._step_batch(actions, active))
        steps = rollouts[0].num_steps()
        speeds = {"sampler": steps / sampler, "batch": steps / batch}
        if active.all() and not self.distribution.varies:
            speeds["rollout"] = steps / cpu_seconds(lambda: self._rollout(state, actions))
        return speeds

    def _applied(self, rollout: Rollout) -> Array:
        """Applied actions, [T, M * B, A]."""
        actions = rollout.actions.numpy().swapaxes(0, 1)
        flat = actions.reshape(len(actions), self.rows, -1)
        return self.distribution.applied(flat).astype(np.float64)

    def _active(self, rollout: Rollout) -> Array:
        """The rows that were stepped, [T, M * B] bool."""
        mask = rollout.mask.numpy().swapaxes(0, 1)
        return mask.reshape(len(mask), self.rows) > 0

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

    def _step_batch(self, actions: Array, active: Array) -> None:
        state = {"qpos": self.batch.qpos, "qvel": self.batch.qvel}
        field = next(iter(self.distribution.control(state, actions[0])))
        view = self.batch.bind(field)
        for action, running in zip(actions, active, strict=True):
            if not running.any():
                break
            view[:] = action
            ids = None if running.all() else running
            self.batch.step(ids=ids, nstep=self.distribution.frame_skip)

    def _rollout(self, states: Array, actions: Array) -> None:
        control = np.repeat(actions.swapaxes(0, 1), self.distribution.frame_skip, axis=1)
        model = self.distribution.model
        self.pool.rollout(model, self.data, states, control, nstep=control.shape[1])


def compare(name: str, distribution: MujocoTaskDistribution, threads: int, rounds: int) -> str:
    """One environment's line of the table."""
    contest = Contest(distribution, threads)
    contest.round(0)  # warm up
    measured = [contest.round(number) for number in range(1, rounds + 1)]
    ratios = [r["sampler"] / max(r["batch"], r.get("rollout", 0.0)) for r in measured]
    cells = [
        f"{statistics.median(r[part] for r in measured) / 1e3:8.2f}"
        if part in measured[0]
        else f"{'-':>8}"
        for part in ("sampler", "batch", "rollout")
    ]
    physics = 1e6 / statistics.median(r["batch"] for r in measured)
    wanted = f"{TARGET:.2f}" if physics >= 10 else "-"
    spread = f"{min(ratios):.3f}-{max(ratios):.3f}"
    return (
        f"{name:30} {physics:7.1f} {' '.join(cells)} {statistics.median(ratios):6.3f} "
        f"{spread:>13} {wanted:>6}"
    )


def _seconds_of_async(steps: int, workers: int) -> Array:
    """CPU (children's included) and wall-clock time of HalfCheetah-v5 in AsyncVectorEnv."""
    start = np.array([time.process_time() + _children(), time.perf_counter()])
    with _silent():  # the workers' MuJoCo warns of half-cheetah's MJCF
        env = gymnasium.make_vec("HalfCheetah-v5", num_envs=workers, vectorization_mode="async")
        env.reset(seed=0)
    actions = np.zeros((workers, 6), dtype=np.float32)
    for _ in range(steps):
        env.step(actions)
    env.close()
    return np.array([time.process_time() + _children(), time.perf_counter()]) - start


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what this process and those it starts meanwhile write to stderr from the terminal."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _children() -> float:
    usage: Any = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compare_with_async(distribution: MujocoTaskDistribution, workers: int, rounds: int) -> str:
    """Print the speed of sampling half-cheetah as a multiple of AsyncVectorEnv's.

    The start of the workers is taken off, by the difference of a long and a short run; they need no
    policy, and their actions are zero.
    """
    contest, ratios, speeds = Contest(distribution, workers), [], []
    contest.round(0)
    for number in range(1, rounds + 1):
        short, long = (_seconds_of_async(steps, workers) for steps in ASYNC_STEPS)
        async_speed = workers * (ASYNC_STEPS[1] - ASYNC_STEPS[0]) / (long - short)
        start = np.array([time.process_time(), time.perf_counter()])
        rollout = contest.collector.collect(contest.params, contest.tasks, Key(number))
        taken = np.array([time.process_time(), time.perf_counter()]) - start
        speeds.append(async_speed / 1e3)
        ratios.append(rollout.num_steps() / taken / async_speed)
    (cpu, wall), (times, wall_times) = np.median(speeds, axis=0), np.median(ratios, axis=0)
    return (
        f"half_cheetah_dir against AsyncVectorEnv with {workers} workers: {times:.1f} times as "
        f"fast per CPU-second (of {cpu:.1f} thousand steps), {wall_times:.1f} times by clock (of "
        f"{wall:.1f} thousand a second); target {ASYNC_TARGET:.0f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="environments; all, if none is named")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"thousand environment steps per CPU-second; {NUM_TASKS} x {NUM_EPISODES} environments,")
    print(f"{HORIZON} steps, {arguments.threads} threads, medians of {arguments.rounds} rounds;")
    print("us: microseconds of physics a step; ratio: sampler to the faster of the other two")
    print(
        f"{'':30} {'us':>7} {'sampler':>8} {'Batch':>8} {'rollout':>8} {'ratio':>6} {'range':>13} "
        f"{'target':>6}"
    )
    distributions = mujoco_distributions()
    for name in arguments.names or distributions:
        print(compare(name, distributions[name], arguments.threads, arguments.rounds), flush=True)
    if not arguments.names:
        cheetah = distributions["half_cheetah_dir"]
        print(compare_with_async(cheetah, arguments.threads, arguments.rounds))


if __name__ == "__main__":
    main()
