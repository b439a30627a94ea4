"""The numbers of a run's environment, stored so that later changes of the code are noticed."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.protocol import TaskDistribution
from maml_rl.runs.folder import flat

ALWAYS = ("name", "horizon", "frame_skip", "action_scale", "dt", "preset", "model")
SPACES = ("observation_space", "action_space")
MODEL = (  # arrays of a MuJoCo model that its XML sets
    *("qpos0", "body_mass", "body_inertia", "body_pos", "geom_size", "geom_friction"),
    *("jnt_range", "dof_damping", "dof_armature", "actuator_gear", "actuator_ctrlrange"),
)
MOST = 64  # numbers of a list that are kept
Numbers = dict[str, Any]


def environment_numbers(distribution: TaskDistribution) -> Numbers:
    """Numbers that make a distribution's environments: arguments, presets, spaces, the model.

    Only what JSON holds is kept, nested as the distribution is.
    """
    try:
        parameters = list(inspect.signature(type(distribution)).parameters)
    except ValueError:
        parameters = []
    names = dict.fromkeys([*ALWAYS, *SPACES, *parameters])
    values = {name: _plain(getattr(distribution, name, None)) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def environment_difference(
    provenance: Mapping[str, Any], distribution: TaskDistribution
) -> str | None:
    """First numbers that differ from those a run began with, in words; None where all agree.

    Args:
        provenance: content of provenance.json; older ones have no numbers of the environment.
        distribution: built by today's code from the run's configuration.
    """
    stored, now = provenance.get("environment"), environment_numbers(distribution)
    if not isinstance(stored, Mapping):
        return None
    before, after = flat(stored), flat(now)
    differing = [key for key in before if key in after and before[key] != after[key]]
    words = [f"{key} was {before[key]} and is {after[key]} now" for key in differing[:3]]
    return ", ".join(words) or None


def _plain(value: Any) -> Any:
    """A value in the form of JSON; None for what JSON cannot hold."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        if value.dtype.kind not in "biuf":
            return None
        return value.tolist() if value.size <= MOST else _digest(value)
    if isinstance(value, spaces.Space):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        return _mapping({name: getattr(value, name) for name in fields})
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, Sequence) and len(value) <= MOST:
        entries = [_plain(entry) for entry in value]
        if any(isinstance(entry, dict) for entry in entries):
            return _mapping(dict(enumerate(value)))
        return None if None in entries else entries
    if type(value).__name__ == "MjModel":
        return _model(value)
    return environment_numbers(value) if hasattr(value, "sample") else None


def _mapping(values: Mapping[Any, Any]) -> Numbers:
    plain = {str(key): _plain(value) for key, value in values.items()}
    return {key: value for key, value in plain.items() if value is not None}


def _model(model: Any) -> Numbers:
    """A digest of each array that a model's XML sets, and its time step."""
    arrays = {name: getattr(model, name, None) for name in MODEL}
    digests = {name: _digest(value) for name, value in arrays.items() if value is not None}
    return {"timestep": float(model.opt.timestep), **digests}


def _digest(values: Any) -> str:
    """Digest of numbers to six digits: versions of MuJoCo round the last ones differently."""
    text = " ".join(f"{number:.6g}" for number in np.asarray(values, dtype=np.float64).ravel())
    return hashlib.sha256(text.encode()).hexdigest()[:12]
