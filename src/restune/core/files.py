"""Files written whole or not at all, and the cache folder."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from restune.core.errors import UserError


def user_path(text: str | Path) -> Path:
    """A path as a person wrote it, with ``~`` expanded. Raises UserError for a home that is not there."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError("there is no such home folder", where=str(text), fix="write the whole path") from error


def is_there(path: Path) -> bool:
    """Whether something is at a path; False, not an error, for names too long and links that go in circles."""
    try:
        return path.exists()
    except OSError:
        return False


@contextmanager
def written_whole(destination: Path) -> Iterator[Path]:
    """Yield a temporary path beside `destination`; on success it is synced and renamed over it, else removed.

    A reader therefore sees the old file or the new one, never a part.
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
        temporary.chmod(mode)  # some writers make their own file, for the owner only
        temporary.replace(destination)
        sync(destination.parent)
    except OSError as error:
        if error.errno is None:  # a format's own error, such as gzip's, from what is being read inside the block
            raise
        raise cannot_write(destination, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Within this block no other process has the folder: two that write one run would ruin it. Raises UserError.

    The system frees the lock of a process that is killed. Where a file system knows no locks there is none.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            "another process is working in this folder",
            where=str(folder),
            fix="wait until it has ended, or name another folder with --out",
        ) from None
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            (folder / ".lock").unlink(missing_ok=True)


def write_bytes(destination: Path, content: bytes) -> None:
    """Write `content` to `destination` atomically."""
    with written_whole(destination) as temporary:
        temporary.write_bytes(content)


def write_text(destination: Path, content: str) -> None:
    """Write UTF-8 text to `destination` atomically, with the same line ends on every platform."""
    write_bytes(destination, content.encode("utf-8"))


def cache_folder() -> Path:
    """``$RESTUNE_CACHE``, read at each call, or the platform's cache folder for this user. May not exist yet.

    Raises UserError where the user has no home folder and ``RESTUNE_CACHE`` is not set.
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
            "there is no cache folder, since there is no such home folder",
            where=f"RESTUNE_CACHE={named}" if named else "HOME is not set",
            fix="name a folder you may write to with RESTUNE_CACHE",
        ) from error


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cannot_write(destination: Path, error: Exception) -> UserError:
    """The message for a full disk, a read-only folder or a path that cannot be."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    fix = "free space or choose a folder you may write to"
    with suppress(UserError):
        if destination.is_relative_to(cache_folder()):
            fix = "free space, or name a folder you may write to with RESTUNE_CACHE"
    return UserError(f"cannot write {destination.name}: {reason}", where=str(destination.parent), fix=fix)


def sync(path: Path) -> None:
    """Have the operating system put a file, or a folder's list of names, on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder for syncing
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
