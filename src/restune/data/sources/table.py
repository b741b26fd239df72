"""A .csv, .tsv or .parquet table: which column is what, and the rows that name a file each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note
from restune.core.errors import UserError, did_you_mean, shorten
from restune.core.files import user_path
from restune.data.dataset import SPLITS, DataOptions, Dataset, Rows
from restune.data.encodings import WESTERN, check_encoding, likely_encoding, note_encoding
from restune.data.sources.clips import is_video_name
from restune.data.sources.folder import SPLIT_FOLDERS, is_image_name
from restune.data.sources.readers import Codes, ParquetTable, TextTable, as_text, open_reader, table_errors
from restune.data.string_array import StringArray

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
_CHINESE_LABELS = ("标签", "类别", "分类")
LABEL_NAMES = ("label", "class", "target", "category", "y", "class_name", "label_name", "species", *_CHINESE_LABELS)
SPLIT_NAMES = ("split", "subset", "partition")

MAX_LABELS = 1_000_000
"""Different labels of a table; more of them are no classes."""


def open_table(path: Path, options: DataOptions) -> Dataset:
    """Items are rows that name a file each. Paths are relative to `options.root`, or to the table's folder.

    Columns not named in `options` are recognised by their usual names, and said. Read in batches: millions of rows
    take little more memory than their paths are long. Raises UserError with the row's number for missing values and
    unknown splits.
    """
    with table_errors(path):
        reject_empty(path)
        reader = open_reader(path, options, encoding=_encoding_of_names(path, options))
        return _collect(reader, path, options)


def read_paths(path: Path, options: DataOptions) -> Iterator[tuple[int, Path | None]]:
    """Each row's number and the file it names, in order, read in batches; None where it names none. No labels needed.

    A table whose first row names a file has no header. Raises UserError as `open_table`.
    """
    if options.encoding is not None:
        check_encoding(options.encoding)
    with table_errors(path):
        reject_empty(path)
        encoding = _encoding_of_names(path, options)
        reader = open_reader(path, options, encoding=encoding)
        if options.header and any(map(_is_file_name, reader.names)):
            options = replace(options, header=False)
            reader = open_reader(path, options, encoding=encoding)
        names = column_names(reader, path)
        column = choose_column(names, options.path_column, PATH_NAMES, "path", path, required=True, peek=reader.peek)
        assert column is not None  # it is required
        root = user_path(options.root) if options.root else path.parent
        number, place = first_row(path, options), names.index(column)
        for batch in reader.batches([place]):
            for text in as_text(batch[place]).to_pylist():
                yield number, root / text if text else None
                number += 1


def _is_file_name(text: str) -> bool:
    """Whether a text ends like the name of an image or of a video."""
    return is_image_name(text.strip()) or is_video_name(text.strip())


def _encoding_of_names(path: Path, options: DataOptions) -> str:
    """The encoding of a table that names files; said where it was found out."""
    encoding = likely_encoding(path, options.encoding)
    if options.encoding is None and encoding in WESTERN:  # a guess that fits anything, and may name no files
        encoding = "utf-8"
    note_encoding(path, "utf-8" if options.encoding else encoding)
    return encoding


def reject_empty(path: Path) -> None:
    """Raise UserError for a file without a byte."""
    if path.stat().st_size == 0:
        raise UserError("this table is empty", where=str(path))


def first_row(path: Path, options: DataOptions) -> int:
    """The number of the first row that is an item, as messages count them."""
    return 2 if options.header and path.suffix.lower() != ".parquet" else 1


def has_names(path: Path, options: DataOptions) -> bool:
    """Whether the table names its columns."""
    return options.header or path.suffix.lower() == ".parquet"


def column_names(reader: TextTable | ParquetTable, path: Path) -> list[str]:
    """The columns' names. Raises UserError for one that stands twice."""
    names = [name.strip() for name in reader.names]
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise UserError(f"the column {repeated!r} stands twice in this table", where=str(path), fix="rename one")
    return names


def mark_columns(names: Sequence[str], path: Path, options: DataOptions) -> dict[str, str]:
    """The columns that hold each row's label and, where there are any, its split and its group, by role."""
    roles = {
        "label": choose_column(names, options.label_column, LABEL_NAMES, "label", path, required=True),
        "split": choose_column(names, options.split_column, SPLIT_NAMES, "split", path),
        "group": choose_column(names, options.group_column, (), "group", path),
    }
    return {role: name for role, name in roles.items() if name is not None}


