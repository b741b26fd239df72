"""Read tables in batches of rows as Arrow arrays: separated values or Parquet."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note
from restune.core.errors import UserError, shorten
from restune.core.machine import memory_bytes
from restune.data.dataset import DataOptions
from restune.data.sources.decimals import uses_commas, with_point
from restune.data.sources.dialect import dialect_of, head_rows
from restune.data.sources.joined_labels import JoinedLabels
from restune.data.sources.json_lines import JSON_SUFFIXES, JsonTable
from restune.data.sources.label_forms import label_columns
from restune.data.sources.one_hot import OneHotTable, Reader, class_columns, have_several, marked_columns

_PEEKED = 20
_HEAD_BYTES = 2**20
_BATCH_ROWS = 65_536
_FEW_ROWS = 4_096
_LONG_BLOCK = 32 * 2**20
"""Bytes per block, and so of the longest row, in tables whose rows are texts or series."""
_QUOTED_BLOCK = 8 * 2**20
"""The same in tables of paths with quoted fields."""


@contextmanager
def table_errors(path: Path) -> Iterator[None]:
    """Convert any exception that Arrow raises on a damaged file to a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Arrow raises arbitrary exceptions on a damaged file
        line = next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
        reason = "".join(mark if mark.isprintable() else "?" for mark in line)  # Arrow quotes the file's content
        hint = "name the encoding with --encoding, such as --encoding latin-1" if "UTF" in reason.upper() else None
        raise UserError(f"this table cannot be read: {reason}", where=str(path), fix=hint) from error


def open_reader(path: Path, options: DataOptions, *, encoding: str = "utf-8", long_rows: bool = False) -> Reader:
    """Open a table with the reader for its suffix. `long_rows`: rows are texts or series, which may be long.

    If labels are wanted, several label columns, or one-hot columns without a label column, are replaced by one.
    """
    reader = open_columns(path, options, encoding=encoding, long_rows=long_rows)
    if not options.labelled:
        return reader
    named = label_columns(reader.names, options.label_column)
    if named:
        return JoinedLabels(reader, named, name=str(options.label_column).strip())
    classes = columns_of_classes(reader, path, options)
    marks = _columns_of_labels(reader, classes, options)
    if marks:
        note(f"{path.name}: one column per label, multi-label: {shorten(map(repr, marks))}")
        return JoinedLabels(reader, marks)
    return OneHotTable(reader, classes, path, 1 if is_typed(path) else 2) if classes else reader


def _columns_of_labels(reader: Reader, classes: Sequence[str], options: DataOptions) -> list[str]:
    """Return the columns of 0 and 1 that are labels rather than classes, of which a row has exactly one.

    They are where the task says so, or a row has several.
    """
    if not classes or options.task not in (None, "multi-label"):
        return []
    head = reader.peek()
    marks = marked_columns(reader.names, head, [name for name in reader.names if name not in classes])
    return marks if options.task == "multi-label" or have_several(reader.names, head, marks) else []


def open_columns(path: Path, options: DataOptions, *, encoding: str = "utf-8", long_rows: bool = False) -> Reader:
    """Like `open_reader`, with the columns unchanged."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return ParquetTable(path, _FEW_ROWS if long_rows else _BATCH_ROWS)
    return JsonTable(path) if suffix in JSON_SUFFIXES else TextTable(path, options, encoding, long_rows=long_rows)


def columns_of_classes(reader: Reader, path: Path, options: DataOptions) -> list[str]:
    """Return the one-hot columns; none in a table with a column of labels."""
    has_labels = options.label_column is not None or usual_column(reader.names, LABEL_NAMES) is not None
    if has_labels or not (options.header or is_typed(path)):
        return []
    columns = (options.path_column, options.text_column, options.case_column, options.time_column)
    taken = (*columns, options.group_column, options.split_column, *COUNTERS)
    return class_columns(reader.names, reader.peek(), taken)


def is_typed(path: Path) -> bool:
    """Return whether a format stores column names without a header line: Parquet and JSON."""
    return path.suffix.lower() in (".parquet", *JSON_SUFFIXES)


_CHINESE_LABELS = ("标签", "类别", "分类")
LABEL_NAMES = (
    *("label", "class", "target", "category", "y", "class_name", "label_name", "category_name", "species"),
    *("labels", "classes", "targets", "categories", "tag", "tags", "class_label", "target_class", "ground_truth", "gt"),
    *(
        "truth",
        "class_id",
        "label_id",
        "category_id",
        "target_name",
        "annotation",
        "diagnosis",
        "dx",
        "breed",
        "sentiment",
    ),
    *("emotion", "intent", "topic", "genre", "grade", "rating", "stars", "outcome", "age"),
    *_CHINESE_LABELS,
)
COUNTERS = frozenset({"id", "index", "idx", "row", "unnamed: 0", ""})
"""Lower-case names of columns that number the rows."""


def usual_column(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """Return the column with the first matching usual name, ignoring case and separators between words."""
    plain = {plain_name(name): name for name in reversed(names)}
    return next((plain[name] for name in usual if name in plain), None)


@lru_cache(2**17)
def plain_name(name: str) -> str:
    """Convert a column name to snake case: ``image_path`` for ``Image Path`` and ``imagePath``."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip().strip("\ufeff"))
    return re.sub(r"[\s_\-]+", "_", parted.lower())


