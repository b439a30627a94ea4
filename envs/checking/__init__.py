"""What every task distribution promises, as checks."""
