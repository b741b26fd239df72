"""A table a batch of rows at a time: separated values or Parquet, as Arrow arrays."""

from __future__ import annotations

import codecs
import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.core.machine import memory_bytes
from restune.data.dataset import DataOptions
from restune.data.sources.decimals import splits_decimals, uses_commas, with_point

_PEEKED = 20
_HEAD_BYTES = 2**20
_HEAD_ROWS = 200
_BATCH_ROWS = 65_536
_FEW_ROWS = 4_096
_LONG_BLOCK = 32 * 2**20
"""Bytes of a block, and so of the longest row, in tables whose rows are texts or series."""


@contextmanager
def table_errors(path: Path) -> Iterator[None]:
    """Within this block whatever Arrow raises about a damaged file is a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Arrow raises anything on a damaged file
        line = next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
        reason = "".join(mark if mark.isprintable() else "?" for mark in line)  # Arrow quotes the file's content
        hint = "name the encoding with --encoding, such as --encoding latin-1" if "UTF" in reason.upper() else None
        raise UserError(f"this table cannot be read: {reason}", where=str(path), fix=hint) from error


def open_reader(
    path: Path, options: DataOptions, *, encoding: str = "utf-8", long_rows: bool = False
) -> TextTable | ParquetTable:
    """The table's reader, by its name. `long_rows`: of texts or of series, where a row may be long and have line ends
    within quotes."""
    if path.suffix.lower() == ".parquet":
        return ParquetTable(path, _FEW_ROWS if long_rows else _BATCH_ROWS)
    return TextTable(path, options, encoding, long_rows=long_rows)


class TextTable:
    """A table of separated values, a batch of rows at a time; every column is text: "007" is not the number 7."""

    def __init__(self, path: Path, options: DataOptions, encoding: str, *, long_rows: bool = False) -> None:
        from pyarrow import csv

        self._path = path
        self._read = csv.ReadOptions(
            autogenerate_column_names=not options.header,
            block_size=_LONG_BLOCK if long_rows else None,
        )
        delimiter = delimiter_of(path, encoding)
        quoted = not long_rows or not _has_stray_quotes(_lines(path, encoding), delimiter)
        self._parse = csv.ParseOptions(
            delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=long_rows and quoted
        )
        self._encoding = encoding
        with csv.open_csv(self._source(), read_options=self._read, parse_options=self._parse) as reader:
            self._raw = reader.schema.names
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
        with csv.open_csv(
            self._source(), read_options=self._read, parse_options=self._parse, convert_options=convert
        ) as reader:
            for batch in reader:
                yield dict(zip(columns, batch.columns, strict=True))

    def _source(self) -> Any:
        """The table's UTF-8 as Arrow reads it without Python: the thread that reads ahead may outlive the reader, and
        would end the process were it in Python when Python ends. Of another encoding all of it is held in memory."""
        import pyarrow as pa

        if codecs.lookup(self._encoding).name in ("utf-8", "utf-8-sig"):  # Arrow leaves out the mark by itself
            return pa.OSFile(os.fsencode(self._path))
        if 4 * self._path.stat().st_size > memory_bytes():
            raise UserError(
                f"this table is too large to be read as {self._encoding}",
                where=str(self._path),
                fix="store it as UTF-8",
            )
        decoder = codecs.getincrementaldecoder(self._encoding)()
        whole = pa.BufferOutputStream()
        with self._path.open("rb") as file:
            for chunk in iter(lambda: file.read(_HEAD_BYTES), b""):
                whole.write(decoder.decode(chunk).encode())
        whole.write(decoder.decode(b"", final=True).encode())
        return pa.BufferReader(whole.getvalue())


class ParquetTable:
    """A Parquet file, a batch of rows at a time."""

    def __init__(self, path: Path, batch_rows: int = _BATCH_ROWS) -> None:
        from pyarrow import parquet

        self._file = parquet.ParquetFile(path)
        self._batch_rows = batch_rows
        self.names = self._file.schema_arrow.names

    def peek(self) -> list[list[Any]]:
        """The first values of each column."""
        first = next(self._file.iter_batches(batch_size=_PEEKED), None)
        return [[]] * len(self.names) if first is None else [column.to_pylist() for column in first.columns]

    def batches(self, columns: list[int]) -> Iterator[dict[int, Any]]:
        """Arrow arrays of these columns, by position."""
        wanted = [self.names[position] for position in columns]
        for batch in self._file.iter_batches(batch_size=self._batch_rows, columns=wanted):
            yield {position: batch.column(name) for position, name in zip(columns, wanted, strict=True)}


class Codes:
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


def as_text(column: Any) -> Any:
    """An Arrow array as one of type string; what is missing stays missing."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return column
    if pa.types.is_large_string(column.type) or pa.types.is_dictionary(column.type):
        return as_text(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column.cast(pa.string()))
    return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())


def delimiter_of(path: Path, encoding: str) -> str:
    """A tab for .tsv; else the most frequent of the usual separators in the first line, commas inside numbers not
    counted where another separates them."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with path.open(encoding=encoding, errors="replace") as file:
        line = file.readline(65536)
    return splits_decimals(line) or max(",;\t|", key=line.count)


def has_decimal_commas(path: Path, encoding: str) -> bool:
    """Whether a table's numbers are written with commas, by its first rows."""
    if path.suffix.lower() == ".parquet":
        return False
    return uses_commas(_first_rows(path, encoding), delimiter_of(path, encoding))


def first_rows(path: Path, encoding: str) -> list[list[str]]:
    """The first rows of a table, its header among them, as text: enough to see of what kind it is.

    Decimal commas are points. Raises UserError, as `table_errors`, for a Parquet file that cannot be read.
    """
    rows = _first_rows(path, encoding)
    if path.suffix.lower() != ".parquet" and uses_commas(rows, delimiter_of(path, encoding)):
        return [[with_point(field) for field in row] for row in rows]
    return rows


def _first_rows(path: Path, encoding: str) -> list[list[str]]:
    if path.suffix.lower() == ".parquet":
        table = ParquetTable(path)
        columns = [["" if value is None else str(value) for value in column] for column in table.peek()]
        return [list(table.names), *(list(row) for row in zip(*columns, strict=True))]
    delimiter = delimiter_of(path, encoding)
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        head = file.read(_HEAD_BYTES)
    lines = head.split("\n")
    if len(head) == _HEAD_BYTES and len(lines) > 1:  # the last is cut
        lines.pop()
    rows = []
    quoting: Literal[0, 3] = csv.QUOTE_NONE if _has_stray_quotes(lines, delimiter) else csv.QUOTE_MINIMAL
    try:
        for row in csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, quoting=quoting):
            rows.extend([row] if row else [])
            if len(rows) > _HEAD_ROWS:
                break
    except csv.Error:  # a field longer than the module takes
        pass
    return rows


def _lines(path: Path, encoding: str) -> Iterator[str]:
    with path.open(encoding=encoding, errors="replace", newline="\n") as file:
        while line := file.readline(_LONG_BLOCK):
            yield line


def _has_stray_quotes(lines: Iterable[str], delimiter: str) -> bool:
    """Whether quotes are marks like others in a table separated by tabs: every line has all columns without a look at
    them, and some field begins with a quote that does not end it."""
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


_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def _is_stray(field: str) -> bool:
    return field.startswith('"') and _QUOTED.fullmatch(field) is None
