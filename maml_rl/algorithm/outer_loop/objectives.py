"""The outer objective: the loss after adaptation, as a function of the meta-parameters.

Tasks are handled in groups whose activations fit the cache, or on a GPU whose graphs fit its
memory. Every task's derivative is one row, and the rows of all ranks are summed in task order, so
that results depend neither on the size of a group nor on the number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from maml_rl.algorithm.adaptation import AdaptationStep
from maml_rl.algorithm.forward_mode import dual_level
from maml_rl.algorithm.inner_loop.loop import InnerLoop, detached, stack
from maml_rl.algorithm.outer_loop.terms import Replayed, Term, inner_kl, post_adaptation_surrogate
from maml_rl.algorithm.policies import Distribution, Policy
from maml_rl.algorithm.policies.distribution import rebuilt
from maml_rl.algorithm.rollout import Params
from maml_rl.errors import NonFiniteError
from maml_rl.parallel import ALONE, Communicator

CACHE_ELEMENTS = 2 * 2000 * 64  # activations of one layer that still fit the cache (measured)
GRAPH_ELEMENTS = 40 * 500 * 4 * 192  # activations of a recurrent layer that are kept at a time
GRAPH_BUDGET = 768 * 2**20  # bytes of graphs kept for the Fisher products; beyond, recomputed


def flatten(params: Params) -> Tensor:
    """Leaves [*s] as one vector [P], in the dictionary's order."""
    return torch.cat([leaf.reshape(-1) for leaf in params.values()])


def unflatten(vector: Tensor, like: Params) -> Params:
    """A vector [P] as leaves of the shapes of `like`."""
    parts = vector.split([leaf.numel() for leaf in like.values()])
    return {
        name: part.reshape(leaf.shape)
        for part, (name, leaf) in zip(parts, like.items(), strict=True)
    }


def _flatten_rows(leaves: Sequence[Tensor]) -> Tensor:
    """Leaves [G, *s] as rows [G, P]."""
    return torch.cat([leaf.reshape(len(leaf), -1) for leaf in leaves], dim=1)


