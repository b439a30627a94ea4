"""Small runs of experiment=smoke: their configuration, training, resuming."""

import pickle
from functools import cache
from pathlib import Path

from maml_rl.commands.cli import compose
from maml_rl.configuration.building import build_trainer, train

QUIET = ("logger.tensorboard=false", "logger.progress=false", "sampler.threads=1")
SMOKE = ("experiment=smoke", *QUIET)


@cache
def _composed(*overrides):
    """Bytes of a configuration: composing takes forty times as long as reading them."""
    return pickle.dumps(compose("config", [*SMOKE, *overrides]))


def smoke_config(*overrides):
    """The configuration of experiment=smoke without reports; each call gives another copy."""
    return pickle.loads(_composed(*overrides))


def train_smoke(path, *overrides):
    """Train a smoke run below the command line; return its last metrics."""
    return train(smoke_config(*overrides), Path(path))


def trainer(path, *overrides):
    """Build the trainer of a smoke run in a folder."""
    return build_trainer(smoke_config(*overrides), Path(path))


def go_on(path, *overrides):
    """Resume a run with a fresh trainer, as a new process does."""
    again = trainer(path, *overrides)
    again.run(again.resume())
