"""The outer loop: differentiates through the inner loop and updates the meta-parameters."""

from maml_rl.algorithm.outer_loop.adam import Adam
from maml_rl.algorithm.outer_loop.objectives import PostAdaptationObjective
from maml_rl.algorithm.outer_loop.ppo import PPO
from maml_rl.algorithm.outer_loop.reptile import Reptile
from maml_rl.algorithm.outer_loop.trpo import TRPO
from maml_rl.algorithm.outer_loop.update import OuterOptimizer, OuterUpdate

__all__ = [
    "PPO",
    "TRPO",
    "Adam",
    "OuterOptimizer",
    "OuterUpdate",
    "PostAdaptationObjective",
    "Reptile",
]
