"""Trained initializations, shipped with the package as maml_rl.pretrained."""
