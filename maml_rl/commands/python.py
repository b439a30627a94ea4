"""Training from Python, as with `train.py`, for notebooks and scripts."""

from __future__ import annotations

from pathlib import Path

from envs.errors import UserError
from maml_rl.commands.cli import compose, compose_run, parse_overrides, warn
from maml_rl.commands.ranks import ended, number_of_ranks
from maml_rl.commands.resume import resume
from maml_rl.commands.train import check_folder
from maml_rl.configuration.building import build_run, configuration_files, rehearse_tasks
from maml_rl.configuration.user_classes import adapted_overrides
from maml_rl.trained.loading import Trained, load
from maml_rl.wording import shown


def train(*overrides: str, folder: str | Path | None = None) -> Trained:
    """Train a run as `train.py` does with the same options, and load it.

    Ctrl-C ends it after the last finished iteration; `train("resume=<run folder>")` goes on.

    Args:
        overrides: options as on the command line, such as "experiment=half_cheetah_dir", "seed=1".
        folder: of the run; None makes outputs/<env>/<algorithm>/<date>_<time>.

    Returns:
        The run's best checkpoint (its last where a stop came before any validation).

    Raises:
        UserError: where an option is wrong, or the folder holds a run already.
        NonFiniteError: naming iteration and task; the last good checkpoint is kept.
    """
    chosen = {override.key_or_group: override for override in parse_overrides(overrides)}
    if "resume" in chosen:
        path = Path(str(chosen.pop("resume").value()))
        resume(str(path), chosen)
        return load(path)
    options = adapted_overrides(parse_overrides(overrides), lambda lines: compose("config", lines))
    config, hydra = compose_run(options)
    if number_of_ranks(config) > 1:
        raise UserError(f"ranks={config.ranks} is for train.py, which begins processes: leave it.")
    path = Path(hydra.run.dir if folder is None else folder)
    check_folder(path, "hydra.run.dir" if folder is None else "folder")
    trainer, initialization = build_run(config, path)
    warn(rehearse_tasks(trainer.distribution))
    print(f"run folder: {shown(path)}", flush=True)
    trainer.run(trainer.begin(initialization, configuration_files(config, options)))
    ended(trainer)
    return load(path)
