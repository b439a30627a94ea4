"""Task distributions, one file per body or problem."""
