"""Many short strings in one block of memory: ten million paths take their bytes, not a gigabyte of objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

_CHUNK = 4096


class StringArray(Sequence[str]):
    """An append-only list of strings. Lone surrogates, such as those of undecodable file names, are kept.

    Args:
        texts: the first strings.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._content = bytearray()
        self._offsets: NDArray[np.int64] = np.zeros(_CHUNK, np.int64)  # grows by half; begins with 0
        self._count = 0
        self.add(texts)

    def extend(self, texts: Any) -> None:
        """Add an Arrow array of type string without nulls."""
        offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4).astype(np.int64)
        begin, end = int(offsets[0]), int(offsets[-1])
        content = texts.buffers()[2]
        self._append(offsets[1:] - begin, b"" if content is None else memoryview(content)[begin:end])

    def add(self, texts: Iterable[str]) -> None:
        """Add strings."""
        rest = iter(texts)
        while part := [text.encode("utf-8", "surrogatepass") for text in islice(rest, _CHUNK)]:
            self._append(np.cumsum([len(text) for text in part], dtype=np.int64), b"".join(part))

    def _append(self, ends: NDArray[np.int64], content: bytes | memoryview) -> None:
        count = self._count + len(ends)
        if count >= len(self._offsets):
            grown = np.zeros(count + count // 2 + 1, np.int64)
            grown[: self._count + 1] = self._offsets[: self._count + 1]
            self._offsets = grown
        self._offsets[self._count + 1 : count + 1] = ends + len(self._content)
        self._content += content
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return list(self.picked(range(*index.indices(self._count))))
        row = index + self._count if index < 0 else index
        if not 0 <= row < self._count:
            raise IndexError(index)
        begin, end = self._offsets[row : row + 2].tolist()
        return self._content[begin:end].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, self._count, _CHUNK):
            offsets = self._offsets[begin : min(begin + _CHUNK, self._count) + 1].tolist()
            for start, end in pairwise(offsets):
                yield self._content[start:end].decode("utf-8", "surrogatepass")

    def picked(self, rows: Iterable[int]) -> Iterator[str]:
        """Yield the strings at some rows, in turn."""
        return (self[row] for row in rows)

    def numbered(self) -> NDArray[np.int32]:
        """Return the index of each string among the distinct ones, which are numbered by their first appearance."""
        import pyarrow as pa

        buffers = [None, pa.py_buffer(self._offsets[: self._count + 1]), pa.py_buffer(self._content)]
        array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), self._count, buffers)
        codes: NDArray[np.int32] = array.dictionary_encode().indices.to_numpy()
        return codes
