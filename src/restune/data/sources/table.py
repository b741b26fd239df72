"""A .csv, .tsv or .parquet table with a path column and a label column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note
from restune.core.errors import UserError, did_you_mean, shorten
from restune.core.files import user_path
from restune.data.dataset import SPLITS, DataOptions, Dataset, Rows
from restune.data.sources.folder import SPLIT_FOLDERS, is_image_name
from restune.data.texts import Texts

PATH_NAMES = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "image_id",
)
LABEL_NAMES = ("label", "class", "target", "category", "y", "class_name", "label_name", "species")
SPLIT_NAMES = ("split", "subset", "partition")


MAX_LABELS = 1_000_000
"""Different labels of a table; more of them are no classes."""
_PEEKED = 20
_BATCH_ROWS = 65_536


def open_table(path: Path, options: DataOptions) -> Dataset:
    """Items are rows. Paths are relative to `options.root`, or to the table's folder.

    Columns not named in `options` are recognised by their usual names, and said. Read in batches: millions of rows
    take little more memory than their paths are long. Raises UserError with the row's number for missing values and
    unknown splits.
    """
    try:
        if path.stat().st_size == 0:
            raise UserError("this table is empty", where=str(path))
        text = path.suffix.lower() != ".parquet"
        reader = _TextTable(path, options) if text else _ParquetTable(path)
        first_row = 2 if options.header and text else 1
        return _collect(reader, path, options, first_row)
    except UserError:
        raise
    except Exception as error:  # Arrow raises anything on a damaged file
        line = next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
        reason = "".join(mark if mark.isprintable() else "?" for mark in line)  # Arrow quotes the file's content
        hint = "name the encoding with --encoding, such as --encoding latin-1" if "UTF" in reason.upper() else None
        raise UserError(f"this table cannot be read: {reason}", where=str(path), fix=hint) from error


def _collect(reader: _TextTable | _ParquetTable, path: Path, options: DataOptions, first_row: int) -> Dataset:
    names = [name.strip() for name in reader.names]
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise UserError(f"the column {repeated!r} stands twice in this table", where=str(path), fix="rename one")
    roles = {
        "path": _choose(names, options.path_column, PATH_NAMES, "path", path, required=True, peek=reader.peek),
        "label": _choose(names, options.label_column, LABEL_NAMES, "label", path, required=True),
        "split": _choose(names, options.split_column, SPLIT_NAMES, "split", path),
        "group": _choose(names, options.group_column, (), "group", path),
    }
    chosen = {role: name for role, name in roles.items() if name is not None}
    note(f"{path.name}: " + ", ".join(f"{role}s from column {name!r}" for role, name in chosen.items()))
    files, groups = Texts(), Texts()
    labels, splits = _Codes(), _Codes()
    columns = {role: names.index(name) for role, name in chosen.items()}
    for batch in reader.batches(sorted(set(columns.values()))):
        texts = {role: _as_text(batch[position]) for role, position in columns.items()}
        row = first_row + len(files)
        _reject_missing(texts["label"], "label", f"{path}, row ", row, f", column {chosen['label']!r}")
        _reject_missing(texts["path"], "path", f"{path}, row ", row, "")
        _reject_repeated(texts["path"], str(path))
        labels.extend(texts["label"])
        if len(labels.values) > MAX_LABELS:
            raise UserError(
                f"there are more than {MAX_LABELS:,} different labels, which are no classes",
                where=f"{path}, column {chosen['label']!r}",
                fix="name the column that holds the class with --label-column",
            )
        if "split" in texts:
            _reject_unknown_splits(texts["split"], path, row)
            splits.extend(texts["split"].fill_null(""))
        if "group" in texts:
            groups.extend(texts["group"].fill_null("None"))
        files.extend(texts["path"])
    values = list(labels.values)
    _reject_fractions(values, path, chosen["label"])
    classes = tuple(sorted(values))
    rank = {name: position for position, name in enumerate(classes)}
    sides = [_split(value) for value in splits.values]
    items = Rows(
        files=files,
        root=user_path(options.root) if options.root else path.parent,
        targets=labels.numbered([rank[value] for value in values]),
        splits=splits.numbered([-1 if side is None else SPLITS.index(side) for side in sides]).astype(np.int8)
        if "split" in chosen
        else None,
        groups=groups if "group" in chosen else None,
    )
    return Dataset(items=items, classes=classes, source=str(path))


class _TextTable:
    """A table of separated values, a batch of rows at a time; every column is text: "007" is not the number 7."""

    def __init__(self, path: Path, options: DataOptions) -> None:
        from pyarrow import csv

        self._path = path
        self._read = csv.ReadOptions(encoding=options.encoding, autogenerate_column_names=not options.header)
        delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(path, options.encoding)
        self._parse = csv.ParseOptions(delimiter=delimiter)
        with self._path.open("rb") as file:
            self._raw = csv.open_csv(file, read_options=self._read, parse_options=self._parse).schema.names
        self.names = self._raw if options.header else [str(position) for position in range(len(self._raw))]

    def peek(self) -> list[list[Any]]:
        """The first values of each column."""
        first = next(self.batches(list(range(len(self._raw)))), {})
        return [column.slice(0, _PEEKED).to_pylist() for column in first.values()]

    def batches(self, columns: list[int]) -> Iterator[dict[int, Any]]:
        """Arrow arrays of these columns, by position."""
        import pyarrow as pa
        from pyarrow import csv

        wanted = [self._raw[position] for position in columns]
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(self._raw, pa.string()), strings_can_be_null=False, include_columns=wanted
        )
        with self._path.open("rb") as file:
            for batch in csv.open_csv(
                file, read_options=self._read, parse_options=self._parse, convert_options=convert
            ):
                yield dict(zip(columns, batch.columns, strict=True))


class _ParquetTable:
    """A Parquet file, a batch of rows at a time."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self._file = parquet.ParquetFile(path)
        self.names = self._file.schema_arrow.names

    def peek(self) -> list[list[Any]]:
        """The first values of each column."""
        first = next(self._file.iter_batches(batch_size=_PEEKED), None)
        return [[]] * len(self.names) if first is None else [column.to_pylist() for column in first.columns]

    def batches(self, columns: list[int]) -> Iterator[dict[int, Any]]:
        """Arrow arrays of these columns, by position."""
        wanted = [self.names[position] for position in columns]
        for batch in self._file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
            yield {position: batch.column(name) for position, name in zip(columns, wanted, strict=True)}


