"""Rows, content hashes and samples of many items by their ids, in a few bytes for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restune.data.items import Item, ids_of

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 16 * 2**20
_PLACE_BITS = 40
_ALIGNED = 4096
"""Bytes from which samples begin at a multiple of a cache line."""


class RowsById:
    """The position of each item in a sequence, by its id: 12 bytes per item.

    Ids are compared by 64 bits of their hash; ids of the same hash are held in full.

    >>> from restune.data.sources import open_dataset
    >>> rows = RowsById(open_dataset(photos).items)
    >>> rows.row("blue/1.png"), rows.row("green/1.png")
    (1, -1)
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        hashes = np.fromiter(map(hash, ids_of(items)), np.int64, len(items))
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._order]
        same = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        alike = np.unique(self._order[np.union1d(same, same + 1)]) if len(same) else same
        self._alike = {items[row].id: row for row in alike.tolist()}

    def __len__(self) -> int:
        return len(self.items)

    def row(self, name: str) -> int:
        """Return the position of an id; -1 if it is not there."""
        key = hash(name)
        place = int(np.searchsorted(self._hashes, key))
        if place == len(self._hashes) or self._hashes[place] != key:
            return -1
        return self._alike[name] if name in self._alike else int(self._order[place])

    def rows(self, names: Iterable[str], count: int) -> NDArray[np.int64]:
        """Return the positions of `count` ids; -1 for those that are not there."""
        if self._alike:
            return np.fromiter(map(self.row, names), np.int64, count)
        keys = np.fromiter(map(hash, names), np.int64, count)
        if not len(self._hashes):
            return np.full(count, -1, np.int64)
        places = np.minimum(np.searchsorted(self._hashes, keys), len(self._hashes) - 1)
        return np.where(self._hashes[places] == keys, self._order[places], -1).astype(np.int64)


class Contents(Mapping[str, str]):
    """Content hashes by item id: 16 hex digits each, as of `preload.content_hash`.

    Args:
        rows: the positions of the ids.
    """

    def __init__(self, rows: RowsById) -> None:
        self.by_id = rows
        self.values_of_rows: NDArray[np.uint64] = np.zeros(len(rows), np.uint64)
        self.is_known: NDArray[np.bool_] = np.zeros(len(rows), bool)

    def put(self, row: int, content: str) -> None:
        """Set the hash of the item at a position."""
        self.values_of_rows[row], self.is_known[row] = int(content, 16), True

    def __getitem__(self, name: str) -> str:
        row = self.by_id.row(name)
        if row < 0 or not self.is_known[row]:
            raise KeyError(name)
        return f"{int(self.values_of_rows[row]):016x}"

    def __iter__(self) -> Iterator[str]:
        return (name for name, known in zip(ids_of(self.by_id.items), self.is_known, strict=True) if known)

    def __len__(self) -> int:
        return int(np.count_nonzero(self.is_known))

    def of(self, items: Sequence[Item]) -> HexDigits:
        """Return the hashes of some items, in order; empty where unknown."""
        rows = self.by_id.rows(ids_of(items), len(items))
        return HexDigits(self.values_of_rows[rows], self.is_known[rows] & (rows >= 0))


class HexDigits(Sequence[str]):
    """Texts of 16 hex digits, or empty ones.

    Args:
        values: the digits' values.
        is_known: False for an empty text.
    """

    def __init__(self, values: NDArray[np.uint64], is_known: NDArray[np.bool_]) -> None:
        self.values, self.is_known = values, is_known

    @classmethod
    def parsed(cls, texts: Sequence[str]) -> HexDigits:
        """Parse texts."""
        values = np.fromiter((int(text or "0", 16) for text in texts), np.uint64, len(texts))
        return cls(values, np.fromiter(map(bool, texts), bool, len(texts)))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        return f"{int(self.values[row]):016x}" if self.is_known[row] else ""


