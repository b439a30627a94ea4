"""A trained run by Meta-World's own protocol: `python -m benchmarks.metaworld RUN`.

`metaworld.evaluation.metalearning_evaluation` runs the test environments that Meta-World builds: it
hands the agent 10 episodes of a goal to adapt to, then counts successes in 3 more; an episode
succeeds if any of its steps does. The agent adapts as the run does, by its inner loop or its
memory, and acts after adaptation by the mean action, as MAML of Meta-World's authors does
(metaworld-algorithms).

Meta-World's function stops after the first `evaluation_episodes` that end in any environment of a
class, and success ends an episode. With several environments of a class it therefore counts those
that succeed first. Here a class has one environment, so that every goal counts; `--meta-batch 20`
is Meta-World's default.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium.vector
import numpy as np

import maml_rl
from benchmarks.metaworld_agents import AdaptingAgent, RememberingAgent
from envs.arguments import integer_at_least
from envs.backends.mujoco.model import quiet_mujoco
from envs.errors import UserError
from envs.tasks.metaworld import GOALS, Metaworld, vector_environments
from envs.wrappers.trials import Trials
from maml_rl.commands.cli import guarded
from maml_rl.evaluation.statistics import bootstrap_interval
from maml_rl.files import write_json
from maml_rl.reporting.tables import print_table
from maml_rl.trained.loading import Trained
from maml_rl.wording import bracketed, counted, shown


class Episodes(NamedTuple):
    """Numbers of the protocol."""

    steps: int = 1
    adaptation: int = 10
    evaluation: int = 3


class Successes(NamedTuple):
    """What Meta-World's function returned for each round of goals."""

    rates: dict[str, list[float]]  # of each class, by round
    returns: list[float]


def success_by_round(
    agent: Any, envs: gymnasium.vector.SyncVectorEnv, rounds: int, episodes: Episodes
) -> Successes:
    """Run metaworld.evaluation.metalearning_evaluation once for each round of goals.

    Args:
        agent: a metaworld.evaluation.MetaLearningAgent.
        envs: as `vector_environments` builds them; in a round each has its next goal.
        rounds: number of goals of each environment.
        episodes: for each goal.
    """
    from metaworld.evaluation import metalearning_evaluation

    successes = Successes({}, [])
    with quiet_mujoco():
        for _ in range(rounds):
            _, mean_return, rates = metalearning_evaluation(agent, envs, 1, *episodes)
            successes.returns.append(float(mean_return))
            for name, rate in sorted(rates.items()):
                successes.rates.setdefault(name, []).append(float(rate))
    return successes


