"""Skipped files of a source: counted by folder and suffix, reported in one line; an error for a whole class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import PurePosixPath

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten

_DOCUMENTS = ("txt", "text", "md", "rst", "html", "htm", "pdf", "docx")
_SIDE_SUFFIXES = (
    *(*_DOCUMENTS, "xlsx", "json", "jsonl", "xml", "csv", "tsv", "yaml", "yml", "toml", "ini", "cfg", "log"),
    *("py", "ipynb", "sh", "db", "sqlite", "lnk", "url", "license", "pkl", "pickle"),
)
SIDE_FILES = frozenset(("", *(f".{suffix}" for suffix in _SIDE_SUFFIXES)))
"""Suffixes of files often stored beside items: notes, captions, annotations, programs."""
EMPTY = "(empty)"
"""Used as the suffix of an empty folder."""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Files of one suffix below one folder that are not items.

    Args:
        place: a folder's path below the source, empty for the source itself.
        suffix: in lower case, with its dot; empty for files without one, and `EMPTY` for an empty folder.
        count: number of files.
        has_no_label: they are readable, but have no label.
    """

    place: str
    suffix: str
    count: int
    has_no_label: bool = False

    @property
    def pattern(self) -> str:
        """Return a pattern such as ``dog/*.heic``."""
        name = "" if self.suffix == EMPTY else f"*{self.suffix}"
        return f"{self.place}/{name}" if self.place else name

    @property
    def reason(self) -> str:
        """Return briefly why these files are not items."""
        if self.suffix == EMPTY:
            return "the folder is empty"
        files = f"{self.count} file{'s' if self.count > 1 else ''} " + (self.suffix or "without a suffix")
        return f"{files}, without a label" if self.has_no_label else f"{files}, not read"


class Tally:
    """Counts of skipped files, by folder below the source and suffix."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, folder: str, name: str) -> None:
        """Count one file."""
        self.counts[folder, PurePosixPath(name).suffix.lower()] += 1

    def add_empty(self, folder: str) -> None:
        """Count an empty folder."""
        self.counts[folder, EMPTY] = 1

    def below(self, prefix: str, depth: int) -> tuple[NotTaken, ...]:
        """Return counts by the first `depth` folders below `prefix`; of empty folders, count only these."""
        sums: Counter[tuple[str, str]] = Counter()
        for (folder, suffix), count in self.counts.items():
            inner = _inner(folder, prefix)
            if suffix != EMPTY or len(inner) <= depth:
                sums["/".join(inner[:depth]), suffix] += count
        return tuple(NotTaken(place, suffix, count) for (place, suffix), count in sorted(sums.items()))


def without_label(names: Iterable[str]) -> tuple[NotTaken, ...]:
    """Return the number of readable files without a label, by outermost folder."""
    paths = [PurePosixPath(name) for name in names]
    sums = Counter((path.parts[0] if len(path.parts) > 1 else "", path.suffix.lower()) for path in paths)
    return tuple(NotTaken(place, suffix, count, True) for (place, suffix), count in sorted(sums.items()))


_tally: ContextVar[Tally | None] = ContextVar("restune_not_taken", default=None)


@contextmanager
def counting() -> Iterator[Tally]:
    """Count skipped files within this block."""
    token = _tally.set(Tally())
    try:
        made = _tally.get()
        assert made is not None
        yield made
    finally:
        _tally.reset(token)


def current() -> Tally | None:
    """Return the tally of the current block."""
    return _tally.get()


def add_name(name: str) -> None:
    """Count a file by its path below the source, if counting is on."""
    tally = current()
    if tally is not None:
        folder, _, file = name.rpartition("/")
        tally.add(folder, file)


def reject_vanished(found: Iterable[NotTaken], taken: set[str], depth: int, where: str, noun: str) -> None:
    """Raise UserError for class folders with files but no readable one.

    Args:
        found: skipped files, by class folder.
        taken: class folders with items.
        depth: number of folders in a class folder's path.
        noun: of the items, for the message.
    """
    lost: dict[str, Counter[str]] = {}
    for one in found:
        if one.place and one.place not in taken and len(one.place.split("/")) == depth:
            lost.setdefault(one.place, Counter())[one.suffix] += one.count
    side = SIDE_FILES - {f".{suffix}" for suffix in _DOCUMENTS} if noun == "texts" else SIDE_FILES
    lost = {place: suffixes for place, suffixes in lost.items() if set(suffixes) - side - {EMPTY}}
    if not lost:
        return
    listed = "; ".join(f"{place!r} ({_suffixes(suffixes)})" for place, suffixes in list(lost.items())[:4])
    more = f"; {len(lost) - 4} more" if len(lost) > 4 else ""
    raise UserError(
        f"class folder{'s' if len(lost) > 1 else ''} without any {noun} restune can read: {listed}{more}",
        where=where,
        fix="convert these files to a format that restune reads, or move the folder away",
    )


def say(found: Iterable[NotTaken]) -> None:
    """Report skipped files in one line: a warning, or a note if all are usual companions of items."""
    everything = tuple(found)
    empty = [one.place for one in everything if one.suffix == EMPTY and one.place]
    files = [one for one in everything if one.suffix != EMPTY and not one.has_no_label]
    files.sort(key=lambda one: (one.suffix in SIDE_FILES, -one.count))
    if files:
        total = sum(one.count for one in files)
        listed = shorten((f"{one.count} {one.suffix or 'without a suffix'} in {one.place or '.'}" for one in files), 6)
        tell = note if all(one.suffix in SIDE_FILES for one in files) else warn
        tell(f"{total:,} file{'s' if total > 1 else ''} not read: {listed}")
    for place in dict.fromkeys(one.place for one in everything if one.has_no_label):
        count = sum(one.count for one in everything if one.has_no_label and one.place == place)
        warn(
            f"{count:,} file{'s' if count > 1 else ''} in {place}/ not used: no class folders, so no labels; "
            f"'restune predict MODEL DATA/{place}' predicts them"
        )
    if empty:
        warn(f"empty folder{'s' if len(empty) > 1 else ''}, not a class: {shorten(map(repr, empty), 6)}")


def described(tally: Tally | None) -> str:
    """Describe the skipped files as a clause; empty if nothing was counted."""
    if tally is None:
        return ""
    sums: Counter[str] = Counter()
    for (_, suffix), count in tally.counts.items():
        if suffix != EMPTY:
            sums[suffix] += count
    return f"; there are {_suffixes(sums)}" if sums else ""


def _suffixes(counts: Mapping[str, int]) -> str:
    return shorten(
        (f"{count:,} {suffix or 'without a suffix'}" for suffix, count in counts.items() if suffix != EMPTY), 6
    )


def _inner(folder: str, prefix: str) -> list[str]:
    """Return the parts of a path below a prefix; all parts if it is not below it."""
    parts = [part for part in folder.split("/") if part]
    outer = [part for part in prefix.split("/") if part]
    return parts[len(outer) :] if parts[: len(outer)] == outer else parts
