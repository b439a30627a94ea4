"""Stop requests: Ctrl-C and SIGTERM end a run between two phases of an iteration."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StoppedError(Exception):
    """A stop was requested; the iteration under way is given up. Its message is the signal."""


class StopRequest:
    """Turns Ctrl-C and SIGTERM into a request, which the training loop checks between its phases.

    The iteration under way is given up; last.pt holds the one before. A second signal acts at once.
    Each run begins without a request.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self.requested = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *details: object) -> None:
        self._restore()

    def check(self) -> None:
        """Raise StoppedError where a stop was requested."""
        if self.requested is not None:
            raise StoppedError(self.requested.name)

    @contextmanager
    def honored(self) -> Iterator[None]:
        """End what runs within where a stop was requested, of this rank or of another."""
        try:
            yield
        except StoppedError as error:
            self.requested = signal.Signals[str(error)]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
