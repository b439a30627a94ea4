"""The evaluation protocol, its statistics and its figures."""
