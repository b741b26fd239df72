"""Data in Python objects: DataFrames, (input, label) pairs, data sets of PyTorch and Hugging Face."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from restune.core.console import note
from restune.core.errors import UserError, shorten
from restune.data.class_names import class_order
from restune.data.dataset import MAX_BYTES, DataOptions, Dataset, FileLocation, Item
from restune.data.sources import arrays
from restune.data.sources.clips import is_video_name
from restune.data.sources.dataframes import OpenTable, is_frame, open_frame
from restune.data.sources.folder import SPLIT_FOLDERS, is_image_name
from restune.data.sources.paths import FileFinder
from restune.data.sources.readers import LABEL_NAMES, usual_column
from restune.data.sources.series import is_sound_name

_INPUT_NAMES = ("image", "img", "images", "pixel_values", "picture", "photo", "text", "sentence", "audio", "input", "x")
_MOST_CHANNELS = 64
"""Maximum rows of a two-dimensional array to be a series; with more it is an image."""


def open_object(data: Any, options: DataOptions, open_table: OpenTable) -> Dataset:
    """Open the data set in a Python object, by reference (not copied).

    - a pandas or polars DataFrame, or an Arrow table: paths are relative to `options.root` or the current folder;
    - ``(inputs, labels)``: two arrays;
    - a list of ``(input, label)`` pairs: paths, texts, arrays, PIL images or tensors;
    - a list of dicts: read as a table;
    - a map-style data set of PyTorch, with `classes` where it has them;
    - a Hugging Face Dataset, or a dict of them by split.

    Args:
        open_table: the reader of table files.

    Raises UserError for anything else, and for labels that are missing or hold several classes.
    """
    name = type(data).__name__
    if isinstance(data, Mapping) and data and all(str(key).lower() in SPLIT_FOLDERS for key in data):
        return _splits({str(key): open_object(part, options, open_table) for key, part in data.items()}, name)
    if isinstance(data, tuple) and len(data) == 2 and all(map(_is_array, data)):
        return _from_two_arrays(np.asarray(data[0]), np.asarray(data[1]), options)
    if is_frame(data):
        return _from_frame(data, options, open_table, name)
    if hasattr(data, "features") and hasattr(data, "column_names") and hasattr(data, "__getitem__"):
        return _from_hugging_face(data, options, open_table, name)
    if isinstance(data, list | tuple):
        if data and all(isinstance(one, Mapping) for one in data):
            import pyarrow as pa

            return _from_frame(pa.Table.from_pylist(list(data)), options, open_table, "list of dicts")
        return _from_pairs(data, options, open_table)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, Mapping | bytes):
        return _from_torch(data, options, open_table, name)
    raise UserError(
        f"data of type {name} is not read",
        fix="give a path, a DataFrame, a list of (input, label) pairs, or a data set of PyTorch (map-style) or "
        "Hugging Face",
    )


@dataclass(eq=False)
class _Source:
    """Access to inputs by index, one at a time; remembers a checksum of the first ones."""

    read: Callable[[int], Any]
    kind: str
    checksums: dict[int, str] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def content(self, index: int) -> Any:
        with self.lock:
            content = _content(self.read(index), self.kind)
            if index not in self.checksums:
                self.checksums[index] = _checksum(content)
        return content

    def __getstate__(self) -> dict[str, Any]:
        return {"read": self.read, "kind": self.kind, "checksums": self.checksums}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=threading.Lock())


@dataclass(frozen=True, slots=True)
class ObjectLocation:
    """An input in a Python object, by its index."""

    source: _Source
    index: int

    def read(self) -> Any:
        try:
            return self.source.content(self.index)
        except (OSError, ValueError):
            raise
        except Exception as error:  # third-party code raises arbitrary exceptions
            raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from error

    def signature(self) -> str:
        """Checksum of the first read; a data set that augments returns a different input each time."""
        if self.index not in self.source.checksums:
            try:
                self.read()
            except (OSError, ValueError) as error:
                return f"unreadable: {error}"
        return self.source.checksums[self.index]


def _content(value: Any, kind: str) -> Any:
    """Convert an input to this package's form: bytes, array or text. Raises ValueError."""
    if isinstance(value, str) and kind != "text":
        return FileLocation(Path(value)).read()
    if isinstance(value, Path):
        return FileLocation(value).read()
    if isinstance(value, Mapping):
        value = value.get("array", value.get("bytes")) if kind == "signal" or value.get("bytes") else value.get("path")
        return _content(value, kind)
    if isinstance(value, str | bytes):
        if len(value) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES // 2**20} MiB")
        return value
    if _is_pillow(value):
        value = (
            value.convert("RGBA" if value.mode in ("P", "PA", "LA") else "RGB") if value.mode in _CONVERTED else value
        )
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype == object or array.dtype.kind not in "biuf":
        raise ValueError(f"an input of type {type(value).__name__} is not read")
    if array.nbytes > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 2**20} MiB")
    return array


