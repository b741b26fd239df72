"""What every source makes: a list of items, the classes in order, and a fingerprint."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError, shorten
from restune.core.files import is_there

SPLITS = ("train", "val", "test")
MAX_BYTES = 512 * 2**20
"""The largest file that is read as one item."""


class Location(Protocol):
    """Where an item's content is. Small, picklable and readable from any thread or process."""

    def read(self) -> bytes | NDArray[Any]:
        """The encoded file, or a decoded array ``[H, W]`` or ``[H, W, C]``. Raises OSError or ValueError."""
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


@dataclass(frozen=True)
class Dataset:
    """Items, the classes in order, and where they came from. Nothing after this knows what a CSV was."""

    items: tuple[Item, ...]
    classes: tuple[str, ...]
    source: str
    kind: str = "image"

    def __len__(self) -> int:
        return len(self.items)

    def splits(self) -> dict[str, int]:
        """How many items each named split has; empty when the source names none."""
        counts = Counter(item.split for item in self.items if item.split)
        return {name: counts[name] for name in SPLITS if counts[name]}

    def select(self, split: str) -> Dataset:
        """Only the items of one split. Raises UserError when there are none."""
        chosen = tuple(item for item in self.items if item.split == split)
        if not chosen:
            have = ", ".join(f"{name} ({count})" for name, count in self.splits().items()) or "no named splits"
            raise UserError(
                f"there is no {split!r} split in this data",
                where=self.source,
                fix=f"it has {have}; name one with --split, or use --split all",
            )
        return replace(self, items=chosen)

    def class_counts(self) -> dict[str, int]:
        """Items per class, in class order."""
        counts = Counter(item.target for item in self.items)
        return {name: counts[index] for index, name in enumerate(self.classes)}

    def with_classes(self, classes: Iterable[str], *, allow_missing: bool = False) -> Dataset:
        """The same items with targets numbered by `classes`, a model's own order.

        Raises UserError naming every class that only one side has, unless `allow_missing` and it is the data
        that lacks it. Labels are matched by name, so they never shift.
        """
        wanted = tuple(classes)
        index = {name: position for position, name in enumerate(wanted)}
        extra = [name for name, count in self.class_counts().items() if count and name not in index]
        present = {name for name, count in self.class_counts().items() if count}
        missing = [name for name in wanted if name not in present]
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
        items = tuple(replace(item, target=index[self.classes[item.target]]) for item in self.items)
        return replace(self, items=items, classes=wanted)

    def fingerprint(self) -> str:
        """16 hex digits over classes, ids, targets and content signatures, in order."""
        digest = hashlib.sha256(repr((self.kind, self.classes)).encode())
        for item in self.items:
            line = f"{item.id}\0{item.target}\0{item.location.signature()}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def _classes(names: list[str]) -> str:
    noun = "the class" if len(names) == 1 else f"{len(names)} classes:"
    return f"{noun} {shorten(repr(name) for name in names)}"


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How to read DATA where it does not say so itself.

    Args:
        path_column, label_column, group_column, split_column: names (or, without a header, numbers from 0) of
            a table's columns. Sensible names are recognised.
        header: False for a table whose first line is already an item.
        root: the folder a table's paths are relative to; by default the table's own folder.
        encoding: of a text table; UTF-8 by default.
        data_root: where torchvision's named sets are, or go.
    """

    path_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    header: bool = True
    root: Path | None = None
    encoding: str = "utf-8"
    data_root: Path | None = None
