"""Sampling: the one collection loop, over whatever steps the environments."""

from maml_rl.sampling.collector import Collector, Sampler

__all__ = ["Collector", "Sampler"]
