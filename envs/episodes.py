"""Episodes run as the sampler runs them, with every result checked, and their comparison.

`envs.checking` is made of them. Letters: M tasks, B slots (episodes) per task, T steps, O
observation size, A action size.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding

from envs.answers import check_info, check_shape, check_success
from envs.errors import UserError
from envs.protocol import Array, BatchedEnv, Step, TaskDistribution, Tasks, draw_tasks, take_tasks

STEPS = 12  # that two runs are compared over


class ContractError(UserError):
    """A promise that a distribution breaks.

    Args:
        sentence: what, where, and what to write instead.
        implies: checks that fail for the same cause.
    """

    def __init__(self, sentence: str, implies: Iterable[str] = ()) -> None:
        super().__init__(sentence)
        self.implies = frozenset(implies)


class Trace(NamedTuple):
    """The steps of an environment; rows that had ended are 0."""

    observations: Array  # [T + 1, M, B, O]
    rewards: Array  # [T, M, B]
    terminated: Array  # [T, M, B] bool
    truncated: Array  # [T, M, B] bool
    info: dict[str, Array]  # leaves [T, M, B]

    def each(self, function: Callable[[Array], Array]) -> Trace:
        """A function of each part; info is left out."""
        return Trace(
            function(self.observations),
            function(self.rewards),
            function(self.terminated),
            function(self.truncated),
            {},
        )


class CheckedEnv:
    """A batched environment, called as the sampler calls it, whose results are checked."""

    def __init__(
        self, distribution: TaskDistribution, num_tasks: int, slots: int, threads: int = 1
    ) -> None:
        self.distribution, self.shape = distribution, (num_tasks, slots)
        self.name = name_of(distribution)
        self._call = f"make({num_tasks}, {slots})"
        with calling(distribution, self._call):
            self.unchecked: BatchedEnv = distribution.make(num_tasks, slots, threads)
        for method in ("set_tasks", "reset", "step", "close"):
            if not callable(getattr(self.unchecked, method, None)):
                raise ContractError(
                    f"{self.name}.{self._call} must return an environment with a method {method}."
                )

    def close(self) -> None:
        """Free the environment."""
        with calling(self.distribution, f"{self._call}.close()"):
            self.unchecked.close()

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the task of every row; leaves [M, ...]."""
        with calling(self.distribution, f"{self._call}.set_tasks(tasks)"):
            self.unchecked.set_tasks(tasks)

    def begin(self, tasks: Tasks | None, seeds: Array) -> Array:
        """Set tasks (None keeps those there are) and reset; observations [M, B, O]."""
        if tasks is not None:
            self.set_tasks(take_tasks(tasks, slice(None)))
        call = f"{self._call}.reset(rngs)"
        with calling(self.distribution, call):
            observations = self.unchecked.reset(generators(seeds))
        self._check_observations(call, observations, np.ones(self.shape, dtype=bool))
        return observations

    def step(self, actions: Array, active: Array) -> Step:
        """Step the rows where `active` [M, B] is true, and check all that comes back."""
        call, name = f"{self._call}.step(actions, active)", self.name
        given = active.copy()
        with calling(self.distribution, call):
            step = self.unchecked.step(actions.copy(), given)
        if not isinstance(step, Step):
            raise ContractError(f"{name}.{call} must return an envs.Step, not {_kind(step)}.")
        if not np.array_equal(given, active):
            raise ContractError(f"{name}.{call} changed the array active: copy it.")
        self._check_observations(f"{call}.observations", step.observations, active)
        self._check_rewards(f"{call}.rewards", step.rewards, active)
        self._check_flags(f"{call}.terminated", step.terminated)
        if step.truncated is not None:
            self._check_flags(f"{call}.truncated", step.truncated)
        if not isinstance(step.info, Mapping):
            raise ContractError(f"{name}.{call}.info must be a dictionary, not {_kind(step.info)}.")
        check_info(name, f"{call}.info", step.info, self.shape)
        if "success" in step.info:
            check_success(name, np.asarray(step.info["success"]), active)
        return step

    def run(
        self,
        tasks: Tasks | None,
        seeds: Array,
        actions: Array,
        stops: Array | None = None,
        scribble: bool = False,
        between: Callable[[], None] | None = None,
    ) -> Trace:
        """Run one episode in every row.

        Args:
            tasks: leaves [M, ...]; None keeps those there are.
            seeds: [M, B], of the rows' generators.
            actions: [T, M, B, A], or [T, M, B] where they are numbered.
            stops: [M, B], the step in which a row is made inactive, ended or not.
            scribble: write into every array of observations once it has been read.
            between: called before every step.
        """
        # longer than forty lines: the loop of an episode reads best in one piece
        steps, size = len(actions), self.distribution.observation_space.shape
        terminated, truncated = np.zeros((2, steps, *self.shape), dtype=bool)
        observations = np.zeros((steps + 1, *self.shape, *size))
        trace = Trace(observations, np.zeros((steps, *self.shape)), terminated, truncated, {})
        observations = self.begin(tasks, seeds)
        trace.observations[0] = observations
        active = np.ones(self.shape, dtype=bool)
        for t in range(steps):
            if scribble:
                observations[:] = 99
            if between is not None:
                between()
            active = active if stops is None else active & (t < stops)
            if not active.any():
                break
            step = self.step(actions[t], active)
            observations = step.observations
            trace.observations[t + 1] = np.where(active[..., None], observations, 0)
            trace.rewards[t] = np.where(active, step.rewards, 0)
            trace.terminated[t] = active & step.terminated
            if step.truncated is not None:
                trace.truncated[t] = active & step.truncated
            for name, leaf in step.info.items():
                values = trace.info.setdefault(name, np.zeros((steps, *self.shape)))
                values[t] = np.where(active, leaf, 0)
            active = active & ~trace.terminated[t] & ~trace.truncated[t]
        return trace

    def _check_observations(self, call: str, values: Any, active: Array) -> None:
        name, space = self.name, self.distribution.observation_space
        if not isinstance(values, np.ndarray):
            raise ContractError(f"{name}.{call} must be a numpy array, not {_kind(values)}.")
        check_shape(name, call, values, (*self.shape, *space.shape))
        if not np.can_cast(values.dtype, space.dtype, "same_kind"):
            raise ContractError(
                f"{name}.{call} must be {space.dtype}, the dtype of observation_space, not "
                f"{values.dtype}."
            )
        if not values.flags.writeable:
            raise ContractError(f"{name}.{call} is read-only: return a copy.")
        self._check_finite(call, np.asarray(np.isfinite(values).all(-1)), active)
        outside = ((values < space.low) | (values > space.high)) & active[..., None]
        if outside.any():
            task, slot, index = np.argwhere(outside)[0]
            raise ContractError(
                f"{name}.{call}[{task}, {slot}, {index}] is {values[task, slot, index]:g}, outside "
                f"of observation_space, [{space.low[index]:g}, {space.high[index]:g}]."
            )

    def _check_rewards(self, call: str, values: Any, active: Array) -> None:
        check_shape(self.name, call, values, self.shape)
        if np.asarray(values).dtype.kind not in "iuf":
            raise ContractError(
                f"{self.name}.{call} must be numbers, not {np.asarray(values).dtype}."
            )
        self._check_finite(call, np.isfinite(values), active)

    def _check_flags(self, call: str, values: Any) -> None:
        check_shape(self.name, call, values, self.shape)
        if np.asarray(values).dtype != bool:
            raise ContractError(f"{self.name}.{call} must be bool, not {np.asarray(values).dtype}.")

    def _check_finite(self, call: str, finite: Array, active: Array) -> None:
        wrong = np.argwhere(active & ~finite)
        if len(wrong):
            task, slot = wrong[0]
            raise ContractError(
                f"{self.name}.{call} must be finite, and is not for task {task}, episode {slot}."
            )


