"""MuJoCo bodies as task distributions."""
