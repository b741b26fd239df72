"""Progress of bulk prediction: how many inputs, how fast, and how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

from restune.core.console import StatusFields, duration, note, silent, status_line

_NOTE_SECONDS = 60.0
"""Time between two lines where standard error is not a terminal."""


@dataclass
class PredictionProgress:
    """How far the prediction of many inputs is.

    Args:
        done: number of inputs that are predicted.
        total: number of all inputs; None while it is not known.

    >>> progress = PredictionProgress(done=1000, total=5000)
    >>> progress.begin(now=0.0)
    >>> progress.done = 2000
    >>> progress.parts(now=10.0)
    ('100/s', '30 s left')
    """

    done: int = 0
    total: int | None = None
    _began: tuple[float, int] = (0.0, 0)
    _noted: float = 0.0
    _shown: Callable[[], bool] = field(default=lambda: False, repr=False)

    def begin(self, now: float) -> None:
        """Measure the rate from here."""
        self._began, self._noted = (now, self.done), now

    def advance(self, done: int) -> None:
        """Set how many inputs are predicted; print a line now and then where there is no terminal."""
        self.done = done
        now = time.monotonic()
        if now - self._noted >= _NOTE_SECONDS:
            self._noted = now
            if not self._shown():
                note(f"{self.title()}: {', '.join(self.parts(now))}")

    def title(self) -> str:
        """Return the counts."""
        return f"{self.done:,} inputs" if self.total is None else f"{self.done:,} of {self.total:,} inputs"

    def parts(self, now: float) -> tuple[str, ...]:
        """Return the rate and, where the total is known, the time left."""
        rate = (self.done - self._began[1]) / max(now - self._began[0], 1e-9)
        speed = f"{rate:.0f}/s" if rate >= 10 else f"{rate:.2g}/s"
        if self.total is None or rate == 0:
            return (speed,)
        return (speed, f"{duration(max(0, self.total - self.done) / rate)} left")

    def fields(self) -> StatusFields:
        """Return what the status line shows."""
        share = self.done / self.total if self.total else 0.0
        return StatusFields(self.title(), share, self.parts(time.monotonic()))

    @contextmanager
    def shown(self, count: Callable[[], int | None]) -> Iterator[None]:
        """Show progress within this block, while a thread counts all inputs."""

        def set_total() -> None:
            with silent():
                self.total = count()

        Thread(target=set_total, daemon=True, name="count").start()
        self.begin(time.monotonic())
        with status_line(self.fields) as self._shown:
            yield
