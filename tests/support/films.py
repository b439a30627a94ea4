"""Reading films back."""

import subprocess

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image


def mp4(path, height, width):
    """Read an mp4's pictures, [frames, height, width, 3]."""
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(path), *raw]
    content = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, height, width, 3)


def gif(path):
    """Read a GIF's pictures and how long each is shown for, ms."""
    with Image.open(path) as film:
        durations, frames = [], []
        for index in range(film.n_frames):
            film.seek(index)
            durations.append(film.info["duration"])
            frames.append(np.asarray(film.convert("RGB")).astype(int))
    return frames, durations
