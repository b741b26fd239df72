"""How many cores compute a batch: its share of them, or all where nothing else is computed and that is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from restune.core.machine import cpu_count
from restune.data.threads import computing_threads

_TRIALS = 4
"""Lone inputs that are timed with each number of threads; the first of them warms up."""


class Cores:
    """The number of torch's threads for the batches of one model.

    Threads wait for each other at every layer. Beside other batches, each batch has its share of the cores, which wait
    for nobody. A lone input gets all of them where that is faster, which small networks are not: the first lone inputs
    are timed.

    Args:
        slots: batches that are computed at a time.
        count: cores; None: this process's.

    >>> cores = Cores(slots=2, count=8)
    >>> cores.share, cores.alone
    (4, None)
    """

    def __init__(self, slots: int, count: int | None = None) -> None:
        self.count = cpu_count() if count is None else count
        self.share = max(1, self.count // slots)
        self.alone: int | None = self.count if self.share == self.count else None
        self._seconds: dict[int, list[float]] = {self.share: [], self.count: []}

    @contextmanager
    def used(self, size: int, is_alone: Callable[[], bool]) -> Iterator[None]:
        """Compute a batch within this block.

        Args:
            size: its inputs.
            is_alone: whether nothing else is computed or about to be.
        """
        if not is_alone():
            with computing_threads(self.share):
                yield
            return
        count, began = self._next(), time.perf_counter()
        with computing_threads(count):
            yield
        if self.alone is None and size == 1 and is_alone():
            self._note(count, time.perf_counter() - began)

    def _next(self) -> int:
        if self.alone is not None:
            return self.alone
        return min(self._seconds, key=lambda count: len(self._seconds[count]))

    def _note(self, count: int, seconds: float) -> None:
        self._seconds[count].append(seconds)
        if all(len(timed) >= _TRIALS for timed in self._seconds.values()):
            self.alone = min(self._seconds, key=lambda count: min(self._seconds[count][1:]))
