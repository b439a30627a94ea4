"""Show tasks of a distribution: `python -m envs.show ant_goal`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.arguments import integer_at_least
from envs.errors import UserError
from envs.protocol import Array, Tasks, count_tasks, some_tasks, task_at
from envs.registry import build
from envs.tools.arguments import one_name, read
from envs.tools.pictures import (
    applied,
    caption,
    drawn_environment,
    side_by_side,
    write_gif,
    write_mp4,
    write_png,
)
from envs.tools.rendering import choose_renderer, picture_of

USAGE = """usage: python -m envs.show <name or target> [option=value ...] [argument=value ...]

Draw some tasks side by side. Options and their defaults:
  num_tasks=4    tasks to show; where there are few in all, those
  seed=0         of the tasks, and of the actions and the initial state, which all tasks share
  out=<name>.png the file: .png is one picture, .mp4 or .gif moves
  steps=         random actions taken before the picture (20), or in the film (100)
  size=320       pixels of one task's picture
All other arguments go to the distribution's constructor (preset=...).
"""
WRITERS: dict[str, Callable[[Path, Sequence[Array], float], Any]] = {
    ".png": lambda path, frames, rate: write_png(path, frames[-1]),
    ".mp4": write_mp4,
    ".gif": write_gif,
}
STEPS = {".png": 20, ".mp4": 100, ".gif": 100}


def show_command(arguments: Sequence[str]) -> int:
    """Write a picture or a film of some tasks."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    names, options = read(arguments)
    name = one_name(names, "python -m envs.show ant_goal num_tasks=4 out=ant_goal.png")
    count = integer_at_least("num_tasks", options.pop("num_tasks", 4))
    seed = integer_at_least("seed", options.pop("seed", 0), 0)
    size = integer_at_least("size", options.pop("size", 320), 64)
    out = _file(options.pop("out", f"{name.rpartition('.')[2]}.png"))
    steps = integer_at_least("steps", options.pop("steps", STEPS[out.suffix]), 0)
    choose_renderer()  # before anything imports MuJoCo
    distribution = build(name, options)
    tasks = some_tasks(distribution, count, np.random.default_rng(seed))
    frames, rate = film(distribution, tasks, min(steps, distribution.horizon), size, seed)
    _write(out, frames, rate)
    print(f"{count_tasks(tasks)} tasks of {distribution.name}: {out}")
    return 0


def film(
    distribution: Any, tasks: Tasks, steps: int, size: int, seed: int
) -> tuple[list[Array], float]:
    """Run every task with the same random actions from the same initial state.

    Args:
        distribution: has a Gymnasium form (`single`) that draws itself.
        tasks: leaves [M, ...].
        steps: to take; an episode that ends earlier keeps its last picture.
        size: of one task's picture, pixels.
        seed: of initial state and actions.

    Returns:
        The pictures, [height, width, 3] each, steps + 1 of them, and how many make a second.

    Raises:
        UserError: if there is no Gymnasium form, or it cannot be drawn.
    """
    listed = [task_at(tasks, index) for index in range(count_tasks(tasks))]
    captions = [caption(distribution.describe(task), size) for task in listed]
    columns, rate = [], 20.0
    for task in listed:
        with closing(drawn_environment(distribution, task, size)) as env:
            columns.append(list(_pictures(distribution, env, steps, seed)))
            rate = float(env.metadata.get("render_fps", rate))
    return [
        side_by_side([column[step] for column in columns], captions) for step in range(steps + 1)
    ], rate


def _pictures(
    distribution: Any, env: gymnasium.Env[Any, Any], steps: int, seed: int
) -> Iterator[Array]:
    """Draw the initial state and every step of one episode; after its end, the last one again."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    picture, done = picture_of(env, distribution.name, f"showing {distribution.name}"), False
    yield picture
    for _ in range(steps):
        action = _action(distribution, rng)
        if not done:
            _, _, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            picture = picture_of(env, distribution.name, f"showing {distribution.name}")
        yield picture


def _action(distribution: Any, rng: np.random.Generator) -> Any:
    """Draw an action of an untrained policy: standard normal, scaled by the distribution."""
    space = distribution.action_space
    if isinstance(space, spaces.Discrete):
        return int(rng.integers(int(space.n)))
    return applied(distribution, rng.standard_normal(space.shape).astype(np.float32))


def _file(out: Any) -> Path:
    """Check the name of the file to write.

    Raises:
        UserError: if it is of no kind that can be written, or its folder is missing.
    """
    path = Path(str(out))
    if path.suffix not in STEPS:
        raise UserError(f"out={out} must end in {', '.join(STEPS)}.")
    if not path.parent.is_dir():
        raise UserError(f"out={out}: there is no folder {path.parent}.")
    return path


def _write(path: Path, frames: Sequence[Array], rate: float) -> None:
    """Write a picture, or a film of `rate` pictures a second; an unfinished one leaves no file."""
    partial = path.with_name(f".{os.getpid()}{path.name}")
    try:
        WRITERS[path.suffix](partial, frames, rate)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"out={path} cannot be written ({error.strerror}).") from error
    finally:
        partial.unlink(missing_ok=True)
