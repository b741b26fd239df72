"""The common form of all data: items, ordered classes and a fingerprint."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError, shorten
from restune.core.files import is_there
from restune.data.class_names import clean_name
from restune.data.kinds import KINDS
from restune.data.not_taken import NotTaken
from restune.data.string_array import StringArray

SPLITS = ("train", "val", "test")
MAX_BYTES = 256 * 2**20
"""Maximum size of a file that is read as one item."""


class Location(Protocol):
    """The location of an item's content. Small, picklable and readable from any thread or process."""

    def read(self) -> Any:
        """Read the content: an encoded image or sound file, an array (image ``[H, W]`` or ``[H, W, C]``, series ``[L]``
        or ``[C, L]``), a text, or a video's path. Raises OSError or ValueError."""
        ...

    def signature(self) -> str:
        """Return a cheap text that changes with the content (a size, a checksum of the container)."""
        ...


@dataclass(frozen=True, slots=True)
class FileLocation:
    """A file on disk."""

    path: Path

    def read(self) -> bytes:
        if not is_there(self.path):
            raise FileNotFoundError(f"there is no such file: {self.path}")
        if not self.path.is_file():  # a FIFO named .jpg would block, a folder has no bytes
            raise FileNotFoundError("it is not a file")
        if self.path.stat().st_size > MAX_BYTES:
            raise ValueError(f"the file is larger than {MAX_BYTES // 2**20} MiB")
        return self.path.read_bytes()

    def signature(self) -> str:
        return str(self.path.stat().st_size) if is_there(self.path) else "missing"


@dataclass(frozen=True, slots=True)
class ArrayLocation:
    """A row of an array that holds all items of its source: ``array[index]``."""

    array: NDArray[Any] = field(repr=False)
    index: int

    def read(self) -> NDArray[Any]:
        row: NDArray[Any] = self.array[self.index]
        return row

    def signature(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.array[self.index]).tobytes()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Item:
    """One example.

    Args:
        id: stable and unique within the data set, such as the path below the folder it came from.
        location: of its content.
        target: index into the data set's classes.
        split: ``train``, ``val`` or ``test`` if the source defines it.
        group: items of one group (a patient, a scene) belong to the same split.
    """

    id: str
    location: Location
    target: int
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Item]):
    """Items created on demand from a table's rows, of which there may be millions.

    Args:
        files: the items' ids, which are their paths below `root`.
        targets: one per file.
        splits: one per file, an index into `SPLITS` or -1; None if the table names none.
        groups: one per file; None if the table names none.
        chosen: indices of the files that are items, in order; None for all.
        found: path of each file below `root`, if it differs from the id; None if all are equal.
    """

    files: StringArray
    root: Path
    targets: NDArray[np.int32]
    splits: NDArray[np.int8] | None = None
    groups: StringArray | None = None
    chosen: NDArray[np.int64] | None = None
    found: StringArray | None = None

    def __len__(self) -> int:
        return len(self.targets if self.chosen is None else self.chosen)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        if isinstance(index, slice):
            return tuple(self._item(position) for position in range(*index.indices(len(self))))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(index)
        return self._item(position)

    def ids(self) -> Iterable[str]:
        """Return every item's id, without creating the items."""
        return self.files.picked(range(len(self)) if self.chosen is None else self.chosen.tolist())

    def select(self, split: str) -> Rows:
        """Return the items of one split."""
        here = self._of(self.splits) == SPLITS.index(split) if self.splits is not None else np.zeros(len(self), bool)
        return replace(self, chosen=np.flatnonzero(here) if self.chosen is None else self.chosen[here])

    def renumbered(self, targets: Sequence[int]) -> Rows:
        """Return the items with each target t replaced by `targets[t]`."""
        return replace(self, targets=np.array(targets, np.int32)[self.targets])

    def counts(self) -> tuple[dict[int, int], dict[str, int]]:
        """Return the number of items per target and per split."""
        targets = np.bincount(self._of(self.targets) + 1)[1:]  # -1: without a label
        splits = np.zeros(0, np.int8) if self.splits is None else self._of(self.splits)
        return dict(enumerate(targets.tolist())), {
            name: int(np.count_nonzero(splits == place)) for place, name in enumerate(SPLITS)
        }

    def _item(self, position: int) -> Item:
        row = position if self.chosen is None else int(self.chosen[position])
        name, split = self.files[row], -1 if self.splits is None else int(self.splits[row])
        return Item(
            id=name,
            location=FileLocation(self.root / (name if self.found is None else self.found[row])),
            target=int(self.targets[row]),
            split=None if split < 0 else SPLITS[split],
            group=None if self.groups is None else self.groups[row],
        )

    def _of(self, column: NDArray[Any]) -> NDArray[Any]:
        return column if self.chosen is None else column[self.chosen]


