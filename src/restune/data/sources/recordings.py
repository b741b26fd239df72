"""Recordings, one text file each: rows are time steps, columns are channels."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.data.class_names import class_order
from restune.data.dataset import DataOptions, Dataset, FileLocation, Item
from restune.data.encodings import decode_text
from restune.data.plausibility import is_constant, is_identifier_name, is_time_name
from restune.data.sources import table
from restune.data.sources.clips import is_video_name
from restune.data.sources.decimals import splits_decimals, uses_commas, with_point
from restune.data.sources.folder import from_named_files, is_image_name
from restune.data.sources.long_table import split_named
from restune.data.sources.readers import LABEL_NAMES, is_typed, usual_column
from restune.data.sources.reading import labels_from
from restune.data.sources.series import MISSING, is_sound_name, is_value
from restune.data.sources.walk import is_hidden, suffix_of, walk_files

SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".asc")
_LABEL_TABLES = ("labels", "label", "classes", "targets", "target", "y", "metadata", "meta", "annotations", "index")
_FILE_NAMES = (
    *table.PATH_NAMES,
    "recording",
    "record",
    "id",
    "name",
    "case",
    "case_id",
    "series",
    "series_id",
    "sample",
)
_LOOKED_AT = 20
_HEAD_ROWS = 50
_MOST_NAMES = 1000
_MOST_COLUMNS = 100
_MOST_FOLDERS = 20
_FEWEST_ROWS = 4


@dataclass(frozen=True, slots=True)
class RecordingForm:
    """The format of a data set's recordings.

    Args:
        names: the channels' column names, in order, if files have a header.
        places: the channels' column indices, if they do not.
        encoding: of the files; None to detect it for each.
    """

    names: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    encoding: str | None = None

    @property
    def channels(self) -> int:
        return len(self.names or self.places)


@dataclass(frozen=True, slots=True)
class RecordingLocation:
    """A recording in a text file."""

    path: Path
    form: RecordingForm

    def read(self) -> NDArray[np.float32]:
        """Return float32 ``[C, L]``. Raises OSError, and ValueError for a file of another format."""
        rows = _rows(FileLocation(self.path).read(), self.form.encoding)
        places: Sequence[int] = self.form.places
        first = 1
        if self.form.names:
            header = [name.strip() for name in rows[0]] if rows else []
            missing = [name for name in self.form.names if name not in header]
            if missing:
                raise ValueError(f"this recording has no column {shorten(map(repr, missing))}")
            places, rows, first = [header.index(name) for name in self.form.names], rows[1:], 2
        if not rows:
            raise ValueError("this recording has no rows")
        return _numbers(rows, places, first)

    def signature(self) -> str:
        return FileLocation(self.path).signature()


def holds_recordings(folder: Path) -> bool:
    """Return whether the text files of a folder are recordings.

    They are tables of numbers in class folders or beside a table of labels, with no images, sounds or videos.
    Raises UserError for recordings without labels.
    """
    files = list(islice(walk_files(folder, lambda _: True), _MOST_NAMES))
    if any(is_image_name(path.name) or is_sound_name(path.name) or is_video_name(path.name) for path in files):
        return False
    files = [path for path in files if _is_name(path.name) and not _is_label_table(path)]
    seen = files[:: max(1, len(files) // _LOOKED_AT)][:_LOOKED_AT]
    if len(files) < 2 or 2 * sum(map(_looks_like_recording, seen)) <= len(seen):
        return False
    if _label_table(folder) is None and all(path.parent == folder for path in files):
        raise UserError(
            "these recordings have no labels",
            where=str(folder),
            fix="put each into a folder named for its class, add a table labels.csv with the columns file and label, "
            "or name one of the files",
        )
    return True


def open_recordings(folder: Path, options: DataOptions) -> Dataset:
    """Open ``folder/[split/]class/**/recording.csv``, or the files named by ``labels.csv`` in the folder.

    Raises UserError on other layouts.
    """
    labels = _label_table(folder)
    if labels is not None:
        return open_recording_table(labels, options)
    files = list(walk_files(folder, _is_name))
    forms = {path.suffix.lower() for path in files[:: max(1, len(files) // _LOOKED_AT)] if _looks_like_recording(path)}
    files = [path for path in files if path.suffix.lower() in forms]
    form, said = _form(files, folder, options.encoding)
    named = [(path.relative_to(folder).as_posix(), RecordingLocation(path, form)) for path in files]
    dataset = replace(from_named_files(named, source=str(folder), noun="recordings"), kind="signal")
    return replace(dataset, reading=_line(dataset, form, said, ""))


def open_recording_table(path: Path, options: DataOptions) -> Dataset:
    """Open a table with one recording and its label per row. Raises UserError for a missing file."""
    rows = [[field.strip() for field in row] for row in _rows(FileLocation(path).read(), options.encoding)]
    names, root = rows[0], options.root or path.parent
    marks = table.mark_columns(names, path, options)
    label_in = names.index(marks["label"]) if options.labelled else -1
    places = _places(root)
    file_in = names.index(options.path_column) if options.path_column in names else _files_column(rows, places)
    if file_in is None:
        raise UserError(
            "this table does not have a column of recordings", where=str(path), fix="name it with --path-column"
        )
    body = [row for row in rows[1:] if len(row) == len(names)]
    files = [_file(places, row[file_in]) for row in body]
    lost = [row[file_in] for row, file in zip(body, files, strict=True) if file is None]
    if lost:
        raise UserError(
            f"{len(lost)} of {len(body)} recordings are not there: {shorten(lost, 3)}",
            where=f"{path}, column {names[file_in]!r}",
            fix="give the folder that they are in with --root",
        )
    found = [file for file in files if file is not None]
    form, said = _form(found, path, options.encoding)
    labels = [row[label_in] for row in body] if options.labelled else []
    classes = class_order(labels)
    rank = {name: place for place, name in enumerate(classes)}
    empty = next((number for number, label in enumerate(labels, 2) if not label), None)
    if empty is not None:
        raise UserError("this row has no label", where=f"{path}, row {empty}, column {marks['label']!r}")
    by_role = {role: [row[names.index(name)] for row in body] for role, name in marks.items() if role != "label"}
    splits = [split_named(value, path) for value in by_role.get("split", [""] * len(body))]
    groups = by_role.get("group")
    items = tuple(
        Item(
            id=row[file_in],
            location=RecordingLocation(file, form),
            target=rank[labels[place]] if labels else -1,
            split=splits[place],
            group=None if groups is None else groups[place],
        )
        for place, (row, file) in enumerate(zip(body, found, strict=True))
    )
    dataset = Dataset(items=items, classes=classes, source=str(path), kind="signal")
    return replace(dataset, reading=_line(dataset, form, said, marks.get("label", "")))


def names_recordings(path: Path, options: DataOptions) -> bool:
    """Return whether a table's rows name recordings that exist."""
    if is_typed(path) or options.kind not in (None, "signal"):
        return False
    try:
        with path.open("rb") as file:
            rows = _rows(file.read(2**18), options.encoding)
    except (OSError, ValueError):  # the table reader has a better message
        return False
    places = _places(options.root or path.parent)
    place = _files_column(rows[: _HEAD_ROWS + 1], places)
    if place is None:
        return False
    files = [_file(places, row[place].strip()) for row in rows[1:_LOOKED_AT] if place < len(row)]
    return all(file is not None and _looks_like_recording(file) for file in files[:3])


