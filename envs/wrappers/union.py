"""A mixture of several distributions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded

from envs.arguments import number
from envs.backends.task_env import TaskEnv
from envs.episodes import info_names
from envs.errors import ArgumentError, UserError
from envs.protocol import (
    Array,
    BatchedEnv,
    Step,
    Task,
    TaskDistribution,
    Tasks,
    check_count,
    count_tasks,
    held_out,
)
from envs.trajectories import Trajectories
from envs.wrappers.held_out import shared_horizon

MEMBER = "member"
"""The leaf of a union's tasks that says whose each task is, [M]."""


class Union(TaskDistribution):
    """A mixture of distributions with the same spaces and horizon.

    A task belongs to one member. The leaf "member" holds its number; the leaves "<number>/<leaf>"
    are that member's, and hold a constant in the tasks of other members. The observations do not
    show the member.

    Args:
        members: the distributions, in a list or under names, which distinguish members of one class
            in results.
        weights: how likely each member is, up to a factor; None makes them equally likely.
        horizon: steps per episode, equal to the members'; None takes theirs.
    """

    def __init__(
        self,
        members: Mapping[Any, TaskDistribution] | Sequence[TaskDistribution],
        weights: Sequence[float] | None = None,
        horizon: int | None = None,
    ) -> None:
        named: Mapping[Any, TaskDistribution]
        named = members if isinstance(members, Mapping) else dict(enumerate(members))
        if not named:
            raise ArgumentError("members is empty; a union needs a distribution.", "members")
        keyed = {f"members.{key}": member for key, member in named.items()}
        self.horizon = shared_horizon(keyed, horizon)
        self.members = list(named.values())
        self.name = (
            f"union_of_{'_and_'.join(dict.fromkeys(member.name for member in named.values()))}"
        )
        self.titles = _titles(named)
        self.weights = _probabilities(weights, len(self.members))
        self.recorded = sorted(set.intersection(*(info_names(member) for member in self.members)))
        self.observation_space = self.members[0].observation_space
        self.action_space = self.members[0].action_space
        self.action_scale = self.members[0].action_scale  # `applied` refuses others
        measures = {member.measure for member in self.members}
        self.measure = measures.pop() if len(measures) == 1 else "return"
        constant = (member.sample(1, np.random.default_rng(0)) for member in self.members)
        self._constant = [
            {name: np.asarray(leaf) for name, leaf in task.items()} for task in constant
        ]
        if any(member.held_out is not None for member in self.members):
            tested = {key: held_out(member) for key, member in named.items()}
            self.held_out = Union(tested, self.weights.tolist())

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw the members, [M], then each member's tasks; leaves [M, ...]."""
        member = rng.choice(len(self.members), num_tasks, p=self.weights)
        counts = np.bincount(member, minlength=len(self.members)).tolist()
        parts = zip(self.members, counts, strict=True)
        return self._joined(
            member, [part.sample(count, rng) if count else {} for part, count in parts]
        )

    def _joined(self, member: Array, drawn: Sequence[Tasks]) -> Tasks:
        """Put each member's tasks, in order, where `member` [M] names it."""
        tasks = {MEMBER: member}
        for index, leaves in enumerate(drawn):
            for name, leaf in self._constant[index].items():
                tasks[f"{index}/{name}"] = np.repeat(leaf, len(member), axis=0)
                if leaves:
                    tasks[f"{index}/{name}"][member == index] = leaves[name]
        return tasks

    def finite_tasks(self) -> Tasks | None:
        """All tasks, where every member has few and all are equally likely."""
        every = [member.finite_tasks() for member in self.members]
        if any(tasks is None for tasks in every):
            return None
        given = [tasks for tasks in every if tasks is not None]
        sizes = np.array([count_tasks(tasks) for tasks in given])
        if not np.allclose(self.weights / sizes, 1 / sizes.sum()):
            return None
        return self._joined(np.repeat(np.arange(len(given)), sizes), given)

    def member_of(self, task: Task) -> tuple[int, Tasks]:
        """Member of a task (leaves without the leading M), and the member's leaves."""
        index = int(task[MEMBER])
        return index, self.leaves(index, task)

    def leaves(self, index: int, tasks: Tasks) -> Tasks:
        """Leaves that belong to the member numbered `index`."""
        return {name: tasks[f"{index}/{name}"] for name in self._constant[index]}

    def group_of(self, task: Task) -> str:
        """Title of a task's member, by which results are reported."""
        return self.titles[self.member_of(task)[0]]

    def describe(self, task: Task) -> str:
        """Name of one task, after its member."""
        index, leaves = self.member_of(task)
        return f"{self.titles[index]} {self.members[index].describe(leaves)}"

    def markers(self, task: Task) -> Sequence[Any]:
        """Marks of a task in pictures, from its member."""
        index, leaves = self.member_of(task)
        return self.members[index].markers(leaves)

    def trajectories(
        self, tasks: Tasks, observations: Array, info: Mapping[str, Array]
    ) -> Trajectories | None:
        """Trajectories of the members' tasks, where all members show the same quantity.

        Args:
            tasks: leaves [M, ...].
            observations: [M, T + 1, B, O].
            info: leaves [M, T, B].
        """
        shown = [
            member.trajectories(self.leaves(index, tasks), observations, info)
            for index, member in enumerate(self.members)
        ]
        return _chosen(shown, np.asarray(tasks[MEMBER]))

    def applied(self, action: Any) -> Any:
        """The action that the members apply for `action`.

        Raises:
            UserError: if members differ.
        """
        results = [member.applied(action) for member in self.members]
        if any(not np.array_equal(result, results[0]) for result in results):
            raise UserError(
                f"the members of {self.name} apply actions differently, so that an action alone "
                f"does not say what is applied; give them one action_scale."
            )
        return results[0]

    def make(self, num_tasks: int, slots_per_task: int, threads: int = 1) -> BatchedUnion:
        """Build M x B environments of every member, stepped on `threads` threads."""
        return BatchedUnion(self, num_tasks, slots_per_task, threads)

    def single(
        self, task: Task | None = None, render_mode: str | None = None, **options: Any
    ) -> UnionEnv:
        """Build the Gymnasium environment of one task (leaves without the leading M).

        Args:
            task: fixes the task; None draws one, and its member, at every reset.
            render_mode: "rgb_array" or None.
            **options: the members' own, such as width and height.
        """
        return UnionEnv(self, task, render_mode, **options)


