"""A .csv, .tsv, .parquet or JSON table: its columns' roles, and rows that name one file each."""

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
from restune.data.dataset import SPLITS, DataOptions, Dataset
from restune.data.encodings import WESTERN, check_encoding, likely_encoding, note_encoding
from restune.data.items import FilePlaces, Groups, Rows
from restune.data.sources.clips import is_video_name
from restune.data.sources.folder import SPLIT_FOLDERS, is_image_name
from restune.data.sources.joined_labels import label_columns_of
from restune.data.sources.label_forms import Labels, read_labels
from restune.data.sources.one_hot import Reader
from restune.data.sources.paths import Doubts, FileFinder, found_files
from restune.data.sources.readers import (
    LABEL_NAMES,
    Codes,
    as_text,
    is_typed,
    open_reader,
    table_errors,
    trimmed,
    usual_column,
)
from restune.data.string_array import StringArray

PATH_NAMES = (
    *("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "image_id"),
    *("images", "paths", "files", "filenames", "image_file", "image_name", "image_filename", "img_path", "img_file"),
    *("img_name", "img_id", "imgs", "photo", "photo_id", "picture", "video", "video_path", "video_id", "clip", "audio"),
    *("audio_path", "audio_file", "sound", "recording", "url", "image_url", "img_url", "uri", "图片", "文件"),
)
SPLIT_NAMES = ("split", "subset", "partition")

_SENTENCE = 20
"""Characters from which a column's name with spaces may be a text."""
MAX_LABELS = 1_000_000
"""Maximum distinct labels of a table; more are not classes."""


def open_table(path: Path, options: DataOptions) -> Dataset:
    """Open a table of one file per row. Paths are relative to `options.root`, or to the table's folder.

    Columns not named in `options` are recognised by their usual names, and noted. Read in batches: millions of rows
    take little more memory than their paths. Raises UserError with the row number for missing values and unknown
    splits.
    """
    with table_errors(path):
        reject_empty(path)
        reader = open_reader(path, options, encoding=_encoding_of_names(path, options))
        return _collect(reader, path, options)


def read_paths(path: Path, options: DataOptions) -> Iterator[tuple[int, Path | None]]:
    """Yield each row's number and path (None if empty), in order, read in batches. Needs no labels.

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
        assert column is not None  # required
        root = user_path(options.root) if options.root else path.parent
        number, place = first_row(path, options), names.index(column)
        for batch in reader.batches([place]):
            for text in as_text(batch[place]).to_pylist():
                yield number, root / text if text else None
                number += 1


def _is_file_name(text: str) -> bool:
    """Return whether a text has the suffix of an image or a video."""
    return is_image_name(text.strip()) or is_video_name(text.strip())


def _encoding_of_names(path: Path, options: DataOptions) -> str:
    """Return the encoding of a table of paths; note it if it was detected."""
    encoding = likely_encoding(path, options.encoding)
    if options.encoding is None and encoding in WESTERN:  # a guess that fits any bytes: the names may not exist
        encoding = "utf-8"
    note_encoding(path, "utf-8" if options.encoding else encoding)
    return encoding


def reject_empty(path: Path) -> None:
    """Raise UserError for an empty file."""
    if path.stat().st_size == 0:
        raise UserError("this table is empty", where=str(path))


def first_row(path: Path, options: DataOptions) -> int:
    """Return the number of the first item's row, as counted in messages."""
    return 2 if options.header and not is_typed(path) else 1


def has_names(path: Path, options: DataOptions) -> bool:
    """Return whether the table has column names."""
    return options.header or is_typed(path)


def column_names(reader: Reader, path: Path) -> list[str]:
    """Return the column names. Raises UserError for a duplicate."""
    names = [name.strip() for name in reader.names]
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise UserError(f"the column {repeated!r} occurs twice in this table", where=str(path), fix="rename one")
    return names


def mark_columns(names: Sequence[str], path: Path, options: DataOptions) -> dict[str, str]:
    """Return the columns of labels and, if there are any, of splits and groups, by role."""
    roles = {
        "label": choose_column(names, options.label_column, LABEL_NAMES, "label", path, required=options.labelled),
        "split": choose_column(names, options.split_column, SPLIT_NAMES, "split", path),
        "group": choose_column(names, options.group_column, (), "group", path),
    }
    return {role: name for role, name in roles.items() if name is not None}


def text_columns(names: Sequence[str], named: str | None, usual: tuple[str, ...], path: Path) -> list[str]:
    """Return the column of texts, or the columns that are joined to one text: ``title,body``, unless one has that name.

    Raises UserError for a column that does not exist, and if none looks like texts.
    """
    parts = [named] if named is None or named.strip() in names else named.split(",")
    chosen = [choose_column(names, part, usual, "text", path, required=True) for part in parts]
    return list(dict.fromkeys(name for name in chosen if name is not None))


def joined(texts: Sequence[Any]) -> Any:
    """Join Arrow arrays of texts row by row with a space, without the empty ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(texts) == 1:
        return texts[0].fill_null("")
    parts = [trimmed(each.fill_null("")) for each in texts]
    filled = [pc.if_else(pc.equal(part, ""), pa.scalar(None, pa.string()), part) for part in parts]
    return pc.binary_join_element_wise(*filled, " ", null_handling="skip").fill_null("")


def say_columns(path: Path, columns: Mapping[str, str | Sequence[str]]) -> None:
    """Note the role of each column used, and of columns that are joined."""
    parts = []
    for role, named in columns.items():
        names = [named] if isinstance(named, str) else list(named)
        listed = " and ".join(map(repr, names)) + ", joined by a space" * (len(names) > 1)
        parts.append(f"{role}s from column{'s' * (len(names) > 1)} {listed}")
    note(f"{path.name}: " + ", ".join(parts))


class Marks:
    """The rows' classes, splits and groups, collected in batches.

    Args:
        path: of the table, for messages.
        columns: the names of the columns, by role.
        row: the number of the first row.
        options: the task, and the separator of several labels, if they are settled.
        label_columns: the columns that the label column was joined from; by default it alone.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str],
        row: int,
        options: DataOptions | None = None,
        label_columns: Sequence[str] = (),
    ) -> None:
        self.row = self._first_row = row
        self._path, self._columns = path, columns
        self._options = options or DataOptions()
        self._label_columns = label_columns or [columns.get("label", "")]
        self._labels, self._splits, self._groups = Codes(), Codes(), StringArray()

    def extend(self, batch: Mapping[str, Any]) -> None:
        """Add the Arrow arrays of a batch, by role. Raises UserError for missing labels and unknown splits."""
        path, label = self._path, self._columns["label"]
        texts = {role: trimmed(as_text(batch[role])) for role in ("label", "split", "group") if role in batch}
        keep = self._options.missing_labels or self._options.task == "multi-label"
        if keep or self._options.label_separator is not None:
            texts["label"] = texts["label"].fill_null("")  # an item without labels
        else:
            reject_missing(texts["label"], "label", f"{path}, row ", self.row, f", column {label!r}")
        self._labels.extend(texts["label"])
        if len(self._labels.values) > MAX_LABELS and self._options.task != "regression":
            raise UserError(
                f"there are more than {MAX_LABELS:,} different labels, which are not classes",
                where=f"{path}, column {label!r}",
                fix="name the column that holds the class with --label-column",
            )
        if "split" in texts:
            _reject_unknown_splits(texts["split"], path, self.row)
            self._splits.extend(texts["split"].fill_null(""))
        if "group" in texts:
            self._groups.extend(texts["group"].fill_null("None"))
        self.row += len(texts["label"])

    def labels(self) -> Labels:
        """Return the rows' targets: classes, several labels or numbers. Raises UserError, as `read_labels`."""
        values = list(self._labels.values)
        where = f"{self._path}, column {self._columns['label']!r}"
        codes = self._labels.numbered(range(len(values)))
        return read_labels(values, codes, self._options, where, self._label_columns, self._first_row)

    def splits(self) -> NDArray[np.int8] | None:
        """Return each row's index in `SPLITS`, or -1; None if the table has no split column."""
        if "split" not in self._columns:
            return None
        sides = [_split(value) for value in self._splits.values]
        return self._splits.numbered([-1 if side is None else SPLITS.index(side) for side in sides]).astype(np.int8)

    def groups(self) -> Groups | None:
        """Return the rows' groups; None if the table has no group column."""
        return Groups(self._groups) if "group" in self._columns else None


