"""Hydra's part of a training: help, single runs and sweeps.

This is the place that calls what Hydra keeps to itself: its public entry point takes the arguments
of the process alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import (
    _run_hydra,
    create_config_search_path,
    get_args_parser,
    run_and_report,
)
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from maml_rl.commands.paths import config_directory

Job = Callable[[DictConfig], float | None]


def run(parsed: argparse.Namespace, job: Job) -> None:
    """Do what the arguments ask for, as `hydra.main` does with those of the process."""
    GlobalHydra.instance().clear()
    version.setbase("1.3")
    _run_hydra(
        args=parsed,
        args_parser=get_args_parser(),
        task_function=job,
        config_path=str(config_directory()),
        config_name="config",
    )


def run_single(parsed: argparse.Namespace, job: Job) -> None:
    """Run a job once, as `run` does where nothing asks for a sweep.

    `run` composes the configuration once more to find that out, a fifth of a second.
    """
    GlobalHydra.instance().clear()
    version.setbase("1.3")
    places = create_config_search_path(str(config_directory()))
    if parsed.config_dir:
        folder = f"file://{Path(parsed.config_dir).resolve()}"
        places.prepend("command-line", folder, SearchPathQuery(provider="schema"))
    hydra = Hydra.create_main_hydra2("train", places)
    try:
        run_and_report(lambda: hydra.run("config", job, [*parsed.overrides, "hydra.mode=RUN"]))
    finally:
        GlobalHydra.instance().clear()


@contextmanager
def recorded_returns(returns: list[JobReturn]) -> Iterator[None]:
    """Record the return values of a sweep's jobs at its launcher: sweepers may drop them."""
    plugins: Any = Plugins.instance()
    original = plugins.instantiate_launcher

    def instantiate(*arguments: Any, **options: Any) -> Any:
        del plugins.instantiate_launcher  # launchers pickle the plugins for other processes
        launcher = original(*arguments, **options)
        launch = launcher.launch

        def recorded(*batch: Any, **named: Any) -> Sequence[JobReturn]:
            results: Sequence[JobReturn] = launch(*batch, **named)
            returns.extend(results)
            return results

        launcher.launch = recorded
        return launcher

    plugins.instantiate_launcher = instantiate
    try:
        yield
    finally:
        vars(plugins).pop("instantiate_launcher", None)
