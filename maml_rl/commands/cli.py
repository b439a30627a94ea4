"""The common part of the commands: the configuration's folder, composing it, errors."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.arguments import listed, one_of
from envs.errors import SimulationError, UserError, one_line
from envs.protocol import snake_case
from envs.registry import arguments, import_from_working_folder, published, resolve
from maml_rl.commands.paths import config_directory
from maml_rl.errors import CheckpointError, LostRankError, NonFiniteError, RankError
from maml_rl.parallel.launch import launched_here

NOT_WRITABLE = (
    *(errno.EACCES, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
)


def _run_name(node: DictConfig) -> str:
    """The name of an environment in the paths of its runs: the class's, or a Gymnasium id."""
    target, id = str(node._target_), node.get("id")
    if target.rpartition(".")[2] == "GymnasiumTasks" and id:
        return str(id).rpartition(":")[2].replace("/", "_")  # without the module that registers it
    return snake_case(target.rpartition(".")[2])


OmegaConf.register_new_resolver("run_name", _run_name, replace=True)


def guarded(command: Callable[[Sequence[str]], int]) -> None:
    """Run a command on the process's arguments and exit with its status."""
    open_streams()
    import_from_working_folder()
    sys.exit(status_of(lambda: command(sys.argv[1:])))


def open_streams() -> None:
    """Open the null device for every closed standard stream, so that printing works."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def status_of(call: Callable[[], int]) -> int:
    """Exit status of a call; errors for the user are printed as one sentence."""
    try:
        status = call()
        sys.stdout.flush()  # here, where a reader that has gone away can still be met
        return status
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UserError, CheckpointError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {_plain(error)}", file=sys.stderr)
        return 2
    except (NonFiniteError, SimulationError, RankError) as error:
        if isinstance(error, LostRankError) and launched_here():
            return 1  # the launcher tells which rank has ended
        words = "; ".join([one_line(error), *getattr(error, "__notes__", [])])
        print(f"stopped: {words}.", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        file = error.filename or "a file"
        print(f"error: {file} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def warn(sentence: str | None) -> None:
    """Print a warning, if there is one, on a line of its own."""
    if sentence is not None:
        print(f"warning: {sentence}.", file=sys.stderr, flush=True)


def parse_overrides(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Read `key=value` arguments.

    Args:
        overrides: one a line.
        loader: of the configuration, where glob(...) is to find the names of a group.

    Raises:
        UserError: quoting the one that cannot be read.
    """
    try:
        return OverridesParser.create(loader).parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise UserError(
            f"cannot read {error.override!r}: write key=value, and quote a value that holds "
            f"special characters, as in \"key='a=b'\"."
        ) from error


def compose_run(overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
    """Compose a run's configuration, and Hydra's node for it, which its resolvers then read.

    Raises:
        UserError: as `compose`.
    """
    composed = compose("config", overrides, with_hydra=True)
    HydraConfig.instance().set_config(composed)
    config = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    return config, composed.hydra


def compose(name: str, overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
    """Compose the configuration `name`.

    Raises:
        UserError: in one sentence, where Hydra refuses an override.
    """
    register_published(parse_overrides(overrides))
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        try:
            return hydra.compose(name, list(overrides), return_hydra_config=with_hydra)
        except MissingConfigException as error:
            group, _, wanted = (error.missing_cfg_file or "").rpartition("/")
            if not group or not error.options:
                raise UserError(_plain(error)) from error
            one_of(group, wanted, [*error.options, *(published() if group == "env" else ())])
            raise
        except HydraException as error:
            raise UserError(_explained(error, _known(name, overrides))) from error
        except ValueError as error:  # a group was given something that is no name
            raise UserError(_group_refusal(overrides, error)) from error


def register_published(overrides: Sequence[Override]) -> None:
    """Register a node for each env=<name> that an installed package publishes.

    Raises:
        UserError: if its class cannot be imported.
    """
    chosen = [override for override in overrides if override.key_or_group == "env"]
    for override in chosen:
        several = override.is_sweep_override()
        for name in override.sweep_string_iterator() if several else [str(override.value())]:
            if name in (entry_points := published()):
                node: dict[str, Any] = arguments(resolve(name)).plain
                node["_target_"] = f"{entry_points[name].module}.{entry_points[name].attr}"
                ConfigStore.instance().store(name=name, node=node, group="env")


def _known(name: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration of the chosen groups alone, whose keys an error lists."""
    groups = {path.name for path in config_directory().iterdir() if path.is_dir()}
    groups.add("hydra.searchpath")  # where a person's own nodes lie
    chosen = [line for line in overrides if line.partition("=")[0] in groups]
    return hydra.compose(name, chosen)


def _listed(keys: Sequence[str]) -> str:
    """Keys of a node in words; of many, the node's name stands once."""
    node = keys[0].rpartition(".")[0]
    if node and len(keys) > 10:
        return f"{node} has {', '.join(key.rpartition('.')[2] for key in keys)}"
    return f"there is {', '.join(keys)}"


def _explained(error: HydraException, config: DictConfig) -> str:
    """The unknown key and its nearest names, or the value that is several, in words."""
    text = str(error)
    if text.startswith("Ambiguous value for argument "):
        argument = text.split("'")[1]
        return f"{argument} gives several values: --multirun runs each; a list is key=[a,b]."
    unknown = re.match(r"Could not (?:override|delete from config\.) '([^']+)'", text)
    if not unknown:
        return _plain(error)
    key = str(getattr(error.__cause__, "full_key", None) or unknown[1])
    known = list(_keys(config, ""))
    near = get_close_matches(key, known, n=1, cutoff=0.75)
    if near and near[0] != key:
        return f"{key} is unknown; did you mean {near[0]}?"
    parent = key.rpartition(".")[0]
    siblings = sorted(name for name in known if name.rpartition(".")[0] == parent)
    return f"{key} is unknown; {_listed(siblings)}." if siblings else f"{key} is unknown."


def _keys(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, DictConfig):
        for name, value in node.items_ex(resolve=False):
            if name != "_target_":
                yield f"{prefix}{name!s}"
                yield from _keys(value, f"{prefix}{name!s}.")


def _group_refusal(overrides: Sequence[str], error: ValueError) -> str:
    groups = {path.name for path in config_directory().iterdir() if path.is_dir()}
    wrong = [line for line in overrides if line.partition("=")[0].lstrip("+~") in {"", *groups}]
    for line in wrong:
        group = line.partition("=")[0].lstrip("+~")
        if not group:
            break
        names = sorted(path.stem for path in config_directory().glob(f"{group}/*.yaml"))
        if line.partition("=")[2] not in names:
            return f"{line} is no choice; choose one of {listed(names)}."
    return f"cannot read {line!r}: write key=value." if wrong else one_line(error)


def _plain(error: Exception) -> str:
    """An error's message on one line, without what only Hydra's developers need."""
    tail = r"\s(See https|Config search path|Or add a second|full_key:|object_type=).*"
    text = re.sub(tail, "", one_line(error))
    key = getattr(error, "full_key", None)
    return f"{key}: {text}" if key else text
