"""A long table: one row per time step, grouped into series by a column and sorted by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.core.machine import memory_bytes
from restune.data.class_names import class_order
from restune.data.dataset import DataOptions, Dataset, Item
from restune.data.encodings import likely_encoding, note_encoding
from restune.data.plausibility import is_identifier_name
from restune.data.sources import table
from restune.data.sources.decimals import with_point
from restune.data.sources.folder import SPLIT_FOLDERS
from restune.data.sources.long_columns import LongColumns, are_whole, without_axes
from restune.data.sources.readers import (
    as_text,
    by_name,
    first_rows,
    has_decimal_commas,
    open_reader,
    table_errors,
)
from restune.data.sources.reading import series_line
from restune.data.sources.series import SeriesList, SeriesLocation, without_padding
from restune.data.sources.times import parse_times
from restune.data.sources.values import as_numbers, value_columns

_ROW_BYTES = 400
"""Bytes per row, besides its values, while a table is read."""


@dataclass
class _Steps:
    """A table's rows: values ``[R, C]``, times, and the id and marks of each row's series."""

    values: list[NDArray[np.float32]] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)


def open_long_table(path: Path, options: DataOptions, long: LongColumns) -> Dataset:
    """Open a long table: an item is a series, the rows of one case by time; numeric columns are channels.

    Raises UserError for a series with two labels, splits or groups, and for an invalid number or time (with its
    row).
    """
    with table_errors(path):
        table.reject_empty(path)
        encoding = likely_encoding(path, options.encoding)
        note_encoding(path, "utf-8" if options.encoding else encoding)
        reader = open_reader(path, options, encoding=encoding, long_rows=True)
        names = table.column_names(reader, path)
        marks = table.mark_columns(without_axes(names), path, options)
        channels = _channels(path, options, names, long, marks, encoding)
        if not options.labelled:
            marks = {}
        roles = {**{f"case {place}": name for place, name in enumerate(long.case)}, **marks}
        roles |= {role: name for role, name in (("time", long.time), ("variable", long.variable)) if name}
        places = {name: names.index(name) for name in (*roles.values(), *channels)}
        commas = has_decimal_commas(path, encoding)
        steps = _read(reader, path, options, roles, channels, places, commas=commas)
    values = np.concatenate([np.zeros((0, len(channels)), np.float32), *steps.values])
    ids, case = _numbered(
        [
            " ".join(parts)
            for parts in zip(*(steps.texts[f"case {place}"] for place in range(len(long.case))), strict=True)
        ]
    )
    moments = np.arange(len(values))
    if long.time:
        fields = steps.texts["time"]
        fields = list(map(with_point, fields)) if commas else fields
        moments = parse_times(fields, str(path), table.first_row(path, options))
    if long.variable:
        values, case, moments, channels, steps = _pivoted(values[:, 0], case, moments, steps)
    else:
        _warn_of_repeated(case, moments, path, long)
    order = np.lexsort((moments, case))
    counts = np.bincount(case, minlength=len(ids))
    collected = SeriesList(str(path))
    for series in np.split(values[order], np.cumsum(counts)[:-1]):
        collected.add(without_padding(np.ascontiguousarray(series.T)))
    dataset = _dataset(ids, case, collected.locations(), steps.texts, marks, path)
    by = f"by {' and '.join(long.case)}, one row per time step" + (
        f", in the order of {long.time}" if long.time else ""
    )
    if not options.labelled:
        return dataset
    return replace(dataset, reading=series_line(dataset, channels=channels, by=by, label=marks["label"]))


def _channels(
    path: Path, options: DataOptions, names: Sequence[str], long: LongColumns, marks: Mapping[str, str], encoding: str
) -> list[str]:
    """Choose the columns of values; note the others. Raises UserError if there are none."""
    head = first_rows(path, encoding)
    rows = by_name(names, head) if table.has_names(path, options) else head
    taken = [*marks.values(), *options.left_out, *long.case, *(name for name in (long.time, long.variable) if name)]
    heads = {name: _column(rows, names.index(name)) for name in value_columns(names, rows, taken)}
    channels = [name for name, head in heads.items() if not (is_identifier_name(name) and are_whole(head))]
    channels = [name for name in channels if not _counts_rows(heads[name])]
    if not channels:
        raise UserError("this table has no columns of numbers besides its series and times", where=str(path))
    if long.variable and len(channels) > 1:
        raise UserError(
            f"column {long.variable!r} names each row's channel, and there are several columns of values: "
            f"{shorten(map(repr, channels))}",
            where=str(path),
            fix="keep one column of values, or one column per channel",
        )
    left_out = [name for name in names if name not in channels and name not in taken]
    if left_out:
        note(f"{path.name}: left out {shorten(map(repr, left_out))}")
    return channels


def _column(rows: Sequence[Sequence[str]], place: int) -> list[str]:
    return [row[place] for row in rows if place < len(row)]


def _counts_rows(column: Sequence[str]) -> bool:
    """Return whether a column only numbers the rows."""
    try:
        numbers = [int(value) for value in column]
    except ValueError:
        return False
    return len(numbers) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _read(
    reader: Any,
    path: Path,
    options: DataOptions,
    roles: Mapping[str, str],
    channels: Sequence[str],
    places: Mapping[str, int],
    *,
    commas: bool,
) -> _Steps:
    """Read all rows of the wanted columns. Raises UserError if they exceed memory or a row lacks a series id."""
    steps = _Steps(texts={role: [] for role in roles})
    row, room = table.first_row(path, options), memory_bytes() // 2
    for batch in reader.batches(sorted(set(places.values()))):
        columns = [as_numbers(batch[places[name]], f"{path}, row ", row, name, commas=commas) for name in channels]
        steps.values.append(np.stack(columns, axis=1))
        for role, name in roles.items():
            texts = as_text(batch[places[name]])
            if role.startswith("case"):
                table.reject_missing(texts, f"{name}, which says its series", f"{path}, row ", row, "")
            steps.texts[role].extend(text.strip() for text in texts.fill_null("").to_pylist())
        row += len(columns[0])
        room -= (4 * len(channels) + _ROW_BYTES) * len(columns[0])
        if room < 0:
            raise UserError(
                "this table takes more than half of this machine's memory",
                where=str(path),
                fix="use fewer rows, or a file per series in class folders",
            )
    return steps


def _numbered(cases: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the sorted series ids (numbers in numeric order) and each row's index into them."""
    ids = list(class_order(cases))
    rank = {name: place for place, name in enumerate(ids)}
    return ids, np.array([rank[case] for case in cases], np.int64)


