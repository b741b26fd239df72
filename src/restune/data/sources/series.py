"""Series in files of their own: sktime's .ts, the UCR archive's rows of numbers, folders of .wav files."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError, shorten
from restune.core.machine import memory_bytes
from restune.data.class_names import class_order
from restune.data.dataset import Dataset, Item
from restune.data.items import FilePlaces
from restune.data.sources.decimals import is_number, with_point
from restune.data.sources.folder import from_names
from restune.data.sources.walk import is_hidden, suffix_of, walk_names
from restune.data.string_array import StringArray

MAX_LINE = 256 * 2**20
"""Maximum characters per line, and so per series."""
_MAX_CHANNELS = 65_536
_MAX_VALUES = 10_000_000
_STEPS, _WIDTH = 5, 100
"""Minimum rows per series, and maximum numbers per row, of a file whose rows look like time steps."""
MISSING = frozenset({"", "?", "nan", "na", "n/a", "null", "none"})
"""Lower-case marks of a missing value."""
_ARCHIVE = re.compile(r"(.+)_(train|test)(\.ts|\.tsv|\.csv|\.txt)", re.IGNORECASE)
_SUFFIXES = (".ts", ".tsv", ".csv", ".txt")
"""Suffixes by priority: the first is read if one data set has files in several formats."""

_Row = tuple[str, str, NDArray[np.float32]]
"""A series' position in its file, its label, and its values ``[C, L]``."""


@dataclass(frozen=True, slots=True)
class SeriesLocation:
    """A series ``[channels, length]``; all series of a file are concatenated in one array."""

    values: NDArray[np.float32]
    start: int
    channels: int
    length: int

    def read(self) -> NDArray[np.float32]:
        flat = self.values[self.start : self.start + self.channels * self.length]
        return flat.reshape(self.channels, self.length)

    def signature(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.read()).tobytes()).hexdigest()[:16]


