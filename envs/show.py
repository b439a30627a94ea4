"""Show what the tasks of a distribution are: `python -m envs.show ant_goal`."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.checks import UserError, integer_at_least
from envs.commands import one_name, read, run
from envs.registry import build
from envs.rendering import choose_renderer, picture_of
from envs.task_distribution import Array, Tasks, count_tasks, draw_tasks, stored_tasks, task_at

USAGE = """usage: python -m envs.show <name or target> [option=value ...] [argument=value ...]

Draw some tasks side by side. Options and their defaults:
  num_tasks=4    tasks to show; where there are few in all, those
  seed=0         of the tasks, and of the actions and the initial state, which all tasks share
  out=<name>.png the file: .png is one picture, .mp4 or .gif moves
  steps=         random actions taken before the picture (20), or in the film (100)
  size=320       pixels of one task's picture
All other arguments go to the distribution's constructor (preset=...).
"""
STEPS = {".png": 20, ".mp4": 100, ".gif": 100}
LINES = 3  # of a caption, at most
GAP = 8  # pixels between pictures
BACKGROUND, INK = (255, 255, 255), (20, 20, 20)


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
    tasks = _tasks(distribution, count, seed)
    frames, rate = film(distribution, tasks, min(steps, distribution.horizon), size, seed)
    _write(out, frames if out.suffix != ".png" else frames[-1:], rate)
    print(f"{count_tasks(tasks)} tasks of {distribution.name}: {out}")
    return 0


def film(
    distribution: Any, tasks: Tasks, steps: int, size: int, seed: int
) -> tuple[list[Array], float]:
    """Run every task with the same random actions from the same initial state.

    Args:
        distribution: has a Gymnasium form (`single`) that draws itself.
        tasks: leaves [M, ...].
        steps: to take; an episode that ends before keeps its last picture.
        size: of one task's picture, pixels.
        seed: of initial state and actions.

    Returns:
        The pictures, [height, width, 3] each, steps + 1 of them, and how many make a second.

    Raises:
        UserError: if there is no Gymnasium form, or it cannot be drawn.
    """
    each = [task_at(tasks, index) for index in range(count_tasks(tasks))]
    captions = [_caption(distribution.describe(task), size) for task in each]
    columns, rate = [], 20.0
    for task in each:
        with closing(_single(distribution, task, size)) as env:
            columns.append(list(_pictures(distribution, env, steps, seed)))
            rate = float(env.metadata.get("render_fps", rate))
    height = max(len(lines) for lines in captions)
    return [
        _side_by_side([column[step] for column in columns], captions, height)
        for step in range(steps + 1)
    ], rate


def _single(distribution: Any, task: Tasks, size: int) -> gymnasium.Env[Any, Any]:
    options: dict[str, Any] = {"width": size, "height": size}
    try:
        build_single = distribution.single
    except AttributeError as error:
        raise UserError(
            f"{distribution.name} cannot be shown: it has no method single, which builds the "
            f"Gymnasium environment of one task."
        ) from error
    try:
        env: gymnasium.Env[Any, Any] = build_single(task, render_mode="rgb_array", **options)
    except TypeError:  # not every environment can choose the size of its picture
        env = build_single(task, render_mode="rgb_array")
    return env


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
    """Draw what an untrained policy would do: standard normal, scaled as the distribution does."""
    space = distribution.action_space
    if isinstance(space, spaces.Discrete):
        return int(rng.integers(int(space.n)))
    drawn = rng.standard_normal(space.shape).astype(np.float32)
    applied = getattr(
        distribution, "applied", lambda action: np.clip(action, space.low, space.high)
    )
    return applied(drawn)


def _tasks(distribution: Any, count: int, seed: int) -> Tasks:
    """Draw tasks; where there are few, take each once."""
    rng, finite = np.random.default_rng(seed), distribution.finite_tasks()
    if finite is None:
        return draw_tasks(distribution, count, rng)
    tasks = stored_tasks(distribution, count_tasks(finite), rng)
    return {name: leaf[:count] for name, leaf in tasks.items()}


# Putting pictures together.


def _font(size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), _points(size))


def _points(size: int) -> int:
    """Return the height of letters for pictures of `size` pixels."""
    return max(11, size // 20)


def _caption(text: str, size: int) -> list[str]:
    """Break a description into lines that fit below a picture of `size` pixels."""
    letters = int(size / (0.62 * _points(size)))
    return textwrap.wrap(text, letters, max_lines=LINES, placeholder=" ...")


def _side_by_side(pictures: Sequence[Array], captions: Sequence[list[str]], lines: int) -> Array:
    """Put pictures next to each other, their captions below: [height, width, 3]."""
    from PIL import Image, ImageDraw

    size = max(picture.shape[1] for picture in pictures)
    tall, spacing = max(picture.shape[0] for picture in pictures), round(1.4 * _points(size))
    width = len(pictures) * (size + GAP) + GAP
    height = tall + lines * spacing + 3 * GAP
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), _font(size)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = GAP + index * (size + GAP)
        sheet.paste(Image.fromarray(picture), (left, GAP))
        for line, text in enumerate(caption):
            place = (left + size / 2, tall + 2 * GAP + line * spacing)
            pen.text(place, text, fill=INK, font=font, anchor="ma")
    return np.asarray(sheet)


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
        (_write_mp4 if path.suffix == ".mp4" else _write_picture)(partial, frames, rate)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"out={path} cannot be written ({error.strerror}).") from error
    finally:
        partial.unlink(missing_ok=True)


def _write_picture(path: Path, frames: Sequence[Array], rate: float) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(frame) for frame in frames)
    if path.suffix == ".gif":
        duration = round(1000 / rate)
        first.save(path, save_all=True, append_images=rest, duration=duration, loop=0)
    else:
        first.save(path)


def _write_mp4(path: Path, frames: Sequence[Array], rate: float) -> None:
    from imageio_ffmpeg import write_frames

    height, width = (side - side % 2 for side in frames[0].shape[:2])  # the codec needs even sizes
    writer = write_frames(str(path), (width, height), fps=rate, macro_block_size=2)
    writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(frame[:height, :width]))
    finally:
        writer.close()


if __name__ == "__main__":
    run(show_command)
