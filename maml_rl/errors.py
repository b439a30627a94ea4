"""Errors of a run. A user's wrong input is an `envs.errors.UserError`."""


class NonFiniteError(RuntimeError):
    """A loss, gradient, action, reward or observation that is not a finite number."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used. Its message is one sentence."""


class RankError(RuntimeError):
    """Another rank of the run failed. Its message is one sentence."""


class LostRankError(RankError):
    """Another rank has ended, or does not answer."""
