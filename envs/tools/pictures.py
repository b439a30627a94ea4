"""Pictures of tasks: environments that draw themselves, captions, and files of pictures."""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from envs.protocol import Array, Task, TaskDistribution

LINES = 3  # of a caption, at most
GAP = 8  # pixels between pictures
BACKGROUND, INK = (255, 255, 255), (20, 20, 20)
GIF_HOLD = 1000  # ms that a GIF shows its last picture for, before it begins again


def drawn_environment(
    distribution: TaskDistribution, task: Task, size: int
) -> gymnasium.Env[Any, Any]:
    """Build the Gymnasium environment of one task, which draws pictures of `size` pixels if it can.

    Raises:
        NoGymnasiumFormError: if the distribution has none.
    """
    try:
        return distribution.single(task, render_mode="rgb_array", width=size, height=size)
    except TypeError:  # not every environment can choose the size of its picture
        return distribution.single(task, render_mode="rgb_array")


def applied(distribution: TaskDistribution, action: Any) -> Any:
    """The applied action for a policy's output: scaled by the distribution, and clipped."""
    space = distribution.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(action)
    return np.clip(distribution.applied(action), space.low, space.high)


# Captions.


def letter_height(size: int) -> int:
    """Height of letters for pictures of `size` pixels."""
    return max(11, size // 20)


def caption(text: str, width: int, size: int | None = None) -> list[str]:
    """Break a text into lines of `width` pixels, in letters for pictures of `size` pixels.

    By default these are as wide as the lines.
    """
    letters = int(width / (0.62 * letter_height(width if size is None else size)))
    return textwrap.wrap(text, letters, max_lines=LINES, placeholder=" ...")


def side_by_side(
    pictures: Sequence[Array], captions: Sequence[Sequence[str]], title: str = ""
) -> Array:
    """Put pictures next to each other: [height, width, 3].

    Args:
        pictures: [height, width, 3] each.
        captions: lines below each picture; there is room for as many as the longest has.
        title: above all of them, in as many lines as it needs; "" leaves no room for it.
    """
    from PIL import Image, ImageDraw

    size = max(picture.shape[1] for picture in pictures)
    tall, spacing = max(picture.shape[0] for picture in pictures), round(1.4 * letter_height(size))
    width = len(pictures) * (size + GAP) + GAP
    heading = caption(title, width, size)
    top = GAP + len(heading) * spacing
    height = top + tall + max(len(lines) for lines in captions) * spacing + 2 * GAP
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), _font(letter_height(size))
    for line, text in enumerate(heading):
        pen.text((width / 2, GAP / 2 + line * spacing), text, fill=INK, font=font, anchor="ma")
    for index, (picture, lines) in enumerate(zip(pictures, captions, strict=True)):
        left = GAP + index * (size + GAP)
        sheet.paste(Image.fromarray(picture), (left, top))
        for line, text in enumerate(lines):
            place = (left + size / 2, top + tall + GAP + line * spacing)
            pen.text(place, text, fill=INK, font=font, anchor="ma")
    return np.asarray(sheet)


def _font(height: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), height)


# Files.


def shrunk(picture: Array, width: int) -> Array:
    """A picture at most `width` pixels wide, its proportions kept."""
    from PIL import Image

    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def write_png(path: Path, picture: Array) -> None:
    """Write a picture."""
    from PIL import Image

    Image.fromarray(picture).save(path)


def write_mp4(path: Path, frames: Iterable[Array], rate: float) -> None:
    """Write a film of `rate` pictures a second, which are taken one at a time.

    The codec needs even sizes: an odd one grows by a row or column of background.
    """
    from imageio_ffmpeg import write_frames

    writer = None
    try:
        for frame in frames:
            even = np.pad(
                frame,
                ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)),
                constant_values=BACKGROUND[0],
            )
            if writer is None:
                size = (even.shape[1], even.shape[0])
                writer = write_frames(str(path), size, fps=rate, macro_block_size=2)
                writer.send(None)
            writer.send(np.ascontiguousarray(even))
    finally:
        if writer is not None:
            writer.close()


def write_gif(path: Path, frames: Sequence[Array], rate: float, most_bytes: int = 4_000_000) -> int:
    """Write a film of `rate` pictures a second that begins again after a moment.

    Pictures are left out evenly, at the same total time, until the file has at most `most_bytes`.

    Returns:
        The stride n: every n-th picture is in the file.
    """
    stride = 1
    while True:
        content = _gif(frames, stride, rate)
        if len(content) <= most_bytes or stride >= len(frames):
            path.write_bytes(content)
            return stride
        stride *= 2


def _gif(frames: Sequence[Array], stride: int, rate: float) -> bytes:
    """Encode every `stride`-th picture, and always the last."""
    from PIL import Image

    last = len(frames) - 1
    indices = sorted({*range(0, last, stride), last})
    times = [10 * round(100 * index / rate) for index in indices]  # ms; a GIF counts in hundredths
    durations = [max(10, end - start) for start, end in itertools.pairwise(times)]
    colours = _palette(frames[:: 1 + last // 10])
    pictures = [
        Image.fromarray(frames[index]).quantize(palette=colours, dither=Image.Dither.NONE)
        for index in indices
    ]
    content = io.BytesIO()
    pictures[0].save(
        content,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=[*durations, GIF_HOLD],
        loop=0,
    )
    return content.getvalue()


def _palette(frames: Sequence[Array]) -> Any:
    """One palette for a film, so that still parts do not flicker."""
    from PIL import Image

    colours = Image.Quantize.FASTOCTREE  # the default method loses small things, such as markers
    return Image.fromarray(np.concatenate(frames)).quantize(256, method=colours)
