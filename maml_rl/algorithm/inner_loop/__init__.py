"""The inner loop: adaptation by policy-gradient steps, its losses and update rules."""
