"""What every task distribution promises, as checks: one function each, and the test they make.

A check takes a distribution, returns a sentence of what it found and raises a `ContractError`, one
sentence, where a promise is broken. `probe` is quick and runs before every training; `check` runs
all of them and goes on after a failure; `TaskDistributionContract` is the same as a test.

Letters: M tasks, B slots (episodes) per task, T steps, O observation size, A action size.
"""

from __future__ import annotations

import pickle
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.episodes import (
    CheckedEnv,
    ContractError,
    Trace,
    calling,
    compare,
    compared_steps,
    described,
    generators,
    name_of,
    row_seeds,
    standard_actions,
    traced,
)
from envs.errors import UserError
from envs.protocol import (
    Array,
    TaskDistribution,
    Tasks,
    count_tasks,
    draw_tasks,
    held_out,
    stored_tasks,
    take_tasks,
    task_at,
)
from envs.trajectories import shown_of

LONGEST = 1000  # steps of one episode that a check takes, whatever the horizon
SLOW = 1000  # environment steps per CPU-second below which the speed is called slow
SECONDS = 1.0  # of the processor that the speed is measured over


class NotApplicableError(Exception):
    """A check that has nothing to check, and why."""


class Check(Protocol):
    """One promise: returns what was found, raises where it is broken."""

    def __call__(self, distribution: TaskDistribution, /) -> str:
        """Check `distribution`."""
        ...


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    status: str  # "ok", "wrong" or "skipped"
    sentence: str


def probe(distribution: TaskDistribution) -> None:
    """Check in milliseconds what a run would trip over: three tasks, two episodes each, one step.

    Raises:
        ContractError: naming the distribution, the method and what it must return.
    """
    check_spaces(distribution)
    with _leaving_global_generators(distribution, "sample(num_tasks, rng)"):
        tasks = _draw(distribution, 3)
    with (
        closing(CheckedEnv(distribution, 3, 2)) as env,
        _leaving_global_generators(distribution, "make(3, 2)"),
    ):
        env.run(tasks, row_seeds(3, 2), standard_actions(distribution, 1, 3, 2))


def check(distribution: TaskDistribution) -> Iterator[Finding]:
    """Run every check, also after one has failed; a sentence said once is not said again."""
    said: set[str] = set()
    buildable = True
    for name, function in CHECKS.items():
        if not buildable:
            yield Finding(name, "skipped", "put the spaces right first")
            continue
        finding = _found(name, function, distribution)
        sentence = re.sub(r"\d+", "0", finding.sentence)  # whatever the numbers of tasks
        if finding.status == "wrong" and sentence in said:
            finding = Finding(name, "skipped", "for the same reason as above")
        said.add(sentence)
        buildable = function is not check_spaces or finding.status == "ok"
        yield finding


def _found(name: str, function: Check, distribution: TaskDistribution) -> Finding:
    try:
        return Finding(name, "ok", function(distribution))
    except NotApplicableError as reason:
        return Finding(name, "skipped", str(reason))
    except UserError as error:
        return Finding(name, "wrong", str(error))
    except Exception as error:  # an author's code may raise anything
        return Finding(name, "wrong", f"{name_of(distribution)}: {described(error)}.")


# The promises.


def check_spaces(distribution: TaskDistribution) -> str:
    """Name, spaces, horizon and methods are there and of the right kind."""
    name = name_of(distribution)
    for method in ("sample", "finite_tasks", "describe", "make"):
        if not callable(getattr(distribution, method, None)):
            raise ContractError(f"{name} has no method {method}.")
    for attribute in ("name", "observation_space", "action_space", "horizon"):
        if not hasattr(distribution, attribute):
            raise ContractError(f"{name} has no attribute {attribute}.")
    if not isinstance(distribution.name, str) or not distribution.name:
        raise ContractError(f"{name}.name must be a string, not {distribution.name!r}.")
    horizon: Any = distribution.horizon
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise ContractError(f"{name}.horizon must be a whole number of at least 1, not {horizon}.")
    observed, acted = distribution.observation_space, distribution.action_space
    if not _is_flat(observed):
        raise ContractError(
            f"{name}.observation_space must be a gymnasium.spaces.Box of shape (O,), not "
            f"{observed}."
        )
    discrete = isinstance(acted, spaces.Discrete) and acted.start == 0
    if not discrete and not _is_flat(acted):
        raise ContractError(
            f"{name}.action_space must be a gymnasium.spaces.Box of shape (A,), or Discrete(A) "
            f"with numbers from 0, not {acted}."
        )
    return f"{spaces_in_words(distribution)}, horizon {horizon}"


