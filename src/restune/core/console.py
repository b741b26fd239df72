"""What is said while working: notes, warnings and progress on standard error; results are the caller's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_quiet: ContextVar[bool] = ContextVar("restune_quiet", default=False)
_silent: ContextVar[bool] = ContextVar("restune_silent", default=False)


command_started: ContextVar[float | None] = ContextVar("restune_command_started", default=None)
"""`time.perf_counter()` when the command line began; None when called from Python. A time budget counts from there."""


@contextmanager
def silent(on: bool = True) -> Iterator[None]:
    """Within this block nothing is said at all: another process of the same run says it."""
    token = _silent.set(on)
    try:
        with quiet(on or is_quiet()):
            yield
    finally:
        _silent.reset(token)


@contextmanager
def quiet(on: bool = True) -> Iterator[None]:
    """Within this block notes and progress are silent; warnings still show."""
    token = _quiet.set(on)
    try:
        yield
    finally:
        _quiet.reset(token)


def is_quiet() -> bool:
    """Whether notes and progress are silent now."""
    return _quiet.get()


def note(message: str) -> None:
    """Say something worth knowing, such as what was recognised or chosen, and why."""
    if not _quiet.get():
        _print(message)


_warned: set[str] = set()


def warn_once(message: str, *, about: str) -> None:
    """As `warn`, once for the life of the process: many tables and phases meet one and the same fault.

    Args:
        about: what the fault is of; later warnings about the same are left out, whatever their words.
    """
    if about not in _warned:
        _warned.add(about)
        warn(message)


def warn(message: str) -> None:
    """Say something the user should act on. Shown even when quiet, though not by processes that leave it to another."""
    if not _silent.get():
        _print(f"warning: {message}")


@contextmanager
def progress(description: str, total: float | None, *, unit: str = "items") -> Iterator[Callable[[float], None]]:
    """A live bar on a terminal, nothing elsewhere; yields `advance(amount)`. ``unit="bytes"`` shows sizes and speed.

    On something other than a terminal a line is printed at the end of long work instead, by the verb itself.
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
