"""Adapt a trained run to a test task, try the policy there, and export it.

python examples/adapt.py <run folder>
"""

import argparse
import sys

import maml_rl
from envs import UserError


def main(run: str, exported: str = "adapted_policy.pt2") -> None:
    """Print the returns before and after adaptation, and of one episode of the mean action."""
    trained = maml_rl.load(run)
    distribution = trained.distribution
    adapted = trained.adapt(trained.tasks("test"), steps=1)
    policy = adapted[0]
    before, after = policy.returns
    print(f"{distribution.name}, task {distribution.describe(policy.task)}:")
    print(f"  mean return before adaptation {before:.1f}, after one step {after:.1f}")

    env = distribution.single(policy.task)
    observation, _ = env.reset(seed=0)
    total, done = 0.0, False
    while not done:
        observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
        total, done = total + reward, terminated or truncated
    env.close()
    print(f"  return of the mean action {total:.1f}")

    print(f"exported: {policy.export(exported)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Adapt a trained run to a test task.")
    parser.add_argument("run", help="the run folder")
    parser.add_argument("exported", nargs="?", default="adapted_policy.pt2", help="file to write")
    options = parser.parse_args()
    try:
        main(options.run, options.exported)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
