"""Many short strings in one block of memory: ten million paths take their bytes, not a gigabyte of objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


class StringArray:
    """An append-only list of strings."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._blocks: list[NDArray[np.int64]] = []  # end offsets of the strings, one block per `extend`
        self._ends: NDArray[np.int64] = np.zeros(0, np.int64)

    def extend(self, texts: Any) -> None:
        """Add an Arrow array of type string without nulls."""
        offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4).astype(np.int64)
        begin, end = int(offsets[0]), int(offsets[-1])
        self._blocks.append(offsets[1:] - begin + len(self._content))
        content = texts.buffers()[2]
        if content is not None:
            self._content += memoryview(content)[begin:end]

    def __len__(self) -> int:
        return len(self._all_ends())

    def __getitem__(self, index: int) -> str:
        ends = self._all_ends()
        begin = int(ends[index - 1]) if index else 0
        return self._content[begin : int(ends[index])].decode()

    def picked(self, rows: Iterable[int]) -> Iterator[str]:
        """Yield the strings at some rows, in turn."""
        return (self[row] for row in rows)

    def _all_ends(self) -> NDArray[np.int64]:
        if self._blocks:
            self._ends = np.concatenate([self._ends, *self._blocks])
            self._blocks = []
        return self._ends
