"""Signals that ask a run to end: noted while a step is under way, so that it ends at one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """SIGTERM: a scheduler wants this process to end."""


class Interrupted(KeyboardInterrupt):
    """A run was asked to end, and has.

    Args:
        number: of the signal.
        folder: the run's, from which it can go on.
    """

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; what was done is in {folder}")
        self.number, self.folder = number, folder


@contextmanager
def noted() -> Iterator[Callable[[], int | None]]:
    """Within this block SIGINT and SIGTERM are only noted; yields a function that says which, or None.

    A second one ends the process as it would have without this. Outside the main thread nothing is noted, since
    Python delivers signals to none but it.
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
    """A handler for SIGTERM that lets files be closed and checkpoints finished."""
    raise Terminated