class TextTable:
    """A table of separated values, read in batches; every column is text, so "007" stays "007"."""

    def __init__(self, path: Path, options: DataOptions, encoding: str, *, long_rows: bool = False) -> None:
        from pyarrow import csv

        self._path = path
        self._dialect = dialect_of(path, encoding, long_rows=long_rows)
        self._read = csv.ReadOptions(
            autogenerate_column_names=not options.header,
            block_size=_LONG_BLOCK if long_rows else _QUOTED_BLOCK if self._dialect.line_ends else None,
        )
        self._parse = csv.ParseOptions(
            delimiter=self._dialect.delimiter,
            quote_char='"' if self._dialect.quoted else False,
            escape_char="\\" if self._dialect.escaped else False,
            newlines_in_values=self._dialect.line_ends,
        )
        self._encoding = encoding
        with csv.open_csv(self._source(), read_options=self._read, parse_options=self._parse) as reader:
            self._raw = reader.schema.names
        self.names = self._raw if options.header else [str(position) for position in range(len(self._raw))]

    def peek(self) -> list[list[Any]]:
        """Return the first values of each column."""
        first = next(self.batches(list(range(len(self._raw)))), {})
        return [column.slice(0, _PEEKED).to_pylist() for column in first.values()]

    def batches(self, columns: list[int]) -> Iterator[dict[int, Any]]:
        """Yield Arrow arrays of these columns, by position."""
        import pyarrow as pa
        from pyarrow import csv

        wanted = [self._raw[position] for position in columns]
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(self._raw, pa.string()), strings_can_be_null=False, include_columns=wanted
        )
        with csv.open_csv(
            self._source(), read_options=self._read, parse_options=self._parse, convert_options=convert
        ) as reader:
            for batch in reader:
                yield dict(zip(columns, batch.columns, strict=True))

    def _source(self) -> Any:
        """Open the table as UTF-8 for Arrow; a table in another encoding is converted in memory.

        Arrow must not call Python here: its read-ahead thread may outlive the reader, and would kill the process if
        it were in Python code at exit.
        """
        import pyarrow as pa

        is_utf8 = codecs.lookup(self._encoding).name in ("utf-8", "utf-8-sig")
        if is_utf8 and not self._dialect.spaced:  # Arrow skips the byte order mark itself
            return pa.OSFile(os.fsencode(self._path))
        if 4 * self._path.stat().st_size > memory_bytes():
            raise UserError(
                "this table is too large to be rewritten in memory, as blanks before quotes need"
                if is_utf8
                else f"this table is too large to be read as {self._encoding}",
                where=str(self._path),
                fix="remove the blanks before quotes" if is_utf8 else "store it as UTF-8",
            )
        decoder = codecs.getincrementaldecoder(self._encoding)()
        whole = pa.BufferOutputStream()
        with self._path.open("rb") as file:
            for chunk in iter(lambda: file.read(_HEAD_BYTES), b""):
                whole.write(decoder.decode(chunk).encode())
        whole.write(decoder.decode(b"", final=True).encode())
        content = whole.getvalue()
        if self._dialect.spaced:
            mark = re.escape(self._dialect.delimiter.encode())
            content = pa.py_buffer(re.sub(rb"(?m)(^|" + mark + rb") +(?=\")", rb"\1", content.to_pybytes()))
        return pa.BufferReader(content)