def _line(dataset: Dataset, form: RecordingForm, said: str, label: str) -> str:
    named = f" ({shorten(form.names)})" if form.names else ""
    constant = sum(_is_dead(item.location) for item in list(dataset.items)[:_LOOKED_AT])
    if constant:
        warn(f"{dataset.source}: {constant} of the first {min(len(dataset), _LOOKED_AT)} recordings are constant")
    channels = f"{form.channels} channel{'s' * (form.channels != 1)}{named}"
    source = labels_from(label) if label else "in class folders" if dataset.classes else "without labels"
    return f"{len(dataset):,} recordings, one file each, rows are time steps, {channels}{said}, {source}"


def _is_dead(location: object) -> bool:
    assert isinstance(location, RecordingLocation)
    try:
        return is_constant(location.read())
    except (OSError, ValueError):
        return False


def _form(files: Sequence[Path], where: Path, encoding: str | None) -> tuple[RecordingForm, str]:
    """Detect the recordings' format from some of them; note the columns that are left out."""
    step = max(1, len(files) // _LOOKED_AT)
    heads = [head for head in (_head(path, encoding) for path in files[::step][:_LOOKED_AT]) if head]
    if not heads:
        raise UserError("there are no recordings here", where=str(where), fix="each needs rows of numbers")
    width = max(len(row) for row in heads[0])
    header = _header(heads[0])
    names = header or [str(place) for place in range(width)]
    columns = _columns(names, heads, has_names=header is not None)
    numeric = [name for name, found in columns.items() if _most([all(map(is_value, column)) for column in found])]
    columns = {name: [column for column in columns[name] if all(map(is_value, column))] for name in numeric}
    times = [name for name in numeric if _is_time(name, columns[name], has_names=bool(header), first=names[0])]
    ids = [name for name in numeric if name not in times and header and _is_mark(name, columns[name])]
    kept = [name for name in numeric if name not in times and name not in ids]
    if not kept:
        raise UserError("these files do not share any numeric columns", where=str(where))
    others = [name for name in names if name not in kept and name not in times]
    if others:
        note(f"{where.name}: left out the columns {shorten(map(repr, others))} of each recording")
    said = f", time column {times[0]!r} left out" if times else ""
    if header:
        return RecordingForm(names=tuple(kept), encoding=encoding), said
    return RecordingForm(places=tuple(map(int, kept)), encoding=encoding), said


def _columns(names: Sequence[str], heads: Sequence[list[list[str]]], *, has_names: bool) -> dict[str, list[list[str]]]:
    """Return the fields per column and file, for columns that nearly all files have."""
    columns: dict[str, list[list[str]]] = {}
    for name in names:
        owners = [_header(head) or [] if has_names else names for head in heads]
        if _most([name in own for own in owners]):
            columns[name] = [
                [row[own.index(name)] for row in head[1 if has_names else 0 :] if own.index(name) < len(row)]
                for own, head in zip(owners, heads, strict=True)
                if name in own
            ]
    return columns


def _most(found: Sequence[bool]) -> bool:
    """Return whether nearly all are true: a single deviating file is unreadable, and must not decide for all."""
    return sum(found) > 0.8 * len(found)


def _is_mark(name: str, columns: Sequence[Sequence[str]]) -> bool:
    """Return whether a column is metadata, not a measurement: one constant id or label per file."""
    is_named = is_identifier_name(name) or usual_column([name], LABEL_NAMES) is not None
    return is_named and all(len(set(column)) <= 1 for column in columns)


def _is_time(name: str, columns: Sequence[Sequence[str]], *, has_names: bool, first: str) -> bool:
    """Return whether a column holds the rows' times.

    It does by its name; without a name, or with one for row numbers, if it is the first and increases in even steps in
    every file.
    """
    if has_names and is_time_name(name):
        return True
    if name != first or (has_names and not is_identifier_name(name)):
        return False
    for column in columns:
        steps = np.diff([float(value) for value in column if value.strip().lower() not in MISSING])
        if len(steps) < _FEWEST_ROWS or not (steps > 0).all() or np.ptp(steps) > 0.05 * steps.mean():
            return False
    return True


def _is_name(name: str) -> bool:
    return suffix_of(name) in SUFFIXES


def _is_label_table(path: Path) -> bool:
    return path.stem.lower() in _LABEL_TABLES


def _looks_like_recording(path: Path) -> bool:
    """Return whether a file begins with several rows of equally many numbers, perhaps after a header."""
    head = _head(path, None)
    body = head[1:] if _header(head) else head
    if len(body) < _FEWEST_ROWS or len({len(row) for row in body}) > 1:
        return False
    return any(all(is_value(row[place]) and row[place].strip() for row in body) for place in range(len(body[0])))


def _label_table(folder: Path) -> Path | None:
    """Find the table of a folder's recordings and labels."""
    tables = [
        path for path in sorted(folder.iterdir()) if path.is_file() and _is_name(path.name) and _is_label_table(path)
    ]
    for path in tables:
        try:
            rows = _rows(FileLocation(path).read(), None)
        except (OSError, ValueError):
            continue
        if rows and _files_column(rows[: _HEAD_ROWS + 1], _places(folder)) is not None:
            return path
    return None


def _files_column(rows: Sequence[Sequence[str]], places: Sequence[Path]) -> int | None:
    """Return the column whose fields name existing text files, with or without suffix."""
    if len(rows) < 2 or len(rows[0]) > _MOST_COLUMNS:
        return None
    names = [name.strip().lower() for name in rows[0]]
    for column in sorted(range(len(names)), key=lambda place: names[place] not in _FILE_NAMES):
        fields = [row[column].strip() for row in rows[1:] if column < len(row)][:_LOOKED_AT]
        are_distinct = len(set(fields)) == len(fields) > 0
        if are_distinct and 2 * sum(_file(places, field) is not None for field in fields) > len(fields):
            return column
    return None


def _places(root: Path) -> list[Path]:
    """Return a folder and its direct subfolders, which may hold the recordings."""
    inner = (
        [path for path in sorted(root.iterdir()) if path.is_dir() and not is_hidden(path.name)] if root.is_dir() else []
    )
    return [root, *inner[:_MOST_FOLDERS]]


def _file(places: Sequence[Path], name: str) -> Path | None:
    """Find the text file that a field names, with or without suffix, in the first folder that has it."""
    if not name or "\0" in name or len(name) > 1000:
        return None
    endings = ("",) if _is_name(name) else SUFFIXES
    try:
        candidates = (place / f"{name}{ending}" for place in places for ending in endings)
        return next((file for file in candidates if file.is_file()), None)
    except OSError:  # a text that is longer than names of files may be
        return None


def _head(path: Path, encoding: str | None) -> list[list[str]]:
    """Return the first rows of a file; none if it is unreadable."""
    try:
        with path.open("rb") as file:
            content = file.read(2**16)
        whole = content[: content.rfind(b"\n") + 1] if len(content) == 2**16 else content
        return _rows(whole, encoding)[: _HEAD_ROWS + 1]
    except (OSError, ValueError):
        return []


def _header(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """Return the first row as names if it has a non-number and the rows below have numbers."""
    if len(rows) < 2 or all(map(is_value, rows[0])) or not any(is_value(field) for field in rows[1]):
        return None
    is_text = [not is_value(field) for field in rows[0]]
    return (
        [field.strip() for field in rows[0]] if sum(is_text) > sum(not is_value(field) for field in rows[1]) else None
    )


def _rows(content: bytes, encoding: str | None) -> list[list[str]]:
    """Return the fields of each non-empty line, decimal commas as points. Raises ValueError for a non-text file."""
    text = decode_text(content, encoding)
    if "\0" in text:
        raise ValueError("not a text (it holds zero bytes)")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return []
    delimiter = _delimiter(lines[min(1, len(lines) - 1)])
    if delimiter is None:
        rows = [line.split() for line in lines]
    else:
        try:
            rows = list(csv.reader(lines, delimiter=delimiter))
        except csv.Error as error:
            raise ValueError(f"not a table: {error}") from error
    if uses_commas(rows[:_HEAD_ROWS], delimiter):
        rows = [[with_point(field) for field in row] for row in rows]
    return rows


def _delimiter(line: str) -> str | None:
    """Return the separator of a line's fields; None for white space."""
    decimal = splits_decimals(line)
    if decimal:
        return decimal
    return next((mark for mark in "\t;,|" if mark in line), None)


def _numbers(rows: Sequence[Sequence[str]], places: Sequence[int], first: int) -> NDArray[np.float32]:
    """Return float32 ``[C, L]``. Raises ValueError with the row of an invalid number."""
    values = np.empty((len(places), len(rows)), np.float64)
    for number, row in enumerate(rows):
        for channel, place in enumerate(places):
            if place >= len(row):
                raise ValueError(f"row {first + number} has {len(row)} columns, too few")
            field = row[place].strip()
            try:
                values[channel, number] = math.nan if field.lower() in MISSING else float(field)
            except ValueError:
                raise ValueError(f"{field[:60]!r} in row {first + number} is not a number") from None
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
