"""Convert inputs of predict, embed and serve to items: paths, folders, patterns, tables, content."""

from __future__ import annotations

import glob
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.files import is_there, user_path
from restune.data.dataset import ArrayLocation, DataOptions, Item, Location
from restune.data.encodings import likely_encoding
from restune.data.kinds import Kind, kind_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    Input = str | Path | bytes | NDArray[Any] | Image.Image


@dataclass(frozen=True, slots=True)
class ContentLocation:
    """An encoded file or a text that the caller passed as content."""

    content: bytes | str

    def read(self) -> bytes | str:
        return self.content

    def signature(self) -> str:
        return str(len(self.content))


@dataclass(frozen=True, slots=True)
class MissingLocation:
    """The location of an input without files, such as an empty folder; reading it raises the reason."""

    reason: str

    def read(self) -> bytes:
        raise FileNotFoundError(self.reason)

    def signature(self) -> str:
        return ""


def as_items(inputs: Input | Iterable[Input], kind: Kind) -> list[Item]:
    """Convert inputs to items without a target; the id is the path, or the position if the input is content.

    Args:
        inputs: one or many; see `Kind.accepted`.

    Raises UserError for other types.
    """
    one = _is_one(inputs, kind)
    if not one and not isinstance(inputs, Iterable):
        raise _not_accepted(inputs, kind)
    listed = [inputs] if one else list(inputs)  # type: ignore[arg-type]
    return [_as_item(position, value, kind) for position, value in enumerate(listed)]


def expand(inputs: Any, options: DataOptions, classes: Sequence[str]) -> Iterator[Item]:
    """Convert as `as_items`; also replace a folder by its files, a pattern by its matches, and a table by its rows.

    Items are produced lazily, so that a hundred thousand of them need not be in memory at once.

    Args:
        inputs: one or many.
        options: how to read tables; its `kind` is the model's.
        classes: the model's classes; lines that begin with one of them are read as "label text" lines, and a table's
            columns
            named after them as labels.

    An input without files, or a table that cannot be read, becomes one unreadable item. Raises UserError for types that
    are not accepted.
    """
    kind = kind_of(options.kind or "image")
    one = isinstance(inputs, str | Path | bytes) or not isinstance(inputs, Iterable)
    if hasattr(inputs, "ndim"):
        one = not (inputs.ndim and ("text" in kind.accepts or getattr(inputs.dtype, "kind", None) in tuple("UTSO")))
    for position, value in enumerate([inputs] if one else inputs):
        if not isinstance(value, str | Path):
            yield _as_item(position, value, kind)
        elif "text" in kind.accepts:
            yield from _expand_text(value, kind, options, classes)
        else:
            yield from _expand_path(value, kind, options, classes)


def _is_one(inputs: Any, kind: Kind) -> bool:
    if isinstance(inputs, np.ndarray) and inputs.ndim and inputs.dtype.kind in "UTSO":
        return False  # an array of texts or paths
    if hasattr(inputs, "ndim") and hasattr(inputs, "dtype"):  # an array or a tensor
        return bool(inputs.ndim <= (kind.array_dims or 3))
    return isinstance(inputs, str | Path | bytes | bytearray) or hasattr(inputs, "getbands")


def _as_item(position: int, value: Any, kind: Kind) -> Item:
    if isinstance(value, str) and "text" in kind.accepts:
        return Item(id=f"input {position}", location=ContentLocation(value), target=-1)
    if isinstance(value, str | Path):
        return Item(id=str(value), location=kind.location(user_path(value)), target=-1)
    return Item(id=f"input {position}", location=_content(value, kind), target=-1)


def _content(value: Any, kind: Kind) -> Location:
    if isinstance(value, bytes | bytearray) and "bytes" in kind.accepts:
        return ContentLocation(bytes(value))
    if "array" in kind.accepts:
        if hasattr(value, "detach"):  # a tensor
            value = value.detach().cpu()
            value = (value.float() if value.is_floating_point() else value).numpy()
        if isinstance(value, np.ndarray):
            return ArrayLocation(value[None], 0)
    if "pil" in kind.accepts and hasattr(value, "getbands"):
        return ContentLocation(_encoded(value))
    raise _not_accepted(value, kind)


_PLAIN = {"La": "LA", "RGBa": "RGBA"}
"""The only modes that Pillow converts its premultiplied alpha modes to."""


def _encoded(image: Image.Image) -> bytes:
    """Encode a PIL image losslessly: the decoder then handles its mode, orientation and transparency."""
    keeps = image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK")
    form = "TIFF" if image.mode in ("I", "F", "CMYK") else "PNG"
    buffer = io.BytesIO()
    try:
        (image if keeps else image.convert(_PLAIN.get(image.mode, "RGB"))).save(
            buffer, format=form, compress_level=0, exif=image.getexif()
        )
    except (OSError, ValueError) as error:
        raise UserError(f"this image cannot be read: {error}", where="a PIL image") from error
    return buffer.getvalue()


def _not_accepted(value: Any, kind: Kind) -> UserError:
    return UserError(f"an input cannot be a {type(value).__name__}", fix=f"pass {kind.accepted}")


def _expand_path(value: str | Path, kind: Kind, options: DataOptions, classes: Sequence[str]) -> Iterator[Item]:
    """Yield the items of a path, a folder or a pattern; one unreadable item if there are none.

    Never raises: a folder that cannot be read becomes one unreadable item, too.
    """
    try:
        yield from _items_at(str(value), kind, options, classes)
    except UserError as error:
        yield _refused(value, error)


