"""A table whose rows are series: a column a position, and a column with the label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note
from restune.core.errors import UserError, shorten
from restune.data.dataset import SPLITS, DataOptions, Dataset, Item, Location
from restune.data.encodings import likely_encoding, note_encoding
from restune.data.sources import table
from restune.data.sources.readers import COUNTERS, as_text, first_rows, open_reader, table_errors
from restune.data.sources.series import MISSING, SeriesList, is_value, without_padding


def open_value_table(path: Path, options: DataOptions) -> Dataset:
    """Items are rows; their values, the columns of numbers in order, are one channel.

    What is missing at a row's end is padding. Columns that hold something else, or that count rows, are left out and
    named. Raises UserError with the row's number for what is no number.
    """
    with table_errors(path):
        table.reject_empty(path)
        encoding = likely_encoding(path, options.encoding)
        note_encoding(path, "utf-8" if options.encoding else encoding)
        reader = open_reader(path, options, encoding=encoding, long_rows=True)
        names = table.column_names(reader, path)
        chosen = table.mark_columns(names, path, options)
        head = first_rows(path, encoding)
        rows = _by_name(names, head) if table.has_names(path, options) else head
        values = value_columns(names, rows, chosen.values())
        if not values:
            raise UserError(
                "this table has no columns of numbers",
                where=str(path),
                fix="a table of series has a column per position; of files or texts, name one with --path-column or "
                "--text-column",
            )
        left_out = [name for name in names if name not in values and name not in chosen.values()]
        table.say_columns(path, chosen)
        note(f"{path.name}: series of the {len(values)} columns {values[0]!r} to {values[-1]!r}")
        if left_out:
            note(f"{path.name}: left out {shorten(map(repr, left_out))}")
        return _collect(reader, path, options, chosen, {name: names.index(name) for name in values}, names)


def _by_name(names: Sequence[str], head: Sequence[Sequence[str]]) -> list[list[str]]:
    """The first rows with their fields in the order of `names`; empty for a column that a reader has made."""
    places = {name.strip(): place for place, name in enumerate(head[0])}
    columns = [places.get(name, len(places)) for name in names]
    return [[row[place] if place < len(row) else "" for place in columns] for row in head[1:]]


def value_columns(names: Sequence[str], rows: Sequence[Sequence[str]], taken: Any) -> list[str]:
    """The columns that hold numbers in a table's first rows, but for those that are taken, and that count rows."""
    used = set(taken)
    found = []
    for position, name in enumerate(names):
        if name in used or name.lower() in COUNTERS:
            continue
        column = [row[position].strip() for row in rows if position < len(row)]
        if any(value.lower() not in MISSING for value in column) and all(map(is_value, column)):
            found.append(name)
    return found


def _collect(
    reader: Any,
    path: Path,
    options: DataOptions,
    chosen: dict[str, str],
    values: dict[str, int],
    names: Sequence[str],
) -> Dataset:
    start = table.first_row(path, options)
    marks = table.Marks(path, chosen, start)
    columns = {role: names.index(name) for role, name in chosen.items()}
    collected = SeriesList(str(path))
    for batch in reader.batches(sorted({*columns.values(), *values.values()})):
        rows = np.empty((len(next(iter(batch.values()))), len(values)), np.float32)
        for place, (name, position) in enumerate(values.items()):
            rows[:, place] = _as_numbers(batch[position], f"{path}, row ", marks.row, name)
        marks.extend({role: batch[position] for role, position in columns.items()})
        for row in rows:
            collected.add(without_padding(row[None]))
    return marked(marks, collected.locations(), start, "signal", str(path))


def marked(marks: table.Marks, locations: Sequence[Location], start: int, kind: str, source: str) -> Dataset:
    """A table's rows as items, each with its class, split and group; classes in the order of `class_names.class_order`.

    Args:
        locations: of each row's content.
        start: the number of the first row.
    """
    classes, targets = marks.targets()
    splits, groups = marks.splits(), marks.groups()
    sides = None if splits is None else splits.tolist()
    items = tuple(
        Item(
            id=str(start + row),
            location=location,
            target=target,
            split=None if sides is None or sides[row] < 0 else SPLITS[sides[row]],
            group=None if groups is None else groups[row],
        )
        for row, (location, target) in enumerate(zip(locations, targets.tolist(), strict=True))
    )
    return Dataset(items=items, classes=classes, source=source, kind=kind)


def _as_numbers(column: Any, where: str, row: int, name: str) -> NDArray[np.float32]:
    """float32 of an Arrow array, NaN for what is missing. Raises UserError with the row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        texts = pc.utf8_trim_whitespace(as_text(column))
        missing = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(MISSING)))
        texts = pc.if_else(missing, pa.scalar(None, pa.string()), texts)
        try:
            column = texts.cast(pa.float64())
        except pa.ArrowInvalid:
            for place, text in enumerate(texts.to_pylist()):
                if text is not None and not is_value(text):
                    raise UserError(
                        f"{text[:60]!r} is no number", where=f"{where}{row + place}, column {name!r}"
                    ) from None
            column = pa.array([None if text is None else float(text) for text in texts.to_pylist()], pa.float64())
    with np.errstate(over="ignore"):
        numbers: NDArray[np.float32] = column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float32)
    return numbers
