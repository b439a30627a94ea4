"""Measurements that are run by hand; their results are kept in docs/ and results/."""