class _Codes:
    """A column of few different texts: a number for each row, and the text that each number stands for."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self._codes: list[NDArray[np.int32]] = []

    def extend(self, texts: Any) -> None:
        """Add an Arrow array of texts without nulls."""
        encoded = texts.dictionary_encode()
        known = [self.values.setdefault(text, len(self.values)) for text in encoded.dictionary.to_pylist()]
        self._codes.append(np.array(known, np.int32)[encoded.indices.to_numpy()])

    def numbered(self, numbers: Sequence[int]) -> NDArray[np.int32]:
        """The whole column, each text as the number at its place in `numbers`."""
        codes = np.concatenate([np.zeros(0, np.int32), *self._codes])
        return np.array(numbers, np.int32)[codes] if len(codes) else codes


def _as_text(column: Any) -> Any:
    """An Arrow array as one of type string; what is missing stays missing."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return column
    if pa.types.is_large_string(column.type) or pa.types.is_dictionary(column.type):
        return _as_text(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column.cast(pa.string()))
    return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())


def _delimiter(path: Path, encoding: str) -> str:
    """The most frequent of the usual separators in the first line."""
    with path.open(encoding=encoding, errors="replace") as file:
        line = file.readline(65536)
    return max(",;\t|", key=line.count)


def _choose(
    names: Sequence[str],
    named: str | None,
    usual: tuple[str, ...],
    role: str,
    path: Path,
    *,
    required: bool = False,
    peek: Callable[[], list[list[Any]]] = list,
) -> str | None:
    """The column for a role: the one named, or the one with a usual name, or one that plainly holds paths."""
    if named is not None:
        if named in names:
            return named
        hint = did_you_mean(named, names) or f"the columns are {shorten(map(repr, names))}"
        raise UserError(f"there is no column {named!r}", where=f"{path}, --{role}-column", fix=hint)
    lowered = {name.lower(): name for name in names}
    for name in usual:
        if name in lowered:
            return lowered[name]
    for name, values in zip(names, peek(), strict=False):
        if any(isinstance(value, str) and is_image_name(value) for value in values):
            return name
    if required:
        raise UserError(
            f"no column looks like the {role}s; the columns are {shorten(map(repr, names))}",
            where=str(path),
            fix=f"name it with --{role}-column",
        )
    return None


def _reject_missing(texts: Any, role: str, where: str, first_row: int, column: str) -> None:
    import pyarrow.compute as pc

    missing = pc.index(pc.equal(texts.fill_null(""), ""), True).as_py()
    if missing >= 0:
        raise UserError(f"this row has no {role}", where=f"{where}{first_row + missing}{column}")


def _reject_repeated(texts: Any, where: str) -> None:
    """At once where they stand close together: a few bytes of Parquet may hold a thousand million equal rows."""
    counts = texts.value_counts()
    if len(counts) < len(texts):
        name = max(counts.to_pylist(), key=lambda entry: entry["counts"])["values"]
        raise UserError("an item is listed twice", where=f"{where}: {name}", fix="remove one of the two")


def _reject_unknown_splits(texts: Any, path: Path, first_row: int) -> None:
    import pyarrow.compute as pc

    for value in texts.drop_null().unique().to_pylist():
        if value.strip() and value.strip().lower() not in SPLIT_FOLDERS:
            row = first_row + pc.index(texts, value).as_py()
            raise UserError(f"{value!r} is no split", where=f"{path}, row {row}", fix="use train, val or test")


def _reject_fractions(values: Sequence[str], path: Path, column: str) -> None:
    if any(map(_is_fraction, values)) and all(map(_is_number, values)):
        raise UserError(
            "the labels are fractions, not classes",
            where=f"{path}, column {column!r}",
            fix="name the column that holds the class with --label-column",
        )


def _is_number(value: str) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_fraction(value: str) -> bool:
    return _is_number(value) and float(value) % 1 != 0


def _split(value: str) -> str | None:
    return SPLIT_FOLDERS[value.strip().lower()] if value.strip() else None
