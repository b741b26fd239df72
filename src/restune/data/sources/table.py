"""A .csv, .tsv or .parquet table with a path column and a label column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from restune.core.console import note
from restune.core.errors import UserError, did_you_mean, shorten
from restune.core.files import user_path
from restune.data.dataset import DataOptions, Dataset, FileLocation, Item
from restune.data.sources.folder import SPLIT_FOLDERS, is_image_name

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


def open_table(path: Path, options: DataOptions) -> Dataset:
    """Items are rows. Paths are relative to `options.root`, or to the table's folder.

    Columns not named in `options` are recognised by their usual names, and said. Raises UserError with the row's
    number for missing values and unknown splits.
    """
    columns = _read(path, options)
    paths = _choose(columns, options.path_column, PATH_NAMES, "path", path, required=True)
    labels = _choose(columns, options.label_column, LABEL_NAMES, "label", path, required=True)
    splits = _choose(columns, options.split_column, SPLIT_NAMES, "split", path)
    groups = _choose(columns, options.group_column, (), "group", path)
    assert paths is not None
    assert labels is not None
    chosen = {"paths": paths, "labels": labels, "splits": splits, "groups": groups}
    note(f"{path.name}: " + ", ".join(f"{role} from column {name!r}" for role, name in chosen.items() if name))
    first_row = 2 if options.header and path.suffix != ".parquet" else 1
    values = _labels(columns[labels], labels, path, first_row)
    classes = tuple(sorted(set(values)))
    index = {name: position for position, name in enumerate(classes)}
    root = user_path(options.root) if options.root else path.parent
    items = []
    for row, file in enumerate(columns[paths]):
        where = f"{path}, row {row + first_row}"
        if not file:
            raise UserError("this row has no path", where=where)
        items.append(
            Item(
                id=str(file),
                location=FileLocation(root / str(file)),
                target=index[values[row]],
                split=_split(columns[splits][row], where) if splits else None,
                group=None if groups is None else str(columns[groups][row]),
            )
        )
    return Dataset(items=tuple(items), classes=classes, source=str(path))


def _read(path: Path, options: DataOptions) -> dict[str, list[Any]]:
    import pyarrow as pa

    if path.stat().st_size == 0:
        raise UserError("this table is empty", where=str(path))
    try:
        table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path, options)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, UnicodeError, LookupError) as error:
        reason = str(error).splitlines()[0]
        hint = "name the encoding with --encoding, such as --encoding latin-1" if "UTF" in reason.upper() else None
        raise UserError(f"this table cannot be read: {reason}", where=str(path), fix=hint) from error
    names = [name.strip() for name in table.column_names]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"the column {repeated[0]!r} stands twice in this table", where=str(path), fix="rename one")
    return {name: table.column(position).to_pylist() for position, name in enumerate(names)}


def _read_parquet(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path)


def _read_text(path: Path, options: DataOptions) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(path, options.encoding)
    read = csv.ReadOptions(encoding=options.encoding, autogenerate_column_names=not options.header)
    parse = csv.ParseOptions(delimiter=delimiter)
    with path.open("rb") as file:
        names = csv.open_csv(file, read_options=read, parse_options=parse).schema.names
    # Every column is text: "007" is a label, not the number 7.
    convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    table = csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    if not options.header:
        table = table.rename_columns([str(position) for position in range(table.num_columns)])
    return table


def _delimiter(path: Path, encoding: str) -> str:
    """The most frequent of the usual separators in the first line."""
    with path.open(encoding=encoding, errors="replace") as file:
        line = file.readline(65536)
    return max(",;\t|", key=line.count)


def _choose(
    columns: dict[str, list[Any]],
    named: str | None,
    usual: tuple[str, ...],
    role: str,
    path: Path,
    *,
    required: bool = False,
) -> str | None:
    """The column for a role: the one named, or the one with a usual name, or one that plainly holds paths."""
    if named is not None:
        if named in columns:
            return named
        hint = did_you_mean(named, columns) or f"the columns are {shorten(map(repr, columns))}"
        raise UserError(f"there is no column {named!r}", where=f"{path}, --{role}-column", fix=hint)
    lowered = {name.lower(): name for name in columns}
    for name in usual:
        if name in lowered:
            return lowered[name]
    if role == "path":
        for name, values in columns.items():
            if any(isinstance(value, str) and is_image_name(value) for value in values[:20]):
                return name
    if required:
        raise UserError(
            f"no column looks like the {role}s; the columns are {shorten(map(repr, columns))}",
            where=str(path),
            fix=f"name it with --{role}-column",
        )
    return None


def _labels(values: list[Any], column: str, path: Path, first_row: int) -> list[str]:
    for row, value in enumerate(values):
        if value is None or value == "":
            raise UserError("this row has no label", where=f"{path}, row {row + first_row}, column {column!r}")
    if any(_is_fraction(value) for value in values) and all(_is_number(value) for value in values):
        raise UserError(
            "the labels are fractions, not classes",
            where=f"{path}, column {column!r}",
            fix="name the column that holds the class with --label-column",
        )
    return [str(value) for value in values]


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and float(value) % 1 != 0


def _split(value: Any, where: str) -> str | None:
    text = str(value or "").strip().lower()
    if not text:
        return None
    if text not in SPLIT_FOLDERS:
        raise UserError(f"{value!r} is no split", where=where, fix="use train, val or test")
    return SPLIT_FOLDERS[text]