def _collect(reader: Reader, path: Path, options: DataOptions) -> Dataset:
    names = column_names(reader, path)
    root = user_path(options.root) if options.root else path.parent
    files_in = _path_column(names, reader, options, path, root)
    chosen = {"path": files_in, **(mark_columns(names, path, options) if options.labelled else {})}
    say_columns(path, chosen)
    files, doubts = StringArray(), Doubts()
    row = first_row(path, options)
    marks = Marks(path, chosen, row, options, label_columns_of(reader, chosen.get("label", "")))
    columns = {role: names.index(name) for role, name in chosen.items()}
    for batch in reader.batches(sorted(set(columns.values()))):
        by_role = {role: batch[position] for role, position in columns.items()}
        paths = trimmed(as_text(by_role["path"]))
        if options.labelled:
            marks.extend(by_role)
        reject_missing(paths, "path", f"{path}, row ", row, "")
        _reject_repeated(paths, by_role.get("label"), path, row)
        files.extend(paths)
        doubts.extend(paths)
        row += len(paths)
    labels = marks.labels() if options.labelled else Labels("single-label", (), np.full(len(files), -1, np.int32))
    found = found_files(files, doubts, root, path) if len(files) else None
    items = Rows(
        names=files,
        places=FilePlaces(root, files if found is None else found),
        targets=labels.targets,
        splits=marks.splits(),
        groups=marks.groups(),
    )
    return Dataset(
        items=items, classes=labels.classes, source=str(path), task=labels.task, target_values=labels.values
    )  # fmt: skip