_CONVERTED = frozenset(("P", "PA", "LA", "La", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"))
"""Pillow modes whose values are not grey or RGB."""


def _checksum(content: Any) -> str:
    if isinstance(content, np.ndarray):
        raw = repr((content.dtype.str, content.shape)).encode() + np.ascontiguousarray(content).tobytes()
    else:
        raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.sha256(raw).hexdigest()[:16]


def _kind_of(value: Any) -> str:
    """Detect the kind of an input. Raises UserError for an unsupported one."""
    if isinstance(value, Mapping):
        return "signal" if "array" in value or "sampling_rate" in value else "image"
    if isinstance(value, str | Path):
        if is_sound_name(str(value)):
            return "signal"
        is_image = isinstance(value, Path) or is_image_name(value)
        return (
            "video" if is_video_name(str(value)) and not is_image_name(str(value)) else "image" if is_image else "text"
        )
    if isinstance(value, bytes) or _is_pillow(value):
        return "image"
    shape = tuple(getattr(value, "shape", ())) or np.shape(value)
    if len(shape) == 1 or (len(shape) == 2 and shape[0] <= _MOST_CHANNELS and shape[1] > 4 * shape[0]):
        return "signal"
    if len(shape) in (2, 3):
        return "image"
    raise UserError(
        f"an input of type {type(value).__name__}{f' and shape {list(shape)}' if shape else ''} is not read",
        fix="give paths, texts, PIL images, image arrays [H, W] or [H, W, C], or series [L] or [C, L]",
    )


def _made(source: _Source, labels: Sequence[str], name: str) -> Dataset:
    classes = class_order(labels)
    rank = {label: place for place, label in enumerate(classes)}
    digits = len(str(max(0, len(labels) - 1)))
    items = tuple(
        Item(id=f"{row:0{digits}d}", location=ObjectLocation(source, row), target=rank[label])
        for row, label in enumerate(labels)
    )
    return Dataset(items=items, classes=classes, source=name, kind=source.kind)


def _label(value: Any, where: str) -> str:
    """Convert a label to a class name. Raises UserError if it is missing, a fraction, or has several classes."""
    if hasattr(value, "tolist"):  # arrays, tensors and numpy scalars
        value = value.tolist()
    if isinstance(value, list | tuple | set | dict):
        if isinstance(value, list | tuple) and len(value) == 1:
            return _label(value[0], where)
        raise UserError(
            f"this label is a {type(value).__name__} of {len(value)} values, not one class",
            where=where,
            fix="give one class per item; several labels per item (multi-label) are read from a DataFrame, one column "
            "of 0 and 1 per label",
        )
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or isinstance(value, float) or not str(value).strip():
        what = (
            "this item has no label"
            if value is None or value != value or value == ""
            else f"the label {value!r} is not a class"
        )
        raise UserError(
            what,
            where=where,
            fix="give each item a class, as a text or a whole number; numbers to predict (regression) are read from a "
            "DataFrame",
        )
    return str(value)


def _from_pairs(data: Sequence[Any], options: DataOptions, open_table: OpenTable) -> Dataset:
    name = "list of (input, label) pairs"
    for row, pair in enumerate(data):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UserError(
                f"this is not an (input, label) pair but a {type(pair).__name__}", where=f"{name}, item {row}",
                fix="give a list such as [('cat/1.jpg', 'cat'), ('dog/2.jpg', 'dog')]",
            )  # fmt: skip
    if not data:
        raise UserError("there are no items in this data", where=name, fix="give (input, label) pairs")
    labels = [_label(label, f"{name}, item {row}") for row, (_, label) in enumerate(data)]
    if all(isinstance(value, str | Path) for value, _ in data):
        return _from_names([value for value, _ in data], labels, options, open_table, name)
    kind = options.kind or _kind_of(data[0][0])
    return _made(_Source(_Inputs(data), kind), labels, name)


def _from_names(
    values: Sequence[str | Path], labels: Sequence[str], options: DataOptions, open_table: OpenTable, name: str
) -> Dataset:
    """Open paths or texts as a table of two columns, with all handling of table paths."""
    import pyarrow as pa

    some = values[:: max(1, len(values) // 100)]
    finder = FileFinder(options.root or Path.cwd())
    are_files = options.kind not in (None, "text") or (
        options.kind is None and 2 * sum(_names_file(value, finder) for value in some) > len(some)
    )
    inputs = "path" if are_files else "text"
    table = pa.table({inputs: list(map(str, values)), "label": list(labels)})
    plain = DataOptions(
        kind=options.kind if are_files else "text",
        root=options.root,
        path_column="path" if are_files else None,
        text_column=None if are_files else "text",
        label_column="label",
    )
    return _from_frame(table, plain, open_table, name)


def _names_file(value: str | Path, finder: FileFinder) -> bool:
    if isinstance(value, Path) or is_image_name(value) or is_video_name(value) or is_sound_name(value):
        return True
    return len(value) < 500 and "\n" not in value and finder.find(value) is not None


def _from_frame(data: Any, options: DataOptions, open_table: OpenTable, name: str) -> Dataset:
    """Open a DataFrame: as a table, unless a column holds images or arrays as objects."""
    objects = _object_column(data)
    if objects is not None:
        return _from_object_column(data, objects, options, name)
    return open_frame(data, options, open_table, name)


def _object_column(data: Any) -> str | None:
    """Return the DataFrame column that holds images or arrays as objects; None if there is none."""
    if not hasattr(data, "__getitem__") or not hasattr(data, "dtypes"):
        return None
    for column in data.columns:
        first: Any = next(iter(data[column]), None)
        if _is_pillow(first) or isinstance(first, bytes) or (_is_array(first) and len(first.shape) > 0):
            return str(column)
    return None


def _from_object_column(data: Any, column: str, options: DataOptions, name: str) -> Dataset:
    names = [str(one) for one in data.columns]
    labels_in = options.label_column or usual_column(names, LABEL_NAMES)
    if labels_in is None or labels_in not in names:
        raise _no_label_column(names, name)
    values = list(data[column])
    labels = [_label(value, f"{name}, row {row}") for row, value in enumerate(data[labels_in])]
    note(f"{name}: inputs from column {column!r}, labels from column {labels_in!r}")
    return _made(_Source(values.__getitem__, options.kind or _kind_of(values[0])), labels, name)


def _from_two_arrays(inputs: Any, labels: Any, options: DataOptions) -> Dataset:
    is_series = options.kind == "signal" or (options.kind is None and inputs.ndim == 2)
    return (arrays.series_from_arrays if is_series else arrays.from_arrays)(inputs, labels, source="(inputs, labels)")


def _from_torch(data: Any, options: DataOptions, open_table: OpenTable, name: str) -> Dataset:
    """Open a map-style data set of (input, label) pairs."""
    count = len(data)
    if not count:
        raise UserError("there are no items in this data", where=name, fix="give a data set with items")
    first, _ = _pair(data, 0, name)
    labels = _torch_labels(data, count, name)
    known = [str(one) for one in getattr(data, "classes", None) or ()]
    if known and all(label.isdigit() and int(label) < len(known) for label in labels):
        labels = [known[int(label)] for label in labels]
    else:
        known = []
    if isinstance(first, str | Path):
        inputs = [_pair(data, row, name)[0] for row in range(count)]
        return _in_order(_from_names(inputs, labels, options, open_table, name), known)
    return _in_order(_made(_Source(_Inputs(data), options.kind or _kind_of(first)), labels, name), known)


@dataclass(frozen=True)
class _Inputs:
    """Return a function from index to input: the first of a pair, or a column of a row."""

    data: Any
    column: Any = 0

    def __call__(self, index: int) -> Any:
        return self.data[index][self.column]


def _in_order(dataset: Dataset, known: Sequence[str]) -> Dataset:
    """Return the data with its classes in the order of the known ones, without classes that have no items."""
    present = set(dataset.classes)
    classes = tuple(name for name in dict.fromkeys(one.strip() for one in known) if name in present)
    if len(classes) < len(present):  # no known classes
        return dataset
    return dataset.renumbered([classes.index(name) for name in dataset.classes], classes)


def _torch_labels(data: Any, count: int, name: str) -> list[str]:
    """Return `targets` or `labels` if they agree with the first and last items; else read every item's label."""
    for attribute in ("targets", "labels"):
        listed = getattr(data, attribute, None)
        if listed is None or not hasattr(listed, "__len__") or len(listed) != count:
            continue
        ends = {row: _label(_pair(data, row, name)[1], f"{name}, item {row}") for row in {0, count // 2, count - 1}}
        if all(_label(listed[row], name) == label for row, label in ends.items()):
            return [_label(listed[row], f"{name}, item {row}") for row in range(count)]
    note(f"{name}: reading all {count:,} items for their labels")
    return [_label(_pair(data, row, name)[1], f"{name}, item {row}") for row in range(count)]


def _pair(data: Any, row: int, name: str) -> tuple[Any, Any]:
    try:
        item = data[row]
    except Exception as error:
        raise UserError(f"this item cannot be read: {type(error).__name__}: {error}", where=f"{name}, item {row}",
                        fix="correct the data set: each data[i] must return (input, label)") from error  # fmt: skip
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise UserError(
            f"an item is a {type(item).__name__}, not (input, label)", where=f"{name}, item {row}",
            fix="let data[i] return a pair: an input and its class",
        )  # fmt: skip
    return item[0], item[1]


def _from_hugging_face(data: Any, options: DataOptions, open_table: OpenTable, name: str) -> Dataset:
    """Open a Hugging Face Dataset: a column of inputs and one of labels, with names from its ClassLabel."""
    names = [str(one) for one in data.column_names]
    if not len(data):
        raise UserError("there are no items in this data", where=name, fix="give a data set with items")
    label_in = options.label_column or next((one for one in names if _class_names(data, one)), None)
    label_in = label_in or usual_column(names, LABEL_NAMES)
    if label_in is None or label_in not in names:
        raise _no_label_column(names, name)
    input_in = options.path_column or options.text_column or _input_column(data, names, label_in)
    if input_in is None or input_in not in names:
        raise UserError(
            f"no column looks like inputs; the columns are {shorten(map(repr, names))}", where=name,
            fix="name it: data_options=DataOptions(path_column=...) of images, text_column=... of texts",
        )  # fmt: skip
    note(f"{name}: inputs from column {input_in!r}, labels from column {label_in!r}")
    known = _class_names(data, label_in)
    values = [_label(value, f"{name}, item {row}") for row, value in enumerate(data[label_in])]
    labels = values
    if known:
        outside = next(
            (row for row, value in enumerate(values) if not value.isdigit() or int(value) >= len(known)), None
        )
        if outside is not None:
            raise UserError(
                f"the label {values[outside]} does not name a class",
                where=f"{name}, item {outside}",
                fix=f"leave out items without a label: data.filter(lambda item: item[{label_in!r}] >= 0)",
            )
        labels = [known[int(value)] for value in values]
    plain = data.select_columns([input_in]) if hasattr(data, "select_columns") else data
    first = plain[0][input_in]
    if isinstance(first, str):
        kind = "text" if options.text_column else options.kind
        made = _from_names(list(plain[input_in]), labels, replace(options, kind=kind), open_table, name)
    else:
        made = _made(_Source(_Inputs(plain, input_in), options.kind or _kind_of(first)), labels, name)
    return _in_order(made, known)


def _class_names(data: Any, column: str) -> list[str]:
    """Return the class names of a ClassLabel; empty for other columns."""
    feature = data.features[column] if data.features and column in data.features else None
    return [str(one) for one in getattr(feature, "names", None) or ()]


def _input_column(data: Any, names: Sequence[str], label: str) -> str | None:
    """Return the input column: by an image or audio feature, else by a usual name, else the only other one."""
    others = [name for name in names if name != label]
    for name in others:
        if type(data.features[name]).__name__ in ("Image", "Audio"):
            return name
    return usual_column(others, _INPUT_NAMES) or (others[0] if len(others) == 1 else None)


def _no_label_column(names: Iterable[str], where: str) -> UserError:
    return UserError(
        f"no column looks like the labels; the columns are {shorten(map(repr, names))}",
        where=where,
        fix="name it: data_options=DataOptions(label_column=...)",
    )


def _splits(parts: Mapping[str, Dataset], name: str) -> Dataset:
    """Combine several data sets as the splits of one. Raises UserError if their kinds differ."""
    kinds = {part.kind for part in parts.values()}
    if len(kinds) > 1:
        raise UserError(f"the splits are of different kinds: {shorten(sorted(kinds))}", where=name, fix="name the kind")
    known = list(dict.fromkeys(label for part in parts.values() for label in part.classes))
    listed = next(iter(parts.values())).classes
    classes = tuple(known) if list(listed) != sorted(listed) else class_order(known)
    items = [
        replace(item, id=f"{split}/{item.id}", split=SPLIT_FOLDERS[split.lower()])
        for split, part in parts.items()
        for item in part.renumbered([classes.index(label) for label in part.classes], classes).items
    ]
    return Dataset(items=tuple(items), classes=classes, source=name, kind=kinds.pop())


def _is_array(value: Any) -> bool:
    """Return whether this is an array or a tensor."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "__array__")


def _is_pillow(value: Any) -> bool:
    return hasattr(value, "getbbox") and hasattr(value, "mode") and hasattr(value, "size")
