"""Items, their locations, and rows: the compact form of millions of items."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from restune.core.files import is_there
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


class Places(Protocol):
    """Locations by row, created when they are asked for."""

    def __getitem__(self, row: int, /) -> Location: ...


@dataclass(frozen=True)
class FilePlaces:
    """Files by their paths below a folder."""

    root: Path
    names: StringArray

    def __getitem__(self, row: int) -> FileLocation:
        return FileLocation(self.root / self.names[row])


@dataclass(frozen=True)
class Numbers:
    """Ids that are consecutive numbers, such as those of a table's rows.

    >>> list(Numbers(start=9, count=2, digits=3))
    ['009', '010']
    """

    start: int
    count: int
    digits: int = 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> str:
        return f"{self.start + row:0{self.digits}d}"

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(self.count))


@dataclass(frozen=True, eq=False)
class Groups:
    """The rows' groups.

    Args:
        names: of the groups.
        codes: each row's index into `names`, -1 without a group; None: each row has the name at its own position.
    """

    names: Sequence[str]
    codes: NDArray[np.int32] | None = None

    def __getitem__(self, row: int) -> str | None:
        code = row if self.codes is None else int(self.codes[row])
        return None if code < 0 else self.names[code]

    def numbers(self) -> NDArray[np.int64]:
        """Return a number for each row, equal for rows of one group; -1 without a group."""
        names = self.names if isinstance(self.names, StringArray) else StringArray(self.names)
        numbers = names.numbered().astype(np.int64)
        return numbers if self.codes is None else np.where(self.codes < 0, -1, numbers[self.codes])


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Item]):
    """Items created on demand from columns, of which there may be many millions.

    Args:
        names: the items' ids, without prefix.
        places: their locations.
        targets: one per row.
        splits: one per row, an index into `SPLITS` or -1; None if the source names none.
        groups: of the rows; None if there are none.
        chosen: indices of the rows that are items, in order; None for all.
        prefix: put before each id.
        split: the split of every item; None: that of `splits`.
    """

    names: StringArray | Numbers
    places: Places
    targets: NDArray[np.int32]
    splits: NDArray[np.int8] | None = None
    groups: Groups | None = None
    chosen: NDArray[np.int32] | None = None
    prefix: str = ""
    split: str | None = None

    def __len__(self) -> int:
        return len(self.targets if self.chosen is None else self.chosen)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Item | Rows:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self)), dtype=np.int32))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(index)
        return self._item(position)

    def ids(self) -> Iterator[str]:
        """Yield every item's id, without creating the items."""
        names = iter(self.names) if self.chosen is None else (self.names[row] for row in self.chosen.tolist())
        return (self.prefix + name for name in names) if self.prefix else names

    def __iter__(self) -> Iterator[Item]:
        return map(self._item, range(len(self)))

    def location(self, position: int) -> Location:
        """Return the location of the item at a position."""
        return self.places[position if self.chosen is None else int(self.chosen[position])]

    def take(self, positions: NDArray[Any]) -> Rows:
        """Return the items at some positions, in this order."""
        positions = positions.astype(np.int32, copy=False)
        return replace(self, chosen=positions if self.chosen is None else self.chosen[positions])

    def column(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the items' values of a column of all rows."""
        return values if self.chosen is None else values[self.chosen]

    def renumbered(self, targets: Sequence[int]) -> Rows:
        """Return the items with each target t replaced by `targets[t]`; -1, no label, stays."""
        return replace(self, targets=np.where(self.targets < 0, -1, np.array(targets, np.int32)[self.targets]))

    def _item(self, position: int) -> Item:
        row = position if self.chosen is None else int(self.chosen[position])
        split = -1 if self.splits is None else int(self.splits[row])
        return Item(
            id=self.prefix + self.names[row],
            location=self.places[row],
            target=int(self.targets[row]),
            split=self.split or (None if split < 0 else SPLITS[split]),
            group=None if self.groups is None else self.groups[row],
        )


@dataclass(frozen=True, eq=False)
class Joined(Sequence[Item]):
    """Several sequences of items, one after the other."""

    parts: tuple[Sequence[Item], ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Joined: ...
    def __getitem__(self, index: int | slice) -> Item | Joined:
        if isinstance(index, slice):
            return Joined(tuple(self._between(*index.indices(len(self))[:2])))
        position = index + len(self) if index < 0 else index
        for part in self.parts:
            if position < len(part):
                return part[position]
            position -= len(part)
        raise IndexError(index)

    def _between(self, start: int, stop: int) -> Iterator[Sequence[Item]]:
        for part in self.parts:
            yield part[max(0, start) : max(0, stop)]
            start, stop = start - len(part), stop - len(part)


def ids_of(items: Sequence[Item]) -> Iterator[str]:
    """Yield the items' ids, in order, without creating items where that can be avoided."""
    if isinstance(items, Joined):
        for part in items.parts:
            yield from ids_of(part)
    else:
        yield from items.ids() if isinstance(items, Rows) else (item.id for item in items)


def location_at(items: Sequence[Item], position: int) -> Location:
    """Return the location of one of the items, without creating the item where that can be avoided."""
    return items.location(position) if isinstance(items, Rows) else items[position].location


def locations_of(items: Sequence[Item]) -> Iterator[Location]:
    """Yield the items' locations, in order, without creating items where that can be avoided."""
    if isinstance(items, Rows):
        return map(items.location, range(len(items)))
    return (item.location for item in items)


class Ids(Sequence[str]):
    """The ids of some items, without the items.

    Args:
        items: the items.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return list(ids_of(self._items[index])) if isinstance(index, slice) else self._items[index].id

    def __iter__(self) -> Iterator[str]:
        return ids_of(self._items)


def targets_of(items: Sequence[Item]) -> NDArray[np.int32]:
    """Return the items' targets, in order."""
    if isinstance(items, Rows):
        return items.column(items.targets)
    return np.fromiter((item.target for item in items), np.int32, len(items))


def splits_of(items: Sequence[Item]) -> NDArray[np.int8]:
    """Return the items' splits, in order: indices into `SPLITS`, -1 where the source names none."""
    if isinstance(items, Rows):
        if items.split is not None:
            return np.full(len(items), SPLITS.index(items.split), np.int8)
        return np.full(len(items), -1, np.int8) if items.splits is None else items.column(items.splits)
    codes = {name: code for code, name in enumerate(SPLITS)}
    return np.fromiter((codes.get(item.split or "", -1) for item in items), np.int8, len(items))


@dataclass(frozen=True)
class GroupNumbers:
    """Groups of items as numbers.

    Args:
        numbers: equal for items of one group; an item without a group has a number of its own.
        is_grouped: whether the item has a group.
    """

    numbers: NDArray[np.int64]
    is_grouped: NDArray[np.bool_]


def groups_of(items: Sequence[Item]) -> GroupNumbers | None:
    """Return the items' groups, in order; None if no item has one."""
    if isinstance(items, Rows):
        if items.groups is None:
            return None
        codes = items.column(items.groups.numbers())
    else:
        known: dict[str, int] = {}
        numbers = (-1 if item.group is None else known.setdefault(item.group, len(known)) for item in items)
        codes = np.fromiter(numbers, np.int64, len(items))
    is_grouped = codes >= 0
    if not is_grouped.any():
        return None
    alone = np.cumsum(~is_grouped) + codes.max()
    return GroupNumbers(np.where(is_grouped, codes, alone), is_grouped)


def taken(items: Sequence[Item], positions: NDArray[Any]) -> Sequence[Item]:
    """Return the items at some positions, in this order."""
    if isinstance(items, Rows):
        return items.take(positions)
    return tuple(items[position] for position in positions.tolist())
