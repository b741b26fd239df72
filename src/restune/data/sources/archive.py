"""A tar of class folders, read in place; a compressed one is unpacked once into the cache folder."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from restune.core.console import note, warn
from restune.core.errors import UserError
from restune.core.files import cache_folder, written_whole
from restune.data.dataset import MAX_BYTES, Dataset, Location
from restune.data.sources.folder import from_named_files, is_hidden, is_image_name

_MOST_EXPANSION = 200


@dataclass(frozen=True, slots=True)
class ArchiveLocation:
    """A file inside an uncompressed tar: these bytes of it."""

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


def open_archive(path: Path) -> Dataset:
    """Items of a ``.tar``, ``.tar.gz`` or ``.tgz`` of class folders, with or without split folders above them.

    Nothing is extracted, so a member's name can do no harm; hard links are followed, other links are counted and
    left out. Raises UserError for an archive that cannot be read.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    plain = _unpacked(path) if compressed else path
    try:
        with tarfile.open(plain, "r:") as tar:
            files = _members(tar, plain)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if compressed:
            plain.unlink(missing_ok=True)
        raise UserError(
            f"this archive cannot be read: {error}", where=str(path), fix="make or download it again"
        ) from error
    files.sort(key=lambda file: file[0])
    return from_named_files(files, source=str(path))


def _members(tar: tarfile.TarFile, plain: Path) -> list[tuple[str, Location]]:
    places: dict[str, Location] = {}
    files: list[tuple[str, Location]] = []
    links = 0
    for member in tar:
        parts = [part for part in PurePosixPath(member.name).parts if part not in ("/", ".", "..")]
        if not parts or any(is_hidden(part) for part in parts) or not is_image_name(parts[-1]):
            continue
        if member.isfile():
            places[member.name] = ArchiveLocation(plain, member.offset_data, member.size)
        elif member.islnk() and member.linkname in places:
            places[member.name] = places[member.linkname]
        else:
            links += 1
            continue
        files.append(("/".join(parts), places[member.name]))
    if links:
        warn(f"{links} members of {plain.name} are links or special files and are left out")
    return files


def _unpacked(path: Path) -> Path:
    """The uncompressed tar in the cache folder: random access into gzip is not possible."""
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
    """Copy in chunks; stop while the disk still has room, whatever the archive claims to hold."""
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
