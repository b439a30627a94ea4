"""A baseline with chosen values."""

import torch


class FixedValues:
    """A baseline whose predictions are given."""

    def __init__(self, values, final):
        self.predicted = values, final

    def fit(self, rollout, returns, bootstrap=None):
        self.returns = returns
        return torch.empty(len(returns), 0)

    def values(self, weights, rollout):
        return self.predicted