def check_tasks(distribution: TaskDistribution) -> str:
    """`sample`, `finite_tasks` and `describe` agree on names and shapes, for any M."""
    name, drawn = name_of(distribution), _draw(distribution, 5)
    _check_leaves(distribution, "sample(5, rng)", drawn)
    _check_alike(distribution, "sample(1, rng)", _draw(distribution, 1), drawn)
    finite = distribution.finite_tasks()
    if finite is not None:
        finite = {key: np.asarray(leaf) for key, leaf in finite.items()}
        _check_leaves(distribution, "finite_tasks()", finite)
        _check_alike(distribution, "finite_tasks()", finite, drawn)
        for index in range(5):
            if not _is_among(task_at(drawn, index), finite):
                raise ContractError(
                    f"{name}.sample(5, rng) drew {_short(task_at(drawn, index))}, which is not "
                    f"among {name}.finite_tasks()."
                )
    for index in range(5):
        with calling(distribution, "describe(task)"):
            described = distribution.describe(task_at(drawn, index))
        if not isinstance(described, str) or not described:
            raise ContractError(f"{name}.describe(task) must return a string, not {described!r}.")
    return parameters(distribution)


def check_sampling(distribution: TaskDistribution) -> str:
    """`sample` draws from the generator it is given, and from nothing else."""
    name = name_of(distribution)
    with _leaving_global_generators(distribution, "sample(num_tasks, rng)"):
        first = _draw(distribution, 32, seed=1)
        kept = take_tasks(first, slice(None))
        second, other = (take_tasks(_draw(distribution, 32, seed), slice(None)) for seed in (1, 2))
    if not _same_tasks(kept, second):
        raise ContractError(
            f"{name}.sample(num_tasks, rng) drew other tasks from an equal generator: draw from "
            f"rng alone."
        )
    if not _same_tasks(kept, first):
        raise ContractError(
            f"{name}.sample(num_tasks, rng) changed the arrays it had returned before: return new "
            f"ones."
        )
    finite = distribution.finite_tasks()
    if _same_tasks(kept, other) and (finite is None or count_tasks(finite) > 1):
        raise ContractError(
            f"{name}.sample(num_tasks, rng) draws the same tasks from every generator: draw from "
            f"rng."
        )
    return "equal generators give equal tasks, others give others"


def check_shapes(distribution: TaskDistribution) -> str:
    """`reset` and `step` return arrays of the right shape and dtype, finite, within the space."""
    for num_tasks, slots in ((3, 2), (1, 1)):
        traced(distribution, _draw(distribution, num_tasks), row_seeds(num_tasks, slots))
    return f"observations {distribution.observation_space.dtype}, finite and in their space"


def check_determinism(distribution: TaskDistribution) -> str:
    """Equal tasks, generators and actions give equal episodes, in a new environment or a used one.

    Threads make no difference either.
    """
    name, tasks, seeds = name_of(distribution), _draw(distribution, 2), row_seeds(2, 2)
    actions = standard_actions(distribution, compared_steps(distribution), 2, 2)
    with _leaving_global_generators(distribution, "make(...)"):
        first = traced(distribution, tasks, seeds)
        with closing(CheckedEnv(distribution, 2, 2)) as env:
            env.run(tasks, seeds + 100, actions)
            again = env.run(tasks, seeds, actions)
    compare(
        f"{name}.make(2, 2).reset(rngs) does not begin anew: after other episodes",
        first,
        again,
        "draw from the generators that reset is given, and keep nothing of earlier episodes",
        exact=True,
    )
    compare(
        f"{name}.make(2, 2) is not determined by reset's generators: in a second environment",
        first,
        traced(distribution, tasks, seeds),
        "draw from the generators that reset is given, and from nothing else",
        exact=True,
    )
    compare(
        f"{name}.make(2, 2, threads) depends on the threads: with two",
        first,
        traced(distribution, tasks, seeds, threads=2),
        "let no row share state with another",
        exact=True,
    )
    return "equal generators give equal episodes, on one thread or two"


