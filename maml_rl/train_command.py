"""`train.py`: compose, check, run, report; or resume."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from envs.checks import UserError
from maml_rl.building import build_run, build_trainer, stored_config
from maml_rl.cli import config_directory, shown, status_of
from maml_rl.run_folder import RunFolder
from maml_rl.trainer import Trainer

RESUMABLE = ("trainer.iterations", "trainer.env_steps", "sampler.", "logger.")


def train_command(arguments: Sequence[str]) -> int:
    """Train a new run (or several, with --multirun), or resume one."""
    parsed = get_args_parser().parse_args(list(arguments))
    informs = parsed.help or parsed.hydra_help or parsed.cfg or parsed.info
    if informs or parsed.shell_completion:
        _hydra_main(lambda config: None)
        return 0
    overrides = OverridesParser.create().parse_overrides(parsed.overrides)
    chosen = {override.key_or_group: override for override in overrides}
    if "resume" in chosen and chosen["resume"].value() is not None:
        if parsed.multirun:
            raise UserError("resume takes one run: leave --multirun away.")
        return resume(str(chosen.pop("resume").value()), chosen)
    for job in _jobs(overrides, parsed.multirun):
        check(job, parsed.config_dir, parsed.multirun)
    return _run_jobs()


def _jobs(overrides: list[Override], multirun: bool) -> list[list[str]]:
    """List each job's overrides; a sweep gives the product of its choices."""
    choices: list[list[str]] = []
    for override in overrides:
        if multirun and override.is_sweep_override():
            if not override.is_discrete_sweep():
                continue
            key = override.get_key_element()
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        elif override.input_line is not None:
            choices.append([override.input_line])
    return [list(job) for job in itertools.product(*choices)]


def check(overrides: list[str], config_dir: str | None, multirun: bool) -> None:
    """Compose and build once before Hydra makes a folder, so that a wrong input leaves nothing.

    Raises:
        UserError: in the words of whatever refused its arguments.
    """
    path = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        composed = hydra.compose("config", [*overrides, *path], return_hydra_config=True)
    HydraConfig.instance().set_config(composed)
    folder = RunFolder(composed.hydra.run.dir)
    config = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    if not multirun and folder.is_used():
        raise UserError(
            f"{folder.path} holds a run already: resume={folder.path} goes on with it, another "
            f"hydra.run.dir begins a new one."
        )
    build_run(config, folder.path)


def _run_jobs() -> int:
    """Let Hydra run each job; return the worst status."""
    statuses = []

    def job(config: DictConfig) -> float | None:
        path = Path(HydraConfig.get().runtime.output_dir)
        outcome: dict[str, float] = {}
        status = status_of(lambda: _train_job(config, path, outcome))
        statuses.append(status)
        if status in (1, 2) and not (path / "checkpoints").exists():
            shutil.rmtree(path)
        if status in (130, 143):
            sys.exit(status)
        return outcome.get("adaptation_gain")

    _hydra_main(job)
    return max(statuses, default=0)


def _train_job(config: DictConfig, path: Path, outcome: dict[str, float]) -> int:
    print(f"run folder: {shown(path)}", flush=True)
    trainer, initialization = build_run(config, path)
    outcome |= trainer.run(trainer.begin(initialization))
    return _ended(trainer)


def _ended(trainer: Trainer) -> int:
    """Say how a run ended; return 130 or 143 where a signal ended it."""
    requested = trainer.stop.requested
    path = shown(trainer.folder.path)
    if requested is not None:
        print(f"stopped by {requested.name}; python train.py resume={path} goes on.", flush=True)
        return 128 + requested.value
    print(f"done; python evaluate.py run={path} evaluates it.", flush=True)
    return 0


def _hydra_main(job: Callable[[DictConfig], float | None]) -> None:
    GlobalHydra.instance().clear()
    hydra.main(version_base="1.3", config_path=str(config_directory()), config_name="config")(job)()


def resume(path: str, overrides: dict[str, Override]) -> int:
    """Go on with a run where its last checkpoint left it.

    Raises:
        UserError: if `path` is no run folder, or an override may not change on the way.
    """
    folder = RunFolder.existing(path, "resume")
    config = stored_config(folder)
    OmegaConf.set_struct(config, True)
    for key, override in overrides.items():
        if not key.startswith(RESUMABLE):
            raise UserError(
                f"{key} cannot change when a run is resumed; only trainer.iterations, "
                f"trainer.env_steps, sampler.* and logger.* can "
                f"(init_from={path} begins a new run)."
            )
        OmegaConf.update(config, key, override.value())
    trainer = build_trainer(config, folder.path)
    progress = trainer.resume()
    print(f"resuming {shown(folder.path)} at iteration {progress.iteration}", flush=True)
    trainer.run(progress)
    return _ended(trainer)