def group_size(
    policy: Policy, num_tasks: int, steps: int, slots: int, memory: int | None = None
) -> int:
    """Number of tasks differentiated together, from the shape [M, T, B] alone.

    Policies with memory go through their rollouts step after step: the activations of one step must
    fit the cache, and those of all steps the memory.

    Args:
        policy: its widest layer counts.
        num_tasks: M.
        steps: T.
        slots: B.
        memory: bytes that the graphs of a group may take, where the memory of a GPU is the bound;
            None where the CPU's cache is the bound.
    """
    row = slots * policy.widest
    if memory is not None:
        return max(1, min(num_tasks, memory // graph_bytes(policy, 1, steps, slots)))
    if not policy.recurrent:
        return max(1, min(num_tasks, CACHE_ELEMENTS // (steps * row)))
    return max(1, min(num_tasks, CACHE_ELEMENTS // row, GRAPH_ELEMENTS // (steps * row)))


def graph_bytes(
    policy: Policy, num_tasks: int, steps: int, slots: int, rollouts: int = 2, itemsize: int = 4
) -> int:
    """Estimated bytes of the graph of an adaptation (measured: ~20 layers' activations)."""
    return 20 * rollouts * num_tasks * steps * slots * policy.widest * itemsize


def graph_memory(device: torch.device) -> int | None:
    """Bytes that graphs may take on a device: a quarter of a GPU's memory; None on the CPU.

    Of its total memory, not of the free part, so that a resumed run has the same groups.
    """
    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory) // 4


class _Group(NamedTuple):
    """Tasks start to stop, with the graph from their rows of meta-parameters to their results."""

    rows: Params  # leaves [G, *s] that require gradients
    losses: Tensor  # [G]
    distribution: Distribution  # of the adapted policies on the rollout after adaptation
    mask: Tensor  # [G, T, B]


class Measured(NamedTuple):
    """Losses and divergences at some meta-parameters, [M] each."""

    losses: Tensor
    kl: Tensor  # mean KL(reference || adapted policy) on the rollout after adaptation
    inner_kl: Tensor  # mean KL(reference || policy) on the rollouts before inner steps


class PostAdaptationObjective:
    """The loss and the KL divergence after adaptation, for fixed rollouts.

    Task i has rollouts collected before each inner step and one after them. The adapted policy is a
    function of the meta-parameters through the inner steps on the earlier rollouts. The loss is a
    sum of terms, by default -mean(ratio * advantages) of the adapted policy on the last rollout.
    The objective is its mean over tasks. Each rank differentiates its own tasks; results are of the
    tasks of all ranks, the same on each.

    The distributions found at the first evaluation, which is at the meta-parameters that collected,
    are the references of all divergences.

    Args:
        policy: runs stacked parameters.
        inner: the inner loop that is differentiated through.
        steps: K + 1, the last of the adapted policies, of this rank's m tasks.
        fisher_share: of the tasks, the first ones, whose Fisher matrices are averaged. The graphs
            of their gradients are kept for the products, within the budget.
        tasks_per_group: how many tasks are differentiated together; None chooses by `group_size`.
        graph_budget: bytes of graphs that may be kept between products; graphs beyond it are
            recomputed, with the same result. None takes `graph_memory` of the rollouts' device, on
            the CPU GRAPH_BUDGET.
        terms: of the loss.
        fixed: parameters that are not learned, leaves [*s].
        ranks: those that share the tasks.
    """

    def __init__(
        self,
        policy: Policy,
        inner: InnerLoop,
        steps: Sequence[AdaptationStep],
        fisher_share: float = 1.0,
        tasks_per_group: int | None = None,
        graph_budget: int | None = None,
        terms: Sequence[Term] = (post_adaptation_surrogate,),
        fixed: Params | None = None,
        ranks: Communicator = ALONE,
    ) -> None:
        self.policy, self.inner, self.ranks = policy, inner, ranks
        self.terms, self.fixed = terms, fixed or {}
        rewards = steps[-1].rollout.rewards
        self.num_tasks, horizon, slots = rewards.shape
        size, memory = (self.num_tasks, horizon, slots), graph_memory(rewards.device)
        self.tasks_per_group = tasks_per_group or group_size(policy, *size, memory)
        # as the decimal that was written: in binary 0.55 of 20 tasks is more than 11
        share = Fraction(str(fisher_share))
        self._fisher_total = math.ceil(share * ranks.total(self.num_tasks))
        self._fisher_tasks = len(ranks.mine(self._fisher_total))
        shape = (self._fisher_tasks, horizon, slots)
        whole = graph_bytes(policy, *shape, len(steps), rewards.element_size())
        budget = graph_budget if graph_budget is not None else memory or GRAPH_BUDGET
        self._keep = whole <= budget
        self._parts = {  # cut once, not at every product
            start: [step.tasks(start, start + self._count(start)) for step in steps]
            for start in self._starts()
        }
        self._meta: Params = {}
        self._groups: dict[int, _Group] = {}
        self._references: dict[int, list[Distribution]] = {}

    def losses_and_gradients(self, meta: Params) -> tuple[Tensor, Tensor]:
        """Each task's loss [M] and its gradient in the meta-parameters [M, P].

        The graphs are kept for `fisher_vector_product`.

        Raises:
            NonFiniteError: naming the task whose loss or gradient is not finite.
        """
        self._meta, self._groups = meta, {}
        losses, rows = [], []
        for start in self._starts():
            group = self._group(start)
            grads = _grad(group.losses.sum(), list(group.rows.values()), self._keeps(start))
            losses.append(group.losses.detach())
            rows.append(_flatten_rows(grads))
            del group
        all_losses, all_rows = self.ranks.rows(torch.cat(losses), torch.cat(rows))
        raise_unless_finite("outer loss", all_losses[:, None])
        raise_unless_finite("outer gradient", all_rows)
        return all_losses, all_rows

    @torch.no_grad()
    def measure(self, meta: Params) -> Measured:
        """Each task's loss and divergences from the references at `meta`, no gradient."""
        parts = []
        for start in self._starts():
            replayed = self._replay(start, stack(meta, self._count(start)))
            references = self._references[start]
            referred = replayed._replace(references=references)
            distribution, rollout, _ = replayed.last
            kl = references[-1].mean_kl(distribution, rollout.mask)
            parts.append((self._losses(replayed), kl, inner_kl(referred)))
        columns = (torch.cat(column) for column in zip(*parts, strict=True))
        return Measured(*self.ranks.rows(*columns))

    @torch.no_grad()
    def displacements(self, meta: Params) -> Tensor:
        """Displacement of each task by an inner step on every rollout, the last too, [M, P]."""
        rows = []
        for start in self._starts():
            stacked = stack(meta | self.fixed, self._count(start))
            adapted = self.inner.adapt(self.policy, stacked, self._parts[start])
            moved = (adapted[name] - stacked[name] for name in meta)
            rows.append(_flatten_rows(list(moved)))
        (all_rows,) = self.ranks.rows(torch.cat(rows))
        raise_unless_finite("adapted parameters", all_rows)
        return all_rows

    def fisher_vector_product(self, vector: Tensor) -> Tensor:
        """Multiply [P] by the Hessian of the mean KL at the parameters of the last gradient.

        The divergence is 0 there and its first derivative vanishes, so its Hessian is J' F J, with
        J the derivative of the adapted policies' distributions in the meta-parameters and F the
        Fisher information of the distributions. J is applied in forward mode through the inner
        loop, F exactly, J' through the kept graph: no third derivatives are needed.

        With a `fisher_share` below 1 it is the mean of the first tasks' divergences.
        """
        starts = [start for start in self._starts() if start < self._fisher_tasks]
        rows = [self._group_product(start, vector) for start in starts]
        (all_rows,) = self.ranks.rows(torch.cat([vector.new_empty(0, len(vector)), *rows]))
        return all_rows.sum(0) / self._fisher_total

    def release(self) -> None:
        """Free the kept graphs."""
        self._groups = {}

    def _group_product(self, start: int, vector: Tensor) -> Tensor:
        group = self._group(start)
        directions = unflatten(vector, self._meta)
        with torch.no_grad(), dual_level():
            duals = {
                name: forward_ad.make_dual(
                    leaf.detach(), directions[name].expand_as(leaf).contiguous()
                )
                for name, leaf in group.rows.items()
            }
            outputs, _, _ = self._replay(start, duals).last
            tangent = rebuilt(outputs, (_tangent(output) for output in outputs))
        cotangent = group.distribution.mean_kl_curvature(tangent, group.mask)
        # as a number's gradient: with `grad_outputs` torch imports sympy, which takes half a second
        pairs = zip(group.distribution, cotangent, strict=True)
        weighed = torch.stack([(part * weight.detach()).sum() for part, weight in pairs]).sum()
        return _flatten_rows(_grad(weighed, list(group.rows.values()), self._keeps(start)))

    def _group(self, start: int) -> _Group:
        """The graph of the tasks from `start`, new or stored."""
        if start in self._groups:
            return self._groups[start]
        rows = {
            name: leaf.requires_grad_()
            for name, leaf in stack(self._meta, self._count(start)).items()
        }
        replayed = self._replay(start, rows)
        distribution, rollout, _ = replayed.last
        group = _Group(rows, self._losses(replayed), distribution, rollout.mask)
        if self._keeps(start):
            self._groups[start] = group
        return group

    def _losses(self, replayed: Replayed) -> Tensor:
        return torch.stack([term(replayed) for term in self.terms]).sum(0)

    def _replay(self, start: int, rows: Params) -> Replayed:
        """Adapt the tasks from `start`, given their rows of learned parameters, leaves [G, *s]."""
        whole = rows | stack(self.fixed, self._count(start))
        steps = self.inner.replay(self.policy, whole, self._parts[start])
        tasks = slice(start, start + self._count(start))
        replayed = Replayed(steps, self._references.get(start), tasks)
        if replayed.references is None:
            policies = [*replayed.before, replayed.last]
            self._references[start] = [detached(distribution) for distribution, _, _ in policies]
        return replayed

    def _keeps(self, start: int) -> bool:
        """Whether the graph of the tasks from `start` is kept for Fisher products."""
        return self._keep and start < self._fisher_tasks

    def _starts(self) -> list[int]:
        """First tasks of the groups; a group has either Fisher products or none."""
        size, fisher = self.tasks_per_group, self._fisher_tasks
        return [*range(0, fisher, size), *range(fisher, self.num_tasks, size)]

    def _count(self, start: int) -> int:
        end = self._fisher_tasks if start < self._fisher_tasks else self.num_tasks
        return min(self.tasks_per_group, end - start)


def _grad(loss: Tensor, leaves: Sequence[Tensor], keep: bool) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        loss, leaves, retain_graph=keep, allow_unused=True, materialize_grads=True
    )


def _tangent(dual: Tensor) -> Tensor:
    tangent = forward_ad.unpack_dual(dual).tangent
    return torch.zeros_like(dual) if tangent is None else tangent


def raise_unless_finite(quantity: str, rows: Tensor) -> None:
    """Raise a NonFiniteError that names the first task whose row [M, ...] is not finite."""
    finite = torch.isfinite(rows).all(dim=1)
    if not finite.all():
        raise NonFiniteError(f"the {quantity} of task {int((~finite).nonzero()[0])} is not finite")
