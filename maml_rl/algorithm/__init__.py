"""The method: rollouts, advantages, policies, the inner and the outer loop."""
