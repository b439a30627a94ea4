"""Errors of a run. What a person wrote wrongly is an `envs.arguments.UserError`."""


class NonFiniteError(RuntimeError):
    """A loss, gradient, action, reward or observation that is not a finite number."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used. Its message is one sentence."""
