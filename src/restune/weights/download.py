"""Download a file: resumable, verified and atomic."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from restune.core import console
from restune.core.errors import UserError
from restune.core.files import cannot_write, is_there, write_text

_CHUNK = 1 << 20


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None,
    stall_timeout: float = 30.0,
    description: str | None = None,
    mirrored: bool = True,
) -> Path:
    """Download `url` to `destination` and return it; an existing file is only verified.

    If the connection is cut, the received part stays in ``<destination>.part``, and the next call resumes from it.
    `destination` appears only once length and hash are verified. If several processes need the same file, one
    downloads it and the others wait.

    Args:
        url: an http or https address.
        destination: the file to create, with its folder.
        sha256: the digest in hex or its first digits (at least 8); None checks the length only.
        stall_timeout: seconds without a byte after which the download fails.
        description: the file's label on the progress bar; its name if None.
        mirrored: fetch from ``$RESTUNE_MIRROR/<file name>`` instead of `url` if that variable is set.

    Raises:
        UserError: the address cannot be reached or is refused, the transfer was cut or stalled, the content
            has the wrong hash, or the file cannot be written.
    """
    if sha256 is not None and len(sha256) < 8:
        raise ValueError(f"a sha256 needs at least 8 hex digits to mean anything, not {sha256!r}")
    destination = Path(destination)
    if _is_there(destination, sha256):
        return destination
    transfer = _Transfer(
        address=_address(url, destination.name, mirrored=mirrored),
        destination=destination,
        sha256=sha256,
        stall_timeout=stall_timeout,
        description=description or destination.name,
    )
    with _alone(destination):
        if not _is_there(destination, sha256):  # another process may have downloaded it meanwhile
            transfer.run()
    return destination


def by_hand(destination: Path) -> str:
    """Describe the manual download: the file's name and where to put it."""
    return f"get {destination.name} in another way and put it at {destination.absolute()}"


@dataclass(frozen=True)
class _Origin:
    """Conditions for resuming a partial download; stored in ``<destination>.part.json``."""

    address: str
    total: int | None
    validator: str | None


class _Transfer:
    """One attempt to download `address` to `destination`, resuming a partial download if possible."""

    def __init__(
        self, *, address: str, destination: Path, sha256: str | None, stall_timeout: float, description: str
    ) -> None:
        self.address = address
        self.destination = destination
        self.sha256 = sha256
        self.stall_timeout = stall_timeout
        self.description = description
        self.part = destination.with_name(destination.name + ".part")
        self.notes = destination.with_name(destination.name + ".part.json")

    def run(self) -> None:
        origin = self._kept_origin()
        offset = self.part.stat().st_size if origin else 0
        if origin is None or origin.total is None or offset != origin.total:  # else only verification was missing
            self._receive(offset, origin)
        self._put_in_place()

    def _kept_origin(self) -> _Origin | None:
        """Return the origin of the partial download, or None if nothing can be resumed."""
        try:
            origin = _Origin(**json.loads(self.notes.read_text(encoding="utf-8")))
            size = self.part.stat().st_size
        except (OSError, ValueError, TypeError):
            return None
        if origin.address != self.address or size == 0 or (origin.total is not None and size > origin.total):
            return None
        # without a validator only the hash can show that the server's file changed
        return origin if origin.validator or self.sha256 else None

    def _receive(self, offset: int, origin: _Origin | None) -> None:
        response = self._open(offset, origin)
        if offset and not _continues(response, offset, origin):
            if response.status == http.client.PARTIAL_CONTENT:  # not the requested part
                response.close()
                response = self._open(0, None)
            offset = 0
        with response:
            rest = response.headers.get("Content-Length", "")
            total = offset + int(rest) if rest.isdigit() else None
            how = f"downloading {self.destination.name}"
            if offset:
                how += f", continuing at {_size(offset)}"
            console.note(f"{how} ({'unknown size' if total is None else _size(total)}) from {self.address}")
            origin = _Origin(self.address, total, _validator(response.headers))
            with console.progress(self.description, total, unit="bytes") as advance:
                advance(offset)
                self._write(response, offset, origin, advance)
        self._check_length(total)

    def _open(self, offset: int, origin: _Origin | None) -> http.client.HTTPResponse:
        # identity: a compressed transfer would have another length and hash
        request = urllib.request.Request(self.address, headers={"User-Agent": "restune", "Accept-Encoding": "identity"})
        if offset:
            request.add_header("Range", f"bytes={offset}-")
            if origin and origin.validator:
                request.add_header("If-Range", origin.validator)
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=self.stall_timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if offset and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return self._open(0, None)
            raise self._refused(error.code, error.reason) from error
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from error
        except TimeoutError as error:  # connected, but no answer: not wrapped in URLError
            raise self._stalled() from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        return response

    def _write(
        self,
        response: http.client.HTTPResponse,
        offset: int,
        origin: _Origin,
        advance: Callable[[float], None],
    ) -> None:
        if not offset:  # if killed between the two files, do not leave an old part with the new origin
            with suppress(OSError):
                self.part.unlink()
        write_text(self.notes, json.dumps(asdict(origin)))
        try:
            with self.part.open("ab" if offset else "wb") as file:
                for chunk in self._chunks(response):
                    file.write(chunk)
                    file.flush()  # the reported part must be on disk however this ends
                    advance(len(chunk))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.destination, error) from error

    def _chunks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the body in chunks. Converts network OSErrors, so that any other is the disk's."""
        while True:
            try:
                chunk = response.read1(_CHUNK)  # read() would lose data received before a timeout
            except TimeoutError as error:
                raise self._stalled() from error
            except (OSError, http.client.HTTPException):
                return  # a broken connection looks like an early end: the length shows it
            if not chunk:
                return
            yield chunk

    def _check_length(self, total: int | None) -> None:
        size = self.part.stat().st_size
        if total is None or size == total:
            return
        if size > total:
            self._discard()
            raise UserError(
                f"{self.destination.name} came with {_size(size)} where the server announced {_size(total)}",
                where=self.address,
                fix=f"nothing was kept; run it again, or {by_hand(self.destination)}",
            )
        raise UserError(
            f"the download of {self.destination.name} was cut at {_size(size)} of {_size(total)}",
            where=self.address,
            fix="run it again: it continues where it stopped",
        )

    def _put_in_place(self) -> None:
        found = _digest(self.part)
        if self.sha256 is not None and not found.startswith(self.sha256.lower()):
            self._discard()
            raise UserError(
                _wrong_hash(self.destination.name, self.sha256, found),
                where=self.address,
                fix=f"nothing was kept; run it again, and if that does not help {by_hand(self.destination)}",
            )
        try:
            self.part.replace(self.destination)
        except OSError as error:
            raise cannot_write(self.destination, error) from error
        with suppress(OSError):
            self.notes.unlink()

    def _discard(self) -> None:
        for path in (self.part, self.notes):
            with suppress(OSError):
                path.unlink()

    def _refused(self, status: int, reason: str) -> UserError:
        passing = status == http.client.TOO_MANY_REQUESTS or status >= http.client.INTERNAL_SERVER_ERROR
        first = "try again later, or " if passing else ""
        return UserError(
            f"the server refused {self.destination.name}: HTTP {status} {reason}",
            where=self.address,
            fix=first + by_hand(self.destination),
        )

    def _unreachable(self, reason: object) -> UserError:
        return UserError(
            f"cannot download {self.destination.name}: {reason}",
            where=self.address,
            fix=f"check the network; without one, {by_hand(self.destination)}",
        )

    def _stalled(self) -> UserError:
        kept = self.part.stat().st_size if self.part.exists() else 0
        return UserError(
            f"the download of {self.destination.name} stalled: no bytes for {self.stall_timeout:g} seconds",
            where=self.address,
            fix=f"run it again: the {_size(kept)} that came are kept and it continues there"
            if kept
            else f"run it again, or {by_hand(self.destination)}",
        )


