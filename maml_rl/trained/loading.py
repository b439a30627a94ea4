"""A trained run in Python: load it, adapt it to tasks or to an environment, act."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import gymnasium
import numpy as np

from envs.arguments import integer_at_least, number, one_of
from envs.errors import UserError
from envs.protocol import (
    TaskDistribution,
    Tasks,
    count_tasks,
    draw_tasks,
    held_out,
    stored_tasks,
    take_tasks,
)
from envs.wrappers.trials import Trials
from maml_rl.algorithm.diagnostics import task_returns, task_success
from maml_rl.algorithm.inner_loop.loop import stack
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.rollout import Params
from maml_rl.configuration.building import build_distribution, build_learner
from maml_rl.configuration.stored import stored_config
from maml_rl.randomness import Key, Purpose
from maml_rl.runs.checkpoint import check_architecture, load_checkpoint
from maml_rl.runs.environment import environment_difference
from maml_rl.runs.folder import RunFolder
from maml_rl.sampling import Sampler
from maml_rl.sampling.one_env import EpisodesInTurn
from maml_rl.trained.adapted import Adapted, AdaptedPolicy
from maml_rl.training.trainer import Trainer

Env = gymnasium.Env[Any, Any]


def load(run: str | Path | Trainer, checkpoint: str | int = "best") -> Trained:
    """Load a run that was trained.

    Building its learner sets the number of torch's threads to one for the whole process, as the
    commands do.

    Args:
        run: the run folder, or the name of an initialization in pretrained/ where no such folder
            exists; or the trainer of a run, whose own objects are taken.
        checkpoint: "best" (the last where there is no best), "last", or an iteration's number.

    Raises:
        UserError: if `run` is no run folder, its configuration is damaged or could run other code,
            or it has no such checkpoint.
        CheckpointError: if the checkpoint is damaged or of another architecture.
    """
    if isinstance(run, Trainer):
        name, iteration, meta = _trained_meta(run.folder, checkpoint, run.learner)
        return Trained(run.folder, name, iteration, run.distribution, run.learner, meta)
    folder = RunFolder.existing(run, "run")
    config = stored_config(folder)
    config.device = "cpu"  # the outer loop's, which adapting does not run
    distribution = build_distribution(config)
    difference = environment_difference(folder.read_provenance(), distribution)
    if difference is not None:
        print(
            f"warning: {folder.path} was trained in another environment: {difference}.",
            file=sys.stderr,
            flush=True,
        )
    learner = build_learner(config, distribution)
    name, iteration, meta = _trained_meta(folder, checkpoint, learner)
    return Trained(folder, name, iteration, distribution, learner, meta)


def step_scales(given: object) -> float | list[float]:
    """Check the scale of steps beyond the number trained with, or one for each of them.

    Raises:
        UserError: if one is not above 0 and at most 1.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        return number("later_scale", given, above=0, most=1)
    if not given:
        raise UserError("later_scale=[] holds no scale: write 0.5, or one for each later step.")
    return [number("later_scale", scale, above=0, most=1) for scale in given]


def _trained_meta(
    folder: RunFolder, checkpoint: object, learner: MetaLearner
) -> tuple[str, int, Params]:
    """Load the chosen checkpoint, for best the last where there is none.

    Returns:
        Its name, its iteration and its meta-parameters.
    """
    name = str(checkpoint)
    if not name.isdecimal() and name not in ("last", "best"):
        raise UserError(
            f"checkpoint={name} is unknown; write last, best, or the number of an iteration."
        )
    if name == "best" and not folder.checkpoint("best").is_file():
        name = "last"
    path = folder.checkpoint(name)
    if not path.is_file():
        names = ", ".join(folder.checkpoint_names()) or "none"
        raise UserError(f"checkpoint={name}: the run has no {path}; it has {names}.")
    content = load_checkpoint(path)
    check_architecture(content["meta"], learner.initialize(0), path)
    return path.stem, int(content.get("iteration", 0)), content["meta"]