def evaluated(
    trained: Trained, goals: int, episodes: Episodes, meta_batch: int | None, seed: int
) -> dict[str, Any]:
    """Success of a run, and the terms of the evaluation.

    Args:
        trained: the run.
        goals: of each test class.
        episodes: for each goal.
        meta_batch: number of environments; None takes one for each test class.
        seed: of action noise.

    Raises:
        UserError: if the run is not one of Meta-World, or `meta_batch` is wrong.
    """
    distribution = _checked(trained)
    classes = len(distribution.held_out.classes)
    count = _environments(distribution, goals, meta_batch)
    remembers = isinstance(trained.distribution, Trials)
    envs = vector_environments(distribution, goals, count, reward_observed=remembers)
    agent = (RememberingAgent if remembers else AdaptingAgent)(trained, count, seed)
    successes = success_by_round(agent, envs, goals * classes // count, episodes)
    envs.close()
    values = np.array(list(successes.rates.values()))
    strata = np.repeat(list(successes.rates), values.shape[1]).tolist()
    every_goal = {"success_ci95": list(bootstrap_interval(values.ravel(), strata=strata))}
    return {
        "env": distribution.name,
        "algorithm": trained.learner.name,
        "kind": "memory" if remembers else "gradient",
        "checkpoint": trained.checkpoint,
        "iteration": trained.iteration,
        "metaworld": version("metaworld"),
        "actions": "mean",
        "goals": goals,
        "meta_batch": count,
        "steps": episodes.steps,
        "adaptation_episodes": episodes.adaptation,
        "evaluation_episodes": episodes.evaluation,
        "seed": seed,
        "success_mean": float(values.mean()),
        **(every_goal if count == classes else {}),
        "return_mean": float(np.mean(successes.returns)),
        "by_round": successes.rates,
    }


def _environments(distribution: Metaworld, goals: int, meta_batch: int | None) -> int:
    """Number of environments, as many for each test class.

    Raises:
        UserError: if the goals cannot be divided among `meta_batch`.
    """
    classes = len(distribution.held_out.classes)
    count = classes if meta_batch is None else meta_batch
    if count < classes or count % classes or goals * classes % count:
        raise UserError(
            f"--meta-batch {count}: the {goals * classes} test goals of {distribution.name} cannot "
            f"be divided evenly among {count} environments, as many for each of its test classes "
            f"({classes}); leave it out."
        )
    return count


def _checked(trained: Trained) -> Metaworld:
    """The run's distribution, that of its trials where it has a memory.

    Raises:
        UserError: if it is not Meta-World's, or the run has both a memory and inner steps.
    """
    trials = trained.distribution
    distribution = trials.distribution if isinstance(trials, Trials) else trials
    if not isinstance(distribution, Metaworld):
        raise UserError(
            f"{shown(trained.folder.path)} was trained on {type(distribution).__name__} "
            f"({distribution.name}), and this is Meta-World's protocol: name a run of "
            f"env=metaworld_ml1, metaworld_ml10 or metaworld_ml45."
        )
    if trained.learner.policy.recurrent and distribution is trials:
        raise UserError(
            f"{shown(trained.folder.path)} adapts by inner steps and has a memory too: name a run "
            f"that has one of them, as algorithm=maml_trpo or algorithm=rl2."
        )
    return distribution


def _print(content: dict[str, Any]) -> None:
    """Print success by class, and the mean."""
    rates, interval = content["by_round"], content.get("success_ci95")
    mean = f"{content['success_mean']:.3f}"
    if interval is not None:
        mean = bracketed(content["success_mean"], interval, "{:.3f}")
    rows = [[name, f"{np.mean(values):.3f}"] for name, values in rates.items()]
    after = (
        counted(content["steps"], "step") + f" on {content['adaptation_episodes']} episodes each"
    )
    if content["kind"] == "memory":
        after = counted(content["steps"] * content["adaptation_episodes"], "episode")
    title = f"{content['env']}, {content['algorithm']}: success after {after}"
    print_table((["class", "success"], [*rows, ["mean", mean]]), title)
    episodes = counted(content["evaluation_episodes"], "episode")
    if interval is None:
        episodes = f"the first {episodes} to end in {content['meta_batch']} environments"
    print(
        f"Meta-World {content['metaworld']}: {counted(content['goals'], 'goal')} of each class, "
        f"{episodes}, by the mean action"
    )


def metaworld_command(arguments: Sequence[str]) -> int:
    """Evaluate a run; print the success of each class and write it beside the run's evaluation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="run folder, of env=metaworld_ml1, metaworld_ml10 or _ml45")
    parser.add_argument("--checkpoint", default="best", help="best, last or an iteration's number")
    parser.add_argument(
        "--goals", type=int, default=40, help=f"of each test class, at most {GOALS}"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=1,
        help="inner steps; 0 for none; of runs with memory, parts of a trial",
    )
    parser.add_argument("--adaptation-episodes", type=int, default=10, help="for each inner step")
    parser.add_argument("--evaluation-episodes", type=int, default=3, help="for each goal")
    parser.add_argument("--meta-batch", type=int, help="environments; one for each class if absent")
    parser.add_argument("--seed", type=int, default=0, help="of action noise")
    parser.add_argument("--out", type=Path, help="file, instead of one beside the run's evaluation")
    options = parser.parse_args(arguments)
    if integer_at_least("--goals", options.goals) > GOALS:
        raise UserError(f"--goals must be at most Meta-World's {GOALS}, not {options.goals}.")
    episodes = Episodes(
        integer_at_least("--steps", options.steps, 0),
        integer_at_least("--adaptation-episodes", options.adaptation_episodes),
        integer_at_least("--evaluation-episodes", options.evaluation_episodes),
    )
    seed = integer_at_least("--seed", options.seed, 0)
    trained = maml_rl.load(options.run.removeprefix("run="), options.checkpoint)
    content = evaluated(trained, options.goals, episodes, options.meta_batch, seed)
    path = options.out or trained.folder.evaluation / "metaworld_protocol.json"
    write_json(path, content)
    _print(content)
    print(f"written: {shown(path)}")
    return 0


if __name__ == "__main__":
    guarded(metaworld_command)
