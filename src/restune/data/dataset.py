"""What every source makes: a list of items, the classes in order, and a fingerprint."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError, shorten
from restune.core.files import is_there
from restune.data.class_names import clean_name
from restune.data.not_taken import NotTaken
from restune.data.string_array import StringArray

SPLITS = ("train", "val", "test")
MAX_BYTES = 256 * 2**20
"""The largest file that is read as one item."""


class Location(Protocol):
    """Where an item's content is. Small, picklable and readable from any thread or process."""

    def read(self) -> Any:
        """What the kind of data says: an image's or a sound's encoded file, an array (of an image ``[H, W]`` or
        ``[H, W, C]``, of a series ``[L]`` or ``[C, L]``), a text, or a video's path. Raises OSError or ValueError."""
        ...

    def signature(self) -> str:
        """A cheap text that changes when the content does (a size, a checksum of the container)."""
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

    array: NDArray[Any]
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
        location: where its content is.
        target: index into the data set's classes.
        split: ``train``, ``val`` or ``test`` where the source says so.
        group: items of one group (a patient, a scene) belong on the same side of a split.
    """

    id: str
    location: Location
    target: int
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Item]):
    """Items of files that are made when they are asked for: a table's rows, of which there may be millions.

    Args:
        files: the items' ids, which are their paths below `root`.
        targets: of each file.
        splits: of each file, a place in `SPLITS`, or -1; None where the table names none.
        groups: of each file; None where the table names none.
        chosen: which files are items, in order; None for all.
        found: where each file is below `root`, in another place than its id says; None where none is.
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
        """Every item's id, without the items."""
        return self.files.picked(range(len(self)) if self.chosen is None else self.chosen.tolist())

    def select(self, split: str) -> Rows:
        """The items of one split."""
        here = self._of(self.splits) == SPLITS.index(split) if self.splits is not None else np.zeros(len(self), bool)
        return replace(self, chosen=np.flatnonzero(here) if self.chosen is None else self.chosen[here])

    def renumbered(self, targets: Sequence[int]) -> Rows:
        """The same items, each target replaced by what stands at its place in `targets`."""
        return replace(self, targets=np.array(targets, np.int32)[self.targets])

    def counts(self) -> tuple[dict[int, int], dict[str, int]]:
        """How many items each target has, and how many each split."""
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
    """Items, the classes in order, where they came from, and the files there that are not items.

    Nothing after this depends on the form of the data.

    Args:
        items: in order.
        classes: names; an item's target is an index into them.
        source: for messages.
        kind: the name of its `Kind`.
        form: a form of the kind with a recipe of its own, such as ``sound``.
        not_taken: files of the source that are not items, counted by folder and suffix.
        reading: what was taken for what, in one line; empty where nothing says it.

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

    def ids(self) -> Iterable[str]:
        """The items' ids, in order."""
        return self.items.ids() if isinstance(self.items, Rows) else (item.id for item in self.items)

    def splits(self) -> dict[str, int]:
        """How many items each named split has; empty when the source names none."""
        if isinstance(self.items, Rows):
            counts = Counter(self.items.counts()[1])
        else:
            counts = Counter(item.split for item in self.items if item.split)
        return {name: counts[name] for name in SPLITS if counts[name]}

    def select(self, split: str) -> Dataset:
        """Only the items of one split. Raises UserError when there are none."""
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
        """Items per class, in class order."""
        if isinstance(self.items, Rows):
            counts = Counter(self.items.counts()[0])
        else:
            counts = Counter(item.target for item in self.items)
        return {name: counts[index] for index, name in enumerate(self.classes)}

    def with_classes(self, classes: Iterable[str], *, allow_missing: bool = False) -> Dataset:
        """The same items with targets numbered by `classes`, a model's own order.

        Raises UserError naming every class that only one side has, unless `allow_missing` and it is the data
        that lacks it. Labels are matched by name, so they never shift; a name that `classes` holds uncleaned (with
        white space around it, in another Unicode form) is the same name.
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
        """The same items; the class at each place becomes the one of `classes` that `places` says."""
        if isinstance(self.items, Rows):
            items: Sequence[Item] = self.items.renumbered(places)
        else:
            items = tuple(replace(item, target=places[item.target]) for item in self.items)
        return replace(self, items=items, classes=classes)

    def fingerprint(self) -> str:
        """16 hex digits over classes, ids, targets and content signatures, in order."""
        rows = ((item.id, item.target, item.location.signature()) for item in self.items)
        return fingerprint_of(self.kind, self.classes, rows)


def fingerprint_of(kind: str, classes: tuple[str, ...], rows: Iterable[tuple[str, int, str]]) -> str:
    """A data set's `fingerprint`, from each item's id, target and signature."""
    digest = hashlib.sha256(repr((kind, classes)).encode())
    for name, target, signature in rows:
        digest.update(f"{name}\0{target}\0{signature}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _classes(names: list[str]) -> str:
    noun = "the class" if len(names) == 1 else f"{len(names)} classes:"
    return f"{noun} {shorten(repr(name) for name in names)}"


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How to read DATA where it does not say so itself.

    Args:
        kind: ``image``, ``signal``, ``text`` or ``video``, where the data leaves doubt; None recognises it.
        path_column, text_column, label_column, group_column, split_column: names (or, without a header, numbers
            from 0) of a table's columns. Sensible names are recognised.
        case_column, time_column: of a long table, one row per time step: which series a row belongs to (several
            columns with commas), and when it was measured.
        header: False for a table whose first line is already an item.
        root: the folder a table's paths are relative to; by default the table's own folder.
        encoding: of a text file. None: UTF-8 for tables of paths, found from the bytes for texts.
        data_root: where torchvision's named sets are, or go.
        labelled: False reads tables of texts and of series without their labels, which need not be there: each item's
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