@dataclass(frozen=True, repr=False)
class Trained:
    """A trained initialization, with the parts that adapt it.

    Args:
        folder: of the run.
        checkpoint: its name: "best", "last", "iteration_000050".
        iteration: of the checkpoint.
        distribution: of the tasks it was trained on.
        learner: policy network and inner loop.
        meta: the meta-parameters, leaves [*s].
    """

    folder: RunFolder
    checkpoint: str
    iteration: int
    distribution: TaskDistribution
    learner: MetaLearner
    meta: Params

    def __repr__(self) -> str:
        names = f"{self.distribution.name}, {self.learner.name}, checkpoint {self.checkpoint}"
        return f"<Trained: {names}>"

    @property
    def policy(self) -> AdaptedPolicy:
        """The policy before adaptation, of no task."""
        params = self.learner.inner.initial_params(stack(self.meta, 1))
        return AdaptedPolicy(self.distribution, self.learner.policy, params, None, np.empty(0))

    def source(self, split: str) -> TaskDistribution:
        """Distribution of a split's tasks: for tests the held-out one, if there is one."""
        return held_out(self.distribution) if split == "test" else self.distribution

    def tasks(self, split: str = "test", num_tasks: int | None = None) -> Tasks:
        """The run's stored tasks, leaves [M, ...].

        Args:
            split: "test" or "validation".
            num_tasks: the first so many; None takes all.

        Raises:
            UserError: if they are damaged or fewer, or would not be an equal count of a finite set.
        """
        split = one_of("split", split, ("test", "validation"))
        tasks: Tasks = getattr(self.folder.read_splits(), split)
        distribution = self.source(split)
        if _shapes(tasks) != _drawn_shapes(distribution):
            raise UserError(
                f"{self.folder.tasks} is damaged: it does not hold tasks of {distribution.name}."
            )
        if num_tasks is None:
            return tasks
        wanted, stored = integer_at_least("num_tasks", num_tasks), count_tasks(tasks)
        if wanted > stored:
            raise UserError(
                f"num_tasks={wanted}: the run stored {stored} {split} tasks; ask for at most "
                f"{stored}."
            )
        finite = distribution.finite_tasks()
        if finite is not None and wanted % count_tasks(finite):
            raise UserError(
                f"num_tasks={wanted}: {distribution.name} has {count_tasks(finite)} tasks, "
                f"evaluated in equal counts; ask for a multiple of {count_tasks(finite)}."
            )
        return take_tasks(tasks, slice(wanted))

    def sample_tasks(self, num_tasks: int, seed: int = 0) -> Tasks:
        """Draw tasks as training does, leaves [M, ...]; the same seed draws the same."""
        count = integer_at_least("num_tasks", num_tasks)
        return draw_tasks(self.distribution, count, _fresh(seed).generator())

    def fresh_tasks(self, num_tasks: int = 100, seed: int = 0) -> Tasks:
        """Draw tasks of the kind of test tasks, from a stream that no training uses.

        Leaves [M, ...]. The same seed draws the same for every run; a finite set is repeated in
        equal counts.
        """
        count = integer_at_least("num_tasks", num_tasks)
        return stored_tasks(self.source("test"), count, _fresh(seed).generator())

    def varied(self, step_size: float | None = None, steps: int | None = None) -> Trained:
        """The run with another adaptation at test time.

        Args:
            step_size: of the inner steps; None keeps it.
            steps: of full size, the first so many; None keeps the number trained with.

        Raises:
            UserError: if a value is wrong, step sizes were learned, or it takes no inner steps.
        """
        if (step_size, steps) == (None, None):
            return self
        if isinstance(self.distribution, Trials):
            raise UserError(
                f"{self.learner.name} adapts by its memory and takes no inner steps: leave inner.* "
                f"out."
            )
        learner = copy(self.learner)
        learner.inner = self.learner.inner.varied(step_size, steps)
        return replace(self, learner=learner)

    @overload
    def adapt(
        self,
        tasks: Tasks,
        steps: int = ...,
        num_episodes: int = ...,
        seed: int = ...,
        later_scale: float | Sequence[float] = ...,
        threads: int | None = ...,
        step_size: float | None = ...,
    ) -> Adapted: ...

    @overload
    def adapt(
        self,
        tasks: Env,
        steps: int = ...,
        num_episodes: int = ...,
        seed: int = ...,
        later_scale: float | Sequence[float] = ...,
        threads: int | None = ...,
        step_size: float | None = ...,
    ) -> AdaptedPolicy: ...

    def adapt(
        self,
        tasks: Tasks | Env,
        steps: int = 1,
        num_episodes: int = 20,
        seed: int = 0,
        later_scale: float | Sequence[float] = 0.5,
        threads: int | None = 1,
        step_size: float | None = None,
    ) -> Adapted | AdaptedPolicy:
        """Adapt to every one of some tasks, or to the task that an environment has.

        For the run's tasks, the same numbers give exactly what `evaluate.py` reports.

        Args:
            tasks: leaves [M, ...]; or a Gymnasium environment with the run's spaces, which is
                stepped one episode after another and left open.
            steps: K, inner steps; 0 collects with the initialization alone.
            num_episodes: per task, before each inner step and after the last.
            seed: of initial states and action noise.
            later_scale: of the steps beyond the number trained with (Finn et al. 2017 halve them);
                a list scales them in turn, and its last entry holds for all later steps.
            threads: of the physics, of no effect on results; None takes every core.
            step_size: of the inner steps; None takes that of the run.

        Returns:
            M adapted policies; for an environment, one.

        Raises:
            UserError: if an argument is wrong, or an environment has other spaces than the run.
            NonFiniteError: naming the task whose action, observation or reward is not finite.
        """
        varied = self.varied(step_size)
        sizes = integer_at_least("steps", steps, 0), integer_at_least("num_episodes", num_episodes)
        key = Key(integer_at_least("seed", seed, 0), (Purpose.TEST,))
        scale = step_scales(later_scale)
        if isinstance(tasks, gymnasium.Env):
            return varied._adapt_env(tasks, *sizes, key, scale)
        return varied._adapt_tasks(self._checked(tasks), *sizes, Sampler(threads), key, scale)

    def _adapt_tasks(
        self,
        tasks: Tasks,
        steps: int,
        num_episodes: int,
        sampler: Sampler,
        key: Key,
        scale: float | list[float],
    ) -> Adapted:
        network = self.learner.policy
        with closing(
            sampler.collector(self.distribution, network, count_tasks(tasks), num_episodes)
        ) as collector:
            experience = self.learner.collect(collector, self.meta, tasks, steps, key, scale)
        rollouts = experience.rollouts
        returns, success = task_returns(rollouts), task_success(rollouts)
        return Adapted(
            self.distribution, network, experience.adapted, tasks, returns, success, rollouts
        )

    def _adapt_env(
        self, env: Env, steps: int, num_episodes: int, key: Key, later_scale: float | list[float]
    ) -> AdaptedPolicy:
        network = self.learner.policy
        in_turn = EpisodesInTurn(env, self.distribution, network, num_episodes)
        experience = self.learner.collect(in_turn, self.meta, {}, steps, key, later_scale)
        returns = task_returns(experience.rollouts)[:, 0]
        return AdaptedPolicy(
            self.distribution, network, experience.adapted, in_turn.row.task, returns
        )

    def _checked(self, tasks: object) -> Tasks:
        """Tasks as arrays.

        Raises:
            UserError: if they are not arrays like the distribution's, with a leading size M.
        """
        wanted = _drawn_shapes(self.distribution)
        written = ", ".join(
            f"{name!r}: [{', '.join(['M', *map(str, shape)])}]" for name, shape in wanted.items()
        )
        refusal = UserError(
            f"tasks of {self.distribution.name} must be finite arrays {{{written}}}, such as "
            f'trained.tasks("test") or trained.sample_tasks(4).'
        )
        if not isinstance(tasks, Mapping):
            raise refusal
        try:
            arrays = {str(name): np.asarray(leaf) for name, leaf in tasks.items()}
        except ValueError as error:  # rows of unequal length
            raise refusal from error
        for leaf in arrays.values():
            if not leaf.ndim or leaf.dtype.kind not in "biuf" or not np.isfinite(leaf).all():
                raise refusal
        if _shapes(arrays) != wanted or not count_tasks(arrays):
            raise refusal
        return arrays


def _fresh(seed: int) -> Key:
    """Address of tasks drawn for a test, different from those of training and of stored tasks."""
    return Key(integer_at_least("seed", seed, 0), (Purpose.TEST, Purpose.TASKS))


def _shapes(tasks: Tasks) -> dict[str, tuple[int, ...]]:
    """Shapes of one task's leaves."""
    return {name: leaf.shape[1:] for name, leaf in tasks.items()}


def _drawn_shapes(distribution: TaskDistribution) -> dict[str, tuple[int, ...]]:
    return _shapes(distribution.sample(1, np.random.default_rng(0)))
