"""The commands: composing a configuration, running it, and turning errors into one sentence."""
