"""Runs on the disk: writing them, and reading them back."""
