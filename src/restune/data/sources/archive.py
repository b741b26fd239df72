"""A tar of class folders, read in place; a compressed one is unpacked once into the cache folder."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.files import cache_folder, written_whole
from restune.data.dataset import Dataset
from restune.data.sources.folder import from_named_files, is_hidden, is_image_name


@dataclass(frozen=True, slots=True)
class ArchiveLocation:
    """A file inside an uncompressed tar: these bytes of it."""

    archive: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError("the archive ends inside this file")
        return content

    def signature(self) -> str:
        return str(self.size)


def open_archive(path: Path) -> Dataset:
    """Items of a ``.tar``, ``.tar.gz`` or ``.tgz`` of class folders, with or without split folders above them."""
    plain = path if path.name.lower().endswith(".tar") else _unpacked(path)
    files = []
    try:
        with tarfile.open(plain, "r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if (
                    member.isfile()
                    and is_image_name(name.name)
                    and not any(is_hidden(p) for p in name.parts if p != ".")
                ):
                    files.append((name.as_posix(), ArchiveLocation(plain, member.offset_data, member.size)))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(
            f"this archive cannot be read: {error}", where=str(path), fix="make or download it again"
        ) from error
    files.sort(key=lambda file: file[0])
    return from_named_files(files, source=str(path))


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
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise UserError(
            f"this archive cannot be decompressed: {error}", where=str(path), fix="make or download it again"
        ) from error
    return plain


def _copy_within_disk(source: IO[bytes], destination: IO[bytes], path: Path) -> None:
    """Copy in chunks; stop while the disk still has room, whatever the archive claims to hold."""
    reserve = 256 * 2**20
    while chunk := source.read(8 * 2**20):
        if shutil.disk_usage(Path(destination.name).parent).free < reserve + len(chunk):
            raise UserError(
                "unpacking this archive would fill the disk",
                where=str(path),
                fix="free space, or set RESTUNE_CACHE to a larger disk",
            )
        destination.write(chunk)
