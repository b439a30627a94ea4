"""What an outer optimizer is, and what it returns."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from maml_rl.outer_loop.objectives import PostAdaptationObjective
from maml_rl.rollout import Params

State = dict[str, Any]


class OuterUpdate(NamedTuple):
    """The result of one outer step."""

    meta: Params  # leaves [*s]
    state: State  # what the optimizer carries on; goes into the checkpoint
    metrics: dict[str, float]  # names begin with "outer/"


class OuterOptimizer(Protocol):
    """Improves the meta-parameters on the objective of one iteration."""

    keeps_graphs: bool  # whether it multiplies by the Fisher matrix

    def update(self, meta: Params, state: State, objective: PostAdaptationObjective) -> OuterUpdate:
        """Take one outer step from `meta`; `state` is empty at the first."""
        ...
