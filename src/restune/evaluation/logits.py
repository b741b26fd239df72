"""Buffers of logits and embeddings, in memory or in a temporary file by size; write an .npz, read it in place."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from restune.core.files import written_whole

_IN_MEMORY = 64 * 2**20
"""Maximum bytes of logits in memory."""
_CHUNK = 16 * 2**20
_MOST_EMBEDDINGS = 2**30
"""Maximum bytes of embeddings that an evaluation keeps."""


class LogitsBuffer:
    """Collects batches of float32 rows ``[N, C]`` in bounded memory.

    Args:
        classes: C, the number of classes.
    """

    def __init__(self, classes: int) -> None:
        self.classes, self._rows = classes, 0
        self._parts: list[NDArray[np.float32]] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def add(self, logits: Tensor) -> None:
        """Append rows."""
        part = logits.detach().float().cpu().numpy().copy()
        self._parts.append(part)
        self._rows += len(part)
        self._bytes += part.nbytes
        if self._bytes > _IN_MEMORY:
            self._flush()

    def rows(self) -> NDArray[np.float32]:
        """Return all rows so far ``[N, C]``, as a read-only memory map if they are many."""
        if self._file is None:
            empty = np.zeros((0, self.classes), np.float32)
            return np.concatenate([empty, *self._parts])
        self._flush()
        self._file.flush()
        return np.memmap(self._file, np.float32, mode="r", shape=(self._rows, self.classes))

    def _flush(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="restune-logits-")  # noqa: SIM115 (lives as long as this)
        for part in self._parts:
            self._file.write(np.ascontiguousarray(part).tobytes())
        self._parts, self._bytes = [], 0


class EmbeddingBuffer:
    """Collects batches of float32 embeddings ``[N, F]`` in bounded memory, up to 1 GiB of them."""

    def __init__(self) -> None:
        self._buffer: LogitsBuffer | None = None
        self._is_complete = True
        self._bytes = 0

    def add(self, embeddings: Tensor | None, items: int) -> None:
        """Append the embeddings of some items; None: the model has none."""
        if not items or not self._is_complete:
            return
        if embeddings is not None:
            self._bytes += 4 * embeddings.numel()
        if embeddings is None or self._bytes > _MOST_EMBEDDINGS:
            self._buffer, self._is_complete = None, False
            return
        if self._buffer is None:
            self._buffer = LogitsBuffer(embeddings.shape[1])
        self._buffer.add(embeddings)

    def rows(self) -> NDArray[np.float32] | None:
        """Return all rows so far ``[N, F]``; None where some are unknown, or they are too many."""
        return None if self._buffer is None else self._buffer.rows()


class Column:
    """A one-dimensional array that grows in few large steps.

    Many small arrays, allocated between large temporary ones, would fragment memory.
    """

    def __init__(self, dtype: type[np.generic]) -> None:
        self._values: NDArray[Any] = np.empty(1024, dtype)
        self._count = 0

    def add(self, values: Tensor) -> None:
        """Append values."""
        end = self._count + len(values)
        if end > len(self._values):
            grown = np.empty(max(end, 2 * len(self._values)), self._values.dtype)
            grown[: self._count] = self._values[: self._count]
            self._values = grown
        self._values[self._count : end] = values.cpu().numpy()
        self._count = end

    def values(self) -> NDArray[Any]:
        """Return all values so far."""
        return self._values[: self._count].copy()


def chunks(rows: NDArray[np.float32], most: int = _CHUNK) -> Iterator[NDArray[np.float32]]:
    """Yield parts of the rows of at most so many bytes, but at least one row each."""
    size = max(1, most // (4 * max(1, rows.shape[1])))
    for start in range(0, len(rows), size):
        yield np.asarray(rows[start : start + size])


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an uncompressed .npz without pickled objects, atomically and in bounded memory."""
    with written_whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_array(path: Path, name: str) -> NDArray[Any]:
    """Read an array of an .npz, uncompressed ones as a read-only memory map. Raises KeyError, OSError, ValueError."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{name}.npy")
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = read_header(member)
            header = member.tell()
            if dtype.hasobject:
                raise ValueError("arrays of Python objects are not supported")
            if info.compress_type != zipfile.ZIP_STORED or not np.prod(shape) or dtype.kind in "US":
                content = member.read(dtype.itemsize * int(np.prod(shape)))
                return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    offset = _content_offset(path, info) + header
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")


def _content_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Return the offset of a stored member's bytes, by the name and extra lengths in its local header."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return info.header_offset + 30 + name + extra