@dataclass(frozen=True)
class Dataset:
    """Items, ordered classes, their source, and the source's files that are not items.

    All later code is independent of the form of the data.

    Args:
        items: in order.
        classes: names; an item's target is an index into them.
        source: for messages.
        kind: the name of its `Kind`.
        form: a form of the kind with a recipe of its own, such as ``sound``.
        not_taken: files of the source that are not items, counted by folder and suffix.
        reading: how the data was interpreted, in one line; empty if unknown.

    >>> from restune.data.sources import open_dataset
    >>> dataset = open_dataset(photos)
    >>> len(dataset), dataset.classes, dataset.kind
    (20, ('blue', 'red'), 'image')
    """

    items: Sequence[Item]
    classes: tuple[str, ...]
    source: str
    kind: str = "image"
    form: str | None = None
    not_taken: tuple[NotTaken, ...] = ()
    reading: str = ""

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        noun = KINDS[self.kind].noun if self.kind in KINDS else "items"
        classes = f"{len(self.classes)} classes: {shorten(self.classes, 5)}" if self.classes else "no labels"
        splits = "".join(f", {name} {count:,}" for name, count in self.splits().items())
        return f"Dataset({self.source!r}, {len(self.items):,} {noun}{splits}, {classes})"

    def ids(self) -> Iterable[str]:
        """Return the items' ids, in order."""
        return self.items.ids() if isinstance(self.items, Rows) else (item.id for item in self.items)

    def splits(self) -> dict[str, int]:
        """Return the number of items per split; empty if the source defines none."""
        if isinstance(self.items, Rows):
            counts = Counter(self.items.counts()[1])
        else:
            counts = Counter(item.split for item in self.items if item.split)
        return {name: counts[name] for name in SPLITS if counts[name]}

    def select(self, split: str) -> Dataset:
        """Return only the items of one split. Raises UserError if there are none."""
        if isinstance(self.items, Rows):
            chosen: Sequence[Item] = self.items.select(split)
        else:
            chosen = tuple(item for item in self.items if item.split == split)
        if not chosen:
            have = ", ".join(f"{name} ({count:,} items)" for name, count in self.splits().items())
            raise UserError(
                f"there is no {split!r} split in this data",
                where=self.source,
                fix=f"name one of its splits with --split: {have}; --split all takes every item"
                if have
                else "leave --split out, or use --split all: none of the items is marked train, val or test",
            )
        return replace(self, items=chosen)

    def class_counts(self) -> dict[str, int]:
        """Return the number of items per class, in class order."""
        if isinstance(self.items, Rows):
            counts = Counter(self.items.counts()[0])
        else:
            counts = Counter(item.target for item in self.items)
        return {name: counts[index] for index, name in enumerate(self.classes)}

    def with_classes(self, classes: Iterable[str], *, allow_missing: bool = False) -> Dataset:
        """Return the items with targets as indices into `classes`, a model's class order.

        Raises UserError naming the classes that only the data or only `classes` has; with `allow_missing`, the data may
        lack some. Labels are matched by name (ignoring outer white space and Unicode form), so they never shift.
        """
        wanted = tuple(classes)
        index = {clean_name(name): position for position, name in enumerate(wanted)}
        index.update({name: position for position, name in enumerate(wanted)})
        extra = [name for name, count in self.class_counts().items() if count and name not in index]
        present = {index[name] for name, count in self.class_counts().items() if count and name in index}
        missing = [name for position, name in enumerate(wanted) if position not in present]
        if extra or (missing and not allow_missing):
            parts = []
            if extra:
                parts.append(f"the data has {_classes(extra)} that the model does not know")
            if missing:
                parts.append(f"the model has {_classes(missing)} with no items in the data")
            raise UserError(
                "the classes of the data and of the model differ: " + "; ".join(parts),
                where=self.source,
                fix="rename or remove the extra classes of the data"
                if extra
                else "add items of the missing classes, or pass --allow-missing to score the others",
            )
        return self.renumbered([index.get(name, -1) for name in self.classes], wanted)  # -1: a class without items

    def renumbered(self, places: Sequence[int], classes: tuple[str, ...]) -> Dataset:
        """Return the items with class index i replaced by `places[i]`, an index into `classes`."""
        if isinstance(self.items, Rows):
            items: Sequence[Item] = self.items.renumbered(places)
        else:
            items = tuple(replace(item, target=places[item.target]) for item in self.items)
        return replace(self, items=items, classes=classes)

    def fingerprint(self) -> str:
        """Return 16 hex digits over classes, ids, targets and content signatures, in order."""
        rows = ((item.id, item.target, item.location.signature()) for item in self.items)
        return fingerprint_of(self.kind, self.classes, rows)


def fingerprint_of(kind: str, classes: tuple[str, ...], rows: Iterable[tuple[str, int, str]]) -> str:
    """Compute a data set's `fingerprint` from each item's id, target and signature."""
    digest = hashlib.sha256(repr((kind, classes)).encode())
    for name, target, signature in rows:
        digest.update(f"{name}\0{target}\0{signature}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _classes(names: list[str]) -> str:
    noun = "the class" if len(names) == 1 else f"{len(names)} classes:"
    return f"{noun} {shorten(repr(name) for name in names)}"


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How to read DATA where detection is not enough.

    Args:
        kind: ``image``, ``signal``, ``text`` or ``video``, if the data is ambiguous; None detects it.
        path_column, text_column, label_column, group_column, split_column: names (or, without a header, numbers
            from 0) of a table's columns. Usual names are recognised.
        case_column, time_column: of a long table, one row per time step: the columns of the series id (several
            separated by commas) and of the time.
        header: False for a table without a header line.
        root: the folder a table's paths are relative to; by default the table's own folder.
        encoding: of a text file. None: UTF-8 for tables of paths, detected for texts.
        data_root: folder of torchvision's named data sets, also for downloads.
        labelled: False reads tables of texts and of series without labels, even if there are none: each item's
            target is -1, and there are no classes.
        left_out: columns of a table of series that are not values.

    >>> table = folder / "labels.csv"
    >>> _ = table.write_text("file,colour\\nred/0.png,red\\nblue/0.png,blue\\n")
    >>> options = restune.DataOptions(path_column="file", label_column="colour", root=photos)
    >>> restune.evaluate(run_folder, table, data_options=options).n
    2
    """

    kind: str | None = None
    path_column: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    case_column: str | None = None
    time_column: str | None = None
    header: bool = True
    root: Path | None = None
    encoding: str | None = None
    data_root: Path | None = None
    labelled: bool = True
    left_out: tuple[str, ...] = ()
