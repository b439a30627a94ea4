"""Gymnasium environments as task distributions."""
