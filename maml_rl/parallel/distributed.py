"""Ranks that `torch.distributed` joins, over gloo: from `torchrun`, or from `launch`."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

from envs.errors import cause
from maml_rl.errors import LostRankError, RankError
from maml_rl.parallel.communicator import is_known, was_shared

PATIENCE = timedelta(minutes=30)  # for a rank that does not answer
ERROR = -1  # in place of a count: the rank has raised an error


class Distributed:
    """The ranks that the environment variables of a launcher describe.

    Every exchange begins with one number of each rank, so that a rank that has failed is noticed
    there. Rows travel as bytes, through the CPU's memory.
    """

    def __init__(self) -> None:
        with _connected():
            dist.init_process_group("gloo", timeout=PATIENCE)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def __enter__(self) -> Distributed:
        return self

    def __exit__(self, *details: object) -> None:
        dist.destroy_process_group()

    def mine(self, total: int) -> range:
        """Numbers of this rank's tasks among `total`: rank, rank + N, rank + 2 N ..."""
        return range(self.rank, total, self.size)

    def rows(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """Rows [M, ...] of all tasks in task order, from each rank's own rows [m, ...]."""
        counts = self._numbers(len(leaves[0]))
        parts = [_as_bytes(leaf) for leaf in leaves]
        mine = torch.cat(parts, dim=1)
        padded = pad(mine, (0, 0, 0, max(counts) - len(mine)))
        whole = padded.new_empty(self.size, *padded.shape)
        with _connected():
            dist.all_gather(list(whole.unbind()), padded)
        ordered = whole.transpose(0, 1).flatten(0, 1)[: sum(counts)]  # task i * N + rank
        columns = ordered.split([part.shape[1] for part in parts], dim=1)
        return tuple(
            _from_bytes(column, leaf) for column, leaf in zip(columns, leaves, strict=True)
        )

    def total(self, count: int) -> int:
        """Sum of the ranks' counts."""
        return sum(self._numbers(count))

    def largest(self, number: int) -> int:
        """Largest of the ranks' numbers, which are not negative."""
        return max(self._numbers(number))

    def broadcast(self, value: Any = None) -> Any:
        """Rank 0's value; what other ranks give is not used."""
        data = pickle.dumps(value) if self.rank == 0 else b""
        size = self._numbers(len(data))[0]
        content = torch.empty(size, dtype=torch.uint8)
        if self.rank == 0:
            content = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        with _connected():
            dist.broadcast(content, 0)
        return value if self.rank == 0 else pickle.loads(content.numpy().tobytes())

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self._numbers(0)

    @contextmanager
    def sharing_errors(self) -> Iterator[None]:
        """Raise on all ranks what one of them raises within, the first rank's where several do."""
        try:
            yield
        except Exception as error:
            if was_shared(error):
                raise
            self._gather(ERROR)
            self._raise_first(error)

    def _numbers(self, number: int) -> list[int]:
        """A number of each rank, none negative.

        Raises:
            Exception: the error of a rank that has failed.
        """
        numbers = self._gather(number)
        if ERROR in numbers:
            self._raise_first(None)
        return numbers

    def _gather(self, number: int) -> list[int]:
        numbers = torch.empty(self.size, dtype=torch.int64)
        with _connected():
            dist.all_gather(list(numbers.split(1)), torch.tensor([number]))
        return [int(each) for each in numbers]

    def _raise_first(self, error: Exception | None) -> NoReturn:
        """Raise the error of the first rank that has one; `error` is this rank's, or None."""
        reports: list[Any] = [None] * self.size
        mine = None if error is None else _report(error, self.rank)
        with _connected():
            dist.all_gather_object(reports, mine)
        first = next(rank for rank, report in enumerate(reports) if report is not None)
        if error is None or first != self.rank:
            kind, words = reports[first]
            error = kind.__new__(kind, words)
            error.args = (words,)
        raise _marked(error)


@contextmanager
def _connected() -> Iterator[None]:
    """Turn gloo's errors into one sentence."""
    try:
        yield
    except RuntimeError as error:
        raise _marked(
            LostRankError("the connection to another rank is lost: it has ended or hangs")
        ) from error


def _marked(error: Exception) -> Exception:
    """Mark an error as known to all ranks, see `was_shared`."""
    error.shared = True  # type: ignore[attr-defined]
    return error


def _report(error: Exception, rank: int) -> tuple[type[Exception], str]:
    """The kind and the sentence of an error, as other ranks can raise it."""
    if is_known(error):
        return type(error), str(error)
    return RankError, f"rank {rank} failed with {cause(error)}"


def _as_bytes(rows: Tensor) -> Tensor:
    """Rows [m, ...] as bytes, [m, W]."""
    flat = rows.detach().to("cpu").reshape(len(rows), rows.shape[1:].numel())
    return flat.contiguous().view(torch.uint8)


def _from_bytes(content: Tensor, like: Tensor) -> Tensor:
    """Rows [M, ...] of the kind of `like` from bytes [M, W]."""
    rows = content.clone(memory_format=torch.contiguous_format).view(like.dtype)
    return rows.view(len(content), *like.shape[1:]).to(like.device)
