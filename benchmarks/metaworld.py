"""A trained run by Meta-World's own protocol: `python -m benchmarks.metaworld RUN`.

`metaworld.evaluation.metalearning_evaluation` runs the test environments that Meta-World builds: it
hands the agent 10 episodes of a goal to adapt to, then counts successes in 3 more; an episode
succeeds if any of its steps does. The agent adapts as the run does, by its inner loop, and acts
after adaptation by the mean action, as MAML of Meta-World's authors does (metaworld-algorithms).

Meta-World's function stops after the first `evaluation_episodes` that end in any environment of a
class, and success ends an episode. With several environments of a class it therefore counts those
that succeed first. Here a class has one environment, so that every goal counts; `--meta-batch 20`
has as many as Meta-World's published figures do.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium.vector
import numpy as np
import torch
from torch import Tensor

import maml_rl
from envs.arguments import integer_at_least
from envs.backends.mujoco.model import quiet_mujoco
from envs.errors import UserError
from envs.protocol import Array
from envs.tasks.metaworld import GOALS, Metaworld, vector_environments
from envs.wrappers.trials import Trials
from maml_rl.algorithm.inner_loop.loop import stack
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.commands.cli import guarded
from maml_rl.evaluation.statistics import bootstrap_interval
from maml_rl.files import write_json
from maml_rl.randomness import Key, Purpose
from maml_rl.reporting.tables import print_table
from maml_rl.sampling.actions import applied_actions
from maml_rl.trained.loading import Trained
from maml_rl.wording import bracketed, counted, shown

if TYPE_CHECKING:
    from metaworld.evaluation import Timestep

LATER_SCALE = 0.5  # of the steps beyond the number trained with, as in `Trained.adapt`


class AdaptingAgent:
    """A trained run as a metaworld.evaluation.MetaLearningAgent, on N environments side by side.

    Args:
        trained: the run, which adapts by inner steps.
        num_envs: N, each with a task and a policy of its own.
        seed: of the noise of the actions that it adapts to.
    """

    params: Params  # of the N policies, leaves [N, *s]

    def __init__(self, trained: Trained, num_envs: int, seed: int = 0) -> None:
        self.trained, self.num_envs = trained, num_envs
        self._noise = Key(seed, (Purpose.TEST,)).generator(Purpose.ACTIONS)
        self.init()

    def init(self) -> None:
        """Go back to the initialization."""
        meta = stack(self.trained.meta, self.num_envs)
        self.params = self.trained.learner.inner.initial_params(meta)
        self._earlier: list[Rollout] = []
        self._timesteps: list[Timestep] = []

    def reset(self, env_mask: Array) -> None:
        """Do nothing where episodes begin: the policies have no memory."""

    def adapt_action(self, observations: Array) -> tuple[Array, dict[str, Array]]:
        """Draw an action for each observation [N, O].

        Returns:
            The applied actions [N, A], and what was sampled: "actions" [N, A], "log_probs" [N].
        """
        with torch.inference_mode():
            distribution = self._distribution(observations)
            shape = (self.num_envs, 1, 1, self.trained.learner.policy.action_size)
            drawn = distribution.sample(self._tensor(self._noise.standard_normal(shape)))
            log_probs = distribution.log_prob(drawn)
        actions = drawn[:, 0, 0].numpy()
        sampled = {"actions": actions, "log_probs": log_probs[:, 0, 0].numpy()}
        return applied_actions(self.trained.distribution, actions), sampled

    def step(self, timestep: Timestep) -> None:
        """Record a step of all environments."""
        self._timesteps.append(timestep)

    def adapt(self) -> None:
        """Take an inner step on the episodes since the last one."""
        rollout, meta = self.rollout(), self.trained.meta
        adapted = self.trained.learner.adapt(meta, self.params, rollout, self._earlier, LATER_SCALE)
        self.params = adapted[1]
        self._earlier.append(rollout)
        self._timesteps = []

    def eval_action(self, observations: Array) -> Array:
        """The applied mean action for each observation [N, O], [N, A]."""
        with torch.inference_mode():
            actions = self._distribution(observations).mode()[:, 0, 0].numpy()
        return applied_actions(self.trained.distribution, actions)

    def rollout(self) -> Rollout:
        """The recorded steps as a rollout of N tasks; an environment's episodes are its slots.

        Meta-World does not hand over what is seen after an episode's last step; what was seen
        before that step stands for it.
        """
        steps = self._timesteps
        ended = np.array([step.terminated | step.truncated for step in steps])
        length = int(ended[:, 0].argmax()) + 1
        regular = np.arange(1, len(steps) + 1) % length == 0
        assert (ended == regular[:, None]).all(), "Meta-World's environments end episodes together"

        def slots(values: Sequence[Array]) -> Tensor:
            rows = np.stack(values)  # [B * T, N, ...]
            rows = rows.reshape(-1, length, *rows.shape[1:])
            return self._tensor(np.moveaxis(rows, (2, 1), (0, 1)))

        observations = slots([step.observation for step in steps])
        mask = torch.ones(observations.shape[:3], dtype=observations.dtype)
        first = torch.zeros_like(mask)
        first[:, 0] = 1
        return Rollout(
            observations=observations,
            actions=slots([step.aux_policy_outputs["actions"] for step in steps]),
            rewards=slots([step.reward for step in steps]),
            discounts=1 - slots([step.terminated for step in steps]),
            first=first,
            mask=mask,
            log_probs=slots([step.aux_policy_outputs["log_probs"] for step in steps]),
            final_observations=observations[:, -1].clone(),
            state=None,
            info={},
        )

    def _distribution(self, observations: Array) -> Any:
        rows = self._tensor(observations)[:, None, None]
        return self.trained.learner.policy.distribution(self.params, rows)[0]

    def _tensor(self, values: Array) -> Tensor:
        dtype = next(iter(self.params.values())).dtype
        return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)


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
        UserError: if the run is not one of Meta-World that adapts by inner steps, or a number is
            wrong.
    """
    distribution = _checked(trained)
    classes = len(distribution.held_out.classes)
    count = classes if meta_batch is None else meta_batch
    if count < classes or count % classes or goals * classes % count:
        raise UserError(
            f"--meta-batch {count}: the {goals * classes} test goals of {distribution.name} cannot "
            f"be divided evenly among {count} environments, as many for each of its test classes "
            f"({classes}); leave it out."
        )
    envs = vector_environments(distribution, goals, count)
    agent = AdaptingAgent(trained, count, seed)
    successes = success_by_round(agent, envs, goals * classes // count, episodes)
    envs.close()
    values = np.array(list(successes.rates.values()))
    strata = np.repeat(list(successes.rates), values.shape[1]).tolist()
    every_goal = {"success_ci95": list(bootstrap_interval(values.ravel(), strata=strata))}
    return {
        "env": distribution.name,
        "algorithm": trained.learner.name,
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


def _checked(trained: Trained) -> Metaworld:
    """The run's distribution.

    Raises:
        UserError: if it is not Meta-World's, or the run adapts by its memory.
    """
    distribution, path = trained.distribution, shown(trained.folder.path)
    if isinstance(distribution, Trials):
        raise UserError(
            f"{path} adapts by its memory, and this is for runs that adapt by inner steps: "
            f"python evaluate.py run={path} evaluates it."
        )
    if not isinstance(distribution, Metaworld):
        raise UserError(
            f"{path} was trained on {type(distribution).__name__} ({distribution.name}), and this "
            f"is Meta-World's protocol: name a run of env=metaworld_ml1, metaworld_ml10 or "
            f"metaworld_ml45."
        )
    return distribution


def _print(content: dict[str, Any]) -> None:
    """Print success by class, and the mean."""
    rates, interval = content["by_round"], content.get("success_ci95")
    mean = f"{content['success_mean']:.3f}"
    if interval is not None:
        mean = bracketed(content["success_mean"], interval, "{:.3f}")
    rows = [[name, f"{np.mean(values):.3f}"] for name, values in rates.items()]
    title = (
        f"{content['env']}, {content['algorithm']}: success after "
        f"{counted(content['steps'], 'step')} on {content['adaptation_episodes']} episodes each"
    )
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
    parser.add_argument("--steps", type=int, default=1, help="inner steps; 0 for none")
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
