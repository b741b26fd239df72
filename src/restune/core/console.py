"""Print notes, warnings and progress on standard error. The caller prints results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_quiet: ContextVar[bool] = ContextVar("restune_quiet", default=False)
_silent: ContextVar[bool] = ContextVar("restune_silent", default=False)


command_started: ContextVar[float | None] = ContextVar("restune_command_started", default=None)
"""`time.perf_counter()` when the command line began; None when called from Python. Time budgets count from there."""


@contextmanager
def silent(on: bool = True) -> Iterator[None]:
    """Print nothing within this block, not even warnings: another process of the same run prints them."""
    token = _silent.set(on)
    try:
        with quiet(on or is_quiet()):
            yield
    finally:
        _silent.reset(token)


@contextmanager
def quiet(on: bool = True) -> Iterator[None]:
    """Print no notes or progress within this block; warnings still show."""
    token = _quiet.set(on)
    try:
        yield
    finally:
        _quiet.reset(token)


def is_quiet() -> bool:
    """Return whether notes and progress are switched off."""
    return _quiet.get()


def note(message: str) -> None:
    """Print information, such as a detected format or a chosen setting with its reason."""
    if not _quiet.get():
        _print(message)


_warned: set[str] = set()


def warn_once(message: str, *, about: str) -> None:
    """Warn as `warn` does, but once per process: many tables and phases meet the same fault.

    Args:
        about: the subject of the warning; later warnings with the same subject are dropped, whatever their text.
    """
    if about not in _warned:
        _warned.add(about)
        warn(message)


def warn(message: str) -> None:
    """Print a warning that the user should act on. Shown even when quiet, but not within `silent`."""
    if not _silent.get():
        _print(f"warning: {message}")


@contextmanager
def progress(description: str, total: float | None, *, unit: str = "items") -> Iterator[Callable[[float], None]]:
    """Show a progress bar on a terminal; yields `advance(amount)`. ``unit="bytes"`` shows sizes and speed.

    Shows nothing where standard error is not a terminal; there the verb prints one line at the end of long work.
    """
    if _quiet.get() or not sys.stderr.isatty():
        yield lambda _amount: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts = [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda amount: bar.advance(task, amount)


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
