"""`train.py resume=<run folder>`: go on with a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.errors import UserError
from maml_rl.commands.cli import compose
from maml_rl.commands.ranks import ended, number_of_ranks, run_trainer
from maml_rl.configuration.building import build_trainer
from maml_rl.configuration.stored import stored_config
from maml_rl.parallel import ALONE, Communicator
from maml_rl.parallel.launch import launch, launched
from maml_rl.runs.folder import RunFolder
from maml_rl.training.state import Progress
from maml_rl.training.trainer import Trainer
from maml_rl.wording import command, shown

# and what lies below sampler and logger
RESUMABLE = ("trainer.iterations", "trainer.env_steps", "ranks", "logger")


def resume(
    path: str,
    overrides: dict[str, Override],
    ranks: Communicator = ALONE,
    arguments: Sequence[str] | None = None,
) -> int:
    """Go on with a run from its last checkpoint.

    Args:
        path: of the run folder.
        overrides: by their keys.
        ranks: those that there are.
        arguments: of the command line, with which more ranks are begun; None goes on with `ranks`.

    Raises:
        UserError: if `path` is no run folder, or an override must not change.
    """
    folder = RunFolder.existing(path, "resume")
    if folder.shipped:
        raise UserError(
            f"resume={path} is an initialization that ships with the code, which keeps no state to "
            f"go on from: init_from={path} begins a new run from it."
        )
    config = stored_config(folder)
    before = config.copy()
    OmegaConf.set_struct(config, True)
    for key, override in sorted(overrides.items(), key=lambda item: item[0] != "logger"):
        if key not in RESUMABLE and not key.startswith(("sampler.", "logger.")):
            raise UserError(
                f"{key} cannot change when a run is resumed; only trainer.iterations, "
                f"trainer.env_steps, ranks, sampler.*, logger and logger.* can "
                f"(init_from={path} begins a new run)."
            )
        _update(config, key, override)
    count = number_of_ranks(config)
    if count > 1 and arguments is not None and not launched():
        return launch(count, arguments)
    trainer = build_trainer(config, folder.path, ranks)
    values, earlier = _values(config, overrides), _values(before, overrides)
    progress = trainer.resume(
        {key: value for key, value in values.items() if value != earlier[key]}
    )
    if trainer.limits.reached(progress):
        trainer.session.keep_limits(progress)
        print(_nothing_left(trainer, progress), flush=True)
        return 0
    print(f"resuming {shown(folder.path)} at iteration {progress.iteration}", flush=True)
    run_trainer(trainer, progress, config, ranks)
    return ended(trainer)


def _values(config: DictConfig, keys: Iterable[str]) -> dict[str, Any]:
    """Values of some keys as plain lists, dictionaries and numbers."""
    values = {key: OmegaConf.select(config, key) for key in keys}
    return {
        key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        for key, value in values.items()
    }


def _nothing_left(trainer: Trainer, progress: Progress) -> str:
    """Print that a run is at its end, and how to train it for longer."""
    limits = {
        "trainer.iterations": (progress.iteration, trainer.limits.iterations),
        "trainer.env_steps": (progress.env_steps, trainer.limits.env_steps),
    }
    more = {
        key: max(1, 2 * done)
        for key, (done, limit) in limits.items()
        if limit is not None and done >= limit
    }
    longer = command("train", {"resume": shown(trainer.folder.path), **more})
    return (
        f"the run is finished, at iteration {progress.iteration} and {progress.env_steps} "
        f"environment steps: {longer} goes on for longer."
    )


def _change_logger(config: DictConfig, choice: str) -> None:
    """Set another logger; options that it shares with the stored one keep their values."""
    chosen, stored = compose("config", [choice]).logger, config.logger
    for key in ("tensorboard", "progress"):
        if key in chosen and key in stored:
            chosen[key] = stored[key]
    config.logger = chosen


def _update(config: DictConfig, key: str, override: Override) -> None:
    """Change one value of a stored configuration."""
    if override.is_sweep_override() or override.is_delete() or override.is_add():
        raise UserError(f"{override.input_line}: a resumed run takes one value, {key}=<value>.")
    if key == "logger":
        _change_logger(config, str(override.input_line))
        return
    try:
        OmegaConf.update(config, key, override.value())
    except OmegaConfBaseException as error:
        node = key.partition(".")[0]
        known = ", ".join(str(name) for name in config[node] if name != "_target_")
        raise UserError(f"{key} is unknown; {node} has {known}.") from error
