"""`train.py`: compose, check, run, report."""

from __future__ import annotations

import argparse
import io
import itertools
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from envs.errors import UserError
from maml_rl.commands.cli import compose, compose_run, parse_overrides, status_of, warn
from maml_rl.commands.hydra_app import recorded_returns, run, run_single
from maml_rl.commands.paths import config_directory
from maml_rl.commands.ranks import as_rank, ended, number_of_ranks, run_trainer
from maml_rl.commands.resume import resume
from maml_rl.configuration.building import build_run, configuration_files, rehearse_tasks
from maml_rl.configuration.user_classes import adapted_overrides
from maml_rl.parallel import ALONE, Communicator
from maml_rl.parallel.launch import launch, launched
from maml_rl.runs.checkpoint import load_checkpoint
from maml_rl.runs.folder import RunFolder
from maml_rl.wording import shown

BASIC = ".BasicLauncher"
LONGEST_NAME = 255  # bytes, of Linux's file systems


def train_command(arguments: Sequence[str]) -> int:
    """Train a new run (or several, with --multirun), or resume one; on all ranks that there are."""
    if launched():
        return as_rank(lambda ranks: _train(arguments, ranks))
    return _train(arguments, ALONE)


def _train(arguments: Sequence[str], ranks: Communicator) -> int:
    """Do what the arguments ask for, on rank 0."""
    parsed = _parsed(arguments)
    parsed.overrides = adapted_overrides(
        parse_overrides(parsed.overrides),
        lambda lines: compose("config", [*lines, *_search_path(parsed)]),
    )
    overrides = parse_overrides(parsed.overrides)
    if parsed.help or parsed.hydra_help or parsed.cfg or parsed.info or parsed.shell_completion:
        if parsed.cfg or parsed.info:
            compose("config", [*parsed.overrides, *_search_path(parsed)])
        return _inform(parsed)
    chosen = {override.key_or_group: override for override in overrides}
    if "resume" in chosen and chosen["resume"].value() is not None:
        if parsed.multirun:
            raise UserError("resume takes one run: leave --multirun away.")
        return resume(str(chosen.pop("resume").value()), chosen, ranks, arguments)
    if parsed.multirun:
        overrides = _with_globs(parsed)
    checked = [
        check([*job, *_search_path(parsed)], number if parsed.multirun else None)
        for number, job in enumerate(_jobs(overrides, parsed.multirun))
    ]
    _check_distinct([job.folder for job in checked])
    if len(counts := {job.ranks for job in checked}) > 1:
        raise UserError("a sweep has one number of ranks: leave ranks away, or give it one value.")
    if counts != {1} and not launched():
        return launch(checked[0].ranks, arguments)
    for sentence in dict.fromkeys(job.warning for job in checked):
        warn(sentence)
    return _run_jobs(parsed, not parsed.multirun and checked[0].mode is None, ranks)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read Hydra's flags.

    Raises:
        UserError: for one that is unknown, or that does not fit this program.
    """
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            parsed = get_args_parser().parse_intermixed_args(list(arguments))
    except SystemExit as error:
        if not error.code:
            raise
        words = complaint.getvalue().strip().rpartition("error: ")[2]
        raise UserError(f"{words}; --help lists what there is.") from error
    if parsed.config_path or parsed.config_name or parsed.experimental_rerun:
        raise UserError(
            "the configuration is the project's own; --config-dir=<folder> adds files to its "
            "groups, and resume=<run folder> goes on with a run."
        )
    if parsed.config_dir and not Path(parsed.config_dir).is_dir():
        raise UserError(f"--config-dir={parsed.config_dir}: there is no such folder.")
    return parsed


def _search_path(parsed: argparse.Namespace) -> list[str]:
    if not parsed.config_dir:
        return []
    return [f"hydra.searchpath=[file://{Path(parsed.config_dir).resolve()}]"]


def _with_globs(parsed: argparse.Namespace) -> list[Override]:
    """Read a sweep's overrides so that glob(...) finds the names of its group."""
    places = create_config_search_path(str(config_directory()))
    if parsed.config_dir:
        places.append("command-line", f"file://{Path(parsed.config_dir).resolve()}")
    return parse_overrides(parsed.overrides, ConfigLoaderImpl(places))


def _jobs(overrides: list[Override], multirun: bool) -> list[list[str]]:
    """List each job's overrides; a sweep gives the product of its choices.

    Raises:
        UserError: for an interval, from which Hydra's own sweeper cannot choose.
    """
    choices: list[list[str]] = []
    other_sweeper = any(override.key_or_group == "hydra/sweeper" for override in overrides)
    for override in overrides:
        if multirun and override.is_sweep_override():
            if not override.is_discrete_sweep():
                if not other_sweeper:
                    raise UserError(
                        f"{override.input_line} names no values: write {override.key_or_group}="
                        f"1,2,3 or =range(1,4), or choose a sweeper that draws from intervals."
                    )
                continue
            key = override.get_key_element()
            values = list(override.sweep_string_iterator())
            if not values:
                raise UserError(f"{override.input_line} matches nothing; --help lists the names.")
            choices.append([f"{key}={value}" for value in values])
        elif override.input_line is not None:
            choices.append([override.input_line])
    return [list(job) for job in itertools.product(*choices)]