def say_columns(path: Path, columns: Mapping[str, str]) -> None:
    """Note which columns were taken for what."""
    note(f"{path.name}: " + ", ".join(f"{role}s from column {name!r}" for role, name in columns.items()))


class Marks:
    """Each row's class, split and group, collected batch by batch.

    Args:
        path: of the table, for messages.
        columns: the names of the columns, by role.
        row: the number of the first row.
    """

    def __init__(self, path: Path, columns: Mapping[str, str], row: int) -> None:
        self.row = row
        self._path, self._columns = path, columns
        self._labels, self._splits, self._groups = Codes(), Codes(), StringArray()

    def extend(self, batch: Mapping[str, Any]) -> None:
        """Add the Arrow arrays of a batch, by role. Raises UserError for missing labels and unknown splits."""
        path, label = self._path, self._columns["label"]
        texts = {role: as_text(batch[role]) for role in ("label", "split", "group") if role in batch}
        reject_missing(texts["label"], "label", f"{path}, row ", self.row, f", column {label!r}")
        self._labels.extend(texts["label"])
        if len(self._labels.values) > MAX_LABELS:
            raise UserError(
                f"there are more than {MAX_LABELS:,} different labels, which are no classes",
                where=f"{path}, column {label!r}",
                fix="name the column that holds the class with --label-column",
            )
        if "split" in texts:
            _reject_unknown_splits(texts["split"], path, self.row)
            self._splits.extend(texts["split"].fill_null(""))
        if "group" in texts:
            self._groups.extend(texts["group"].fill_null("None"))
        self.row += len(texts["label"])

    def targets(self) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """The classes, sorted, and each row's place among them. Raises UserError for labels that are fractions."""
        values = list(self._labels.values)
        _reject_fractions(values, self._path, self._columns["label"])
        classes = tuple(sorted(values))
        rank = {name: position for position, name in enumerate(classes)}
        return classes, self._labels.numbered([rank[value] for value in values])

    def splits(self) -> NDArray[np.int8] | None:
        """Each row's place in `SPLITS`, or -1; None where the table has no such column."""
        if "split" not in self._columns:
            return None
        sides = [_split(value) for value in self._splits.values]
        return self._splits.numbered([-1 if side is None else SPLITS.index(side) for side in sides]).astype(np.int8)

    def groups(self) -> StringArray | None:
        """Each row's group; None where the table has no such column."""
        return self._groups if "group" in self._columns else None


def _collect(reader: TextTable | ParquetTable, path: Path, options: DataOptions) -> Dataset:
    names = column_names(reader, path)
    files_in = choose_column(names, options.path_column, PATH_NAMES, "path", path, required=True, peek=reader.peek)
    assert files_in is not None  # it is required
    chosen = {"path": files_in, **mark_columns(names, path, options)}
    say_columns(path, chosen)
    files = StringArray()
    marks = Marks(path, chosen, first_row(path, options))
    columns = {role: names.index(name) for role, name in chosen.items()}
    for batch in reader.batches(sorted(set(columns.values()))):
        by_role = {role: batch[position] for role, position in columns.items()}
        paths, row = as_text(by_role["path"]), marks.row
        marks.extend(by_role)
        reject_missing(paths, "path", f"{path}, row ", row, "")
        _reject_repeated(paths, str(path))
        files.extend(paths)
    classes, targets = marks.targets()
    items = Rows(
        files=files,
        root=user_path(options.root) if options.root else path.parent,
        targets=targets,
        splits=marks.splits(),
        groups=marks.groups(),
    )
    return Dataset(items=items, classes=classes, source=str(path))


def choose_column(
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
        if any(isinstance(value, str) and _is_file_name(value) for value in values):
            return name
    if required:
        wanted = "paths or texts" if role == "path" else f"the {role}s"
        raise UserError(
            f"no column looks like {wanted}; the columns are {shorten(map(repr, names))}",
            where=str(path),
            fix=f"name it with --{role}-column" + (" (of texts with --text-column)" if role == "path" else ""),
        )
    return None


def reject_missing(texts: Any, role: str, where: str, first_row: int, column: str) -> None:
    """Raise UserError with the row's number where an Arrow array of texts has a null or an empty one."""
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
