"""Detect the dialect of a table of separated values: separator, quoting, escapes."""

from __future__ import annotations

import codecs
import csv
import mmap
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from restune.data.sources.decimals import splits_decimals

_HEAD_BYTES = 2**20
_HEAD_ROWS = 200
_SEPARATORS = ",;\t|"
_LONGEST_LINE = 32 * 2**20
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True, slots=True)
class Dialect:
    """The dialect of a table.

    Args:
        delimiter: the field separator.
        quoted: fields may be in double quotes; False if quotes are ordinary characters.
        line_ends: quoted fields may contain line breaks.
        escaped: a backslash escapes a following quote or separator.
        spaced: there are blanks between a separator and an opening quote.
    """

    delimiter: str
    quoted: bool = True
    line_ends: bool = False
    escaped: bool = False
    spaced: bool = False


def dialect_of(path: Path, encoding: str, *, long_rows: bool = False) -> Dialect:
    """Detect a file's dialect from its first rows; search all its bytes for quotes and escapes.

    Args:
        long_rows: rows are texts or series: quotes in a tab-separated table may be ordinary characters.
    """
    head = read_head(path, encoding)
    delimiter = delimiter_of(path, head)
    if long_rows and _has_stray_quotes(_lines(path, encoding), delimiter):
        return Dialect(delimiter, quoted=False)
    has_quotes, has_escapes = _search(path, encoding, head)
    return _completed(Dialect(delimiter, line_ends=has_quotes, escaped=has_escapes), head)


def head_rows(path: Path, encoding: str) -> tuple[list[list[str]], Dialect]:
    """Return the first rows of a table of separated values, header included, and their dialect."""
    head = read_head(path, encoding)
    delimiter = delimiter_of(path, head)
    if _has_stray_quotes(head, delimiter):
        dialect = Dialect(delimiter, quoted=False)
    else:
        dialect = _completed(Dialect(delimiter, escaped=_is_escaped("\n".join(head))), head)
    return parse(head, dialect), dialect


def read_head(path: Path, encoding: str) -> list[str]:
    """Return the first lines of a file, without line breaks; a truncated last line is dropped."""
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        head = file.read(_HEAD_BYTES)
    lines = head.split("\n")
    if len(head) == _HEAD_BYTES and len(lines) > 1:
        lines.pop()
    return lines


def delimiter_of(path: Path, head: Sequence[str]) -> str:
    """Choose the separator for which most rows have as many fields as the first.

    On a tie: the one that leaves numbers with decimal commas in the first row, else the most frequent in it.
    Always a tab for a ``.tsv``.
    """
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = next((line for line in head if line.strip()), "")
    fits = {mark: _share_of_full_rows(head, mark) for mark in _SEPARATORS if mark in first}
    decimal = splits_decimals(first)
    return max(fits, key=lambda mark: (fits[mark], mark == decimal, first.count(mark)), default=",")


def parse(lines: Iterable[str], dialect: Dialect, most: int = _HEAD_ROWS) -> list[list[str]]:
    """Return up to `most` + 1 rows of fields; stop before a field that is too long."""
    rows: list[list[str]] = []
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE
    reader = csv.reader(
        (f"{line}\n" for line in lines),
        delimiter=dialect.delimiter,
        quoting=quoting,
        escapechar="\\" if dialect.escaped else None,
        skipinitialspace=dialect.spaced,
    )
    try:
        for row in reader:
            rows.extend([row] if row else [])
            if len(rows) > most:
                break
    except csv.Error:  # a field beyond the csv module's limit
        pass
    return rows


def _share_of_full_rows(head: Sequence[str], mark: str) -> float:
    rows = parse(head, Dialect(mark, escaped=_is_escaped("\n".join(head[:_HEAD_ROWS]))), 50)[:50]
    if len(rows) < 2 or len(rows[0]) < 2:
        return 0.0
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows)


def _completed(dialect: Dialect, head: Sequence[str]) -> Dialect:
    """Refine the dialect by the first rows' fields: escaped separators, blanks before quotes."""
    plain = parse(head, dialect)
    candidates = []
    if any(field.startswith(" ") and field.lstrip().startswith('"') for row in plain for field in row):
        candidates.append(Dialect(dialect.delimiter, True, dialect.line_ends, dialect.escaped, spaced=True))
    if not dialect.escaped and any(f"\\{dialect.delimiter}" in line for line in head) and not _is_even(plain):
        candidates.append(Dialect(dialect.delimiter, True, dialect.line_ends, escaped=True))
    return next((one for one in candidates if _is_even(parse(head, one))), dialect)


def _is_even(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether all rows have the same number of fields."""
    return len({len(row) for row in rows[:_HEAD_ROWS]}) == 1


def _is_escaped(text: str) -> bool:
    """Return whether a quote follows a backslash within a field (a Windows path would not have that)."""
    return re.search(r'\\"[^,;\t|\r\n"]', text) is not None


def _search(path: Path, encoding: str, head: Sequence[str]) -> tuple[bool, bool]:
    """Return whether a file has any quote, and whether one is escaped by a backslash."""
    name = codecs.lookup(encoding).name
    if name.startswith(("utf-16", "utf-32")) or path.stat().st_size == 0:
        return True, _is_escaped("\n".join(head))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b'"') < 0:
            return False, False
        return True, re.search(rb'\\"[^,;\t|\r\n"]', content) is not None


def _lines(path: Path, encoding: str) -> Iterator[str]:
    with path.open(encoding=encoding, errors="replace", newline="\n") as file:
        while line := file.readline(_LONGEST_LINE):
            yield line


def _has_stray_quotes(lines: Iterable[str], delimiter: str) -> bool:
    """Return whether quotes are ordinary characters in a tab-separated table.

    They are if every line has all columns when quotes are ignored, and some field has an opening quote only.
    """
    if delimiter != "\t":
        return False
    stray, columns = False, None
    for line in lines:
        if not line.strip():
            continue
        count = line.count(delimiter)
        if columns is not None and count != columns:
            return False
        columns = count
        stray = stray or ('"' in line and any(map(_is_stray, line.rstrip("\r\n").split(delimiter))))
    return stray


def _is_stray(field: str) -> bool:
    return field.startswith('"') and _QUOTED.fullmatch(field) is None
