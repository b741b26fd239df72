"""A process-wide setting that several threads may change at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock


class SharedSetting:
    """Changes a setting when the first of several blocks begins, and restores it when the last one ends.

    If each block restored the value it had read, concurrent threads would restore each other's change.

    Args:
        change: changes the setting and returns a function that restores it.
    """

    def __init__(self, change: Callable[[], Callable[[], None]]) -> None:
        self._change = change
        self._lock = Lock()
        self._users = 0

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Keep the setting changed within this block."""
        with self._lock:
            if self._users == 0:
                self._restore = self._change()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._restore()
