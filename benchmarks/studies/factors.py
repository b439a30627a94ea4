"""What the studies vary: a base of overrides for each problem, and factors with their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Settings = Mapping[str, Sequence[str]]
"""Overrides by the name of a setting."""


@dataclass(frozen=True)
class Study:
    """One problem's study.

    Args:
        base: overrides of every run; those of a setting replace equal keys.
        env_steps: that every run trains for.
        factors: settings, by factor.
        seeds: that no result outside the studies uses.
    """

    base: Sequence[str]
    env_steps: int
    factors: Mapping[str, Settings] = field(default_factory=dict)
    seeds: Sequence[int] = (107, 108)

    def overrides(self, changed: Sequence[str], seed: int) -> list[str]:
        """The command line of a run: the base with what a setting changes."""
        keys = {override.partition("=")[0] for override in changed}
        kept = [override for override in self.base if override.partition("=")[0] not in keys]
        fixed = [
            "trainer.iterations=null",
            f"trainer.env_steps={self.env_steps}",
            "trainer.validate_every=1000000",
            "sampler.threads=1",
            "logger.tensorboard=false",
            "logger.progress=false",
            f"seed={seed}",
        ]
        return [*kept, *changed, *fixed]


def one(key: str, *values: object) -> dict[str, list[str]]:
    """Settings of one key, by its values."""
    return {str(value).replace(" ", ""): [f"{key}={value}"] for value in values}


SHARED = ("baseline=shared_value_network",)
FACTORS: dict[str, Settings] = {
    "tasks": one("trainer.num_tasks", 2, 8, 20),
    "episodes": one("trainer.num_episodes", 10, 40),
    "episodes before the step": one("trainer.num_episodes_before", 5, 10, 40),
    "task sampling": one("trainer.task_sampling", "independent"),
    "lambda": one("algorithm.gae_lambda", 0.8, 0.95, 1.0),
    "discount": one("algorithm.discount", 0.95, 0.98),
    "critic": {
        "value network": ["baseline=value_network"],
        "shared value network": [*SHARED, "baseline.fitted=null"],
        "shared value network, task returns": [
            *(*SHARED, "baseline.task_returns=true", "baseline.fitted=null")
        ],
        "shared value network, task returns, and linear": [*SHARED, "baseline.task_returns=true"],
    },
    "advantages": {"not standardized": ["algorithm.standardize_advantages=false"]},
    "initial standard deviation": one("policy.initial_std", 0.5),
    "floor of the standard deviation": one("policy.minimum_std", 0.5),
    "observations": {"normalized": ["policy.normalize_observations=true"]},
    "outer optimizer": {"TRPO": ["algorithm=maml_trpo", "algorithm.gae_lambda=0.9"]},
    "outer step size": one("outer.step_size", 5e-4, 2e-3),
    "bound on the gradient": one("outer.max_grad_norm", "null", 1.0, 0.1),
    "epochs": one("outer.epochs", 3, 10),
    "end of the epochs by KL": {
        "0.03": ["outer.max_kl=0.03"],
        "0.03 of 10": ["outer.max_kl=0.03", "outer.epochs=10"],
    },
    "clip": one("outer.clip", 0.15),
    "inner-KL penalty": one("outer.inner_kl_coefficient", 5e-3),
    "inner step size": one("inner.step_size", 0.05, 0.2),
    "learned step sizes": {"Meta-SGD": ["inner=meta_sgd"]},
    "inner steps": one("inner.steps", 2),
    "hidden units": one("policy.hidden_sizes", "[32,32]", "[100,100]"),
    "activation": one("policy.activation", "elu", "relu"),
    "weights at the start": {
        "orthogonal": ["policy.initialization=orthogonal"],
        "last layer x 0.1": ["policy.output_gain=0.1"],
    },
}
BASE = ("algorithm=promp_tuned", "trainer.task_sampling=balanced")
CHEETAH = {"action scale": one("env.action_scale", 0.05, 0.3)}
STUDIES: dict[str, Study] = {
    "half_cheetah_dir": Study(
        ("env=half_cheetah_dir", *BASE, "trainer.num_tasks=4"), 1_000_000, FACTORS | CHEETAH
    ),
    "half_cheetah_vel": Study(
        ("env=half_cheetah_vel", *BASE, "trainer.num_tasks=8"), 2_000_000, FACTORS | CHEETAH
    ),
    "ant_dir": Study(("env=ant_dir", *BASE, "trainer.num_tasks=4"), 1_000_000, FACTORS | CHEETAH),
    "ant_goal": Study(("env=ant_goal", *BASE, "trainer.num_tasks=8"), 2_000_000, FACTORS),
    "point_navigation": Study(
        ("env=point_navigation", *BASE, "trainer.num_tasks=8"), 1_000_000, FACTORS
    ),
}
