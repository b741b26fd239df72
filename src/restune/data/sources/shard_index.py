"""The index of a shard: its samples' keys, byte ranges and labels, read once and stored in the cache folder."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import warn, warn_once
from restune.core.errors import UserError
from restune.core.files import cache_folder, written_whole
from restune.data import not_taken
from restune.data.string_array import StringArray

CODE_VERSION = 1
"""Increased whenever the same shard would give another index."""


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The samples of a shard, in order.

    Args:
        keys: of the samples.
        offsets, sizes: byte ranges of their images in the plain tar.
        codes: each sample's index into `labels`.
        labels: in order of first appearance.
        left_out: by reason, the number of samples that cannot be used and the key of the first.
        skipped: number of files that are not read, by folder and suffix.
        remarks: what is odd about the shard, as warnings.
    """

    keys: StringArray
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    codes: NDArray[np.int32]
    labels: tuple[str, ...]
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict)
    skipped: dict[tuple[str, str], int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def report(self) -> None:
        """Print the remarks, and count the skipped files."""
        for remark in self.remarks:
            warn(remark)
        tally = not_taken.current()
        if tally is not None:
            tally.counts.update(self.skipped)


def stored_index(shard: Path, plain: Path) -> ShardIndex | None:
    """Return the stored index of a shard; None if there is none, it is damaged, or the shard has changed since.

    Args:
        shard: the file.
        plain: the uncompressed tar.
    """
    path = _path_of(shard)
    if path is None:
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return _read(file, plain.stat().st_size)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error):
        return None  # it is built and written again


def index_of(shard: Path, plain: Path, build: Callable[[], ShardIndex]) -> ShardIndex:
    """Return the index of a shard: stored, or else built and stored."""
    index = stored_index(shard, plain)
    if index is None:
        index = build()
        store_index(shard, index)
    return index


def store_index(shard: Path, index: ShardIndex) -> None:
    """Store the index of a shard; where that fails, warn once: shards are then read anew at each start."""
    path = _path_of(shard)
    if path is None:
        return
    about = {
        "labels": index.labels,
        "left_out": [[reason, *found] for reason, found in index.left_out.items()],
        "skipped": [[*place, count] for place, count in index.skipped.items()],
        "remarks": index.remarks,
    }
    columns: dict[str, Any] = {
        "keys": _bytes_of(json.dumps(list(index.keys))),
        "about": _bytes_of(json.dumps(about)),
        "offsets": index.offsets,
        "sizes": index.sizes,
        "codes": index.codes,
    }
    try:
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **columns)
    except (OSError, UserError) as error:
        warn_once(
            f"the index of shards cannot be stored ({error.__cause__ or error}): their headers are read at each start. "
            "To use another cache folder, set RESTUNE_CACHE",
            about="index of shards",
        )


def _read(file: Any, size: int) -> ShardIndex:
    """Raises ValueError, KeyError or TypeError for anything but an index of a tar of this size."""
    about = json.loads(file["about"].tobytes())
    keys, labels = StringArray(json.loads(file["keys"].tobytes())), tuple(map(str, about["labels"]))
    offsets, sizes, codes = (np.asarray(file[name]) for name in ("offsets", "sizes", "codes"))
    if not len(keys) == len(offsets) == len(sizes) == len(codes):
        raise ValueError("columns of different lengths")
    if len(keys) and (min(offsets.min(), sizes.min(), codes.min()) < 0 or (offsets + sizes).max() > size):
        raise ValueError("ranges outside the tar")
    if len(keys) and codes.max() >= len(labels):
        raise ValueError("an unknown label")
    return ShardIndex(
        keys=keys,
        offsets=offsets,
        sizes=sizes,
        codes=codes,
        labels=labels,
        left_out={reason: (int(count), str(first)) for reason, count, first in about["left_out"]},
        skipped={(folder, suffix): int(count) for folder, suffix, count in about["skipped"]},
        remarks=tuple(about["remarks"]),
    )


def _path_of(shard: Path) -> Path | None:
    """Return where the index is stored: named by path, size and time of change. None without a cache folder."""
    try:
        status = shard.stat()
        name = f"{CODE_VERSION}\0{shard.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return cache_folder() / "shards" / f"{key}.npz"
    except (OSError, UserError):
        return None


def _bytes_of(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)