def _warn_of_repeated(case: NDArray[np.int64], moments: NDArray[Any], path: Path, long: LongColumns) -> None:
    order = np.lexsort((moments, case))
    again = (np.diff(case[order]) == 0) & (np.diff(moments[order]) == 0)
    if long.time and again.any():
        warn(
            f"{path.name}: {int(again.sum()):,} rows repeat the series and time ({long.time}) of another; they stay "
            "in the order of the table"
        )


def _pivoted(
    values: NDArray[np.float32], case: NDArray[np.int64], moments: NDArray[Any], steps: _Steps
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[Any], list[str], _Steps]:
    """Pivot rows of one channel each to rows of all channels: NaN if a channel has no value at a time."""
    channels, channel = _numbered(steps.texts["variable"])
    _, times = np.unique(moments, return_inverse=True)
    keys, first, place = np.unique(
        case * (int(times.max(initial=0)) + 1) + times, return_index=True, return_inverse=True
    )
    wide = np.full((len(keys), len(channels)), np.nan, np.float32)
    wide[place, channel] = values
    kept = _Steps(texts={role: [texts[row] for row in first] for role, texts in steps.texts.items()})
    return wide, case[first], moments[first], channels, kept


def _dataset(
    ids: Sequence[str],
    case: NDArray[np.int64],
    locations: Sequence[SeriesLocation],
    texts: Mapping[str, Sequence[str]],
    marks: Mapping[str, str],
    path: Path,
) -> Dataset:
    """Build one item per series, with the label, split and group that its rows share."""
    shared = {role: _shared(texts[role], case, ids, role, name, path) for role, name in marks.items()}
    labels = shared.get("label", [""] * len(ids))
    missing = next((name for name, label in zip(ids, labels, strict=True) if "label" in marks and not label), None)
    if missing is not None:
        raise UserError(f"the series {missing!r} has no label", where=f"{path}, column {marks['label']!r}")
    classes = class_order(labels) if "label" in marks else ()
    rank = {name: place for place, name in enumerate(classes)}
    splits = [split_named(value, path) for value in shared.get("split", [""] * len(ids))]
    groups = shared.get("group")
    items = tuple(
        Item(
            id=name,
            location=locations[place],
            target=rank.get(labels[place], -1),
            split=splits[place],
            group=None if groups is None else groups[place],
        )
        for place, name in enumerate(ids)
    )
    return Dataset(items=items, classes=classes, source=str(path), kind="signal")


def _shared(
    values: Sequence[str], case: NDArray[np.int64], ids: Sequence[str], role: str, name: str, path: Path
) -> list[str]:
    """Return the value shared by all rows of each series, ignoring empty ones. Raises UserError for two values."""
    found = [""] * len(ids)
    for place, value in zip(case.tolist(), values, strict=True):
        if value and found[place] and value != found[place]:
            raise UserError(
                f"the series {ids[place]!r} has two {role}s: {found[place][:60]!r} and {value[:60]!r}",
                where=f"{path}, column {name!r}",
                fix="a series has one: give its parts a case each, name the column that says which series a row "
                f"belongs to with --case-column, or the right one of {role}s with --{role}-column",
            )
        if value:
            found[place] = value
    return found


def split_named(value: str, path: Path) -> str | None:
    """Return the split named by a field, None if empty. Raises UserError for any other word."""
    if value and value.lower() not in SPLIT_FOLDERS:
        raise UserError(f"{value[:60]!r} is not a split", where=str(path), fix="use train, val or test")
    return SPLIT_FOLDERS[value.lower()] if value else None