def _address(url: str, name: str, *, mirrored: bool) -> str:
    mirror = os.environ.get("RESTUNE_MIRROR") if mirrored else None
    address = f"{mirror.rstrip('/')}/{urllib.parse.quote(name)}" if mirror else url
    scheme = urllib.parse.urlsplit(address).scheme
    if scheme not in ("http", "https"):
        raise UserError(
            f"cannot download from {address!r}: only http and https addresses are fetched",
            where="RESTUNE_MIRROR" if mirror else None,
            fix="give an address that begins with https://",
        )
    return address


def _is_there(destination: Path, sha256: str | None) -> bool:
    """Return whether `destination` exists. Raises UserError if it is not the published file."""
    if not is_there(destination):
        return False
    if sha256 is None:
        return True
    try:
        found = _digest(destination)
    except OSError as error:
        what = f"cannot read {destination.name}: {error.strerror}"
        raise UserError(what, where=str(destination), fix="make it readable or delete it") from error
    if not found.startswith(sha256.lower()):  # never deleted here: a user put it there
        raise UserError(
            _wrong_hash(destination.name, sha256, found),
            where=str(destination),
            fix="delete it, then run again to download it, or put the right file there",
        )
    return True


@contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """Hold the file's lock, waiting for its holder; the system releases it if the holder dies."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(destination.with_name(destination.name + ".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            console.note(f"another process is downloading {destination.name}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise cannot_write(destination, error) from error
    try:
        yield
    finally:
        lock.release()


def _continues(response: http.client.HTTPResponse, offset: int, origin: _Origin | None) -> bool:
    """Return whether the server sends the rest of the same file; without range support it sends all (status 200)."""
    first, _, total = response.headers.get("Content-Range", "").partition("/")
    same = origin is None or origin.total is None or total in ("*", str(origin.total))
    return response.status == http.client.PARTIAL_CONTENT and first.startswith(f"bytes {offset}-") and same


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """Return the strong ETag, or the date: If-Range does not accept a weak ETag (RFC 9110, section 13.1.5)."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wrong_hash(name: str, sha256: str, found: str) -> str:
    expected = sha256.lower() if len(sha256) == 64 else f"{sha256.lower()}..."
    return f"{name} is not the published file: its sha256 should be {expected} and is {found}"


def _size(count: int) -> str:
    return f"{count:,} bytes" if count < 1_000_000 else f"{count / 1_000_000:,.1f} MB"
