"""Atomic file writes, folder locks and the cache folder."""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from restune.core.errors import UserError


def user_path(text: str | Path) -> Path:
    """Expand ``~`` in a path that a user wrote. Raises UserError if there is no such home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError("there is no such home folder", where=str(text), fix="write the full path") from error


def is_there(path: Path) -> bool:
    """Return whether a path exists; False, not an error, for names that are too long and for circular links."""
    try:
        return path.exists()
    except OSError:
        return False


EMBEDDING_SUFFIXES = (".npz", ".csv", ".parquet")


def named_as(text: str | Path, suffixes: tuple[str, ...], what: str) -> Path:
    """Return the path of a file to write. Raises UserError unless it has one of the suffixes."""
    path = user_path(text)
    if path.suffix not in suffixes:
        raise UserError(
            f"{what} are saved as {', '.join(suffixes)}", where=str(path), fix=f"name it {path.stem}{suffixes[0]}"
        )
    return path


@contextmanager
def written_whole(destination: Path) -> Iterator[Path]:
    """Yield a temporary path beside `destination`; on success sync it and rename it to `destination`, else remove it.

    Readers therefore see the old file or the new one, never a partial one.
    """
    destination = Path(destination)
    temporary = destination.with_name(f".{destination.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
    except OSError as error:
        raise cannot_write(destination, error) from error
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)  # some writers replace the file by one that only its owner may read
        temporary.replace(destination)
        sync(destination.parent)
    except OSError as error:
        if error.errno is None:  # an error of a format, such as gzip's, raised by reading inside the block
            raise
        raise cannot_write(destination, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Lock the folder within this block: two processes that write one run would corrupt it.

    The system releases the lock of a killed process. Where the file system does not support locks, nothing is locked.
    Raises UserError if another process holds the lock.
    """
    busy = UserError(
        "another process is working in this folder",
        where=str(folder),
        fix="wait until it ends, or choose another folder with --out",
    )
    with _locked(folder / ".lock", busy):
        yield


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Lock a file that this process writes, as `sole_user` locks a folder. Raises UserError."""
    busy = UserError(
        "another process writes this file", where=str(path), fix="wait until it ends, or name another file with --out"
    )
    with _locked(path.with_name(f".{path.name}.lock"), busy):
        yield


@contextmanager
def _locked(place: Path, busy: UserError) -> Iterator[None]:
    """Hold the lock at `place` within this block; raise `busy` if another process does."""
    from filelock import FileLock, Timeout

    lock = FileLock(place)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise busy from None
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            place.unlink(missing_ok=True)


def write_bytes(destination: Path, content: bytes) -> None:
    """Write `content` to `destination` atomically."""
    with written_whole(destination) as temporary:
        temporary.write_bytes(content)


def cached_json(name: str) -> dict[str, Any]:
    """Return the object in a file of the cache folder; empty without the folder, the file, or an object in it."""
    try:
        content = json.loads((cache_folder() / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, UserError):
        return {}
    return content if isinstance(content, dict) else {}


def write_text(destination: Path, content: str) -> None:
    """Write UTF-8 text to `destination` atomically, with the same line endings on every platform."""
    write_bytes(destination, content.encode("utf-8"))


def cache_folder() -> Path:
    """Return ``$RESTUNE_CACHE``, read at each call, or the user's cache folder on this platform. May not exist yet.

    Raises UserError if ``RESTUNE_CACHE`` is not set and the user has no home folder.
    """
    named = os.environ.get("RESTUNE_CACHE")
    try:
        if named:
            return Path(named).expanduser()
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "restune"
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "restune"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "restune"
    except RuntimeError as error:  # neither HOME nor an entry of this user in the passwd file
        raise UserError(
            "no cache folder: the user has no home folder",
            where=f"RESTUNE_CACHE={named}" if named else "HOME is not set",
            fix="set RESTUNE_CACHE to a folder you may write to",
        ) from error


def can_write(folder: Path) -> bool:
    """Return whether files can be created in a folder, which is created if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cannot_write(destination: Path, error: Exception) -> UserError:
    """Return the error for a full disk, a read-only folder or an impossible path."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    fix = "free space or choose a folder you may write to"
    with suppress(UserError):
        if destination.is_relative_to(cache_folder()):
            fix = "free space, or set RESTUNE_CACHE to a folder you may write to"
    return UserError(f"cannot write {destination.name}: {reason}", where=str(destination.parent), fix=fix)


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk (fsync)."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder for syncing
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
