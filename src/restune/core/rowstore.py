"""Rows of float32 values on disk, keyed by the hash of their source: written atomically, memory-mapped, shared.

A store is a folder of segments. A segment is one safetensors file that holds some rows and their keys; it is written
under a temporary name, renamed, and never changed. Processes can therefore share a store: at worst, two compute the
same row. A truncated or altered segment is detected and deleted with a warning, and its rows are computed again. If the
folder is missing or cannot be written, rows are held in memory for the lifetime of the store's object.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save_file

from restune.core.console import warn_once
from restune.core.errors import UserError
from restune.core.files import write_text, written_whole

KEY_BYTES = 16
_PART = 2**20
Floats = NDArray[np.float32]


def content_key(content: bytes | str | Path | NDArray[Any]) -> bytes:
    """Hash some content, or the content of a file or folder: equal content, equal key. Raises OSError."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    if isinstance(content, np.ndarray):
        digest.update(f"{content.dtype.str} {content.shape}".encode())
        content = np.ascontiguousarray(content).tobytes()
    if isinstance(content, Path):
        for file in sorted(content.iterdir()) if content.is_dir() else [content]:
            if content.is_dir():
                digest.update(f"{file.name}\0".encode("utf-8", "surrogateescape"))
            with file.open("rb") as opened:
                while part := opened.read(_PART):
                    digest.update(part)
    else:
        digest.update(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return digest.digest()


class StoreFullError(UserError):
    """The rows fit neither on the disk nor in memory."""


class RowStore:
    """A store of float32 rows of one shape.

    Args:
        folder: the store's folder; created by the first write. None: hold all rows in memory.
        about: description of the rows for people; written beside them.
        room: maximum number of bytes of rows in memory.
    """

    def __init__(self, folder: Path | None, about: dict[str, Any], *, room: float = math.inf) -> None:
        self.folder, self.about, self.room = folder, about, room
        self.segments: list[Floats] = []
        self.places: dict[bytes, tuple[int, int]] = {}
        self._read: set[str] = set()
        self._writes = folder is not None
        self.refresh()

    @property
    def held(self) -> int:
        """Number of bytes of the rows that are in memory and not on disk."""
        return sum(part.nbytes for part in self.segments if not isinstance(part, np.memmap))

    def refresh(self) -> None:
        """Open segments written since the last refresh, by this process or another."""
        for path in self._unread():
            assert self.folder is not None
            self._read.add(path.name)
            try:
                keys, rows = _open_segment(path)
                if self.segments and rows.shape[1:] != self.segments[0].shape[1:]:
                    raise ValueError("its rows have another shape")
            except FileNotFoundError:
                self._warn_of_removal()
                continue
            except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
                warn_once(
                    f"damaged feature-cache file; its rows are computed again: {path} ({_short(error)}). "
                    "To use another cache folder, set RESTUNE_CACHE",
                    about=f"damage in {self.folder.parent}",
                )
                if not isinstance(error, OSError):  # an OSError does not mean that the content is damaged
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
                continue
            self._take_up(keys, rows)

    def _unread(self) -> list[Path]:
        if self.folder is None:
            return []
        try:
            paths = sorted(path for path in self.folder.glob("*.safetensors") if path.name not in self._read)
        except OSError:  # the folder cannot be listed
            return []
        with suppress(OSError):  # the cache may belong to another user
            os.utime(self.folder)  # time of last use: pruning starts with the oldest
        return paths

    def _take_up(self, keys: Sequence[bytes], rows: Floats) -> None:
        for row, key in enumerate(keys):
            self.places.setdefault(key, (len(self.segments), row))
        self.segments.append(rows)

    def add(self, keys: Sequence[bytes], rows: Floats) -> None:
        """Write rows as one segment; if that fails, hold them in memory, with a warning.

        Raises StoreFullError if they do not fit in memory either.
        """
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        if self._writes:
            self._write(keys, rows)
        if all(key in self.places for key in keys):
            return
        if self.held + rows.nbytes > self.room:
            raise StoreFullError(
                "cached features fit neither on the disk nor in memory",
                where="memory" if self.folder is None else str(self.folder.parent),
                fix="set RESTUNE_CACHE to a folder on a larger disk that you may write to",
            )
        self._take_up(keys, rows)

    def _write(self, keys: Sequence[bytes], rows: Floats) -> None:
        """Write rows as one segment and open it, unless another process removes it at once."""
        assert self.folder is not None
        packed = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), KEY_BYTES)
        name = hashlib.blake2b(packed.tobytes(), digest_size=12).hexdigest()
        try:
            if not (self.folder / "about.json").exists():
                write_text(self.folder / "about.json", json.dumps(self.about, sort_keys=True, indent=1) + "\n")
            with written_whole(self.folder / f"{name}.safetensors") as temporary:
                save_file({"keys": packed, "rows": rows}, temporary, metadata={"sum": _sum(packed, rows)})
        except (OSError, UserError, safetensors.SafetensorError) as error:
            self._writes = False
            warn_once(
                f"the feature cache cannot be written ({_short(error.__cause__ or error)}): features are held in "
                f"memory, for this run only. To use another folder than {self.folder.parent}, set RESTUNE_CACHE",
                about=f"writing in {self.folder.parent}",
            )
            return
        self._read.discard(f"{name}.safetensors")  # a damaged file of that name may not have been removable
        self.refresh()
        if any(key not in self.places for key in keys):
            self._warn_of_removal()

    def _warn_of_removal(self) -> None:
        assert self.folder is not None
        warn_once(
            "another process removed cached features while they were in use: they are computed again, or held in "
            f"memory. To use another cache folder than {self.folder.parent}, set RESTUNE_CACHE",
            about=f"removal from {self.folder.parent}",
        )

    def rows(self, keys: Sequence[bytes]) -> StoredRows:
        """Return the rows of `keys`, in this order. Every key must be in the store."""
        places = np.array([self.places[key] for key in keys], np.int64).reshape(-1, 2)
        return StoredRows(self.segments, places)


