"""A session of training in a run's folder: where it goes on, its checkpoints, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from envs.errors import SimulationError, UserError
from envs.protocol import TaskDistribution
from maml_rl.algorithm.rollout import Params
from maml_rl.errors import CheckpointError, NonFiniteError
from maml_rl.files import write_json
from maml_rl.runs.checkpoint import check_architecture, load_checkpoint, save_checkpoint
from maml_rl.runs.environment import environment_difference
from maml_rl.runs.folder import RunFolder
from maml_rl.training.state import Limits, Progress


class Session:
    """The files of a run that training reads and writes, beside the metrics.

    Args:
        folder: of the run.
        seed: of the run.
        threads: of the sampler.
        ranks: their number.
    """

    def __init__(self, folder: RunFolder, seed: int, threads: int, ranks: int = 1) -> None:
        self.folder, self.seed = folder, seed
        self._numbers = {"sampler_threads": threads, "ranks": ranks}
        self._resumed: dict[str, Any] = {}  # what is recorded of a session that goes on

    @property
    def resumed_at(self) -> int | None:
        """Iteration at which the session took up the run; None where it begins it."""
        return self._resumed.get("iteration")

    def save(self, progress: Progress, name: str | int) -> None:
        """Write a checkpoint: "last", "best", or the number of an iteration."""
        save_checkpoint(self.folder.checkpoint(name), dict(vars(progress)))

    def resume(
        self,
        initial: Params,
        distribution: TaskDistribution,
        changed: Mapping[str, Any] | None,
    ) -> Progress:
        """Read where the last checkpoint left the run.

        Args:
            initial: untrained meta-parameters, of the same architecture.
            distribution: as today's code has it.
            changed: new values of settings by their dotted keys.

        Raises:
            CheckpointError: if the checkpoint cannot be used.
            UserError: if the run's metrics are shorter than the checkpoint says, or its environment
                has changed.
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
        check_architecture(progress.meta, initial, path)
        metrics = self.folder.metrics
        if (metrics.stat().st_size if metrics.exists() else 0) < progress.metrics_bytes:
            raise UserError(
                f"{metrics} is shorter than at the last checkpoint. {self._other_checkpoints()}"
            )
        difference = environment_difference(self.folder.read_provenance(), distribution)
        if difference is not None:
            raise UserError(
                f"{self.folder.path} began with another environment: {difference}. Restore the "
                f"code that it began with, or begin a new run with init_from={self.folder.path}."
            )
        self._resumed = {"iteration": progress.iteration, "changed": dict(changed or {})}
        return progress

    def _other_checkpoints(self) -> str:
        names = [name for name in self.folder.checkpoint_names() if name != "last"]
        if not names:
            return "The run has no other checkpoint; begin it anew."
        return f"To go on from an earlier one, copy it over last.pt; there is {', '.join(names)}."

    def keep_limits(self, progress: Progress) -> None:
        """Store the changed limits of a run that has nothing left to do."""
        changed = self._resumed["changed"]
        limits = {key: value for key, value in changed.items() if key.startswith("trainer.")}
        if limits:
            self._resumed["changed"] = limits
            with self.folder.locked():
                self._check_current(progress)
                self._add()

    def _add(self) -> None:
        """Record a session that resumes the run."""
        self.folder.add_session(self.seed, {**self._resumed, **self._numbers})

    def _check_current(self, progress: Progress) -> None:
        """Refuse to go on from a state that is not the last checkpoint's.

        Raises:
            UserError: if another process has trained on since it was read.
        """
        if load_checkpoint(self.folder.checkpoint("last"))["iteration"] != progress.iteration:
            raise UserError(
                f"another process has trained in {self.folder.path} since this one read it: call "
                f"again."
            )

    @contextmanager
    def recorded(self, progress: Progress, limits: Limits) -> Iterator[None]:
        """Record a session, and write stopped.json where numbers that are not finite end it."""
        self._check_current(progress)
        if self._resumed and not limits.reached(progress):
            self._add()
        path = self.folder.path / "stopped.json"
        path.unlink(missing_ok=True)
        try:
            yield
        except (NonFiniteError, SimulationError) as error:
            write_json(path, {"error": str(error)})
            error.add_note("the last good checkpoint is kept")
            raise
