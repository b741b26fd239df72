"""Signals that stop a run: recorded when they arrive, acted on after the current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """Raised on SIGTERM: a scheduler asks this process to end."""


class Interrupted(KeyboardInterrupt):
    """Raised after a signal has stopped a run and its state is saved.

    Args:
        number: number of the signal.
        folder: the run folder, from which the run can be resumed.
    """

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; progress is saved in {folder}")
        self.number, self.folder = number, folder


@contextmanager
def noted() -> Iterator[Callable[[], int | None]]:
    """Record SIGINT and SIGTERM within this block; yields a function that returns the recorded signal, or None.

    A second signal acts as it would without this block. Outside the main thread nothing is recorded, since Python
    delivers signals to the main thread only.
    """
    seen: list[int] = []

    def take(number: int, frame: FrameType | None) -> None:
        if seen:
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)
            raise KeyboardInterrupt
        seen.append(number)

    before = {}
    from_python = all(signal.getsignal(number) is not None for number in _SIGNALS)  # others cannot be restored
    if from_python and threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, take) for number in _SIGNALS}
    try:
        yield lambda: seen[0] if seen else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_terminated(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM by raising `Terminated`, so that files are closed and checkpoints finished."""
    raise Terminated
