"""A file that grows by whole batches of rows, and that goes on where it was after a kill at any moment.

Beside the file lies a small record, written atomically, of how much of the file is finished. What a killed process
appended after its last record is cut off by the next one and written again.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from restune.core.errors import UserError, shorten
from restune.core.files import cannot_write, sole_writer, write_text

SAVE_SECONDS = 1.0
"""Time between two records: at most this much work is done again."""
_FORMAT = 1
_PART = 2**20
ANEW = "delete it to start anew, or name another file"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How far a file has got.

    Args:
        settings: what the rows depend on.
        rows: number of rows that are finished.
        failed: of these, the inputs that could not be read.
        listed: number of inputs up to the last finished row; with several processes, also those of the others.
        inputs: hash of these inputs.
        size: bytes of the file that are finished.
        content: hash of these bytes.
        complete: whether there are no more inputs.
    """

    settings: Mapping[str, Any]
    rows: int = 0
    failed: int = 0
    listed: int = 0
    inputs: str = ""
    size: int = 0
    content: str = ""
    complete: bool = False

    def write(self, path: Path) -> None:
        """Write the record atomically. Raises UserError if that is not possible."""
        write_text(path, json.dumps({"restune_rows": _FORMAT, **asdict(self)}, ensure_ascii=False, indent=1) + "\n")

    def reject_other(self, settings: Mapping[str, Any], out: Path) -> None:
        """Raise UserError if the rows depend on other settings than these."""
        names = [*settings, *(name for name in self.settings if name not in settings)]
        changed = [name for name in names if self.settings.get(name) != settings.get(name)]
        if changed:
            shown = [_change(name, self.settings.get(name), settings.get(name)) for name in changed]
            raise UserError(
                f"this file was begun with other settings: {shorten(shown)}",
                where=str(out),
                fix=f"give the settings that it was begun with; {ANEW}",
            )


def _change(name: str, before: Any, now: Any) -> str:
    """Name a setting with its values, those of options only: a hash tells nobody anything."""
    return f"{name} {before} -> {now}" if name.startswith("--") else name


def record_of(path: Path) -> Path:
    """Return the path of the record beside a file."""
    return path.with_name(f"{path.name}.restune.json")


def recorded_at(path: Path) -> float:
    """Return when the record beside a file was written, in seconds since 1970; infinity without one."""
    try:
        return record_of(path).stat().st_mtime
    except OSError:
        return math.inf


def read_record(path: Path) -> Finished | None:
    """Read a record; None if there is none. Raises UserError for a file that is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("restune_rows") != _FORMAT:
            raise ValueError(_FORMAT)
        return Finished(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError("this record of a file's rows cannot be read", where=str(path), fix=ANEW) from error


@dataclass
class RowLog:
    """A file that is open for appending; see `open_log`."""

    path: Path
    finished: Finished
    file: BinaryIO = field(repr=False)
    digest: Any = field(repr=False)
    saved: float = field(default_factory=time.monotonic)

    def append(self, content: bytes, **progress: Any) -> None:
        """Append rows that end at a batch's end, and record them if the last record is old enough.

        Args:
            progress: fields of `Finished` that changed.

        Raises UserError if the disk is full.
        """
        left = memoryview(content)
        try:
            while left:
                left = left[self.file.write(left) :]  # of a disk that is nearly full, it writes a part
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.digest.update(content)
        size = self.finished.size + len(content)
        self.finished = replace(self.finished, **progress, size=size)
        if time.monotonic() - self.saved >= SAVE_SECONDS:
            self.save()

    def save(self, **progress: Any) -> None:
        """Record everything that was appended. Raises UserError if the disk is full."""
        try:
            os.fsync(self.file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.finished = replace(self.finished, **progress, content=self.digest.hexdigest())
        self.finished.write(record_of(self.path))
        self.saved = time.monotonic()


@contextmanager
def open_log(path: Path, settings: Mapping[str, Any], header: bytes) -> Iterator[RowLog]:
    """Create a file that begins with `header`, or open the one that was begun, cut after its last finished row.

    Raises UserError for a file that was not begun here, or with other settings, or that was changed; if another process
    writes it; and if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    with sole_writer(path):
        remove_leftovers(path)
        finished = reject_foreign(path)
        if finished is not None and path.exists():
            finished.reject_other(settings, path)
        else:
            finished = Finished(settings=settings)
            finished.write(record_of(path))
        try:
            file = path.open("r+b" if path.exists() else "x+b", buffering=0)
        except OSError as error:
            raise cannot_write(path, error) from error
        with file:
            digest = _verified(file, path, finished, header)
            log = RowLog(path, finished, file, digest)
            if finished.size == 0:
                log.append(header)
            yield log


def reject_foreign(path: Path) -> Finished | None:
    """Return the record of a file, None without one. Raises UserError if a file exists that has no record."""
    finished = read_record(record_of(path))
    if finished is None and path.exists():
        raise UserError("this file exists already, and no command that can go on began it", where=str(path), fix=ANEW)
    return finished


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of a file and its record that a killed process left."""
    for name in (path.name, record_of(path).name):
        for temporary in path.parent.glob(f".{glob.escape(name[:100])}.*.tmp"):
            with suppress(OSError):
                temporary.unlink()


def remove_log(path: Path) -> None:
    """Delete a file and its record, the file first: without its file, a record is void."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        record_of(path).unlink(missing_ok=True)


def _verified(file: BinaryIO, path: Path, finished: Finished, header: bytes) -> Any:
    """Cut the file after its finished rows; return the hash of these. Raises UserError if they were changed."""
    digest = hashlib.blake2b(digest_size=16)
    left = finished.size
    while left and (part := file.read(min(left, _PART))):
        digest.update(part)
        left -= len(part)
    begins_well = finished.size > 0 or header.startswith(file.read(len(header)))
    if left or not begins_well or (finished.size and digest.hexdigest() != finished.content):
        raise UserError("this file was changed since its rows were written", where=str(path), fix=ANEW)
    try:
        if not finished.complete:
            file.truncate(finished.size)
        file.seek(finished.size)
    except OSError as error:
        raise cannot_write(path, error) from error
    return digest
