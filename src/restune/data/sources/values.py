"""A table with one series per row: one column per time step, and a label column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note
from restune.core.errors import UserError, shorten
from restune.data import plausibility
from restune.data.dataset import DataOptions, Dataset
from restune.data.encodings import likely_encoding, note_encoding
from restune.data.items import Numbers, Places, Rows
from restune.data.sources import table
from restune.data.sources.decimals import with_point
from restune.data.sources.joined_labels import label_columns_of
from restune.data.sources.readers import (
    COUNTERS,
    as_text,
    by_name,
    first_rows,
    has_decimal_commas,
    open_reader,
    table_errors,
)
from restune.data.sources.reading import series_line
from restune.data.sources.series import MISSING, SeriesList, is_value, without_padding


def open_value_table(path: Path, options: DataOptions) -> Dataset:
    """Open a table with one series per row: the numeric columns, in order, are one channel.

    Missing values at a row's end are padding. Other columns, and ids, are left out and noted. Raises UserError with
    the row of an invalid number.
    """
    with table_errors(path):
        table.reject_empty(path)
        encoding = likely_encoding(path, options.encoding)
        note_encoding(path, "utf-8" if options.encoding else encoding)
        reader = open_reader(path, options, encoding=encoding, long_rows=True)
        names = table.column_names(reader, path)
        chosen = table.mark_columns(names, path, options)
        head = first_rows(path, encoding)
        rows = by_name(names, head) if table.has_names(path, options) else head
        values = value_columns(names, rows, (*chosen.values(), *options.left_out))
        if not values:
            raise UserError(
                "this table has no columns of numbers",
                where=str(path),
                fix="a table of series has one column per time step; for files or texts, pass --path-column or "
                "--text-column",
            )
        values = _without_ids(values, names, rows, chosen.get("group"))
        left_out = [name for name in names if name not in values and name not in chosen.values()]
        if options.labelled:
            table.say_columns(path, chosen)
        note(f"{path.name}: series of the {len(values)} columns {values[0]!r} to {values[-1]!r}")
        if left_out:
            note(f"{path.name}: left out {shorten(map(repr, left_out))}")
        commas = has_decimal_commas(path, encoding)
        columns = {name: names.index(name) for name in values}
        return _collect(reader, path, options, chosen if options.labelled else {}, columns, names, commas)


def _without_ids(
    values: list[str], names: Sequence[str], rows: Sequence[Sequence[str]], group: str | None
) -> list[str]:
    """Return the columns of values without ids; warn of ids that repeat."""
    places = {name: place for place, name in enumerate(names)}
    head = numbers_in([places[name] for name in values], rows)
    ids = plausibility.identifiers(values, head)
    if len(ids) < len(values):
        for name in ids:
            if group is None:
                plausibility.warn_of_repeated_ids(name, head[:, values.index(name)])
        kept = [place for place, name in enumerate(values) if name not in ids]
        values, head = [values[place] for place in kept], head[:, kept]
    return values


def numbers_in(places: Sequence[int], rows: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Convert fields that `is_value` to float64 ``[rows, columns]``, NaN for missing values."""
    return np.array(
        [
            [
                np.nan if place >= len(row) or row[place].strip().lower() in MISSING else float(row[place])
                for place in places
            ]
            for row in rows
        ],
        np.float64,
    ).reshape(len(rows), len(places))


def value_columns(names: Sequence[str], rows: Sequence[Sequence[str]], taken: Any) -> list[str]:
    """Return the columns that are numeric in a table's first rows, except those in use and row numbers."""
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
    commas: bool,
) -> Dataset:
    start = table.first_row(path, options)
    row, marks = start, table.Marks(path, chosen, start, options, label_columns_of(reader, chosen.get("label", "")))
    columns = {role: names.index(name) for role, name in chosen.items()}
    collected = SeriesList(str(path))
    for batch in reader.batches(sorted({*columns.values(), *values.values()})):
        rows = np.empty((len(next(iter(batch.values()))), len(values)), np.float32)
        for place, (name, position) in enumerate(values.items()):
            rows[:, place] = as_numbers(batch[position], f"{path}, row ", row, name, commas=commas)
        row += len(rows)
        if options.labelled:
            marks.extend({role: batch[position] for role, position in columns.items()})
        for series in rows:
            collected.add(without_padding(series[None]))
    locations = collected.locations()
    if not options.labelled:
        return without_labels(locations, start, len(locations), "signal", str(path))
    dataset = marked(marks, locations, start, "signal", str(path))
    first, *_, last = [*values, *values]
    line = series_line(
        dataset, columns=list(values), by=f"one row per series, columns {first} to {last}", label=chosen["label"]
    )
    return replace(dataset, reading=line)


def without_labels(places: Places, start: int, count: int, kind: str, source: str) -> Dataset:
    """Build items without labels: as `marked`."""
    targets = np.full(count, -1, np.int32)
    items = Rows(names=Numbers(start, count), places=places, targets=targets)
    return Dataset(items=items, classes=(), source=source, kind=kind)


def marked(marks: table.Marks, places: Places, start: int, kind: str, source: str) -> Dataset:
    """Build one item per row, with class, split and group; classes in the order of `class_names.class_order`.

    Args:
        places: the rows' locations.
        start: the number of the first row.
    """
    labels = marks.labels()
    items = Rows(
        names=Numbers(start, len(labels.targets)),
        places=places,
        targets=labels.targets,
        splits=marks.splits(),
        groups=marks.groups(),
    )
    return Dataset(
        items=items, classes=labels.classes, source=source, kind=kind, task=labels.task, target_values=labels.values
    )  # fmt: skip


def as_numbers(column: Any, where: str, row: int, name: str, *, commas: bool = False) -> NDArray[np.float32]:
    """Convert an Arrow array to float32, NaN if missing; `commas`: decimal commas. Raises UserError with the row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        texts = pc.utf8_trim_whitespace(as_text(column))
        if commas:
            texts = pa.array([None if text is None else with_point(text) for text in texts.to_pylist()], pa.string())
        missing = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(MISSING)))
        texts = pc.if_else(missing, pa.scalar(None, pa.string()), texts)
        try:
            column = texts.cast(pa.float64())
        except pa.ArrowInvalid:
            for place, text in enumerate(texts.to_pylist()):
                if text is not None and not is_value(text):
                    raise UserError(
                        f"{text[:60]!r} is not a number", where=f"{where}{row + place}, column {name!r}"
                    ) from None
            column = pa.array([None if text is None else float(text) for text in texts.to_pylist()], pa.float64())
    with np.errstate(over="ignore"):
        numbers: NDArray[np.float32] = column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float32)
    return numbers
