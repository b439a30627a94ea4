"""Reading what a run leaves on the disk, and comparing it."""

import hashlib
import json
import warnings
from pathlib import Path

import torch


def read_metrics(path):
    """Read metrics.jsonl."""
    return [json.loads(line) for line in (Path(path) / "metrics.jsonl").read_text().splitlines()]


def repeatable(metrics):
    """Leave out what depends on the machine."""
    return [
        {k: v for k, v in line.items() if not k.startswith(("seconds", "machine/"))}
        for line in metrics
    ]


def load(path):
    """Load a checkpoint as anybody may."""
    return torch.load(path, weights_only=True)


def assert_same_meta(first, second):
    """Compare two checkpoints' meta-parameters to the bit."""
    one, other = load(first)["meta"], load(second)["meta"]
    assert list(one) == list(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name


def everything(folder):
    """Name every file and folder below `folder`, with a digest of its content."""
    return {
        str(path.relative_to(folder)): path.is_file() and hashlib.sha256(path.read_bytes()).digest()
        for path in folder.rglob("*")
    }


def png_size(path):
    """Read width and height from a PNG's header."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[-8:-4] == b"IEND"
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def scalars(folder, name):
    """Steps and values of one curve in TensorBoard's events."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder))
        events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]
