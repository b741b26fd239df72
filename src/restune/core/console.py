"""Print notes, warnings and progress on standard error. The caller prints results."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from restune.core.language import Text, current_language, translated

_WARNING = Text("warning: ", "警告：")

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
        _print(translated(message))


def say(message: str = "") -> None:
    """Print a line of a verb's result on standard output."""
    print(translated(message))


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
        _print(f"{_WARNING.of(current_language())}{translated(message)}")


@contextmanager
def progress(description: str, total: float | None, *, unit: str = "items") -> Iterator[Callable[[float], None]]:
    """Show a progress bar on a terminal; yields `advance(amount)`. ``unit="bytes"`` shows sizes and speed.

    Shows nothing where standard error is not a terminal; there the verb prints one line at the end of long work. Nor
    without a description, where the caller has a display of its own.
    """
    if _quiet.get() or not description or not sys.stderr.isatty():
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
        task = bar.add_task(translated(description), total=total)
        yield lambda amount: bar.advance(task, amount)


@contextmanager
def status_line(fields: Callable[[], StatusFields]) -> Iterator[Callable[[], bool]]:
    """Show one line at the bottom of a terminal, drawn from `fields` a few times per second; elsewhere nothing.

    The line never wraps: on a narrow terminal, the last fields are left out, and a bar fills what is left of the width.
    Yields a function that returns whether the line is shown.
    """
    if _quiet.get() or not sys.stderr.isatty():
        yield lambda: False
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)

    def draw() -> Text:
        return Text(fitted_status(fields(), console.width), no_wrap=True, overflow="crop")

    with Live(get_renderable=draw, console=console, transient=True, refresh_per_second=4):
        yield lambda: True


@dataclass(frozen=True)
class StatusFields:
    """What a status line shows.

    Args:
        title: shown first, such as ``epoch 3/20``.
        share: of the work that is done, for the bar.
        parts: shown after the bar, the most important first.
    """

    title: str
    share: float
    parts: tuple[str, ...]


_NARROWEST_BAR, _WIDEST_BAR = 6, 30


def fitted_status(fields: StatusFields, width: int) -> str:
    """Format a status line of at most `width` columns: the title, a bar, and as many parts as fit.

    >>> fitted_status(StatusFields("epoch 1/2", 0.5, ("loss 0.5", "9 s left")), 50)
    'epoch 1/2 ━━━━━━━━━━────────── loss 0.5  9 s left'
    >>> fitted_status(StatusFields("epoch 1/2", 0.5, ("loss 0.5", "9 s left")), 26)
    'epoch 1/2 ━━━─── loss 0.5'
    """
    title = translated(fields.title)
    shown: list[str] = []
    for part in map(translated, fields.parts):
        if columns("  ".join([*shown, part])) + columns(title) + _NARROWEST_BAR + 3 > width:
            break
        shown.append(part)
    text = "  ".join(shown)
    room = min(_WIDEST_BAR, width - columns(title) - columns(text) - 3)
    if room < _NARROWEST_BAR:
        return title[:width]
    full = round(room * min(1.0, max(0.0, fields.share)))
    return f"{title} {'━' * full}{'─' * (room - full)} {text}".rstrip()


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a Chinese character.

    >>> columns("epoch"), columns("轮")
    (5, 2)
    """
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def duration(seconds: float) -> str:
    """Format seconds as a clock: ``9 s``, ``3:20``, ``1:02:05``.

    >>> duration(9.2), duration(200), duration(3725)
    ('9 s', '3:20', '1:02:05')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