def _items_at(text: str, kind: Kind, options: DataOptions, classes: Sequence[str]) -> Iterator[Item]:
    if not text:
        yield _missing(text, "an empty name")
        return
    path = user_path(text)
    files: Iterable[Path]
    if is_there(path):
        files = kind.files_below(path) if path.is_dir() else [path]
        reason = f"there are no {kind.noun} in this folder"
    elif glob.has_magic(text):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        files = (file for file in map(Path, matches) if kind.holds_folders or not file.is_dir())
        reason = "no file matches this pattern"
    else:
        yield _file_item(path, kind)
        return
    is_empty = True
    for file in files:
        for item in _items_of(file, kind, options, classes):
            is_empty = False
            yield item
    if is_empty:
        yield _missing(text, reason)


def _expand_text(value: str | Path, kind: Kind, options: DataOptions, classes: Sequence[str]) -> Iterable[Item]:
    """Return the items of a text file or folder if it exists, else the text itself as one item.

    Never raises: a table that cannot be read, or the name of a missing file, becomes one unreadable item.
    """
    text, path = str(value), Path(value)
    if isinstance(value, Path) or (text and is_there(path)):
        if path.is_file():
            return _labelled_lines(path, kind, options, classes) or _expand_path(path, kind, options, classes)
        return _expand_path(path, kind, options, classes)
    if _looks_like_file_name(text):
        return [_file_item(path, kind)]
    return [Item(id=text, location=ContentLocation(text), target=-1)]


_TEXT_SUFFIXES = (".txt", ".text", ".csv", ".tsv", ".parquet", ".all", ".data", ".json", ".jsonl", ".md")
_MANY_LINES = 20
_HEAD = 2**20


def _looks_like_file_name(text: str) -> bool:
    """Return whether a text without white space ends in a text file's suffix or lies in an existing folder."""
    if not text or any(map(str.isspace, text)):
        return False
    path = Path(text)
    return path.suffix.lower() in _TEXT_SUFFIXES or ("/" in text and is_there(path.parent) and len(path.parts) > 1)


def _labelled_lines(path: Path, kind: Kind, options: DataOptions, classes: Sequence[str]) -> list[Item]:
    """Return the texts of a file of "label text" lines; none for other files.

    At least one label must be a class of the model: lines of a poem also begin with repeated words.
    """
    from restune.data.sources import sentences

    if path.name.lower().endswith(kind.row_suffixes):
        return []
    try:
        if sentences.looks_like_lines(path, options):
            dataset = sentences.open_lines(path, options)
            if set(dataset.classes) & set(classes):
                return [replace(item, id=f"{path} {item.id}", target=-1) for item in dataset.items]
        with path.open("rb") as file:
            lines = file.read(_HEAD).count(b"\n")
    except (OSError, UserError):  # reading it as one text then reports the reason
        return []
    if lines >= _MANY_LINES:
        note(f"{path.name} is one text of many lines; one text per line needs 'label text' lines or a table")
    return []


def _items_of(file: Path, kind: Kind, options: DataOptions, classes: Sequence[str]) -> Iterator[Item]:
    """Yield a file as one item, or its rows, which need no labels, as items."""
    if not file.name.lower().endswith(kind.row_suffixes) or not kind.row_suffixes or file.is_dir():
        yield _file_item(file, kind)
        return
    try:
        yield from _rows_of(file, kind, options, classes)
    except UserError as error:
        yield _refused(file, error)


def _rows_of(file: Path, kind: Kind, options: DataOptions, classes: Sequence[str]) -> Iterator[Item]:
    """Yield the rows of a table or of a file of series as items, without their labels. Raises UserError."""
    from restune.data.sources import open_dataset, table

    if kind.rows_are_paths:
        for number, path in table.read_paths(file, options):
            yield _missing(f"{file} row {number}", "this row has no path") if path is None else _file_item(path, kind)
        return
    left_out = _class_columns(file, options, classes) if "text" not in kind.accepts else ()
    if options.task is not None:
        options = replace(options, label_column=None)  # its columns are left out
    unlabelled = replace(options, labelled=False, left_out=left_out, task=None, label_separator=None)
    for item in open_dataset(file, unlabelled).items:
        yield replace(item, id=f"{file} {item.id}", target=-1)


def _class_columns(file: Path, options: DataOptions, classes: Sequence[str]) -> tuple[str, ...]:
    """The columns of a table that has one per class (label, number) of the model; none of another file."""
    from restune.data.sources import TABLE_SUFFIXES, readers
    from restune.data.sources.label_forms import label_columns

    if not file.name.lower().endswith(TABLE_SUFFIXES) or file.stat().st_size == 0:
        return ()
    with readers.table_errors(file):
        reader = readers.open_columns(file, options, encoding=likely_encoding(file, options.encoding), long_rows=True)
        if options.task in ("multi-label", "regression"):
            names = {name.strip() for name in reader.names}
            return tuple(label_columns(reader.names, options.label_column)) or tuple(
                classes if names.issuperset(classes) else ()
            )
        found = tuple(name.strip() for name in readers.columns_of_classes(reader, file, options))
    return found if set(found) == set(classes) else ()


def _file_item(path: Path, kind: Kind) -> Item:
    return Item(id=str(path), location=kind.location(path), target=-1)


def _refused(name: str | Path, error: UserError) -> Item:
    return _missing(str(name), f"{error.what} ({error.fix})" if error.fix else error.what)


def _missing(name: str, reason: str) -> Item:
    return Item(id=name, location=MissingLocation(reason), target=-1)
