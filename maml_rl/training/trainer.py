"""Meta-training: the loop of Finn et al. 2017, algorithm 3, and the run folder it fills."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from envs.arguments import integer_at_least, one_of
from envs.balanced import draw_balanced_tasks
from envs.errors import SimulationError
from envs.protocol import (
    Splits,
    TaskDistribution,
    Tasks,
    count_tasks,
    draw_tasks,
    held_out,
    stored_tasks,
)
from envs.recorded import Recorded
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.outer_loop.objectives import group_size
from maml_rl.algorithm.rollout import Params
from maml_rl.errors import NonFiniteError
from maml_rl.parallel import ALONE, Communicator
from maml_rl.randomness import Key, Purpose
from maml_rl.runs.environment import environment_numbers
from maml_rl.runs.folder import RunFolder
from maml_rl.sampling import Collector, Sampler
from maml_rl.sampling.collector import authors_code
from maml_rl.training.choices import episodes_before, measure_of
from maml_rl.training.description import PYTHON_ALONE, derived_configuration
from maml_rl.training.loggers import Metrics, RunLogger
from maml_rl.training.progress import Heading
from maml_rl.training.session import Session
from maml_rl.training.share import Share
from maml_rl.training.state import Limits, Progress, Stopwatch
from maml_rl.training.stop import StopRequest

TASK_SAMPLING = {"independent": draw_tasks, "balanced": draw_balanced_tasks}


class Trainer(Recorded):
    """Meta-trains a learner on a task distribution.

    With several ranks, each collects, adapts and differentiates for its own tasks, and all take the
    same outer step. Rank 0 writes the run's folder. Results do not depend on their number.

    Args:
        distribution: tasks and environments.
        learner: trained here.
        sampler: steps the environments.
        logger: reports.
        folder: of the run.
        seed: of everything random.
        iterations: total number of outer steps, None for no limit; 0 leaves a run folder whose
            checkpoint is the initialization.
        env_steps: stop after the iteration that reaches this many, None for no limit.
        num_tasks: M, tasks per iteration.
        num_episodes: B, episodes per task and adaptation step.
        num_episodes_before: of them before each inner step; None takes `num_episodes`.
        validate_every: iterations between validations.
        validation_tasks: size of the stored validation set.
        validation_episodes: episodes per validation task and adaptation step.
        test_tasks: size of the stored test set.
        checkpoint_every: iterations between numbered checkpoints; last.pt is written at each.
        best_by: the measure in validation that picks best.pt, "return" or "success"; None takes
            the distribution's `measure`.
        task_sampling: of an iteration's tasks: "independent" draws, or "balanced", see
            `draw_balanced_tasks`.
        ranks: those that share the tasks; `run` is called on each, `begin` or `resume` on rank 0.
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
        best_by: str | None = None,
        task_sampling: str = "independent",
        num_episodes_before: int | None = None,
        ranks: Communicator = ALONE,
    ) -> None:
        self.limits = Limits(iterations, env_steps)
        self.num_tasks = integer_at_least("num_tasks", num_tasks)
        self.num_episodes = integer_at_least("num_episodes", num_episodes)
        self.num_episodes_before = episodes_before(num_episodes_before, learner)
        self.validate_every = integer_at_least("validate_every", validate_every)
        self.validation_episodes = integer_at_least("validation_episodes", validation_episodes)
        self.checkpoint_every = integer_at_least("checkpoint_every", checkpoint_every)
        self.measure = measure_of(best_by, distribution)
        self.distribution, self.learner, self.ranks = distribution, learner, ranks
        self.sampler = sampler if ranks.size == 1 else sampler.divided(ranks.neighbours)
        self.share = Share(distribution, learner, self.sampler, ranks)
        self.logger, self.folder, self.seed = logger, folder, integer_at_least("seed", seed, 0)
        self.notes: list[str] = []
        self.splits = Splits(
            validation=self._stored("validation", distribution, validation_tasks),
            test=self._stored("test", held_out(distribution), test_tasks),
        )
        self._draw_tasks = TASK_SAMPLING[one_of("task_sampling", task_sampling, TASK_SAMPLING)]
        self._sample_tasks(Key(seed))  # a trial
        self.stop = StopRequest()
        self.session = Session(folder, self.seed, self.sampler.threads, ranks.size)

    def _stored(self, split: str, source: TaskDistribution, count: int) -> Tasks:
        """Stored tasks of a split; a finite set comes in equal counts, rounded up."""
        option = f"{split}_tasks"
        integer_at_least(option, count)
        finite = source.finite_tasks()
        size = 1 if finite is None else count_tasks(finite)
        rounded = -(-count // size) * size
        if rounded != count:
            self.notes.append(
                f"{option}={count} is rounded up to {rounded}: {source.name} has {size} tasks, "
                f"which are stored in equal counts."
            )
        purpose = Purpose.VALIDATION_TASKS if split == "validation" else Purpose.TEST_TASKS
        return stored_tasks(source, rounded, Key(self.seed).generator(purpose))

    def begin(
        self, initialization: Params | None = None, configuration: Mapping[str, str] | None = None
    ) -> Progress:
        """Start a run: its folder, tasks, provenance and first checkpoint.

        Args:
            initialization: trained meta-parameters to start from; None draws them.
            configuration: texts of the files in .hydra, by name: what `load`, `evaluate.py` and
                `resume=` build the run from; None derives them from the trainer's objects.

        Raises:
            UserError: if the folder holds a run, or another process is training there.
        """
        meta = self.learner.initialize(self.seed)
        if initialization is not None:
            meta = {name: leaf.clone() for name, leaf in initialization.items()}
        progress = Progress(meta)
        size = group_size(
            self.learner.policy, self.num_tasks, self.distribution.horizon, self.num_episodes
        )
        recorded = {
            "sampler_threads": self.sampler.threads,
            "ranks": self.ranks.size,
            "group_size": size,
            "environment": environment_numbers(self.distribution),
        }
        if configuration is None:
            configuration, reason = derived_configuration(self)
            if reason is not None:
                recorded["no_configuration"] = reason
                self.notes.append(f"{PYTHON_ALONE}: {reason}")
        with self.folder.beginning():
            self.folder.write_configuration(configuration)
            self.folder.write_splits(self.splits)
            self.folder.write_provenance(self.seed, recorded)
            self.session.save(progress, "last")
        for note in self.notes:
            print(f"note: {note}", flush=True)
        return progress

    def resume(self, changed: Mapping[str, Any] | None = None) -> Progress:
        """Go on with the run from its last checkpoint, with its stored tasks.

        Args:
            changed: new values of settings by their dotted keys; stored in provenance.json for
                later sessions.

        Raises:
            CheckpointError: if the checkpoint cannot be used.
            UserError: if the run's metrics are shorter than the checkpoint says, or its environment
                has changed.
        """
        initial = self.learner.initialize(self.seed)
        progress = self.session.resume(initial, self.distribution, changed)
        self.splits = self.folder.read_splits()
        return progress

    def run(self, progress: Progress) -> Metrics:
        """Train until a limit is reached or a stop is requested.

        Args:
            progress: where to go on; of ranks after the first anything, rank 0's counts.

        Returns:
            The last iteration's metrics, with the last validation's if a limit was reached.

        Raises:
            NonFiniteError: naming iteration and task; the last good checkpoint is kept.
            SimulationError: the same, for a simulation that failed.
            RankError: if another rank has ended.
        """
        start, self.splits = self.ranks.broadcast((progress, self.splits))
        progress.advance_to(start)
        metrics: Metrics = {}
        heading = Heading(
            *(self.distribution.name, self.learner.name, self.seed),
            *(self.limits.iterations, self.limits.env_steps, progress.iteration),
        )
        with (
            closing(self.share.collector(self.num_tasks, self.num_episodes)) as collector,
            self._collector_before() as before,
            self._files(progress, heading) as logger,
            self.stop.honored(),
            self.ranks.sharing_errors(),
        ):
            while not self.limits.reached(progress):
                later, metrics = self._iterate(collector, before, progress)
                if logger is not None:
                    later.metrics_bytes = logger.write(metrics)
                    self._save(later, metrics)
                progress.advance_to(later)
                if logger is not None:
                    logger.show(metrics, self.limits.fraction(progress))
            metrics |= self._last_validation(progress)
        return metrics

    @contextmanager
    def _files(self, progress: Progress, heading: Heading) -> Iterator[RunLogger | None]:
        """The logger of the run's files, which are this session's; None on ranks after the first.

        Stop requests are noted meanwhile.
        """
        if self.ranks.rank > 0:
            with self.stop:
                yield None
            return
        with (
            self.folder.locked(),
            self.session.recorded(progress, self.limits),
            self.stop,
            self.logger.open(
                self.folder.metrics, progress.env_steps, progress.metrics_bytes, heading
            ) as logger,
        ):
            yield logger

    def _iterate(
        self, collector: Collector, before: Collector | None, progress: Progress
    ) -> tuple[Progress, Metrics]:
        """One iteration of meta-training (Finn et al. 2017, algorithm 3).

        Returns:
            The state after it, and its metrics.

        Raises:
            StoppedError: where a stop was requested between two phases.
        """
        iteration, learner, clock = progress.iteration + 1, self.learner, Stopwatch()
        key = Key(self.seed, (Purpose.TRAINING, iteration))
        with self._named(f"iteration {iteration}"):
            tasks = self._sample_tasks(key)
            experience = self.share.experience(collector, progress.meta, tasks, key, before)
            clock.lap("seconds/sampling")
            self._check_stop()
            update = learner.outer_step(
                *(progress.meta, progress.outer_state, experience),
                *(self.limits.fraction(progress), self.ranks),
            )
            clock.lap("seconds/outer_loop")
            self._check_stop()
            steps = self.ranks.total(sum(each.num_steps() for each in experience.rollouts))
            later = replace(
                progress,
                meta=update.meta,
                outer_state=update.state,
                iteration=iteration,
                env_steps=progress.env_steps + steps,
            )
            metrics: Metrics = {"iteration": iteration, "env_steps": later.env_steps}
            metrics |= self.share.metrics(experience, update)
            clock.lap("seconds/diagnostics")
            if iteration % self.validate_every == 0:
                metrics |= self.validate(later)
                clock.lap("seconds/validation")
        metrics |= clock.metrics(progress.seconds, steps)
        later.seconds = metrics["seconds"]
        return later, metrics

    def _sample_tasks(self, key: Key) -> Tasks:
        """The tasks of an iteration, leaves [M, ...]."""
        with authors_code(self.distribution.name, "sample(num_tasks, rng)"):
            return self._draw_tasks(self.distribution, self.num_tasks, key.generator(Purpose.TASKS))

    def _collector_before(self) -> AbstractContextManager[Collector | None]:
        """Of the episodes before inner steps, where that is another number of episodes."""
        count = self.num_episodes_before
        return (
            nullcontext() if count is None else closing(self.share.collector(self.num_tasks, count))
        )

    def validate(self, progress: Progress) -> Metrics:
        """Mean return on the stored validation tasks after each inner step."""
        tasks, key = self.splits.validation, Key(self.seed, (Purpose.VALIDATION,))
        with closing(
            self.share.collector(count_tasks(tasks), self.validation_episodes)
        ) as collector:
            experience = self.share.experience(collector, progress.meta, tasks, key)
        return self.share.returns(experience, "validation/")

    def _last_validation(self, progress: Progress) -> Metrics:
        """Validate at the end of a run, if its last iteration did not.

        The result goes into best.pt alone, not into last.pt and metrics.jsonl: a run that is
        resumed for longer equals one that was never interrupted.
        """
        due = progress.iteration % self.validate_every != 0 or progress.iteration == 0
        nothing_done = progress.iteration == self.session.resumed_at
        done = nothing_done and self.folder.checkpoint("best").is_file()
        if not self.ranks.broadcast(due and not done):
            return {}
        with self._named(f"validation after iteration {progress.iteration}"):
            metrics = self.validate(progress)
        if self.ranks.rank == 0:
            self._save_best(replace(progress), metrics)
        return metrics

    def _check_stop(self) -> None:
        """Raise StoppedError on all ranks where a stop was requested of one."""
        number = self.ranks.largest(int(self.stop.requested or 0))
        if number:
            self.stop.requested = signal.Signals(number)
        self.stop.check()

    @contextmanager
    def _named(self, phase: str) -> Iterator[None]:
        """Put the phase before an error's message, and keep the kind of the error.

        Raises:
            StoppedError: instead, where a stop was requested: the signal has ended the workers too.
        """
        self._check_stop()
        try:
            yield
        except (NonFiniteError, SimulationError) as error:
            self.stop.check()
            words = str(error)  # another rank may have put the phase there already
            raise type(error)(
                words if words.startswith(f"{phase}: ") else f"{phase}: {words}"
            ) from error

    def _save(self, progress: Progress, metrics: Metrics) -> None:
        """Write last.pt, and where they are due best.pt and the numbered checkpoint."""
        self._save_best(progress, metrics)
        if progress.iteration % self.checkpoint_every == 0:
            self.session.save(progress, progress.iteration)
        self.session.save(progress, "last")

    def _save_best(self, progress: Progress, metrics: Metrics) -> None:
        """Write best.pt where a validation is the best so far, after the last inner step.

        Equal returns do not happen. Of equal success rates the later one wins, which has trained
        for longer.
        """
        score = metrics.get(f"validation/{self.measure}/step_{self.learner.inner.steps}")
        if score is None:
            return
        best = progress.best_validation
        if best is None or score > best or (self.measure == "success" and score == best):
            progress.best_validation = score
            self.session.save(progress, "best")