def check_resets(distribution: TaskDistribution) -> str:
    """Every slot's episode follows from its own generator, and from no other slot's."""
    name, tasks, seeds = name_of(distribution), _draw(distribution, 2), row_seeds(2, 2)
    first, moved = traced(distribution, tasks, seeds), False
    for parity in (0, 1):
        others = np.arange(4).reshape(2, 2) % 2 == parity
        trace = traced(distribution, tasks, np.where(others, seeds + 50, seeds))
        compare(
            f"{name}.make(2, 2).reset(rngs): slots share their episodes' beginning: with other "
            f"generators for other slots",
            first,
            trace,
            "begin row m * B + b from rngs[m * B + b] alone",
            rows=~others,
        )
        moved = moved or not np.array_equal(first.observations[0], trace.observations[0])
    return (
        "every slot begins from its own generator"
        if moved
        else "every episode begins in the same state"
    )


def check_rows(distribution: TaskDistribution) -> str:
    """Equal rows give equal episodes, wherever they are and whatever is beside them."""
    name, tasks = name_of(distribution), _draw(distribution, 3)
    equal = take_tasks(tasks, np.array([0, 0]))
    actions = standard_actions(distribution, compared_steps(distribution), 1, 1)
    actions = np.repeat(np.repeat(actions, 2, axis=1), 3, axis=2)
    with closing(CheckedEnv(distribution, 2, 3)) as env:
        trace = env.run(equal, np.full((2, 3), 7), actions)
    compare(
        f"{name}.make(2, 3) gives rows of equal task, generator and actions different episodes: "
        f"unlike task 0, episode 0",
        Trace(*(np.broadcast_to(part[:, :1, :1], part.shape) for part in trace)),
        trace,
        "a row depends on its own task, generator and actions alone",
    )
    beside = take_tasks(tasks, np.array([0, 2]))
    compare(
        f"{name}.make(2, 2) lets a task depend on the others of the batch: beside another task",
        traced(distribution, take_tasks(tasks, np.array([0, 1])), row_seeds(2, 2)),
        traced(distribution, beside, row_seeds(2, 2)),
        "a row depends on its own task, generator and actions alone",
        rows=np.array([[True, True], [False, False]]),
    )
    return "a row depends on its own task, generator and actions alone"