class BatchedUnion:
    """M x B environments of every member; a row is stepped in its task's member only."""

    def __init__(self, union: Union, num_tasks: int, slots: int, threads: int = 1) -> None:
        self.union, self.shape = union, (num_tasks, slots)
        self._envs: list[BatchedEnv] = [
            member.make(num_tasks, slots, threads) for member in union.members
        ]
        self._rows: dict[int, Array] = {}  # by member: which tasks are its own, [M] bool

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the task of every task's slots, in its member's environments; leaves [M, ...].

        Raises:
            UserError: if the number of tasks is not M.
        """
        check_count(tasks, self.shape[0])
        member = np.asarray(tasks[MEMBER])
        self._rows = {index: member == index for index in np.unique(member).tolist()}
        for index in self._rows:
            self._envs[index].set_tasks(self.union.leaves(index, tasks))

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        """Begin a new episode in every row from its own generator; observations [M, B, O]."""
        generators = list(rngs)
        unused = np.random.default_rng(0)  # for a member's rows that are another's: not looked at
        self._seen = np.zeros((), self.union.observation_space.dtype)
        for index, mine in self._rows.items():
            rows = np.repeat(mine, self.shape[1])
            chosen = [rng if row else unused for rng, row in zip(generators, rows, strict=True)]
            begun = self._envs[index].reset(chosen)
            self._seen = np.where(mine[:, None, None], begun, self._seen)
        return self._seen.copy()

    def step(self, actions: Array, active: Array) -> Step:
        """Step each member's own rows among the `active` ones with `actions` [M, B, ...].

        Info holds the records that every member has: a rate of success over only some tasks would
        be wrong.
        """
        joined: Step | None = None
        running = {index: active & mine[:, None] for index, mine in self._rows.items()}
        stepped = [index for index, rows in running.items() if rows.any()]
        for index in stepped or list(running)[:1]:
            step = self._envs[index].step(actions, running[index])
            step = step._replace(info={name: step.info[name] for name in self.union.recorded})
            joined = step if joined is None else joined.replaced(running[index], step)
        assert joined is not None  # there is a task, so there is a member
        self._seen = np.where(active[..., None], joined.observations, self._seen)
        return joined._replace(observations=self._seen.copy())

    def close(self) -> None:
        """Free every member's simulations."""
        for env in self._envs:
            env.close()


