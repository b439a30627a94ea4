"""Sampling: one collection loop for all environments."""

from maml_rl.sampling.collector import Collector, Sampler

__all__ = ["Collector", "Sampler"]