def check_tasks_differ(distribution: TaskDistribution) -> str:
    """Some tasks give other rewards or observations for equal generators and actions."""
    name, tasks = name_of(distribution), _some_tasks(distribution, 8)
    count = count_tasks(tasks)
    if all(_same_tasks(task_at(tasks, 0), task_at(tasks, index)) for index in range(count)):
        raise ContractError(f"{name}.sample({count}, rng) returned {count} equal tasks.")
    steps = min(distribution.horizon, LONGEST // 4)
    for length, slots in ((min(steps, 5), 4), (steps, 32)):  # further where rewards are sparse
        actions = np.repeat(standard_actions(distribution, length, 1, slots), count, axis=1)
        with closing(CheckedEnv(distribution, count, slots)) as env:
            trace = env.run(tasks, np.broadcast_to(np.arange(slots), (count, slots)), actions)
        parts = {"reward": trace.rewards, "observations": trace.observations}
        differ = [what for what, part in parts.items() if not np.array_equal(part, _first(part))]
        if differ:
            return f"tasks differ in {' and '.join(differ)}"
    raise ContractError(
        f"{name}: {count} tasks gave equal rewards and observations over {steps} steps of the same "
        f"actions; let the reward or the dynamics read the task that set_tasks was given."
    )


def check_leaks(distribution: TaskDistribution) -> str:
    """Nothing of a task is left when `set_tasks` gives others, and its arrays are left alone."""
    name, tasks = name_of(distribution), _draw(distribution, 4)
    before, after = take_tasks(tasks, slice(0, 2)), take_tasks(tasks, slice(2, 4))
    given = take_tasks(after, slice(None))
    seeds, actions = (
        row_seeds(2, 2),
        standard_actions(distribution, compared_steps(distribution), 2, 2),
    )
    with closing(CheckedEnv(distribution, 2, 2)) as env:
        env.run(before, seeds, actions)
        env.set_tasks(given)
        if not _same_tasks(given, after):
            raise ContractError(f"{name}.make(2, 2).set_tasks(tasks) changed the arrays of tasks.")
        for key, leaf in given.items():
            leaf[...] = before[key]  # the caller may write into its own arrays
        trace = env.run(None, seeds, actions)
    compare(
        f"{name}.make(2, 2).set_tasks(tasks) leaves something of the earlier tasks, or keeps the "
        f"caller's arrays: after other tasks",
        traced(distribution, after, seeds),
        trace,
        "replace everything of the earlier tasks by copies",
    )
    return "set_tasks leaves nothing of the earlier tasks"


def check_active(distribution: TaskDistribution) -> str:
    """Rows that are not active change nothing for those that are, whatever their actions."""
    name, tasks, seeds = name_of(distribution), _draw(distribution, 2), row_seeds(2, 2)
    actions = standard_actions(distribution, compared_steps(distribution), 2, 2)
    stops = np.array([[len(actions), 1], [2, len(actions)]])
    garbage = actions.copy()
    for step, now in enumerate(garbage):
        if isinstance(distribution.action_space, spaces.Box):
            now[stops <= step] = np.nan
    with closing(CheckedEnv(distribution, 2, 2)) as env, np.errstate(invalid="ignore"):
        trace = env.run(tasks, seeds, garbage, stops)
    compare(
        f"{name}.make(2, 2).step(actions, active) is wrong where rows have ended: while others are "
        f"inactive",
        traced(distribution, tasks, seeds),
        trace,
        "step the rows where active is true, and let the others change nothing",
        rows=stops == len(actions),
    )
    return "ended rows change nothing for the others"


def check_copies(distribution: TaskDistribution) -> str:
    """Arrays that were returned are the caller's: never changed later, free to be written into."""
    name, tasks, seeds = name_of(distribution), _draw(distribution, 2), row_seeds(2, 2)
    actions = standard_actions(distribution, compared_steps(distribution), 2, 2)
    with closing(CheckedEnv(distribution, 2, 2)) as env:
        returned = env.begin(tasks, seeds)
        kept = returned.copy()
        step = env.step(actions[0], np.ones((2, 2), dtype=bool))
        seen = step.observations.copy()
        env.step(actions[-1], ~step.ended)
        if not np.array_equal(kept, returned) or not np.array_equal(seen, step.observations):
            raise ContractError(
                f"{name}.make(2, 2).step(actions, active) wrote into observations it had returned "
                f"before: return new arrays."
            )
        trace = env.run(tasks, seeds, actions, scribble=True)
    compare(
        f"{name}.make(2, 2) returns its own state as observations: after the caller wrote into "
        f"them",
        traced(distribution, tasks, seeds),
        trace,
        "return copies",
    )
    return "returned arrays are the caller's own"


def check_episodes(distribution: TaskDistribution) -> str:
    """Whole episodes run to the horizon; a time-out is not reported as the task's own end."""
    name, tasks = name_of(distribution), _draw(distribution, 2)
    steps = min(distribution.horizon, LONGEST)
    with closing(CheckedEnv(distribution, 2, 2)) as env:
        trace = env.run(tasks, row_seeds(2, 2), standard_actions(distribution, steps, 2, 2))
    ended = np.argwhere(trace.terminated)
    lengths = ended[:, 0] + 1
    if len(ended) == 4 and steps == distribution.horizon > 1 and (lengths == steps).all():
        raise ContractError(
            f"{name}.make(2, 2).step(actions, active).terminated is true in every episode's step "
            f"{steps}, the horizon: a time-out is the caller's, terminated is for the task's own "
            f"ends."
        )
    if not len(ended):
        return f"no episode of 4 was ended by its task within {steps} steps"
    return f"{len(ended)} of 4 episodes were ended by their task, the first in step {min(lengths)}"


def check_held_out(distribution: TaskDistribution) -> str:
    """Held-out tasks, where there are any, fit the same environments."""
    own, other = name_of(distribution), held_out(distribution)
    if other is distribution:
        raise NotApplicableError("there are no held-out tasks: test tasks are drawn like others")
    for space in ("observation_space", "action_space"):
        mine, theirs = getattr(distribution, space), getattr(other, space, None)
        if mine != theirs:
            raise ContractError(f"{own}.held_out.{space} must be {own}'s, {mine}, not {theirs}.")
    tasks = _draw(other, 2)
    _check_alike(distribution, "held_out.sample(2, rng)", tasks, _draw(distribution, 2))
    traced(distribution, tasks, row_seeds(2, 2))
    return "held-out tasks fit the same environments"


def check_trajectories(distribution: TaskDistribution) -> str:
    """What figures show of episodes, where a distribution says so, has the right shapes."""
    tasks, steps = _draw(distribution, 3), compared_steps(distribution)
    seeds, actions = row_seeds(3, 2), standard_actions(distribution, steps, 3, 2)
    with closing(CheckedEnv(distribution, 3, 2)) as env:
        observations, infos = [env.begin(tasks, seeds)], []
        active = np.ones((3, 2), dtype=bool)
        for action in actions:
            step = env.step(action, active)
            observations.append(np.where(active[..., None], step.observations, observations[-1]))
            infos.append({name: np.where(active, leaf, 0) for name, leaf in step.info.items()})
            active = active & ~step.ended
    info = {name: np.stack([own[name] for own in infos], axis=1) for name in infos[0]}
    with calling(distribution, "trajectories(tasks, observations, info)"):
        shown = shown_of(distribution, tasks, np.stack(observations, axis=1), info)
    if shown is None:
        raise NotApplicableError(
            "figures show nothing of episodes (no method trajectories, or none of its kind here)"
        )
    if not np.isfinite(shown.values[:, 0]).all():
        raise ContractError(
            f"{name_of(distribution)}.trajectories(tasks, observations, info).values must be "
            f"finite, and are not where episodes begin."
        )
    return "ways through the plane" if shown.in_plane else f"{shown.label or 'a value'} over time"


def check_single(distribution: TaskDistribution) -> str:
    """The Gymnasium form gives the batched form's episodes, and is cut off at the horizon."""
    tasks, seeds = _draw(distribution, 2), row_seeds(2, 2)
    _single(distribution, task_at(tasks, 0)).close()  # is there one?
    trace = traced(distribution, tasks, seeds)
    actions = standard_actions(distribution, compared_steps(distribution), 2, 2)
    for task, slot in np.ndindex(2, 2):
        with closing(_single(distribution, task_at(tasks, task))) as env:
            _check_single_spaces(distribution, env)
            _follow(distribution, env, trace, actions, (task, slot), int(seeds[task, slot]))
    with closing(_single(distribution, task_at(tasks, 0))) as env:
        _check_time_out(distribution, env)
    return "the Gymnasium environment gives the batched form's episodes"


def check_speed(distribution: TaskDistribution, seconds: float = SECONDS) -> str:
    """Measure environment steps per CPU-second of this process, 64 rows; judges nothing."""
    tasks, seeds = _draw(distribution, 8), row_seeds(8, 8)
    actions = standard_actions(distribution, min(distribution.horizon, 100), 8, 8)
    taken, spent = 0, 0.0
    with closing(CheckedEnv(distribution, 8, 8)) as env:
        env.run(tasks, seeds, actions[:1])
        while spent < seconds:
            begun = time.process_time()
            now, active = env.unchecked, np.ones((8, 8), dtype=bool)
            now.reset(generators(seeds + taken))
            for action in actions:
                taken += int(active.sum())
                active = active & ~now.step(action, active).ended
                if not active.any() or time.process_time() - begun > seconds:
                    break
            spent += max(time.process_time() - begun, 1e-6)
    speed = taken / spent
    slow = ", which is slow" if speed < SLOW else ""
    return f"{_rounded(speed)} environment steps per CPU-second{slow}"


CHECKS: dict[str, Check] = {
    "spaces": check_spaces,
    "tasks": check_tasks,
    "sampling": check_sampling,
    "shapes": check_shapes,
    "determinism": check_determinism,
    "resets": check_resets,
    "rows": check_rows,
    "tasks differ": check_tasks_differ,
    "leaks": check_leaks,
    "active": check_active,
    "copies": check_copies,
    "episodes": check_episodes,
    "held out": check_held_out,
    "trajectories": check_trajectories,
    "single": check_single,
    "speed": check_speed,
}
"""Every promise, in the order in which `check` looks at them."""


class TaskDistributionContract:
    """The contract as a test: inherit it, say what to build, and pytest does the rest.

    class TestHopperVelocity(TaskDistributionContract):
        def build(self):
            return HopperVelocity()
    """

    def build(self) -> TaskDistribution:
        """Build the distribution to check."""
        raise TypeError(f"{type(self).__name__} must define build().")

    def test_spaces(self) -> None:
        """See `check_spaces`."""
        check_spaces(self.build())

    def test_tasks(self) -> None:
        """See `check_tasks`."""
        check_tasks(self.build())

    def test_sampling(self) -> None:
        """See `check_sampling`."""
        check_sampling(self.build())

    def test_shapes(self) -> None:
        """See `check_shapes`."""
        check_shapes(self.build())

    def test_determinism(self) -> None:
        """See `check_determinism`."""
        check_determinism(self.build())

    def test_resets(self) -> None:
        """See `check_resets`."""
        check_resets(self.build())

    def test_rows(self) -> None:
        """See `check_rows`."""
        check_rows(self.build())

    def test_tasks_differ(self) -> None:
        """See `check_tasks_differ`."""
        check_tasks_differ(self.build())

    def test_leaks(self) -> None:
        """See `check_leaks`."""
        check_leaks(self.build())

    def test_active(self) -> None:
        """See `check_active`."""
        check_active(self.build())

    def test_copies(self) -> None:
        """See `check_copies`."""
        check_copies(self.build())

    def test_episodes(self) -> None:
        """See `check_episodes`."""
        check_episodes(self.build())

    def test_held_out(self) -> None:
        """See `check_held_out`."""
        _where_applicable(check_held_out, self.build())

    def test_trajectories(self) -> None:
        """See `check_trajectories`."""
        _where_applicable(check_trajectories, self.build())

    def test_single(self) -> None:
        """See `check_single`."""
        _where_applicable(check_single, self.build())


def _where_applicable(function: Check, distribution: TaskDistribution) -> None:
    with suppress(NotApplicableError):
        function(distribution)


# In words, for this module and for `envs.list`.


def spaces_in_words(distribution: TaskDistribution) -> str:
    """Sizes of the observations and of the actions."""
    acted = distribution.action_space
    actions = f"{acted.n} numbered" if isinstance(acted, spaces.Discrete) else _size(acted)
    return f"{_size(distribution.observation_space)} observations, {actions} actions"


def _size(space: spaces.Box) -> str:
    return str(int(np.prod(space.shape)))


def parameters(distribution: TaskDistribution, num_tasks: int = 200) -> str:
    """The parts of a task: names, shapes and the range seen in samples."""
    finite = distribution.finite_tasks()
    tasks = _draw(distribution, num_tasks) if finite is None else finite
    said = []
    for name, leaf in tasks.items():
        values = np.asarray(leaf)
        size = f" {list(values.shape[1:])}" if values.ndim > 1 else ""
        low, high = (f"{float(end):.3g}" for end in (values.min(), values.max()))
        said.append(f"{name}{size} from {low} to {high}")
    few = "" if finite is None else f" ({count_tasks(finite)} tasks)"
    return "; ".join(said) + few


# Tasks.


def _draw(distribution: TaskDistribution, count: int, seed: int = 0) -> Tasks:
    """Draw tasks and check their leading size."""
    with calling(distribution, f"sample({count}, rng)"):
        tasks = draw_tasks(distribution, count, np.random.default_rng(seed))
    _check_leaves(distribution, f"sample({count}, rng)", tasks)
    return tasks


def _some_tasks(distribution: TaskDistribution, most: int) -> Tasks:
    """Return all tasks, or `most` of them where they are more."""
    finite = distribution.finite_tasks()
    if finite is None:
        return _draw(distribution, most)
    count = count_tasks(finite)
    return take_tasks(
        stored_tasks(distribution, count, np.random.default_rng(0)), slice(min(count, most))
    )


def _check_leaves(distribution: TaskDistribution, method: str, tasks: Tasks) -> None:
    name = name_of(distribution)
    count_tasks(tasks)
    for key, leaf in tasks.items():
        if leaf.dtype.kind not in "biuf":
            raise ContractError(
                f"{name}.{method} must return arrays of numbers, but {key!r} is {leaf.dtype}."
            )
        if not np.isfinite(leaf).all():
            raise ContractError(f"{name}.{method} must return finite numbers, {key!r} is not.")


def _check_alike(distribution: TaskDistribution, method: str, tasks: Tasks, drawn: Tasks) -> None:
    """Compare names and shapes with those of drawn tasks."""
    shapes = [{key: np.shape(leaf)[1:] for key, leaf in some.items()} for some in (tasks, drawn)]
    if shapes[0] != shapes[1]:
        raise ContractError(
            f"{name_of(distribution)}.{method} must return tasks like sample's, with arrays "
            f"{shapes[1]} for each task, not {shapes[0]}."
        )


def _same_tasks(one: Tasks, other: Tasks) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(leaf, other[name]) for name, leaf in one.items()
    )