class SeriesList:
    """Series collected into one array: ids, labels and offsets."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._values = bytearray()
        self._shapes: list[tuple[int, int]] = []
        self._most = memory_bytes() // 2

    def add(self, series: NDArray[np.float32]) -> None:
        """Add one ``[C, L]``. Raises UserError if they no longer fit in memory."""
        self._values += np.ascontiguousarray(series, np.float32).tobytes()
        self._shapes.append((series.shape[0], series.shape[1]))
        if len(self._values) > self._most:
            raise UserError(
                f"these series take more than {self._most / 2**30:.1f} GiB, half of this machine's memory",
                where=self._source,
                fix="use fewer or shorter series",
            )

    def heads(self, rows: int) -> list[tuple[float, int]]:
        """Offset and number of values of each of the latest series."""
        ends = np.cumsum([0, *(channels * length for channels, length in self._shapes)])
        values = np.frombuffer(self._values, np.float32)
        starts = ends[len(self._shapes) - rows : -1]
        return [(float(values[start]), length) for start, (_, length) in zip(starts, self._shapes[-rows:], strict=True)]

    def locations(self) -> list[SeriesLocation]:
        """Return the location of each series, in the order of addition."""
        values = np.frombuffer(self._values, np.float32)
        values.flags.writeable = False
        self._values = bytearray()
        made, start = [], 0
        for channels, length in self._shapes:
            made.append(SeriesLocation(values, start, channels, length))
            start += channels * length
        return made


def open_series(path: Path, *, labelled: bool = True) -> Dataset:
    """Open a ``.ts`` file of series, or a file of the UCR archive (rows of numbers, label first).

    If not `labelled`, labels are ignored, and a ``.ts`` may have none. Raises UserError with the line number.
    """
    dataset = _dataset([(None, path)], str(path), labelled=labelled)
    if labelled:
        return dataset
    return replace(dataset, items=tuple(replace(item, target=-1) for item in dataset.items), classes=())


def open_archive(folder: Path) -> Dataset:
    """Open ``NAME_TRAIN`` and ``NAME_TEST`` in a folder as splits. Raises UserError."""
    sides = archive_files(folder)
    only = len(sides) == 1
    return _dataset([(None if only else side, path) for side, path in sides.items()], source=str(folder))


def archive_files(folder: Path) -> dict[str, Path]:
    """Find ``train`` and ``test`` in a folder of the UCR archive's layout; empty for other folders.

    Raises UserError if there are several data sets.
    """
    found: dict[tuple[str, str], dict[str, Path]] = {}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"cannot read this folder: {error.strerror}", where=str(folder)) from error
    for entry in entries:
        match = _ARCHIVE.fullmatch(entry.name)
        if match and not is_hidden(entry.name) and entry.is_file():
            name, side, suffix = match[1], match[2].lower(), match[3].lower()
            if looks_like_series(entry):
                found.setdefault((name, suffix), {})[side] = entry
    names = sorted({name for name, _ in found})
    if len(names) > 1:
        raise UserError(
            f"there are several data sets here: {shorten(names)}",
            where=str(folder),
            fix="give each a folder of its own, or name one file",
        )
    forms = sorted(found.items(), key=lambda form: (-len(form[1]), _SUFFIXES.index(form[0][1])))
    return {side: forms[0][1][side] for side in ("train", "test") if side in forms[0][1]} if forms else {}


def looks_like_series(path: Path) -> bool:
    """Return whether a file is a ``.ts``, or its first lines are only numbers, more than three each."""
    if path.suffix.lower() == ".ts":
        return True
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
            head = file.read(2**20)
    except OSError:
        return False
    lines = [line for line in head.split("\n") if line.strip()]
    if len(lines) > 1 and len(head) == 2**20:
        lines.pop()
    rows = [_fields(line, _separator(line)) for line in lines[:5]]
    return bool(rows) and all(len(row) > 3 and is_number(row[0]) and all(map(is_value, row)) for row in rows)


def open_sounds(folder: Path) -> Dataset:
    """Open ``folder/[split/]class/**/sound.wav``. Raises UserError on other layouts."""
    names = StringArray(walk_names(folder, is_sound_name))
    if not len(names):
        raise UserError(
            "there are no series here",
            where=str(folder),
            fix="restune reads class folders of .wav files, NAME_TRAIN and NAME_TEST files as .ts or .tsv, and tables",
        )
    return replace(
        from_names(names, FilePlaces(folder, names), source=str(folder), noun="sounds"), kind="signal", form="sound"
    )


def is_sound_name(name: str) -> bool:
    """Return whether a name has an audio suffix."""
    return suffix_of(name) in (".wav", ".wave")


def from_series(series: Sequence[NDArray[Any]] | NDArray[Any], labels: Sequence[str], source: str) -> Dataset:
    """Build a data set of arrays ``[C, L]`` or ``[L]``, one label per item; trailing missing values are padding."""
    collected = SeriesList(source)
    for one in series:
        with np.errstate(over="ignore"):
            collected.add(without_padding(np.atleast_2d(np.asarray(one)).astype(np.float32)))
    digits = len(str(max(len(labels) - 1, 0)))
    ids = [f"{row:0{digits}d}" for row in range(len(labels))]
    return make_dataset(ids, labels, collected.locations(), source)


def make_dataset(
    ids: Sequence[str],
    labels: Sequence[str],
    locations: Sequence[SeriesLocation],
    source: str,
    splits: Sequence[str | None] | None = None,
) -> Dataset:
    """Build a data set of labelled series, classes in the order of `class_order`."""
    classes = class_order(labels)
    rank = {name: position for position, name in enumerate(classes)}
    sides = splits or [None] * len(ids)
    rows = zip(ids, locations, labels, sides, strict=True)
    items = tuple(Item(id=name, location=place, target=rank[label], split=side) for name, place, label, side in rows)
    return Dataset(items=items, classes=classes, source=source, kind="signal")


def without_padding(series: NDArray[np.float32]) -> NDArray[np.float32]:
    """Drop the steps at a series' end that are missing in all channels; at least one step is left."""
    there = np.flatnonzero(~np.isnan(series).all(axis=0))
    return series[:, : int(there[-1]) + 1 if len(there) else 1]


def _dataset(files: Sequence[tuple[str | None, Path]], source: str, *, labelled: bool = True) -> Dataset:
    """Read the series of one file, or of two files that are one split each."""
    ids: list[str] = []
    labels: list[str] = []
    sides: list[str | None] = []
    collected = SeriesList(source)
    channels: int | None = None
    for side, path in files:
        found = _read_ts(path, labelled=labelled) if path.suffix.lower() == ".ts" else _read_numbers(path)
        rows = 0
        try:
            for where, label, series in found:
                if channels is not None and len(series) != channels:
                    raise UserError(f"{len(series)} channels after series of {channels}", where=where)
                channels = len(series)
                collected.add(series)
                labels.append(label)
                rows += 1
        except OSError as error:
            raise UserError(f"this file cannot be read: {error.strerror or error}", where=str(path)) from error
        prefix, digits = f"{side}/" if side else "", len(str(rows))
        ids.extend(f"{prefix}{row:0{digits}d}" for row in range(1, rows + 1))
        sides.extend([side] * rows)
        if rows and path.suffix.lower() != ".ts":
            _reject_steps(labels[-rows:], collected.heads(rows), path)
    return make_dataset(ids, labels, collected.locations(), source, sides)


def _read_numbers(path: Path) -> Iterator[_Row]:
    """Read rows of label and values; shorter series end in NaN, or have fewer values."""
    separator: str | None = None
    is_first = True
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        if is_first:
            separator, is_first = _separator(line), False
        fields = _fields(line, separator)
        if len(fields) < 2:
            raise UserError("this line has no values", where=where, fix="each line is a label, then its values")
        yield where, _whole_label(fields[0], where), without_padding(_numbers(fields[1:], where)[None])


