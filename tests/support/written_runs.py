"""Files of runs with chosen numbers, written without training."""

import json

import numpy as np
from omegaconf import OmegaConf

from maml_rl.evaluation.protocol import Evaluation
from maml_rl.evaluation.result import Terms
from maml_rl.evaluation.storage import to_json
from maml_rl.evaluation.summary import summarized

BEFORE, AFTER = [1.0, 2.0, 3.0, -4.0], [10.0, 20.0, 30.0, 40.0]
TWO = np.array([BEFORE, AFTER])  # [K + 1, M]: one inner step, four tasks
SPLITS = ("validation", "test")


def make_run(path, returns=TWO, seed=0, iterations=3, evaluation=(), goals=None, **settings):
    """Write the files of a run as train.py and evaluate.py leave them, without weights."""
    config = OmegaConf.create(
        {
            "env": {"_target_": "envs.PointNavigation", "preset": None, "horizon": None},
            "outer": {"_target_": "maml_rl.algorithm.outer_loop.TRPO", "max_kl": 0.01},
            "trainer": {"iterations": 3, "env_steps": None, "checkpoint_every": 50},
            "algorithm": {"name": "maml_trpo"},
            "sampler": {"threads": None},
            "observe_task": False,
            "init_from": None,
            "seed": seed,
        }
    )
    for key, value in settings.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    (path / ".hydra").mkdir(parents=True)
    OmegaConf.save(config, path / ".hydra" / "config.yaml")
    OmegaConf.save(["experiment=mine", f"seed={seed}"], path / ".hydra" / "overrides.yaml")
    tasks = (np.eye(4, 2) + seed).tolist() if goals is None else goals
    (path / "tasks.json").write_text(json.dumps({name: {"goal": tasks} for name in SPLITS}))
    rows = [metrics_row(i, 10.0 * i + seed) for i in range(1, iterations + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if returns is not None:
        write_evaluation(path, np.asarray(returns, dtype=float), dict(evaluation))
    return path


def metrics_row(iteration, after):
    """One line of metrics.jsonl, with the return after adaptation."""
    return {
        "iteration": iteration,
        "env_steps": 1000 * iteration,
        "return/step_0": -1.0 * iteration,
        "return/step_1": after,
        "outer/kl": 0.001 * iteration,
        "outer/accepted": 1.0,
        "outer/loss": 0.5,
        "outer/loss_after": 0.25,
        "seconds": 2.0 * iteration,
        "seconds/iteration": 2.0,
        "seconds/sampling": 1.5,
        "seconds/outer_loop": 0.4,
        "seconds/steps_per_second": 500.0,
    }


def write_evaluation(path, returns, changes):
    """Write evaluation.json of a run for returns, [K + 1, M]."""
    content = to_json(result_of(returns)) | changes
    (path / "evaluation").mkdir(exist_ok=True)
    (path / "evaluation" / "evaluation.json").write_text(json.dumps(content))


def result_of(returns, groups=(), success=None, **fields):
    """The result of an evaluation with chosen returns, [K + 1, M]."""
    terms = Terms(
        env="point_navigation",
        algorithm="maml_trpo",
        kind="memory" if "within" in fields else "gradient",
        checkpoint="best",
        split="test",
        num_tasks=np.shape(returns)[1],
        num_episodes=20,
        later_scale=0.5,
    )
    return summarized(terms, Evaluation({}, np.array(returns), dict(groups), success, **fields))


def line(iteration, **more):
    """One iteration's metrics as the trainer gives them to its logger."""
    return {
        "iteration": iteration,
        "env_steps": 160_000 * iteration,
        "return/step_0": -1.26,
        "return/step_1": 5.0 + iteration,
        "seconds": 4.0 * iteration,
        "seconds/iteration": 4.0,
        "seconds/steps_per_second": 40_000.4,
        **more,
    }