def traced(
    distribution: TaskDistribution,
    tasks: Tasks,
    seeds: Array,
    actions: Array | None = None,
    threads: int = 1,
    **options: Any,
) -> Trace:
    """Run episodes in a new environment; actions and options as `CheckedEnv.run`'s.

    Where no actions are given, they are the first of the standard ones.
    """
    num_tasks, slots = seeds.shape
    if actions is None:
        steps = min(distribution.horizon, STEPS)
        actions = standard_actions(distribution, steps, num_tasks, slots)
    with closing(CheckedEnv(distribution, num_tasks, slots, threads)) as env:
        return env.run(tasks, seeds, actions, **options)


def info_names(distribution: TaskDistribution) -> set[str]:
    """Names of what a distribution records beside the reward, by trying one step."""
    tasks = draw_tasks(distribution, 1, np.random.default_rng(0))
    actions = standard_actions(distribution, 1, 1, 1)
    return set(traced(distribution, tasks, row_seeds(1, 1), actions).info)


def row_seeds(num_tasks: int, slots: int) -> Array:
    """A seed for every row, [M, B], no two alike."""
    return np.arange(num_tasks * slots).reshape(num_tasks, slots) + 1


def generators(seeds: Array) -> list[np.random.Generator]:
    """Make generators as Gymnasium's `reset(seed=...)` does."""
    return [seeding.np_random(int(seed))[0] for seed in seeds.ravel()]