def _reject_steps(labels: Sequence[str], heads: Sequence[tuple[float, int]], path: Path) -> None:
    """Raise UserError for rows that are time steps.

    They are if each first number has several rows, in which the second number increases in even steps from one start.
    """
    first = [0] + [row for row in range(1, len(labels)) if labels[row] != labels[row - 1]]
    runs = [[value for value, _ in heads[begin:end]] for begin, end in pairwise([*first, len(labels)])]
    if len(runs) < 3 or len(labels) < _STEPS * len(runs) or max((length for _, length in heads), default=0) > _WIDTH:
        return
    starts = {run[0] for run in runs}
    if len(starts) == 1 and all(len(run) > 1 and min(np.diff(run)) > 0 for run in runs):
        raise UserError(
            f"the rows of this file look like time steps of {len(runs)} series, not like one series each: the second "
            "number increases and restarts with each first number",
            where=str(path),
            fix="name the columns: --no-header --case-column 0 --time-column 1 --label-column N",
        )


def _read_ts(path: Path, *, labelled: bool) -> Iterator[_Row]:
    """Read the format of sktime and aeon: a header of ``@`` lines, then channels separated by ``:``, label last."""
    classes: frozenset[str] | None = None
    in_data = False
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        if line.startswith(("#", "%")):
            continue
        if not in_data:
            key, _, value = line.partition(" ")
            if not key.startswith("@"):
                raise UserError(
                    "this is not a .ts file of series: there is no @data before its values",
                    where=where,
                    fix="the format is described at https://www.aeon-toolkit.org (the ts file format)",
                )
            in_data = key.lower() == "@data"
            if in_data and classes is None and labelled:
                raise _no_labels(path)
            if key.lower() == "@timestamps" and value.strip().lower() == "true":
                raise UserError("series with time stamps are not supported", where=where, fix="write only values")
            if key.lower() == "@classlabel":
                has, *names = value.split()[:100_001] or ["false"]
                if has.lower() != "true":
                    if labelled:
                        raise _no_labels(path)
                    continue
                classes = frozenset(names)
            continue
        label = ":?" if classes is None else ""  # a .ts without labels has only channels
        yield where, *_series_and_label(line + label, classes or frozenset(), where)
    if not in_data:
        raise UserError("this is not a .ts file of series: there is no @data in it", where=str(path))


def _series_and_label(line: str, classes: frozenset[str], where: str) -> tuple[str, NDArray[np.float32]]:
    *channels, label = line.split(":", _MAX_CHANNELS)
    label = label.strip()
    if not channels or not label:
        raise UserError("this line has no label", where=where, fix="the label follows the last ':'")
    if classes and label not in classes:
        raise UserError(f"{label[:60]!r} is not among the classes of @classLabel", where=where)
    rows = [_numbers(channel.split(","), where) for channel in channels]
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise UserError(
            f"the channels of this series have different lengths ({shorten(sorted(lengths))})",
            where=where,
            fix="pad the shorter ones with '?'",
        )
    return label, np.stack(rows)


def _no_labels(path: Path) -> UserError:
    return UserError(
        "these series have no class labels",
        where=str(path),
        fix="the header needs a line such as '@classLabel true walking running', and each series its label",
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the non-empty lines with their numbers."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE:
                raise UserError("this line is too long", where=f"{path}, line {number}")
            if line.strip():
                yield number, line.strip()


def _separator(line: str) -> str | None:
    """Return the separator of numbers: tab, semicolon, comma or any white space; commas may be decimal."""
    mark = next((mark for mark in "\t;," if mark in line), None)
    if mark == "," and all("," in field and is_value(with_point(field)) for field in line.split()[1:]):
        return None if len(line.split()) > 1 else mark
    return mark


def _fields(line: str, separator: str | None) -> list[str]:
    fields = line.strip().split(separator, _MAX_VALUES)
    return list(map(with_point, fields)) if separator != "," and "," in line else fields


def _numbers(fields: Sequence[str], where: str) -> NDArray[np.float32]:
    """Return float32 ``[L]``, NaN for missing values. Raises UserError for an invalid number."""
    if len(fields) > _MAX_VALUES:
        raise UserError(f"a series of more than {_MAX_VALUES:,} values is too long", where=where)
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [_value(field, where) for field in fields]
    with np.errstate(over="ignore"):
        return np.array(values, np.float64).astype(np.float32)


def _value(field: str, where: str) -> float:
    text = field.strip()
    if text.lower() in MISSING:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{text[:60]!r} is not a number", where=where, fix="write '?' for a missing value") from None


def is_value(field: str) -> bool:
    """Return whether a field is a number or a mark of a missing value."""
    return field.strip().lower() in MISSING or is_number(field)


def _whole_label(field: str, where: str) -> str:
    """Convert a label to a class name: 1.0 becomes 1."""
    text = field.strip()
    if not is_number(text):
        if not text:
            raise UserError("this line has no label", where=where)
        return text
    number = float(text)
    if not number.is_integer():
        raise UserError(
            f"the label {text[:60]!r} is not a class", where=where, fix="the first number of a line is its class"
        )
    return str(int(number))
