"""The errors of task distributions."""


class UserError(ValueError):
    """A wrong input. Its message is one sentence for the person who made it; no traceback."""


class NoGymnasiumFormError(UserError):
    """A distribution has no Gymnasium environment of one task."""


class SimulationError(RuntimeError):
    """A simulation became unstable, gave a value that is not finite, or its worker died."""