def _is_among(task: Tasks, tasks: Tasks) -> bool:
    return any(_same_tasks(task, task_at(tasks, index)) for index in range(count_tasks(tasks)))


def _short(task: Tasks) -> str:
    return ", ".join(f"{name}={np.asarray(leaf).tolist()}" for name, leaf in task.items())


# The Gymnasium form.


def _single(distribution: TaskDistribution, task: Tasks) -> gymnasium.Env[Any, Any]:
    """Build the Gymnasium environment of a task.

    Raises:
        NotApplicableError: if the distribution has none, or wraps one that has none.
    """
    try:
        build: Callable[..., gymnasium.Env[Any, Any]] = distribution.single  # type: ignore[attr-defined]
        with calling(distribution, "single(task)", but=AttributeError):
            return build(task)
    except AttributeError as error:
        if error.name != "single":
            name = name_of(distribution)
            raise ContractError(f"{name}.single(task) raised {described(error)}.") from error
        raise NotApplicableError(
            f"{name_of(distribution)} has no Gymnasium form (no method single)"
        ) from error


def _check_single_spaces(distribution: TaskDistribution, env: gymnasium.Env[Any, Any]) -> None:
    for space in ("observation_space", "action_space"):
        mine, theirs = getattr(distribution, space), getattr(env, space)
        if mine != theirs:
            raise ContractError(
                f"{name_of(distribution)}.single(task).{space} must be the distribution's, {mine}, "
                f"for every task, not {theirs}."
            )


