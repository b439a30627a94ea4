"""Destinations of a run's reports: metrics.jsonl, TensorBoard, and experiment trackers."""

from maml_rl.training.loggers.mlflow import MlflowLogger
from maml_rl.training.loggers.run_logger import Metrics, RunLogger
from maml_rl.training.loggers.wandb import WandbLogger

__all__ = ["Metrics", "MlflowLogger", "RunLogger", "WandbLogger"]