def _chosen(shown: Sequence[Trajectories | None], member: Array) -> Trajectories | None:
    """Take each task's trajectories from its member's; None where members show other things."""
    present = [paths for paths in shown if paths is not None]
    kinds = {(paths.in_plane, paths.unit, paths.label, paths.dt) for paths in present}
    if len(present) < len(shown) or len(kinds) > 1:
        return None
    row = np.arange(len(member))
    values = np.stack([paths.values for paths in present])[member, row]
    shape = next((paths.targets.shape for paths in present if paths.targets is not None), None)
    if shape is None:
        return dataclasses.replace(present[0], values=values)
    targets = [
        np.full(shape, np.nan) if paths.targets is None else paths.targets for paths in present
    ]
    return dataclasses.replace(present[0], values=values, targets=np.stack(targets)[member, row])


class UnionEnv(TaskEnv):
    """One task of a union as a Gymnasium environment: that of the task's member.

    `reset` draws a new task, and so a member, from the environment's generator unless one was
    fixed, by `task=`, by `set_task` or by `reset(options={"task": ...})`; `info["task"]` says
    which, in the union's leaves.
    """

    def __init__(
        self,
        union: Union,
        task: Task | None = None,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(union, task, render_mode)
        self._envs: list[gymnasium.Env[Array, Any]] = [
            member.single(None, render_mode, **options) for member in union.members
        ]
        self._env: gymnasium.Env[Array, Any] | None = None  # of the episode's member
        self.metadata = self._envs[0].metadata

    def _start(self) -> tuple[Array, dict[str, Any]]:
        index, leaves = self.distribution.member_of(self._task)
        self._env = self._envs[index]
        self._env.unwrapped.np_random = self.np_random  # one stream, whichever member is next
        return self._env.reset(options={"task": leaves})

    def _advance(self, action: Any) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        return self._current("step").step(action)

    def render(self) -> Any:
        """Draw the member's environment; None where no mode was chosen."""
        return self._current("render").render()

    def _current(self, call: str) -> gymnasium.Env[Array, Any]:
        """The environment of the episode's member.

        Raises:
            ResetNeeded: before the first episode.
        """
        if self._env is None:
            raise ResetNeeded(f"{call}() needs an episode: call reset() first, which draws a task.")
        return self._env

    def close(self) -> None:
        """Close every member's environment."""
        for env in self._envs:
            env.close()


def _titles(named: Mapping[Any, TaskDistribution]) -> list[str]:
    """Name of each member; members with the same name get their keys too."""
    names = [member.name for member in named.values()]
    return [
        member.name if names.count(member.name) == 1 else f"{member.name} ({key})"
        for key, member in named.items()
    ]


def _probabilities(weights: Sequence[float] | None, size: int) -> Array:
    """Weights as probabilities [size].

    Raises:
        UserError: if there are not as many as members, or they are not positive.
    """
    given = [1.0] * size if weights is None else list(weights)
    if len(given) != size:
        raise ArgumentError(
            f"weights must hold a number for each of {size} members, not {len(given)} numbers.",
            "weights",
        )
    values = np.array([number("weights", weight, above=0) for weight in given])
    return values / values.sum()