class Checked(NamedTuple):
    """A run that can begin."""

    folder: str  # without times of day, so that two jobs of a sweep with one folder are noticed
    warning: str | None
    mode: RunMode | None  # Hydra's, None where the configuration names none
    ranks: int


def check(overrides: list[str], job: int | None) -> Checked:
    """Compose and build once before Hydra makes a folder, so that a wrong input leaves nothing.

    Args:
        overrides: of the one run.
        job: its number in a sweep, None where it is the only one.

    Raises:
        UserError: in the words of the part that refused its arguments.
    """
    number = [] if job is None else [f"hydra.job.num={job}"]
    config, chosen = compose_run([*overrides, *number])
    ranks = number_of_ranks(config)
    if ranks > 1 and job is not None and not str(chosen.launcher._target_).endswith(BASIC):
        raise UserError(
            f"ranks={ranks} goes with hydra/launcher=basic alone, whose jobs run in turn."
        )
    trainer, _ = build_run(config, Path())
    path = Path(chosen.run.dir if job is None else f"{chosen.sweep.dir}/{chosen.sweep.subdir}")
    check_folder(path, "hydra.run.dir" if job is None else "hydra.sweep.dir")
    warning = rehearse_tasks(trainer.distribution)
    if job is None:
        return Checked(str(path), warning, chosen.mode, ranks)
    raw: Any = OmegaConf.to_container(chosen.sweep, resolve=False)
    OmegaConf.set_readonly(chosen, False)
    OmegaConf.set_readonly(chosen.sweep, False)
    for name in ("dir", "subdir"):
        chosen.sweep[name] = re.sub(r"\$\{now:[^}]*\}", "now", str(raw[name]))
    folder = os.path.normpath(f"{chosen.sweep.dir}/{chosen.sweep.subdir}")
    return Checked(folder, warning, chosen.mode, ranks)


def _check_distinct(folders: Sequence[str]) -> None:
    """Refuse a sweep whose jobs would write into one folder."""
    for number, folder in enumerate(folders):
        first = folders.index(folder)
        if first < number:
            name = Path(folder).name
            raise UserError(
                f"jobs {first} and {number} of the sweep would both be {name}: leave "
                f"hydra.sweep.subdir away, or name in it what differs, as in "
                f"hydra.sweep.subdir='seed_${{seed}}'."
            )


def check_folder(path: Path, key: str) -> None:
    """Refuse a folder that holds a run, or that cannot be made."""
    for part in path.parts:
        if len(os.fsencode(part)) > LONGEST_NAME:
            raise UserError(
                f"{key}: the name {part[:40]}... has {len(os.fsencode(part))} bytes and file "
                f"systems take {LONGEST_NAME}; give a shorter one."
            )
    if RunFolder(path).is_used():
        raise UserError(
            f"{path} holds a run already: resume={path} goes on with it, another {key} begins a "
            f"new one."
        )
    nearest = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"{key}={path} cannot be made: {nearest} is no folder to write in.")


def _run_jobs(parsed: argparse.Namespace, single: bool, ranks: Communicator) -> int:
    """Let Hydra run each job; return the worst status.

    A launcher may run jobs in other processes. Only their return values come back, and none where
    they failed.
    """
    statuses: list[int] = []
    returns: list[JobReturn] = []

    def job(config: DictConfig) -> float | None:
        path = Path(HydraConfig.get().runtime.output_dir)
        outcome: dict[str, float] = {}
        status = status_of(lambda: _train_job(config, path, outcome, ranks))
        statuses.append(status)
        if status in (1, 2) and not RunFolder(path).is_used() and not RunFolder(path).is_locked():
            _remove_unused(path)
        if status in (130, 143):
            sys.exit(status)
        return outcome.get("objective") if status == 0 else None

    with recorded_returns(returns):
        (run_single if single else run)(parsed, job)
    failed = any(
        returned.status != JobStatus.COMPLETED or returned.return_value is None
        for returned in returns
    )
    return max([*statuses, int(failed)])


def _remove_unused(path: Path) -> None:
    """Remove the empty folders of a run that never began."""
    for folder in (path, *path.parents):
        if folder == Path.cwd() or any(folder.iterdir()):
            break
        folder.rmdir()


def _train_job(
    config: DictConfig, path: Path, outcome: dict[str, float], ranks: Communicator
) -> int:
    print(f"run folder: {shown(path)}", flush=True)
    trainer, initialization = build_run(config, path, ranks)
    chosen = HydraConfig.get()
    files = configuration_files(config, [str(line) for line in chosen.overrides.task])
    files["hydra.yaml"] = OmegaConf.to_yaml(OmegaConf.create({"hydra": chosen}))
    run_trainer(trainer, trainer.begin(initialization, files), config, ranks)
    best = trainer.folder.checkpoint("best")
    if best.is_file():  # what a sweep compares: the return after adaptation of what it would use
        outcome["objective"] = load_checkpoint(best)["best_validation"]
    return ended(trainer)


def _inform(parsed: argparse.Namespace) -> int:
    """Let Hydra print its help, or the configuration."""
    try:
        run(parsed, lambda config: None)
    except SystemExit as error:
        return int(error.code or 0)
    return 0