def _path_column(names: Sequence[str], reader: Reader, options: DataOptions, path: Path, root: Path) -> str:
    """Return the path column: named, with a usual name, with image suffixes, or with names of existing files."""
    found = choose_column(names, options.path_column, PATH_NAMES, "path", path, peek=reader.peek)
    if found is not None:
        return found
    finder = FileFinder(root)
    for name, column in zip(names, reader.peek(), strict=False):
        texts = [str(value) for value in column if isinstance(value, str | int) and str(value).strip()]
        if texts and 2 * sum(finder.find(text) is not None for text in texts) > len(texts):
            return name
    raise UserError(
        f"no column looks like paths or texts; the columns are {shorten(map(repr, names))}",
        where=str(path),
        fix="name it with --path-column, and the folder that paths begin in with --root (a column of texts with "
        f"--text-column){_headerless(names)}",
    )


def _headerless(names: Sequence[str]) -> str:
    """Return a hint, as a clause, if the header looks like an item."""
    looks_like_item = any(
        is_image_name(name) or name.replace(".", "").isdigit() or (len(name) >= _SENTENCE and " " in name)
        for name in names
    )
    return "; if its first line is an item already, pass --no-header" if looks_like_item else ""


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
    """Return the column of a role: the named one, one with a usual name, or one that clearly holds paths."""
    if named is not None:
        if named.strip() in names:
            return named.strip()
        hint = did_you_mean(named, names) or f"the columns are {shorten(map(repr, names))}"
        raise UserError(f"there is no column {named!r}", where=f"{path}, --{role}-column", fix=hint)
    found = usual_column(names, usual)
    if found is not None:
        return found
    for name, values in zip(names, peek(), strict=False):
        if any(isinstance(value, str) and _is_file_name(value) for value in values):
            return name
    if required:
        wanted = "texts" if role == "text" else f"the {role}s"
        one_each = " (one column per class must hold nothing but 0 and 1)" if role == "label" else ""
        raise UserError(
            f"no column looks like {wanted}; the columns are {shorten(map(repr, names))}",
            where=str(path),
            fix=f"name it with --{role}-column{one_each}{_headerless(names)}",
        )
    return None


def reject_missing(texts: Any, role: str, where: str, first_row: int, column: str) -> None:
    """Raise UserError with the row number if an Arrow array of texts has a null or empty value."""
    import pyarrow.compute as pc

    missing = pc.index(pc.equal(texts.fill_null(""), ""), True).as_py()
    if missing >= 0:
        raise UserError(f"this row has no {role}", where=f"{where}{first_row + missing}{column}")


def _reject_repeated(texts: Any, labels: Any, path: Path, row: int) -> None:
    """Raise at once if duplicates are close together: a few bytes of Parquet may hold 1e9 equal rows."""
    counts = texts.value_counts()
    if len(counts) == len(texts):
        return
    import pyarrow.compute as pc

    name = max(counts.to_pylist(), key=lambda entry: entry["counts"])["values"]
    first, second = pc.indices_nonzero(pc.equal(texts, name)).to_pylist()[:2]
    where = f"{path}, rows {row + first} and {row + second}: {name}"
    if labels is None:
        raise listed_twice(where)
    names = [str(labels[place].as_py()).strip() for place in (first, second)]
    raise listed_twice(
        where, f"as {names[0]!r} and as {names[1]!r}" if names[0] != names[1] else f"both times as {names[0]!r}"
    )


def listed_twice(where: str, labels: str = "") -> UserError:
    """Return the error for an item that a table lists twice."""
    return UserError(
        f"an item is listed twice{f', {labels}' if labels else ''}",
        where=where,
        fix="keep one row per item: one item has one class here, and a copy would count twice",
    )


def _reject_unknown_splits(texts: Any, path: Path, first_row: int) -> None:
    import pyarrow.compute as pc

    for value in texts.drop_null().unique().to_pylist():
        if value.strip() and value.strip().lower() not in SPLIT_FOLDERS:
            row = first_row + pc.index(texts, value).as_py()
            raise UserError(f"{value!r} is not a split", where=f"{path}, row {row}", fix="use train, val or test")


def _split(value: str) -> str | None:
    return SPLIT_FOLDERS[value.strip().lower()] if value.strip() else None
