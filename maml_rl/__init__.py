"""MAML meta-reinforcement learning: policies that adapt to a new task in one gradient step."""