def _follow(
    distribution: TaskDistribution,
    env: gymnasium.Env[Any, Any],
    trace: Trace,
    actions: Array,
    row: tuple[int, int],
    seed: int,
) -> None:
    """Drive the single environment with one row's actions; raise where the two differ."""
    task, slot = row
    applied = getattr(distribution, "applied", lambda action: action)
    own = Trace(*(np.zeros_like(part[:, task : task + 1, slot : slot + 1]) for part in trace))
    with calling(distribution, "single(task).reset(seed=...)"):
        own.observations[0, 0, 0] = env.reset(seed=seed)[0]
    for t in range(len(actions)):
        with calling(distribution, "single(task).step(action)"):
            answer = env.step(applied(actions[t, task, slot]))
            own.observations[t + 1, 0, 0], own.rewards[t, 0, 0], own.terminated[t, 0, 0] = answer[
                :3
            ]
        own.truncated[t, 0, 0] = answer[3] and t + 1 < distribution.horizon
        if own.terminated[t, 0, 0] or own.truncated[t, 0, 0]:
            break
    batched = Trace(*(part[:, task : task + 1, slot : slot + 1] for part in trace))
    compare(
        f"{name_of(distribution)}.single(task) is not the environment that make builds: for equal "
        f"task, generator and actions",
        batched,
        own,
        "compute both from the same functions",
    )


