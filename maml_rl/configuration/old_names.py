"""New places of classes that older run folders name, so that these runs load."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

SPLIT = {  # classes whose module became several
    "envs.combined.HeldOut": "envs.wrappers.held_out.HeldOut",
    "envs.combined.Union": "envs.wrappers.union.Union",
}
MOVED = {  # modules, before the first release
    "envs.ant": "envs.tasks.ant",
    "envs.bandit": "envs.tasks.bandit",
    "envs.classic_control": "envs.tasks.classic_control",
    "envs.gymnasium_env": "envs.backends.gymnasium.distribution",
    "envs.half_cheetah": "envs.tasks.half_cheetah",
    "envs.hopper": "envs.tasks.hopper",
    "envs.humanoid": "envs.tasks.humanoid",
    "envs.metaworld": "envs.tasks.metaworld",
    "envs.point": "envs.tasks.point",
    "envs.reacher": "envs.tasks.reacher",
    "envs.swimmer": "envs.tasks.swimmer",
    "envs.tabular": "envs.tasks.random_mdp",
    "envs.task_observed": "envs.wrappers.task_observed",
    "envs.trials": "envs.wrappers.trials",
    "envs.walker2d": "envs.tasks.walker2d",
    "maml_rl.baselines": "maml_rl.algorithm.baselines",
    "maml_rl.inner_loop": "maml_rl.algorithm.inner_loop.loop",
    "maml_rl.learn2learn_inner": "maml_rl.algorithm.inner_loop.learn2learn",
    "maml_rl.loggers": "maml_rl.training.loggers",
    "maml_rl.logging": "maml_rl.training.loggers",
    "maml_rl.meta_learner": "maml_rl.algorithm.meta_learner",
    "maml_rl.outer_loop": "maml_rl.algorithm.outer_loop",
    "maml_rl.policies": "maml_rl.algorithm.policies",
    "maml_rl.trainer": "maml_rl.training.trainer",
    "maml_rl.training.logging": "maml_rl.training.loggers",
    "maml_rl.update_rules": "maml_rl.algorithm.inner_loop.update_rules",
}
NAMES = ("_target_", "set_task")  # keys whose strings are dotted paths


def current_name(target: str) -> str:
    """Today's dotted path of a class that an older configuration names."""
    if target in SPLIT:
        return SPLIT[target]
    module, _, name = target.rpartition(".")
    return f"{MOVED[module]}.{name}" if module in MOVED else target


def rename(node: Any) -> None:
    """Replace the older dotted paths in a configuration, in place."""
    if isinstance(node, DictConfig):
        for key in list(node):
            value = None if OmegaConf.is_missing(node, key) else node[key]
            if key in NAMES and isinstance(value, str):
                node[key] = current_name(value)
            else:
                rename(value)
    elif OmegaConf.is_list(node):
        for value in node:
            rename(value)
