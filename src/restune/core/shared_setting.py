"""A setting of the whole process that several threads may want at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock


class SharedSetting:
    """Changes a setting when the first block that wants it begins, and restores it when the last one ends.

    Blocks that each restored what they had found would, in threads, restore each other's change.

    Args:
        change: changes the setting and returns what restores it.
    """

    def __init__(self, change: Callable[[], Callable[[], None]]) -> None:
        self._change = change
        self._lock = Lock()
        self._users = 0

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Within this block the setting is changed."""
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
