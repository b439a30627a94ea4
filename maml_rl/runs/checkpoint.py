"""Checkpoints: written atomically, loaded without running code, and checked against damage."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from maml_rl.algorithm.rollout import Params
from maml_rl.errors import CheckpointError
from maml_rl.files import replacing

FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (nested dictionaries and lists of tensors and plain values) to `path`.

    The file appears whole or not at all: it is written beside its place, flushed to the disk, and
    renamed. `torch.load(path, weights_only=True)` reads it.
    """
    content = {"format": FORMAT, **content}
    content["sha256"] = digest(content)
    buffer = io.BytesIO()  # torch's own file writer turns a full disk into an internal error
    torch.save(content, buffer)
    with replacing(path) as partial:
        partial.write_bytes(buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        CheckpointError: if the file is missing, cut short, altered, of another format, or holds
            anything but tensors and plain values (which could run code).
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors and plain values (it could run code "
            f"when loaded): it was not loaded; use another checkpoint of the run."
        ) from error
    except Exception as error:  # altered bytes raise whatever the unpickler meets first
        raise CheckpointError(
            f"{path} is damaged (cut short or altered): use another checkpoint of the run."
        ) from error
    if not isinstance(content, dict) or "sha256" not in content or "meta" not in content:
        raise CheckpointError(f"{path} is not a checkpoint of this program.")
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {content.get('format')}; this version reads {FORMAT}."
        )
    meta = content["meta"]
    if not isinstance(meta, dict) or not all(isinstance(leaf, Tensor) for leaf in meta.values()):
        raise CheckpointError(f"{path} is not a checkpoint of this program.")
    recorded = content.pop("sha256")
    if recorded != digest(content):
        raise CheckpointError(
            f"{path} is damaged (its content does not match its checksum): use another checkpoint "
            f"of the run."
        )
    return content


def check_architecture(meta: Params, expected: Params, path: Path) -> None:
    """Compare names and shapes of a checkpoint's meta-parameters with what is expected.

    Raises:
        CheckpointError: naming the first leaf that differs.
    """
    for name in [*expected, *(name for name in meta if name not in expected)]:
        have = list(meta[name].shape) if name in meta else "nothing"
        want = list(expected[name].shape) if name in expected else "nothing"
        if have != want:
            raise CheckpointError(
                f"{path} is of another architecture: for {name} it holds {have}, and the policy "
                f"and inner loop expect {want}."
            )


def digest(content: Any) -> str:
    """SHA-256 of nested dictionaries and lists of tensors and plain values."""
    sha256 = hashlib.sha256()
    for part in _bytes(content):
        sha256.update(part)
    return sha256.hexdigest()


def _bytes(node: Any) -> Iterator[bytes]:
    """Walk nested content as bytes, the same for the same content."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{key!r}:".encode()
            yield from _bytes(value)
    elif isinstance(node, list | tuple):
        yield f"[{len(node)}]".encode()
        for value in node:
            yield from _bytes(value)
    elif isinstance(node, Tensor):
        yield f"{node.dtype}{tuple(node.shape)}".encode()
        yield node.detach().cpu().contiguous().numpy().tobytes()
    else:
        yield repr(node).encode()
