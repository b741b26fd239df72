"""Read a one-hot table (one column per class) as a table with one column of labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note
from restune.core.errors import UserError, shorten

LABEL = "label"
"""The name of the column that replaces the one-hot columns."""
_ONES = ("1", "1.0", "true", "yes")
_ZEROS = ("0", "0.0", "false", "no", "")


class Reader(Protocol):
    """A table, a batch of rows at a time."""

    names: list[str]

    def peek(self) -> list[list[Any]]:
        """Return the first values of each column."""
        ...

    def batches(self, columns: list[int]) -> Iterator[dict[int, Any]]:
        """Yield Arrow arrays of these columns, by position."""
        ...


def class_columns(names: Sequence[str], columns: Sequence[Sequence[Any]], taken: Sequence[str | None]) -> list[str]:
    """Return the columns that hold only 0 and 1 in a table's first rows; none if there are fewer than two.

    If some row does not have exactly one 1, include columns with fractions from 0 to 1: a row's 1 may be missing there.
    """
    fields = {
        name: [_field(value) for value in values]
        for name, values in zip(names, columns, strict=False)
        if name.strip() not in taken and any(map(_field, values))
    }
    found = marked_columns(names, columns, taken)
    if len(found) < 2:
        return []
    rows = zip(*(fields[name] for name in found), strict=True)
    if all(sum(value in _ONES for value in row) == 1 for row in rows):
        return found
    certain = set(found)
    return [name for name, values in fields.items() if name in certain or all(map(_is_share, values))]


def marked_columns(names: Sequence[str], columns: Sequence[Sequence[Any]], taken: Sequence[str | None]) -> list[str]:
    """Return the columns that hold only 0 and 1, and some value, in a table's first rows."""
    fields = {name: [_field(value) for value in values] for name, values in zip(names, columns, strict=False)}
    return [
        name
        for name, values in fields.items()
        if name.strip() not in taken and any(values) and all(value in (*_ONES, *_ZEROS) for value in values)
    ]


def have_several(names: Sequence[str], columns: Sequence[Sequence[Any]], chosen: Sequence[str]) -> bool:
    """Return whether one of a table's first rows has a 1 in several of the chosen columns."""
    held = [[_field(value) in _ONES for value in values] for name, values in zip(names, columns, strict=False)
            if name in chosen]  # fmt: skip
    return any(sum(row) > 1 for row in zip(*held, strict=True))


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text or 0) <= 1
    except ValueError:
        return False


class OneHotTable:
    """A table with its one-hot columns replaced by one column of labels, the last.

    Args:
        reader: the original table.
        classes: the names of its one-hot columns.
        path: for messages.
        first_row: the number of its first row.
    """

    def __init__(self, reader: Reader, classes: Sequence[str], path: Path, first_row: int) -> None:
        self._reader, self._path, self._first_row = reader, path, first_row
        self._classes = [name.strip() for name in classes]
        positions = {name: position for position, name in reversed(list(enumerate(reader.names)))}
        self._positions = [positions[name] for name in classes]
        chosen = set(self._positions)
        self._others = [position for position in range(len(reader.names)) if position not in chosen]
        self.names = [*(reader.names[position] for position in self._others), LABEL]
        note(f"{path.name}: one column per class: {shorten(map(repr, self._classes))}")

    def peek(self) -> list[list[Any]]:
        """Return the first values of each column; none for the labels."""
        columns = self._reader.peek()
        return [*(columns[position] for position in self._others), []]

    def batches(self, columns: list[int]) -> Iterator[dict[int, Any]]:
        """Yield Arrow arrays of these columns, by position. Raises UserError for a row with no or several classes."""
        import pyarrow as pa

        label = len(self.names) - 1
        plain = {column: self._others[column] for column in columns if column != label}
        row = self._first_row
        for batch in self._reader.batches(sorted({*plain.values(), *self._positions})):
            made = {column: batch[position] for column, position in plain.items()}
            if label in columns:
                holds = np.stack([self._ones(batch[at], at, row) for at in self._positions], axis=1)  # [rows, classes]
                self._reject_others(holds, row)
                made[label] = pa.array([self._classes[place] for place in holds.argmax(axis=1).tolist()], pa.string())
                row += len(holds)
            yield made

    def _ones(self, column: Any, position: int, row: int) -> NDArray[np.bool_]:
        """Return where a column is 1. Raises UserError for a value that is neither 0 nor 1."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_string(column.type):
            fields = pc.utf8_lower(pc.utf8_trim_whitespace(column.fill_null("")))
        else:
            fields = pa.array([_field(value) for value in column.to_pylist()], pa.string())
        ones = pc.is_in(fields, value_set=pa.array(_ONES))
        known = pc.or_(ones, pc.is_in(fields, value_set=pa.array(_ZEROS)))
        wrong = pc.index(known, False).as_py()
        if wrong >= 0:
            raise UserError(
                f"{fields[wrong].as_py()[:60]!r} is neither 0 nor 1 in a table of one column per class",
                where=f"{self._path}, row {row + wrong}, column {self._reader.names[position]!r}",
                fix="name the column that holds the class with --label-column",
            )
        holds: NDArray[np.bool_] = ones.to_numpy(zero_copy_only=False)
        return holds

    def _reject_others(self, holds: NDArray[np.bool_], row: int) -> None:
        counts = holds.sum(axis=1)
        wrong = np.flatnonzero(counts != 1)
        if not len(wrong):
            return
        several = np.flatnonzero(counts > 1)
        first = int(several[0] if len(several) else wrong[0])
        names = [name for name, is_one in zip(self._classes, holds[first].tolist(), strict=True) if is_one]
        what = (
            f"this row has {len(names)} classes ({shorten(map(repr, names))}) in a table of one column per class"
            if names
            else f"this row has no class: none of the columns {shorten(map(repr, self._classes))} is 1"
        )
        raise UserError(
            what,
            where=f"{self._path}, row {row + first}",
            fix="give each row exactly one 1, pass --task multi-label for any number of labels per item, or name the "
            "column that holds the class with --label-column",
        )


def _field(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value).strip().lower()