def episode_seed(rng: np.random.Generator) -> int:
    """Draw the seed that an episode's environment is reset with."""
    return int(rng.integers(2**31))


def standard_actions(
    distribution: TaskDistribution, steps: int, num_tasks: int, slots: int
) -> Array:
    """Draw actions [T, M, B, A] or [T, M, B]; every other row holds its first for the episode.

    Constant actions lead further than random ones: they find sparse rewards.
    """
    rng, space = np.random.default_rng(0), distribution.action_space
    shape = (steps, num_tasks, slots)
    if isinstance(space, spaces.Discrete):
        actions = rng.integers(int(space.n), size=shape)
    else:
        low, high = space.low, space.high
        drawn = rng.normal(size=(*shape, *space.shape))
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            inside = rng.uniform(np.where(bounded, low, 0), np.where(bounded, high, 1), drawn.shape)
        actions = (np.where(bounded, inside, drawn) / distribution.action_scale).astype(np.float32)
    actions[:, :, 1::2] = actions[:1, :, 1::2]
    return actions


def compare(
    claim: str,
    wanted: Trace,
    measured: Trace,
    advice: str,
    rows: Array | None = None,
    exact: bool = False,
    implies: Iterable[str] = (),
) -> None:
    """Raise `claim`, the first difference and `advice` where two traces differ.

    Rows that are computed side by side may round differently: without `exact`, nearly equal is
    enough.
    """
    difference = _difference(wanted, measured, rows, exact)
    if difference:
        raise ContractError(f"{claim}, {difference}; {advice}.", implies)


def _difference(wanted: Trace, measured: Trace, rows: Array | None, exact: bool) -> str | None:
    """The earliest difference of two traces within `rows` [M, B] bool, in words."""
    first: tuple[int, str] | None = None
    for part in ("observations", "rewards", "terminated", "truncated"):
        expected, given = getattr(wanted, part), getattr(measured, part)
        differ = expected != given if exact else ~_near(expected.astype(float), given.astype(float))
        if part == "observations":
            differ = differ.any(-1)
        if rows is not None:
            differ = differ & rows
        if differ.any():
            step, task, slot = (int(index) for index in np.argwhere(differ)[0])
            at_reset = part == "observations" and step == 0
            now = step if part == "observations" else step + 1
            when = "at reset" if at_reset else f"in step {now}"
            have, want = given[step, task, slot], expected[step, task, slot]
            values = "" if np.ndim(have) else f" ({have:.6g}, not {want:.6g})"
            sentence = f"task {task}, episode {slot} has other {part} {when}{values}"
            first = min(first or (now, sentence), (now, sentence), key=lambda pair: pair[0])
    return first[1] if first else None


def _near(expected: Array, given: Array) -> Array:
    """Where two parts [T, M, B, ...] are equal but for rounding.

    A small number may be the difference of large ones (a distance to a goal that is passed), so
    the tolerance follows the largest of all steps and rows, each observation's feature apart.
    """
    size = np.where(np.isfinite(expected), abs(expected), 0.0).max(axis=(0, 1, 2), initial=0.0)
    tolerance = 1e-9 + 1e-6 * size
    return np.isclose(given, expected, rtol=0.0, atol=np.broadcast_to(tolerance, expected.shape))


@contextmanager
def calling(distribution: TaskDistribution, call: str) -> Iterator[None]:
    """Turn an error of an author's code into one sentence that says where."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise ContractError(f"{name_of(distribution)}.{call} raised {described(error)}.") from error


def described(error: Exception) -> str:
    """An error's kind, message and place on one line."""
    message = " ".join(str(error).split()).rstrip(".")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and frame.filename != __file__
    ]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {message}{place}" if message else type(error).__name__ + place


def name_of(distribution: Any) -> str:
    """A distribution's name, or its class's where it has none."""
    name = getattr(distribution, "name", None)
    return name if isinstance(name, str) and name else type(distribution).__name__


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__}"
