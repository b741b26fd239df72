"""Files in a tar, read in place; a compressed tar is unpacked once into the cache folder."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, warn
from restune.core.errors import UserError
from restune.core.files import cache_folder, written_whole
from restune.data import not_taken
from restune.data.dataset import MAX_BYTES, Dataset
from restune.data.sources.folder import from_names, is_image_name
from restune.data.sources.walk import is_hidden
from restune.data.string_array import StringArray

_MOST_EXPANSION = 200


@dataclass(frozen=True, slots=True)
class ArchiveLocation:
    """A file inside an uncompressed tar, as a byte range."""

    archive: Path
    offset: int
    size: int

    def read(self) -> bytes:
        if self.size > MAX_BYTES:
            raise ValueError(f"the file is larger than {MAX_BYTES // 2**20} MiB")
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError("the archive ends inside this file")
        return content

    def signature(self) -> str:
        return str(self.size)


def from_members(files: Iterable[tuple[str, ArchiveLocation]], path: Path) -> Dataset:
    """Open a tar of class folders, with or without split folders above them, from its `members`."""
    images = []
    for name, location in files:
        if is_image_name(name):
            images.append((name, location))
        else:
            not_taken.add_name(name)
    images.sort(key=lambda image: image[0])
    names = StringArray(name for name, _ in images)
    archives = tuple(dict.fromkeys(location.archive for _, location in images))
    places = ArchivePlaces(
        archives,
        np.array([archives.index(location.archive) for _, location in images], np.int32),
        np.array([location.offset for _, location in images], np.int64),
        np.array([location.size for _, location in images], np.int64),
    )
    return from_names(names, places, source=str(path))


@dataclass(frozen=True)
class ArchivePlaces:
    """Files inside uncompressed tars, by row.

    Args:
        archives: the tars.
        which: each file's index among them.
        offsets, sizes: its byte range.
    """

    archives: tuple[Path, ...]
    which: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __getitem__(self, row: int) -> ArchiveLocation:
        return ArchiveLocation(self.archives[self.which[row]], int(self.offsets[row]), int(self.sizes[row]))


def members(
    path: Path, wanted: Callable[[str], bool], tell: Callable[[str], None] = warn
) -> Iterator[tuple[str, ArchiveLocation]]:
    """List the name and byte range of each wanted, not hidden file of a ``.tar``, ``.tar.gz`` or ``.tgz``.

    Only headers are read and nothing is extracted, so a member's name can do no harm; names come without leading
    ``/`` and ``..``. Hard links are followed, other links and special files are counted and skipped. Raises
    UserError for an archive that cannot be read to its end.

    Args:
        tell: prints what is odd about the archive.
    """
    plain = plain_tar(path)
    try:
        yield from _members(plain, wanted, tell)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, RecursionError) as error:
        if plain != path:
            plain.unlink(missing_ok=True)
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"this archive cannot be read: {error}", where=str(path), fix="make or download it again")


def _members(
    plain: Path, wanted: Callable[[str], bool], tell: Callable[[str], None]
) -> Iterator[tuple[str, ArchiveLocation]]:
    linked: dict[str, list[str]] = {}
    left_out = 0
    for name, header in _headers(plain, tell):
        if header.isdir():
            continue
        if not wanted(name):
            not_taken.add_name(name)
        elif _is_plain(header):
            yield name, ArchiveLocation(plain, header.offset_data, header.size)
        elif header.islnk():
            linked.setdefault(_clean(header.linkname), []).append(name)
        else:
            left_out += 1
    if linked:  # a second pass: hard links are rare, so the first does not store every offset
        for name, header in _headers(plain, tell):
            if _is_plain(header):
                for alias in linked.pop(name, ()):
                    yield alias, ArchiveLocation(plain, header.offset_data, header.size)
    left_out += sum(map(len, linked.values()))
    if left_out:
        tell(f"{left_out} members of {plain.name} are links or special files and are left out")


def _is_plain(header: tarfile.TarInfo) -> bool:
    """Return whether a member's bytes are stored contiguously; those of a sparse file are not."""
    return header.isreg() and not header.issparse()


def _headers(plain: Path, tell: Callable[[str], None]) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yield cleaned names and headers in order; raises ValueError where the tar is damaged or truncated."""
    with tarfile.open(plain, "r:") as tar:
        end = 0
        while (header := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile stores every header that it has read
            if header.size < 0 or tar.offset <= end:  # would loop forever
                raise ValueError(f"the header at byte {header.offset} is damaged")
            end = tar.offset
            name = _clean(header.name)
            if name and not any(is_hidden(part) for part in name.split("/")):
                yield name, header
    with plain.open("rb") as file:
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0"):  # tarfile treats any invalid header as the end
        raise ValueError(f"the header at byte {end} is damaged or cut")
    if not block:
        tell(f"{plain.name} has no end mark: it may have been cut, and files may be missing")


def _clean(name: str) -> str:
    """Clean a member's name: no parts that lead out of the folder, only encodable text."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(parts).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def plain_tar(path: Path) -> Path:
    """Return the tar itself, or the unpacked copy of a compressed one. Raises UserError."""
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise _unreadable(path, error) from error
    return _unpacked(path) if compressed else path


def _unpacked(path: Path) -> Path:
    """Return the uncompressed copy in the cache folder: gzip has no random access."""
    status = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()[:16]
    plain = cache_folder() / "archives" / f"{path.name.split('.')[0]}-{key}.tar"
    if plain.exists():
        return plain
    note(f"unpacking {path.name} once, to {plain}")
    try:
        with (
            gzip.open(path) as source,
            written_whole(plain) as temporary,
            temporary.open("wb") as destination,
        ):
            _copy_within_disk(cast("IO[bytes]", source), destination, path)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"this archive cannot be decompressed: {error}", where=str(path), fix="make or download it again"
        ) from error
    return plain


def _copy_within_disk(source: IO[bytes], destination: IO[bytes], path: Path) -> None:
    """Copy in chunks; stop before the disk is full, whatever size the archive claims."""
    reserve = 256 * 2**20
    most = _MOST_EXPANSION * path.stat().st_size + 2**20
    written = 0
    while chunk := source.read(8 * 2**20):
        written += len(chunk)
        if written > most:
            raise UserError(
                f"this archive expands more than {_MOST_EXPANSION} times, which no archive of images does",
                where=str(path),
                fix="unpack it by hand if you trust it",
            )
        if shutil.disk_usage(Path(destination.name).parent).free < reserve + len(chunk):
            raise UserError(
                "unpacking this archive would fill the disk",
                where=str(path),
                fix="free space, or set RESTUNE_CACHE to a larger disk",
            )
        destination.write(chunk)