class Samples(Mapping[str, "Tensor"]):
    """Tensors by item id, in few large blocks of memory: a tensor of its own costs half a kilobyte besides its values.

    Args:
        rows: the positions of the ids.
    """

    def __init__(self, rows: RowsById) -> None:
        self.by_id = rows
        self.clear()

    def clear(self) -> None:
        """Drop all samples."""
        self._blocks: list[bytearray] = []
        self._kinds: dict[tuple[np.dtype[Any], tuple[int, ...]], int] = {}  # by dtype and shape
        self._listed: list[tuple[np.dtype[Any], tuple[int, ...]]] = []
        self._used = 0  # bytes of the last block
        self._count = 0
        self.nbytes = 0
        self._kind_of: NDArray[np.int32] = np.zeros(0, np.int32)
        self._place_of: NDArray[np.int64] = np.zeros(0, np.int64)  # block, and its first byte there

    def put(self, row: int, sample: Tensor) -> None:
        """Add the sample of the item at a position."""
        self.put_array(row, sample.contiguous().numpy())

    def put_array(self, row: int, sample: NDArray[Any]) -> None:
        """Add a contiguous array as the sample of the item at a position."""
        self._begin()
        code = self._kind(sample.dtype, sample.shape)
        size = sample.nbytes
        step = 64 if size >= _ALIGNED else 8
        start = -(-self._used // step) * step
        if not self._blocks or start + size > len(self._blocks[-1]):
            self._blocks.append(bytearray(max(_BLOCK, size)))
            start = 0
        self._blocks[-1][start : start + size] = sample.tobytes() if size < _ALIGNED else sample.data.cast("B")
        self._used = start + size
        self._kind_of[row] = code
        self._place_of[row] = ((len(self._blocks) - 1) << _PLACE_BITS) + start
        self._count += 1
        self.nbytes += size

    def _begin(self) -> None:
        if not len(self._kind_of):
            self._kind_of = np.full(len(self.by_id), -1, np.int32)
            self._place_of = np.zeros(len(self.by_id), np.int64)

    def _kind(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
        code = self._kinds.get((dtype, shape))
        if code is None:
            code = self._kinds[dtype, shape] = len(self._kinds)
            self._listed.append((dtype, shape))
        return code

    def array(self, row: int) -> NDArray[Any]:
        """Return the sample of the item at a position, which has one."""
        dtype, shape = self._listed[self._kind_of[row]]
        block, start = divmod(int(self._place_of[row]), 1 << _PLACE_BITS)
        return np.ndarray(shape, dtype, self._blocks[block], start)

    def tensor(self, row: int) -> Tensor:
        """Return the same as a tensor, without a copy."""
        import torch  # options are checked before torch is loaded, and sources import this module

        return torch.from_numpy(self.array(row))

    def rows(self) -> NDArray[np.int64]:
        """Return the positions of the items that have a sample."""
        return np.flatnonzero(self._kind_of >= 0)

    def free_before(self, row: int) -> None:
        """Drop the blocks of memory before that of the item at a position, and their samples."""
        block = int(self._place_of[row]) >> _PLACE_BITS
        for place in range(block - 1, -1, -1):
            if not self._blocks[place]:
                break
            self._blocks[place] = bytearray()

    def exported(
        self,
    ) -> tuple[list[list[Any]], NDArray[np.int64], NDArray[np.int32], NDArray[np.int64], list[bytearray]]:
        """Return everything for `imported`: dtypes and shapes, positions, the two columns of these, and blocks."""
        rows = self.rows()
        kinds = [[dtype.str, list(shape)] for dtype, shape in self._listed]
        blocks = [*self._blocks[:-1], self._blocks[-1][: self._used]] if self._blocks else []
        return kinds, rows, self._kind_of[rows], self._place_of[rows], blocks

    def imported(
        self,
        kinds: list[list[Any]],
        rows: NDArray[np.int64],
        codes: NDArray[np.int32],
        places: NDArray[np.int64],
        blocks: list[bytearray],
    ) -> None:
        """Add the samples of another process, from its `exported`."""
        self._begin()
        own = np.array([self._kind(np.dtype(dtype), tuple(shape)) for dtype, shape in kinds], np.int32)
        before = len(self._blocks)
        self._blocks = [*self._blocks, *blocks]
        self._used = len(self._blocks[-1]) if blocks else self._used
        if len(rows):
            self._kind_of[rows] = own[codes]
            self._place_of[rows] = places + (before << _PLACE_BITS)
        self._count += len(rows)
        self.nbytes += sum(map(len, blocks))

    def largest(self) -> Tensor:
        """Return the sample with the longest last dimension; the first one of images and clips."""
        used = np.unique(self._kind_of[self._kind_of >= 0])
        lengths = {int(kind): self._listed[kind][1][-1] if len(self._listed[kind][1]) < 3 else 0 for kind in used}
        longest = [kind for kind, length in lengths.items() if length == max(lengths.values())]
        return self.tensor(int(np.flatnonzero(np.isin(self._kind_of, longest))[0]))

    def holds(self, items: Sequence[Item]) -> bool:
        """Return whether all these items have samples."""
        if not self._count:
            return not items
        rows = self.by_id.rows(ids_of(items), len(items))
        return bool((rows >= 0).all()) and bool((self._kind_of[rows] >= 0).all())

    def __getitem__(self, name: str) -> Tensor:
        row = self.by_id.row(name) if self._count else -1
        if row < 0 or self._kind_of[row] < 0:
            raise KeyError(name)
        return self.tensor(row)

    def get(self, name: str, default: Any = None) -> Any:
        row = self.by_id.row(name) if self._count else -1
        return default if row < 0 or self._kind_of[row] < 0 else self.tensor(row)

    def __contains__(self, name: object) -> bool:
        return self.get(str(name)) is not None

    def __iter__(self) -> Iterator[str]:
        held = self._kind_of >= 0
        return (
            (name for name, is_held in zip(ids_of(self.by_id.items), held, strict=True) if is_held)
            if self
            else iter(())
        )

    def __len__(self) -> int:
        return self._count
