"""From a composed configuration to objects: the one place below the commands that knows Hydra."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim
from omegaconf import DictConfig, OmegaConf

from envs.arguments import integer_at_least, one_of
from envs.checking import probe, rehearse
from envs.errors import ArgumentError, UserError, cause
from envs.protocol import TaskDistribution, check_complete, check_distribution
from envs.registry import arguments
from envs.unstable import ending_unstable_episodes
from envs.wrappers.task_observed import TaskObserved
from envs.wrappers.trials import Trials
from envs.wrappers.wrapped import Wrapped
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.algorithm.rollout import Params
from maml_rl.configuration.user_classes import check_node
from maml_rl.parallel import ALONE, Communicator
from maml_rl.runs.checkpoint import check_architecture, load_checkpoint
from maml_rl.runs.folder import RunFolder
from maml_rl.training.loggers import Metrics, RunLogger
from maml_rl.training.trainer import Trainer

NODES = {  # what a class named by a stored configuration must offer, by node
    "env": ("sample", "make"),
    "env.set_task": ("sample", "apply"),
    "policy": (
        "distribution",
        "initialize",
        "parts",
        "fixed",
        "statistics",
        "discrete",
        "recurrent",
    ),
    "policy.activation": (),  # a function by its dotted path
    "baseline": ("fit", "values"),
    "baseline.fitted": ("fit", "values"),
    "inner": ("adapt", "step", "meta_parameters"),
    "inner.loss": ("__call__",),
    "inner.update": ("learned",),
    "outer": ("check", "terms", "update", "fisher_share", "differentiates"),
    "algorithm": ("collect", "outer_step"),
    "sampler": ("collector",),
    "trainer": ("run", "resume"),
    "logger": ("open", "write"),
}
LEARNED_BASELINE = ("initialize", "values_of", "updated", "fitted")  # in place of fit and values


def build_trainer(config: DictConfig, path: Path, ranks: Communicator = ALONE) -> Trainer:
    """Build everything a run needs.

    Args:
        config: composed.
        path: of the run's folder.
        ranks: those that share the tasks.

    Raises:
        UserError: if a value is wrong, in the words of the object that refused it.
    """
    distribution = build_distribution(config)
    return _node(
        config,
        "trainer",
        distribution=distribution,
        learner=build_learner(config, distribution),
        sampler=_node(config, "sampler"),
        logger=_node(config, "logger"),
        folder=RunFolder(path),
        seed=config.seed,
        **({} if ranks.size == 1 else {"ranks": ranks}),
    )


def build_logger(config: DictConfig) -> RunLogger | None:
    """Build the logger of a run; None where a user's class takes no evaluations.

    Raises:
        UserError: where a package is missing, or a value is wrong.
    """
    logger = _node(config, "logger")
    return logger if isinstance(logger, RunLogger) else None


def build_distribution(config: DictConfig) -> TaskDistribution:
    """Build the task distribution, and try it for a step.

    Raises:
        UserError: if it is no distribution, its spaces are of another kind, or a result of its
            methods has the wrong shape or is not finite.
    """
    distribution = _node(config, "env")
    observed = config.get("observe_task", False)
    if not isinstance(observed, bool):
        raise UserError(f"observe_task must be true or false, not {observed!r}.")
    with arguments_of("env"), ending_unstable_episodes():  # a run meets them by its sampler
        probe(distribution)
    if observed:
        distribution = TaskObserved(distribution)
    episodes = config.get("trial_episodes")
    if episodes is None:
        return distribution
    return Trials(distribution, integer_at_least("trial_episodes", episodes))


def rehearse_tasks(distribution: TaskDistribution) -> str | None:
    """Run some episodes before a training; a sentence of what may be wrong with them, or None.

    Raises:
        UserError: if episodes depend on others, or on anything but their task and generator.
    """
    while isinstance(distribution, Wrapped):
        distribution = distribution.distribution
    with ending_unstable_episodes():
        return rehearse(distribution)


def build_learner(config: DictConfig, distribution: TaskDistribution) -> MetaLearner:
    """Build policy, baseline, inner and outer loop for the distribution's spaces."""
    torch.set_num_threads(1)  # more lose on small networks; parallelism is over environments
    device = one_of("device", config.device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch finds no CUDA device here; use device=cpu.")
    _check_requirements(config)
    actions = distribution.action_space
    numbered = isinstance(actions, spaces.Discrete)
    policy = _node(
        config,
        "policy",
        observation_size=flatdim(distribution.observation_space),
        action_size=flatdim(actions),
    )
    if policy.discrete != numbered:
        kinds = ("boxes: add policy=gaussian_mlp", "numbered: add policy=categorical_mlp")
        raise UserError(
            f"policy._target_={config.policy._target_} does not fit {distribution.name}, whose "
            f"actions are {kinds[numbered]}."
        )
    inner = _node(config, "inner")
    if isinstance(distribution, Trials) and (not policy.recurrent or inner.steps > 0):
        raise UserError(
            f"trial_episodes={distribution.episodes} is for a policy with memory that takes no "
            f"inner steps: write algorithm=rl2, or policy.memory_size=64 inner.steps=0 with it."
        )
    return _node(
        config,
        "algorithm",
        policy=policy,
        baseline=_node(config, "baseline"),
        inner=inner,
        outer=_node(config, "outer"),
        device=device,
    )


def _check_requirements(config: DictConfig) -> None:
    """Compare the requirements of an algorithm's file with the other nodes.

    Before they are built, since an algorithm's options may be unknown to another class.

    Raises:
        UserError: naming what differs.
    """
    required = config.get("requires", {})
    if not isinstance(required, DictConfig | dict):
        raise UserError(f"requires must map keys to values, not {required!r}.")
    for key in required:
        wanted: Any = required[key]
        value: Any = OmegaConf.select(config, str(key))
        if isinstance(value, DictConfig):
            value = str(value.get("_target_")).rpartition(".")[2]
        above = wanted == "above 0"
        if not (isinstance(value, int | float) and value > 0 if above else value == wanted):
            promised = f"{key!s} above 0" if above else f"{key!s}={_written(wanted)}"
            raise UserError(
                f"algorithm={config.algorithm.name} needs {promised}, not {_written(value)}: "
                f"write that, or use algorithm=maml_trpo, which requires nothing."
            )


def _written(value: Any) -> str:
    """Write a value as the command line has it; the project's classes by their nodes' names."""
    nodes = {
        **{name: name.lower() for name in ("TRPO", "Adam", "PPO", "Reptile")},
        "Learn2LearnGBML": "learn2learn_gbml",
    }
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if OmegaConf.is_list(value):
        return f"[{','.join(str(entry) for entry in value)}]"
    return nodes.get(str(value), str(value))


def train(config: DictConfig, path: Path) -> Metrics:
    """Train a new run in the folder `path` and return its last metrics; no command line needed."""
    trainer, initialization = build_run(config, path)
    return trainer.run(trainer.begin(initialization, configuration_files(config)))


def configuration_files(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, str]:
    """Texts of the stored configuration, by the names of their files in .hydra.

    Interpolations are resolved, since the environment or the clock may differ when the run is
    resumed or evaluated.
    """
    resolved = config.copy()
    OmegaConf.resolve(resolved)
    return {
        "config.yaml": OmegaConf.to_yaml(resolved),
        "overrides.yaml": OmegaConf.to_yaml(OmegaConf.create(list(overrides))),
    }


def build_run(
    config: DictConfig, path: Path, ranks: Communicator = ALONE
) -> tuple[Trainer, Params | None]:
    """Build the trainer, and read the trained initialization to start from where one is given."""
    trainer = build_trainer(config, path, ranks)
    if config.init_from is None:
        return trainer, None
    return trainer, trained_initialization(config.init_from, trainer.learner)


def trained_initialization(path: str, learner: MetaLearner) -> Params:
    """Read the meta-parameters of another run's best checkpoint (its last where there is no best).

    Raises:
        UserError: if `path` is no run folder.
        CheckpointError: if the checkpoint is damaged or of another architecture.
    """
    folder = RunFolder.existing(path, "init_from")
    best = folder.checkpoint("best")
    checkpoint = best if best.is_file() else folder.checkpoint("last")
    meta = load_checkpoint(checkpoint)["meta"]
    check_architecture(meta, learner.initialize(0), checkpoint)
    return meta


def _node(config: DictConfig, name: str, **arguments: Any) -> Any:
    """Build the object that a node describes, and check its kind."""
    node = config.get(name)
    if not isinstance(node, DictConfig) or not isinstance(node.get("_target_"), str):
        raise UserError(f"{name} must name a class in {name}._target_, which is missing.")
    built = _built(name, node, arguments)
    if name == "env":
        check_distribution(f"env._target_={node._target_}", built)
    lacking = lacking_part(name, lambda part: hasattr(built, part))
    if lacking is not None:
        raise UserError(f"{name}._target_={node._target_} does not fit there: it has no {lacking}.")
    return built


def lacking_part(node: str, offers: Callable[[str], bool]) -> str | None:
    """The first part that a class lacks to fit a node; None if it fits."""
    if node == "baseline" and all(offers(part) for part in LEARNED_BASELINE):
        return None
    return next((part for part in NODES[node] if not offers(part)), None)


def _built(name: str, node: DictConfig, given: Mapping[str, Any]) -> Any:
    """Call a node's class, after a check of the node's keys and the types of its values.

    Null keys that the class does not take are left out: a user's class, named by env._target_
    alone, need not know the presets of the node.

    Args:
        name: dotted key of the node.
        node: names the class, and holds its arguments.
        given: arguments that do not come from the node.
    """
    cls = _class(name, str(node._target_))
    parameters = inspect.signature(cls).parameters
    known, of_project = arguments(cls), str(cls.__module__).startswith(("maml_rl.", "envs."))
    values = {}
    for key, value in ((str(key), value) for key, value in node.items() if key != "_target_"):
        if key not in known.defaults and value is None:
            continue
        if key not in known.defaults and not known.any_name:
            takes = (
                ", ".join(argument for argument in known.defaults if argument not in given)
                or "nothing"
            )
            raise UserError(
                f"{name}.{key} is unknown: {cls.__name__} takes {takes} (~{name}.{key} "
                f"takes a value away)."
            )
        if value is None and known.defaults.get(key) is not None and not of_project:
            continue  # null keeps the default; only the project's classes refuse it
        values[key] = _value(f"{name}.{key}", value)
        if key in parameters and not isinstance(value, DictConfig):
            _check_type(f"{name}.{key}", value, str(parameters[key].annotation))
    with arguments_of(name, given):
        try:
            return cls(**{**values, **given})
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{name}: {cause(error)}") from error


def _class(name: str, target: str) -> Any:
    """The class at a dotted path, for the node of a name.

    Raises:
        UserError: if there is none, or it does not fit the node.
    """
    try:
        cls = pkgutil.resolve_name(target)
    except Exception as error:  # importing a user's file may raise anything
        raise UserError(f"{name}._target_={target} cannot be imported ({cause(error)}).") from error
    if not callable(cls):
        raise UserError(f"{name}._target_={target} is no class.")
    check_node(name, target, cls)
    check_complete(cls)
    return cls


@contextmanager
def arguments_of(node: str, elsewhere: Collection[str] = ()) -> Iterator[None]:
    """Put a node's name before the arguments that an error names."""
    try:
        yield
    except ArgumentError as error:
        raise error.within(node, elsewhere) from error


def _value(name: str, value: Any) -> Any:
    """A value of a node as plain lists and dictionaries, the nodes within it built."""
    if isinstance(value, DictConfig):
        if "_target_" in value:
            return _built(name, value, {})
        return {str(key): _value(f"{name}.{key!s}", entry) for key, entry in value.items()}
    if OmegaConf.is_list(value):
        return [_value(f"{name}.{index}", entry) for index, entry in enumerate(value)]
    return value


def _check_type(name: str, value: Any, annotation: str) -> None:
    """Refuse a value that the annotation rules out, and that the class would misread."""
    if annotation in ("bool", "<class 'bool'>") and not isinstance(value, bool):
        raise UserError(f"{name} must be true or false, not {value!r}.")
    if value is None and annotation.endswith("| None"):
        return
    if annotation.startswith(("Sequence[", "list[")) and not OmegaConf.is_list(value):
        example = 64 if value is None else value
        raise UserError(f"{name} must be a list in brackets, such as [{example}], not {value!r}.")