def _check_time_out(distribution: TaskDistribution, env: gymnasium.Env[Any, Any]) -> None:
    """Run one episode of the single environment to its end."""
    name, applied = name_of(distribution), getattr(distribution, "applied", lambda action: action)
    steps = min(distribution.horizon, LONGEST)
    env.reset(seed=0)
    for t, action in enumerate(standard_actions(distribution, steps, 1, 1)[:, 0, 0], start=1):
        _, _, terminated, truncated, _ = env.step(applied(action))
        if terminated:
            return
        if t == distribution.horizon and not truncated:
            raise ContractError(
                f"{name}.single(task).step(action) must say truncated in step {t}, the horizon."
            )
        if truncated:
            return


@contextmanager
def _leaving_global_generators(distribution: TaskDistribution, call: str) -> Iterator[None]:
    """Raise if numpy's, Python's or torch's global generator was drawn from meanwhile."""
    before = _global_generators()
    yield
    for library, state in _global_generators().items():
        if state != before.get(library, state):
            raise ContractError(
                f"{name_of(distribution)}.{call} draws from {library}'s global generator: draw "
                f"from the generators it is given, and from nothing else."
            )


def _global_generators() -> dict[str, Any]:
    """Return the states of the global generators, by library."""
    states: dict[str, Any] = {
        "Python": random.getstate(),
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
    }
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().tolist()
    return states


def _is_flat(space: Any) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0


def _first(part: Array) -> Array:
    """Repeat the first task's part [T, M, ...] for every task."""
    return np.broadcast_to(part[:, :1], part.shape)


def _rounded(value: float) -> str:
    """Write a number with two digits that count, and its thousands apart."""
    return f"{float(f'{value:.2g}'):,.0f}"
