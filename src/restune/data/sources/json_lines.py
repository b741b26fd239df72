"""JSON tables: one object per line (``.jsonl``, ``.ndjson``), or one array of objects (``.json``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
from restune.core.machine import memory_bytes

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
MAX_LINE = 64 * 2**20
"""Maximum characters per line."""
_HEAD = 100
_BATCH = 4_096
_MEMORY_SHARE = 20
"""An array may take this fraction of memory: it is read whole, and its objects are several times larger."""
_LIST_KEYS = ("data", "items", "rows", "examples", "annotations", "train")

_Record = dict[str, Any]


class JsonTable:
    """JSON objects as rows, read in batches; every column is text. Keys that an object lacks are missing values."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: Sequence[_Record] | None = None if _has_lines(path) else _read_array(path)
        self.names = list(dict.fromkeys(key for record in self._head() for key in record))

    def peek(self) -> list[list[Any]]:
        """Return the first values of each column."""
        head = list(self._head())
        return [[_as_field(record.get(name)) for record in head] for name in self.names]

    def batches(self, columns: list[int]) -> Iterator[dict[int, Any]]:
        """Yield Arrow arrays of these columns, by position."""
        import pyarrow as pa

        rows: list[_Record] = []
        for record in self._all():
            rows.append(record)
            if len(rows) == _BATCH:
                yield {
                    at: pa.array([_as_field(row.get(self.names[at])) for row in rows], pa.string()) for at in columns
                }
                rows = []
        if rows:
            yield {at: pa.array([_as_field(row.get(self.names[at])) for row in rows], pa.string()) for at in columns}

    def _head(self) -> Iterator[_Record]:
        for record, _ in zip(self._all(), range(_HEAD), strict=False):
            yield record

    def _all(self) -> Iterator[_Record]:
        return iter(self._records) if self._records is not None else _read_lines(self._path)


def _as_field(value: Any) -> str | None:
    """Return a value as text: nested values as JSON, an image as its path."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("path"), str):
        return str(value["path"])
    return json.dumps(value, ensure_ascii=False)


def _has_lines(path: Path) -> bool:
    """Return whether a file of any name has one JSON object per line: the first line is one, more follow."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in iter(lambda: file.readline(MAX_LINE), "") if line.strip()), "")
        is_last = not file.readline(1)
    if path.suffix.lower() != ".json":
        return not first.lstrip().startswith("[")
    try:
        return not is_last and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _read_lines(path: Path) -> Iterator[_Record]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            where = f"{path}, line {number}"
            if len(line) == MAX_LINE:
                raise UserError("this line is too long", where=where, fix=f"keep lines below {MAX_LINE:,} characters")
            if line.strip():
                yield _as_record(_parsed(line, where), where)


def _read_array(path: Path) -> list[_Record]:
    """Read all objects of a file that holds one array, an array under a key, or one list per column."""
    size, room = path.stat().st_size, memory_bytes() // _MEMORY_SHARE
    if size > room:
        raise UserError(
            f"this JSON array of {size / 2**20:,.0f} MiB is too large to be read whole (the limit is "
            f"{room / 2**20:,.0f} MiB here)",
            where=str(path),
            fix="store one object per line in a .jsonl file, which is read in batches",
        )
    content = _parsed(path.read_text(encoding="utf-8-sig"), str(path))
    if isinstance(content, dict):
        content = _from_columns(content, path)
    if not isinstance(content, list):
        raise _no_rows(path)
    return [_as_record(one, f"{path}, object {number}") for number, one in enumerate(content, 1)]


def _from_columns(content: dict[str, Any], path: Path) -> Any:
    """Return the rows of an object: the list under a usual key, else one equally long list per column."""
    for key in _LIST_KEYS:
        rows = content.get(key)
        if isinstance(rows, list) and rows and isinstance(rows[0], dict):
            return rows
    if not content or not all(isinstance(column, list) for column in content.values()):
        raise _no_rows(path)
    if len({len(column) for column in content.values()}) != 1:
        raise UserError(
            "the columns of this JSON have different lengths", where=str(path), fix="give one value per item"
        )
    return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise UserError(
            f"this is not JSON: {reason}",
            where=where,
            fix='write an object per line, such as {"text": "...", "label": "..."}',
        ) from error


def _as_record(value: Any, where: str) -> _Record:
    if not isinstance(value, dict):
        raise UserError(
            "this is not a JSON object",
            where=where,
            fix='each item is an object, such as {"text": "...", "label": "..."}',
        )
    return {key.strip(): field for key, field in value.items()}


def _no_rows(path: Path) -> UserError:
    return UserError(
        "this JSON file does not hold a list of items",
        where=str(path),
        fix='write an array of objects, such as [{"image": "1.jpg", "label": "cat"}], or one object per line',
    )
