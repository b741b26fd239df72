"""Rows of numbers on disk under the hash of what they were made from: written whole, memory-mapped, shared.

A store is a folder of segments. A segment is one safetensors file, written aside and renamed, that holds some rows and
their keys; nothing is ever changed in place. So processes that share a store do no harm to each other: the worst is
that both compute a row. A segment that is cut or altered is noticed, removed with a warning, and computed again. Where
the folder cannot be written, or there is none, rows are held in memory for as long as the store's object lives.
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
    """What stands for some content, or for that of a file or folder: equal content, equal key. Raises OSError."""
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
    """Rows fit neither on the disk nor in memory."""


class RowStore:
    """One store of float32 rows of one shape.

    Args:
        folder: where it is; made when something is written. None keeps everything in memory.
        about: what its rows are, for people; written beside them.
        room: bytes that rows may take in memory.
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
        """Bytes of the rows that are in memory and not on disk."""
        return sum(part.nbytes for part in self.segments if not isinstance(part, np.memmap))

    def refresh(self) -> None:
        """Take up segments that were written since, by this process or another."""
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
                    f"the feature cache is damaged, and what is damaged is computed again: {path} ({_short(error)}). "
                    "RESTUNE_CACHE names another cache folder",
                    about=f"damage in {self.folder.parent}",
                )
                if not isinstance(error, OSError):  # which says nothing about the content
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
                continue
            self._take_up(keys, rows)

    def _unread(self) -> list[Path]:
        if self.folder is None:
            return []
        try:
            found = sorted(path for path in self.folder.glob("*.safetensors") if path.name not in self._read)
        except OSError:  # not even its names can be read
            return []
        with suppress(OSError):  # another's cache may be read, too
            os.utime(self.folder)  # when it was last used: what is pruned first
        return found

    def _take_up(self, keys: Sequence[bytes], rows: Floats) -> None:
        for row, key in enumerate(keys):
            self.places.setdefault(key, (len(self.segments), row))
        self.segments.append(rows)

    def add(self, keys: Sequence[bytes], rows: Floats) -> None:
        """Write rows as one segment; where that cannot be they are held in memory, with a warning.

        Raises StoreFullError where memory has no room for them either.
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
                fix="name a folder on a larger disk, that you may write to, with RESTUNE_CACHE",
            )
        self._take_up(keys, rows)

    def _write(self, keys: Sequence[bytes], rows: Floats) -> None:
        """Write rows as one segment and take it up, unless another process removes it at once."""
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
                f"memory, for this run only. RESTUNE_CACHE names another folder than {self.folder.parent}",
                about=f"writing in {self.folder.parent}",
            )
            return
        self._read.discard(f"{name}.safetensors")  # where a damaged one of that name could not be removed
        self.refresh()
        if any(key not in self.places for key in keys):
            self._warn_of_removal()

    def _warn_of_removal(self) -> None:
        assert self.folder is not None
        warn_once(
            "another process removes cached features while they are in use: they are computed again, or held in "
            f"memory. RESTUNE_CACHE names another cache folder than {self.folder.parent}",
            about=f"removal from {self.folder.parent}",
        )

    def rows(self, keys: Sequence[bytes]) -> StoredRows:
        """The rows of keys that are all there, in this order."""
        places = np.array([self.places[key] for key in keys], np.int64).reshape(-1, 2)
        return StoredRows(self.segments, places)


@dataclass(frozen=True)
class StoredRows:
    """Rows that stay on disk until they are asked for.

    Args:
        segments: memory-mapped ``[n, ...]``.
        places: ``[N, 2]``: segment and row of each.
    """

    segments: Sequence[Floats]
    places: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array's."""
        inner = self.segments[0].shape[1:] if self.segments else ()
        return (len(self.places), *inner)

    @property
    def nbytes(self) -> int:
        """As an array's."""
        return 4 * int(np.prod(self.shape))

    @classmethod
    def join(cls, parts: Sequence[StoredRows]) -> StoredRows:
        """The rows of several, one after the other."""
        segments: list[Floats] = []
        places = []
        for part in parts:
            places.append(part.places + np.array([len(segments), 0]))
            segments.extend(part.segments)
        return cls(segments, np.concatenate(places))

    def take(self, indices: NDArray[np.int64] | slice) -> Floats:
        """A copy of some rows."""
        places = self.places[indices]
        taken = np.empty((len(places), *self.shape[1:]), np.float32)
        for segment in np.unique(places[:, 0]):
            here = places[:, 0] == segment
            wanted = places[here, 1]
            first, last = int(wanted[0]), int(wanted[-1])
            if len(wanted) == last - first + 1 and bool((np.diff(wanted) == 1).all()):  # a run is copied in one go
                taken[here] = self.segments[segment][first : last + 1]
            else:
                taken[here] = self.segments[segment][wanted]
        return taken


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """A store as a person wants to see it.

    Args:
        folder: where it is.
        about: what its rows are.
        rows: how many.
        size: bytes on disk.
        used: seconds since it was last used.
    """

    folder: Path
    about: dict[str, Any]
    rows: int
    size: int
    used: float


def list_stores(parent: Path) -> list[StoreInfo]:
    """The stores below a folder, the one longest unused first."""
    found = []
    for folder in parent.iterdir() if parent.is_dir() else ():
        try:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            files = [path.stat() for path in folder.iterdir()]
            rows = sum(_count(path) for path in folder.glob("*.safetensors"))
            used = time.time() - folder.stat().st_mtime
        except (OSError, ValueError):
            continue
        found.append(
            StoreInfo(folder=folder, about=about, rows=rows, size=sum(stat.st_size for stat in files), used=used)
        )
    return sorted(found, key=lambda store: -store.used)


def remove_store(store: StoreInfo) -> bool:
    """Delete a store; whether that could be done. A process that uses it keeps what it has mapped."""
    shutil.rmtree(store.folder, ignore_errors=True)
    return not store.folder.exists()


def _open_segment(path: Path) -> tuple[list[bytes], Floats]:
    with safetensors.safe_open(path, framework="np") as file:  # refuses files that are shorter than they say
        expected = (file.metadata() or {})["sum"]
        packed = file.get_tensor("keys")
        shape = tuple(file.get_slice("rows").get_shape())
    rows = np.memmap(path, np.float32, "r", _offset(path), shape) if all(shape) else np.empty(shape, np.float32)
    if packed.shape != (len(rows), KEY_BYTES):
        raise ValueError("keys and rows do not pair")
    if _sum(packed, rows) != expected:
        raise ValueError("its checksum is not the one it was written with")
    return [row.tobytes() for row in packed], rows


def _offset(path: Path) -> int:
    """Where the rows begin: safetensors' format is a length, a header of JSON, and the tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    if header["rows"]["dtype"] != "F32":
        raise ValueError("rows are not float32")
    return 8 + length + int(header["rows"]["data_offsets"][0])


def _count(path: Path) -> int:
    """How many rows a segment has; 0 where it is damaged."""
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
