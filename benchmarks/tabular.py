"""Tabular problems small enough to know everything about: exact derivatives, every trajectory.

Letters beyond the library's: S states, A actions. A policy is a table of logits [S, A], in the
library's terms a `CategoricalMLP` without hidden layers and bias on one-hot observations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maml_rl.algorithm.policies import Categorical, CategoricalMLP
from maml_rl.algorithm.rollout import Params, Rollout


@dataclass(frozen=True)
class TabularMDP:
    """A Markov decision process with a fixed horizon; all tensors float64."""

    transitions: Tensor  # [S, A, S] probabilities of the next state
    rewards: Tensor  # [S, A]
    initial: Tensor  # [S] probabilities of the first state
    discount: float
    horizon: int  # T

    @property
    def num_states(self) -> int:
        """S."""
        return self.rewards.shape[0]

    @property
    def num_actions(self) -> int:
        """A."""
        return self.rewards.shape[1]


def random_mdp(
    rng: np.random.Generator,
    num_states: int = 20,
    num_actions: int = 5,
    discount: float = 0.8,
    horizon: int = 20,
    concentration: float = 1e-3,
) -> TabularMDP:
    """Draw a problem as Tang et al. 2021 do: Dirichlet transitions, rewards uniform in [0, 1].

    Their concentration of 0.001 makes transitions all but deterministic. State 0 comes first.
    """
    rows = rng.dirichlet(np.full(num_states, concentration), (num_states, num_actions))
    rewards = rng.uniform(size=(num_states, num_actions))
    initial = torch.zeros(num_states, dtype=torch.float64)
    initial[0] = 1.0
    return TabularMDP(torch.from_numpy(rows), torch.from_numpy(rewards), initial, discount, horizon)


def table_policy(mdp: TabularMDP) -> CategoricalMLP:
    """Policy whose one parameter is the table of logits."""
    return CategoricalMLP(mdp.num_states, mdp.num_actions, hidden_sizes=(), bias=False)


def table_params(logits: Tensor) -> Params:
    """Tables of logits [M, S, A] as stacked parameters of `table_policy`."""
    return {"layers.0.weight": logits.mT}


def values(mdp: TabularMDP, logits: Tensor) -> Tensor:
    """V_t(s) = sum_a pi(a|s) (r(s, a) + discount E V_{t+1}(s')), V_T = 0: [..., T, S].

    Differentiable in the logits [..., S, A].
    """
    probabilities = logits.softmax(-1)
    tables, value = [], torch.zeros_like(mdp.initial)
    for _ in range(mdp.horizon):
        value = (probabilities * action_values(mdp, value)).sum(-1)
        tables.append(value)
    return torch.stack(tables[::-1], dim=-2)


def action_values(mdp: TabularMDP, next_values: Tensor) -> Tensor:
    """Q(s, a) = r(s, a) + discount E V(s') of next values [..., S]: [..., S, A]."""
    following = torch.einsum("sap,...p->...sa", mdp.transitions, next_values)
    return mdp.rewards + mdp.discount * following


def visits(mdp: TabularMDP, logits: Tensor) -> Tensor:
    """Probabilities of being in each state at each step, [T, S]."""
    moves = torch.einsum("sa,sap->sp", logits.softmax(-1), mdp.transitions)
    rows = [mdp.initial]
    for _ in range(mdp.horizon - 1):
        rows.append(rows[-1] @ moves)
    return torch.stack(rows)


def exact_return(mdp: TabularMDP, logits: Tensor) -> Tensor:
    """Expected discounted return of a table of logits [S, A], differentiable."""
    return mdp.initial @ values(mdp, logits)[0]


def exact_gradient(mdp: TabularMDP, logits: Tensor) -> Tensor:
    """Gradient of the return in the logits, [S, A]."""
    return _gradient(lambda table: exact_return(mdp, table), logits)


def exact_hessian(mdp: TabularMDP, logits: Tensor) -> Tensor:
    """Hessian of the return in the flattened logits, [S * A, S * A]."""
    return hessian(lambda table: exact_return(mdp, table), logits)


def adapted_return(mdp: TabularMDP, logits: Tensor, step_size: float) -> Tensor:
    """After one exact gradient step from the logits [S, A], differentiable."""
    if not logits.requires_grad:
        logits = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(exact_return(mdp, logits), logits, create_graph=True)
    return exact_return(mdp, logits + step_size * gradient)


def exact_meta_gradient(mdp: TabularMDP, logits: Tensor, step_size: float) -> Tensor:
    """Gradient of `adapted_return` in the logits, MAML's meta-gradient: [S, A]."""
    return _gradient(lambda table: adapted_return(mdp, table, step_size), logits)


def _gradient(function: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    logits = logits.detach().clone().requires_grad_()
    return torch.autograd.grad(function(logits), logits)[0]


def hessian(function: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """Hessian of a function of logits [S, A], in the flattened table."""
    size = logits.numel()
    return torch.autograd.functional.hessian(function, logits.detach()).reshape(size, size)


def sample(
    mdp: TabularMDP, logits: Tensor, num_trajectories: int, generator: torch.Generator
) -> Rollout:
    """Draw B trajectories of each of M policies, logits [M, S, A]."""
    rows = (len(logits), num_trajectories)
    state = torch.multinomial(mdp.initial, rows[0] * rows[1], True, generator=generator)
    states, actions = [state.view(rows)], []
    for _ in range(mdp.horizon):
        noise = torch.randn(*rows, mdp.num_actions, dtype=torch.float64, generator=generator)
        table = _of_states(logits, states[-1][:, None])
        actions.append(Categorical(table).sample(noise[:, None])[:, 0])
        odds = mdp.transitions[states[-1], actions[-1]].flatten(0, 1)
        states.append(torch.multinomial(odds, 1, generator=generator).view(rows))
    ones = torch.ones(rows[0], mdp.horizon, rows[1], dtype=torch.float64)
    return _rollout(mdp, logits, torch.stack(states, 1), torch.stack(actions, 1), ones)


def enumerate_trajectories(mdp: TabularMDP, logits: Tensor) -> Rollout:
    """Every trajectory of a policy [S, A] as a slot, its probability as the mask; M is 1.

    A loss sum(mask * term) / sum(mask) is then the expectation of sum_t term_t / T.
    """
    horizon = mdp.horizon
    states, actions = torch.arange(mdp.num_states), torch.arange(mdp.num_actions)
    columns = torch.cartesian_prod(*[states] * (horizon + 1), *[actions] * horizon).T
    states, actions = columns[: horizon + 1], columns[horizon + 1 :]
    chosen = logits.softmax(-1)[states[:-1], actions]
    moved = mdp.transitions[states[:-1], actions, states[1:]]
    probability = mdp.initial[states[0]] * (chosen * moved).prod(0)
    possible = probability > 0
    mask = probability[possible].expand(horizon, -1)[None]
    return _rollout(mdp, logits[None], states[None, :, possible], actions[None, :, possible], mask)


def _of_states(logits: Tensor, states: Tensor) -> Tensor:
    """Logits [M, T, B, A] of states [M, T, B] under policies [M, S, A]."""
    task = torch.arange(len(logits))[:, None, None]
    return logits[task, states]


def _rollout(
    mdp: TabularMDP, logits: Tensor, states: Tensor, actions: Tensor, mask: Tensor
) -> Rollout:
    """Make a rollout of one episode a slot from states [M, T + 1, B] and actions [M, T, B]."""
    first = torch.zeros_like(mask)
    first[:, 0] = 1.0
    seen = torch.nn.functional.one_hot(states, mdp.num_states).double()
    return Rollout(
        observations=seen[:, :-1],
        actions=actions,
        rewards=mdp.rewards[states[:, :-1], actions],
        discounts=torch.ones_like(mask),
        first=first,
        mask=mask,
        log_probs=Categorical(_of_states(logits, states[:, :-1])).log_prob(actions).detach(),
        final_observations=seen[:, -1],
        state=None,
        info={},
    )