@dataclass(frozen=True)
class StoredRows:
    """Rows that stay on disk until `take` reads them.

    Args:
        segments: memory-mapped ``[n, ...]``.
        places: ``[N, 2]``: each row's segment and its position there.
    """

    segments: Sequence[Floats]
    places: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, like an array's."""
        inner = self.segments[0].shape[1:] if self.segments else ()
        return (len(self.places), *inner)

    @property
    def nbytes(self) -> int:
        """Size in bytes, like an array's."""
        return 4 * int(np.prod(self.shape))

    @classmethod
    def join(cls, parts: Sequence[StoredRows]) -> StoredRows:
        """Concatenate the rows of several parts."""
        segments: list[Floats] = []
        places = []
        for part in parts:
            places.append(part.places + np.array([len(segments), 0]))
            segments.extend(part.segments)
        return cls(segments, np.concatenate(places))

    def take(self, indices: NDArray[np.int64] | slice) -> Floats:
        """Return a copy of the selected rows."""
        places = self.places[indices]
        taken = np.empty((len(places), *self.shape[1:]), np.float32)
        for segment in np.unique(places[:, 0]):
            here = places[:, 0] == segment
            wanted = places[here, 1]
            first, last = int(wanted[0]), int(wanted[-1])
            if len(wanted) == last - first + 1 and bool((np.diff(wanted) == 1).all()):  # consecutive: one copy
                taken[here] = self.segments[segment][first : last + 1]
            else:
                taken[here] = self.segments[segment][wanted]
        return taken


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """A store as listed for people.

    Args:
        folder: the store's folder.
        about: description of its rows.
        rows: number of rows.
        size: bytes on disk.
        used: seconds since its last use.
    """

    folder: Path
    about: dict[str, Any]
    rows: int
    size: int
    used: float


def list_stores(parent: Path) -> list[StoreInfo]:
    """List the stores below a folder, least recently used first."""
    infos = []
    for folder in parent.iterdir() if parent.is_dir() else ():
        try:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            files = [path.stat() for path in folder.iterdir()]
            rows = sum(_count(path) for path in folder.glob("*.safetensors"))
            used = time.time() - folder.stat().st_mtime
        except (OSError, ValueError):
            continue
        infos.append(
            StoreInfo(folder=folder, about=about, rows=rows, size=sum(stat.st_size for stat in files), used=used)
        )
    return sorted(infos, key=lambda store: -store.used)


def remove_store(store: StoreInfo) -> bool:
    """Delete a store; return whether it is gone. A process that uses it keeps its mapped rows."""
    shutil.rmtree(store.folder, ignore_errors=True)
    return not store.folder.exists()


def _open_segment(path: Path) -> tuple[list[bytes], Floats]:
    with safetensors.safe_open(path, framework="np") as file:  # rejects files shorter than their header says
        expected = (file.metadata() or {})["sum"]
        packed = file.get_tensor("keys")
        shape = tuple(file.get_slice("rows").get_shape())
    rows = np.memmap(path, np.float32, "r", _offset(path), shape) if all(shape) else np.empty(shape, np.float32)
    if packed.shape != (len(rows), KEY_BYTES):
        raise ValueError("the number of keys is not the number of rows")
    if _sum(packed, rows) != expected:
        raise ValueError("wrong checksum")
    return [row.tobytes() for row in packed], rows


def _offset(path: Path) -> int:
    """Return the file offset of the rows: a safetensors file is a length, a JSON header, and the tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    if header["rows"]["dtype"] != "F32":
        raise ValueError("rows are not float32")
    return 8 + length + int(header["rows"]["data_offsets"][0])


def _count(path: Path) -> int:
    """Return the number of rows of a segment; 0 if it is damaged."""
    try:
        return _count_rows(path)
    except (safetensors.SafetensorError, FileNotFoundError):
        return 0


def _count_rows(path: Path) -> int:
    with safetensors.safe_open(path, framework="np") as file:
        return int(file.get_slice("keys").get_shape()[0])


def _sum(keys: NDArray[np.uint8], rows: Floats) -> str:
    digest = hashlib.blake2b(np.ascontiguousarray(keys).tobytes(), digest_size=KEY_BYTES)
    digest.update(np.ascontiguousarray(rows).data if rows.size else b"")
    return digest.hexdigest()


def _short(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
