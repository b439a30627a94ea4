"""Meta-training: the loop of Finn et al. 2017, algorithm 3, and the run folder it fills."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import FrameType
from typing import Any

import torch

from envs.arguments import integer_at_least
from envs.errors import SimulationError, UserError
from envs.protocol import (
    Splits,
    TaskDistribution,
    count_tasks,
    draw_tasks,
    held_out,
    stored_tasks,
)
from maml_rl.algorithm.diagnostics import mean_returns, success_rates, trial_returns
from maml_rl.algorithm.meta_learner import Experience, MetaLearner
from maml_rl.algorithm.outer_loop import OuterUpdate
from maml_rl.algorithm.outer_loop.objectives import graph_memory, group_size
from maml_rl.algorithm.outer_loop.update import State
from maml_rl.algorithm.rollout import Params
from maml_rl.errors import CheckpointError, NonFiniteError
from maml_rl.files import write_json
from maml_rl.randomness import Key, Purpose
from maml_rl.runs.checkpoint import check_architecture, load_checkpoint, save_checkpoint
from maml_rl.runs.folder import RunFolder
from maml_rl.sampling import Collector, Sampler
from maml_rl.sampling.collector import authors_code
from maml_rl.training.loggers import Metrics, RunLogger
from maml_rl.training.progress import Heading


@dataclass
class Progress:
    """Everything a run carries from one iteration to the next; what a checkpoint holds."""

    meta: Params
    outer_state: State = field(default_factory=dict)
    iteration: int = 0  # finished
    env_steps: int = 0  # of training; validation is not counted
    seconds: float = 0.0
    best_validation: float | None = None
    metrics_bytes: int = 0


class Trainer:
    """Meta-trains a learner on a task distribution.

    Args:
        distribution: tasks and environments.
        learner: what is trained.
        sampler: steps the environments.
        logger: reports.
        folder: where the run is kept.
        seed: of everything random.
        iterations: total number of outer steps, None for no limit; 0 leaves a run folder whose
            checkpoint is the initialization.
        env_steps: stop after the iteration that reaches this many, None for no limit.
        num_tasks: M, tasks per iteration.
        num_episodes: B, episodes per task and adaptation step.
        validate_every: iterations between validations.
        validation_tasks: size of the stored validation set.
        validation_episodes: episodes per validation task and adaptation step.
        test_tasks: size of the stored test set.
        checkpoint_every: iterations between numbered checkpoints; last.pt is written at each.
    """

    def __init__(
        self,
        distribution: TaskDistribution,
        learner: MetaLearner,
        sampler: Sampler,
        logger: RunLogger,
        folder: RunFolder,
        seed: int,
        iterations: int | None = 150,
        env_steps: int | None = None,
        num_tasks: int = 20,
        num_episodes: int = 20,
        validate_every: int = 10,
        validation_tasks: int = 20,
        validation_episodes: int = 10,
        test_tasks: int = 40,
        checkpoint_every: int = 50,
    ) -> None:
        if iterations is None and env_steps is None:
            raise UserError(
                "set trainer.iterations or trainer.env_steps: the run must end somewhere."
            )
        self.iterations = _limit("trainer.iterations", iterations, least=0)
        self.env_steps = _limit("trainer.env_steps", env_steps)
        self.num_tasks = integer_at_least("trainer.num_tasks", num_tasks)
        self.num_episodes = integer_at_least("trainer.num_episodes", num_episodes)
        self.validate_every = integer_at_least("trainer.validate_every", validate_every)
        self.validation_episodes = integer_at_least(
            "trainer.validation_episodes", validation_episodes
        )
        self.checkpoint_every = integer_at_least("trainer.checkpoint_every", checkpoint_every)
        self.distribution, self.learner, self.sampler = distribution, learner, sampler
        self.logger, self.folder, self.seed = logger, folder, integer_at_least("seed", seed, 0)
        self.splits = Splits(
            validation=stored_tasks(
                distribution,
                integer_at_least("trainer.validation_tasks", validation_tasks),
                Key(seed).generator(Purpose.VALIDATION_TASKS),
            ),
            test=stored_tasks(
                held_out(distribution),
                integer_at_least("trainer.test_tasks", test_tasks),
                Key(seed).generator(Purpose.TEST_TASKS),
            ),
        )
        draw_tasks(distribution, self.num_tasks, Key(seed).generator(Purpose.TASKS))  # a trial
        self.stop = StopRequest()
        self._session: dict[str, Any] | None = None  # what is recorded of a resumed one

    def begin(self, initialization: Params | None = None) -> Progress:
        """Start a run: its folder, tasks, provenance and first checkpoint.

        Args:
            initialization: trained meta-parameters to start from; None draws them.
        """
        meta = self.learner.initialize(self.seed)
        if initialization is not None:
            meta = {name: leaf.clone() for name, leaf in initialization.items()}
        progress = Progress(meta)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.write_splits(self.splits)
        shape = (self.num_tasks, self.distribution.horizon, self.num_episodes)
        memory = graph_memory(torch.device(self.learner.device))
        size = group_size(self.learner.policy, *shape, memory=memory)
        recorded = {"sampler_threads": self.sampler.threads, "group_size": size}
        self.folder.write_provenance(self.seed, recorded)
        self._save(progress, "last")
        return progress

    def resume(self, changed: Mapping[str, Any] | None = None) -> Progress:
        """Take up the run where its last checkpoint left it; its stored tasks are used.

        Args:
            changed: settings, by their dotted keys, that are others than they were: kept in
                provenance.json, for those who resume it later.

        Raises:
            CheckpointError: if the checkpoint cannot be used.
            UserError: if the run's metrics are shorter than the checkpoint says.
        """
        path = self.folder.checkpoint("last")
        try:
            content = load_checkpoint(path)
        except CheckpointError as error:
            raise CheckpointError(f"{error} {self._other_checkpoints()}") from error
        del content["format"]
        if set(content) != set(Progress.__dataclass_fields__):
            raise CheckpointError(f"{path} holds {sorted(content)}, which is no run's progress.")
        progress = Progress(**content)
        check_architecture(progress.meta, self.learner.initialize(self.seed), path)
        size = self.folder.metrics.stat().st_size if self.folder.metrics.exists() else 0
        if size < progress.metrics_bytes:
            raise UserError(
                f"{self.folder.metrics} is shorter than at the last checkpoint. "
                f"{self._other_checkpoints()}"
            )
        self.splits = self.folder.read_splits()
        self._session = {"iteration": progress.iteration, "changed": dict(changed or {})}
        return progress

    def _other_checkpoints(self) -> str:
        names = [name for name in self.folder.checkpoint_names() if name != "last"]
        if not names:
            return "The run has no other checkpoint; begin it anew."
        return f"To go on from an earlier one, copy it over last.pt; there is {', '.join(names)}."

    def run(self, progress: Progress) -> Metrics:
        """Train until a limit is reached or a stop is requested; return the last metrics.

        Raises:
            NonFiniteError: naming iteration and task; the last good checkpoint is kept.
        """
        metrics: Metrics = {}
        collector = self.sampler.collector(
            self.distribution, self.learner.policy, self.num_tasks, self.num_episodes
        )
        start, kept = progress.env_steps, progress.metrics_bytes
        heading = Heading(
            *(self.distribution.name, self.learner.name, self.seed),
            *(self.iterations, self.env_steps, progress.iteration),
        )
        with (
            closing(collector),
            self.folder.locked(),
            self._recorded(progress),
            self.stop,
            self.logger.open(self.folder.metrics, start, kept, heading) as logger,
        ):
            while not self.finished(progress) and not self.stop.requested:
                finished = self._iterate(collector, progress)
                if finished is None:
                    break
                metrics = finished
                progress.metrics_bytes = logger.write(metrics)
                self._save_all(progress, metrics)
                logger.show(metrics, self._fraction(progress))
        return metrics

    def keep_limits(self, progress: Progress) -> None:
        """Keep the limits that a session changed of a run that has nothing left to do."""
        assert self._session is not None
        changed = self._session["changed"]
        limits = {key: value for key, value in changed.items() if key.startswith("trainer.")}
        if limits:
            self._session["changed"] = limits
            with self.folder.locked():
                self._add_session(progress)

    def _add_session(self, progress: Progress) -> None:
        """Record a session that resumes the run, where it was read before others could change it.

        Raises:
            UserError: if another has trained on since.
        """
        if load_checkpoint(self.folder.checkpoint("last"))["iteration"] != progress.iteration:
            raise UserError(
                f"another process has trained in {self.folder.path} since this one read it: call "
                f"again."
            )
        recorded = {**(self._session or {}), "sampler_threads": self.sampler.threads}
        self.folder.add_session(self.seed, recorded)

    @contextmanager
    def _recorded(self, progress: Progress) -> Iterator[None]:
        """Record a session, and leave stopped.json where numbers that are not finite end it."""
        if self._session is not None and not self.finished(progress):
            self._add_session(progress)
        path = self.folder.path / "stopped.json"
        path.unlink(missing_ok=True)
        try:
            yield
        except NonFiniteError as error:
            write_json(path, {"error": str(error)})
            raise

    def _iterate(self, collector: Collector, progress: Progress) -> Metrics | None:
        """Sample tasks, collect and adapt, take the outer step; None where a stop came between."""
        iteration = progress.iteration + 1
        key = Key(self.seed, (Purpose.TRAINING, iteration))
        clock, learner = Stopwatch(), self.learner
        try:
            with authors_code(self.distribution.name, "sample(num_tasks, rng)"):
                tasks = draw_tasks(self.distribution, self.num_tasks, key.generator(Purpose.TASKS))
            experience = learner.collect(collector, progress.meta, tasks, learner.inner.steps, key)
            clock.lap("seconds/sampling")
            if self.stop.requested:
                return None
            update = learner.outer_step(
                progress.meta, progress.outer_state, experience, self._fraction(progress)
            )
            clock.lap("seconds/outer_loop")
            if self.stop.requested:
                return None
            return self._advance(progress, experience, update, clock)
        except (NonFiniteError, SimulationError) as error:
            if self.stop.requested:  # a signal to all processes has ended the workers too
                return None
            raise NonFiniteError(f"iteration {iteration}: {error}") from error

    def _advance(
        self, progress: Progress, experience: Experience, update: OuterUpdate, clock: Stopwatch
    ) -> Metrics:
        """Take the outer step's result into `progress`; return the iteration's metrics."""
        steps = sum(rollout.num_steps() for rollout in experience.rollouts)
        progress.meta, progress.outer_state = update.meta, update.state
        progress.iteration += 1
        progress.env_steps += steps
        returns = mean_returns(experience.rollouts, prefix="")
        after_steps = list(returns.values())
        metrics: Metrics = {
            "iteration": progress.iteration,
            "env_steps": progress.env_steps,
            **returns,
            **trial_returns(experience.rollouts[-1], prefix=""),
            "adaptation_gain": after_steps[-1] - after_steps[0],
            **{
                f"gain/step_{step}": after - before
                for step, (before, after) in enumerate(pairwise(after_steps), start=1)
            },
            **success_rates(experience.rollouts, prefix=""),
            **self.learner.diagnostics(update.meta, experience),
            **update.metrics,
        }
        clock.lap("seconds/diagnostics")
        if progress.iteration % self.validate_every == 0:
            metrics |= self.validate(progress)
            clock.lap("seconds/validation")
        total = clock.total
        progress.seconds += total
        return metrics | {
            "seconds": progress.seconds,
            "seconds/iteration": total,
            "seconds/steps_per_second": steps / total,
            **clock.laps,
            "seconds/share_sampling": clock.laps["seconds/sampling"] / total,
            "seconds/share_outer_loop": clock.laps["seconds/outer_loop"] / total,
        }

    def validate(self, progress: Progress) -> Metrics:
        """Adapt to the stored validation tasks; return the mean return after each inner step."""
        tasks, learner = self.splits.validation, self.learner
        with closing(
            self.sampler.collector(
                self.distribution, learner.policy, count_tasks(tasks), self.validation_episodes
            )
        ) as collector:
            key = Key(self.seed, (Purpose.VALIDATION,))
            steps = learner.inner.steps
            experience = learner.collect(collector, progress.meta, tasks, steps, key)
        returns = mean_returns(experience.rollouts, prefix="validation/")
        returns |= trial_returns(experience.rollouts[-1], prefix="validation/")
        return returns | success_rates(experience.rollouts, prefix="validation/")

    def _save_all(self, progress: Progress, metrics: Metrics) -> None:
        """Write last.pt, and where they are due best.pt and the numbered checkpoint."""
        score = metrics.get(f"validation/return/step_{self.learner.inner.steps}")
        if score is not None and (
            progress.best_validation is None or score > progress.best_validation
        ):
            progress.best_validation = score
            self._save(progress, "best")
        if progress.iteration % self.checkpoint_every == 0:
            self._save(progress, progress.iteration)
        self._save(progress, "last")

    def _save(self, progress: Progress, name: str | int) -> None:
        save_checkpoint(self.folder.checkpoint(name), dict(vars(progress)))

    def _fraction(self, progress: Progress) -> float:
        """Return how much of the run is done, by the nearer of its limits."""
        parts = []
        if self.iterations is not None:
            parts.append(progress.iteration / self.iterations if self.iterations else 1.0)
        if self.env_steps is not None:
            parts.append(progress.env_steps / self.env_steps)
        return min(1.0, max(parts))

    def finished(self, progress: Progress) -> bool:
        """Say whether a limit was reached."""
        return self._fraction(progress) >= 1.0


def _limit(name: str, value: int | None, least: int = 1) -> int | None:
    return None if value is None else integer_at_least(name, value, least)


class Stopwatch:
    """Wall-clock seconds of the parts of an iteration."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Record the time since the last lap under `name`."""
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start


class StopRequest:
    """Turns Ctrl-C and SIGTERM into a request that the training loop meets between its phases.

    The iteration under way is given up; last.pt holds the one before. A second signal acts at once.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *details: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