class ParquetTable:
    """A Parquet file, read in batches of rows."""

    def __init__(self, path: Path, batch_rows: int = _BATCH_ROWS) -> None:
        from pyarrow import parquet

        self._file = parquet.ParquetFile(path)
        self._batch_rows = batch_rows
        self.names = self._file.schema_arrow.names

    def peek(self) -> list[list[Any]]:
        """Return the first values of each column."""
        first = next(self._file.iter_batches(batch_size=_PEEKED), None)
        return [[]] * len(self.names) if first is None else [column.to_pylist() for column in first.columns]

    def batches(self, columns: list[int]) -> Iterator[dict[int, Any]]:
        """Yield Arrow arrays of these columns, by position."""
        wanted = [self.names[position] for position in columns]
        for batch in self._file.iter_batches(batch_size=self._batch_rows, columns=wanted):
            yield {position: batch.column(name) for position, name in zip(columns, wanted, strict=True)}


class Codes:
    """A dictionary-encoded column of few different texts: one code per row, and the text of each code."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self._codes: list[NDArray[np.int32]] = []

    def extend(self, texts: Any) -> None:
        """Add an Arrow array of texts without nulls."""
        encoded = texts.dictionary_encode()
        known = [self.values.setdefault(text, len(self.values)) for text in encoded.dictionary.to_pylist()]
        self._codes.append(np.array(known, np.int32)[encoded.indices.to_numpy()])

    def numbered(self, numbers: Sequence[int]) -> NDArray[np.int32]:
        """Return the whole column, each code mapped through `numbers`."""
        codes = np.concatenate([np.zeros(0, np.int32), *self._codes])
        return np.array(numbers, np.int32)[codes] if len(codes) else codes


def as_text(column: Any) -> Any:
    """Cast an Arrow array to type string; nulls stay null."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return column
    if pa.types.is_large_string(column.type) or pa.types.is_dictionary(column.type):
        return as_text(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column.cast(pa.string()))
    return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())


def trimmed(texts: Any) -> Any:
    """Strip white space from an Arrow array of texts."""
    import pyarrow.compute as pc

    content = content_of(texts)
    if content.isascii() and len(content.split(None, 1)) < 2 and content.strip() == content:  # nothing to do
        return texts
    return pc.utf8_trim_whitespace(texts)


def content_of(texts: Any) -> bytes:
    """Return the concatenated bytes of all texts of an Arrow string array."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4) if len(texts) else (0, 0)
    content = texts.buffers()[2]
    return b"" if content is None else bytes(memoryview(content)[int(offsets[0]) : int(offsets[-1])])


def has_decimal_commas(path: Path, encoding: str) -> bool:
    """Return whether a table's numbers have decimal commas, by its first rows."""
    if is_typed(path):
        return False
    rows, dialect = head_rows(path, encoding)
    return uses_commas(rows, dialect.delimiter)


def first_rows(path: Path, encoding: str) -> list[list[str]]:
    """Return a table's first rows as text, header included, to recognise its kind.

    Decimal commas become points. Raises UserError, as `table_errors`, for an unreadable file.
    """
    if not is_typed(path):
        rows, dialect = head_rows(path, encoding)
        commas = uses_commas(rows, dialect.delimiter)
        return [list(map(with_point, row)) for row in rows] if commas else rows
    table: Reader = ParquetTable(path) if path.suffix.lower() == ".parquet" else JsonTable(path)
    columns = [["" if value is None else str(value) for value in column] for column in table.peek()]
    return [list(table.names), *(list(row) for row in zip(*columns, strict=True))]


def by_name(names: Sequence[str], head: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return a table's `first_rows` without header, in the order of `names`; empty for a generated column."""
    places = {name.strip(): place for place, name in enumerate(head[0])}
    columns = [places.get(name, places.get(with_point(name), len(places))) for name in names]
    return [[row[place] if place < len(row) else "" for place in columns] for row in head[1:]]
