"""The Hydra configuration, shipped with the package as maml_rl.conf."""
