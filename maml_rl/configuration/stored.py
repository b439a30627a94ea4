"""The configuration that a run folder stores, read so that no foreign code runs."""

from __future__ import annotations

import pkgutil
import sys
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from envs.errors import UserError, one_line
from envs.yaml_text import from_yaml
from maml_rl.configuration.building import NODES, lacking_part
from maml_rl.configuration.old_names import rename
from maml_rl.runs.folder import RunFolder, apply_changes, changed_settings

OWN = ("maml_rl.", "envs.")


def stored_config(folder: RunFolder) -> DictConfig:
    """The configuration of a run, with the changes of its resumed sessions.

    A configuration that could run other code is refused.

    Raises:
        UserError: if the file is damaged, or names a _target_ that is not of this project and not a
            class of the kind its node needs.
    """
    changed = changed_settings(folder.read_provenance())
    try:
        content = from_yaml(folder.config.read_text())
        if not isinstance(content, dict):
            raise UserError(f"{folder.config} is not a run's configuration.")
        apply_changes(content, changed)
        config = OmegaConf.create(content)
        OmegaConf.resolve(config)  # an interpolation may make a _target_, so before they are read
    except UserError:
        raise
    except InterpolationResolutionError as error:
        raise UserError(
            f"{folder.config} holds an interpolation that has no value here ({one_line(error)}): "
            f"write the value that the run had in its place."
        ) from error
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise UserError(f"{folder.config} is damaged: it cannot be read as YAML.") from error
    needed = ("seed", "device", *(name for name in NODES if "." not in name))
    missing = [name for name in needed if name not in config]
    if missing:
        raise UserError(f"{folder.config} is not a run's configuration: it has no {missing[0]}.")
    if "requires" in config.algorithm:  # until November 2026 it was the algorithm's
        config.requires = config.algorithm.pop("requires")
    rename(config)
    config.setdefault("ranks", 1)  # which runs from before December 2026 do not name
    trainer = config.trainer
    if "best_by" not in trainer and str(trainer.get("_target_")).startswith("maml_rl."):
        trainer.best_by = "return"  # of runs from before December 2026, whatever the environment
    for key, target in _targets(config, ""):
        _check_target(key, str(target), folder)
    return config


def _targets(node: Any, key: str) -> list[tuple[str, str]]:
    targets = []
    if isinstance(node, DictConfig):
        for name, value in node.items_ex(resolve=False):
            if name == "_target_":
                targets.append((key, value))
            elif name == "set_task" and isinstance(value, str):  # a class by its dotted path
                targets.append((f"{key}.set_task", value))
            elif name == "activation" and isinstance(value, str) and "." in value:
                targets.append((f"{key}.activation", value))
            targets += _targets(value, f"{key}.{name!s}".strip("."))
    elif OmegaConf.is_list(node):
        for index, value in enumerate(node):
            targets += _targets(value, f"{key}.{index}")
    return targets


def _check_target(key: str, target: str, folder: RunFolder) -> None:
    refusal = UserError(
        f"{folder.config} names {key}._target_={target}, which is no class for that node: it was "
        f"not called."
    )
    node = key
    if key.startswith("env."):  # the members of a union or of a split, and what sets their tasks
        node = "env.set_task" if key.endswith(".set_task") else "env"
    if node not in NODES:
        raise refusal
    if not target.startswith(OWN) and target.partition(".")[0] in sys.stdlib_module_names:
        raise refusal
    try:
        built = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{folder.config} names {key}._target_={target}, not found here."
        ) from error
    if node == "policy.activation" and callable(built):
        return
    if not isinstance(built, type) or lacking_part(node, partial(_offers, built)) is not None:
        raise refusal


def _offers(built: type, part: str) -> bool:
    """Whether a class defines a method or attribute; `__call__` only where a base has it."""
    if part == "__call__":
        return any(part in vars(base) for base in built.__mro__)
    return hasattr(built, part)
