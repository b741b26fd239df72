"""Downloads against a local server that is fine, cuts, stalls, lies, or is not there."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from restune.core.errors import UserError
from restune.core.files import cache_folder
from restune.weights.download import download

LIMIT = 60
"""Seconds until a test fails that waits for an event, however busy the machine is."""
CONTENT = random.Random(0).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"net-{DIGEST[:8]}.pth"


@dataclass
class Site:
    """What the server does next, and what it has seen."""

    address: str = ""
    content: bytes = CONTENT
    etag: str = '"first"'
    status: int | None = None
    stop_at: int | None = None
    then: str = "cut"
    length: bool = True
    to_range: str = "honour"
    go_on: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    sent: int = 0

    def ranges(self) -> list[str | None]:
        return [requested for _, requested, _ in self.requests]


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        site.requests.append((self.path, wanted, condition))
        if site.status is not None:
            self.send_error(site.status)
            return
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.replace("/moved/", "/models/"))
            self.end_headers()
            return
        start = 0
        if wanted and site.to_range == "refuse":
            self.send_error(416)
            return
        if wanted and site.to_range == "other part":
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 0-9/{len(site.content)}")
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(site.content[:10])
            return
        if wanted and site.to_range == "honour" and condition in (None, site.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", site.etag)
        if site.length:
            self.send_header("Content-Length", str(len(site.content) - start))
        self.end_headers()
        stop_at = len(site.content) if site.stop_at is None else site.stop_at
        self._send(site.content[start:stop_at])
        if site.stop_at is not None and site.then == "wait":
            site.go_on.wait(LIMIT)
            self._send(site.content[stop_at:])

    def _send(self, body: bytes) -> None:
        try:
            self.wfile.write(body)
            self.site.sent += len(body)
        except OSError:  # the client has gone, which is what some tests are about
            self.close_connection = True

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.delenv("RESTUNE_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"site": state}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}/models/{NAME}"
    yield state
    state.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "weights" / NAME


def cut_once(site: Site, destination: Path, at: int = 120_000) -> None:
    site.stop_at = at
    with pytest.raises(UserError, match="cut at"):
        download(site.address, destination, sha256=DIGEST)
    site.stop_at = None


def listing(destination: Path) -> list[str]:
    """What a user finds in the folder, the lock left out."""
    return sorted(path.name for path in destination.parent.iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("sha256", [None, DIGEST[:8], DIGEST.upper()])
def test_a_file_arrives_whole_and_is_fetched_only_once(
    site: Site, destination: Path, sha256: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(site.address, destination, sha256=sha256) == destination
    assert destination.read_bytes() == CONTENT
    assert listing(destination) == [NAME]
    said = capsys.readouterr().err
    assert site.address in said
    assert "300,000 bytes" in said
    download(site.address, destination, sha256=sha256)
    assert site.ranges() == [None]


def test_a_cut_download_says_how_far_it_came_and_continues_there(site: Site, destination: Path) -> None:
    site.stop_at = 120_000
    with pytest.raises(UserError) as caught:
        download(site.address, destination, sha256=DIGEST)
    assert "cut at 120,000 bytes of 300,000 bytes" in str(caught.value)
    assert "run it again: it continues where it stopped" in str(caught.value)
    assert site.address in str(caught.value)
    assert not destination.exists()
    site.stop_at = None
    download(site.address, destination, sha256=DIGEST)
    assert destination.read_bytes() == CONTENT
    assert site.requests[1:] == [(f"/models/{NAME}", "bytes=120000-", '"first"')]
    assert site.sent == len(CONTENT)
    assert listing(destination) == [NAME]


def test_a_download_cut_twice_still_ends(site: Site, destination: Path) -> None:
    cut_once(site, destination, 100_000)
    cut_once(site, destination, 200_000)
    download(site.address, destination, sha256=DIGEST)
    assert destination.read_bytes() == CONTENT
    assert site.ranges() == [None, "bytes=100000-", "bytes=200000-"]
    assert site.sent == len(CONTENT)


def test_a_cut_download_continues_through_a_redirect(site: Site, destination: Path) -> None:
    moved = site.address.replace("/models/", "/moved/")
    site.stop_at = 120_000
    with pytest.raises(UserError, match=f"where: {moved}"):
        download(moved, destination, sha256=DIGEST)
    site.stop_at = None
    download(moved, destination, sha256=DIGEST)
    assert destination.read_bytes() == CONTENT
    assert site.requests[-1] == (f"/models/{NAME}", "bytes=120000-", '"first"')


def test_a_stalled_server_is_given_up_and_what_came_is_kept(site: Site, destination: Path) -> None:
    site.stop_at, site.then = 90_000, "wait"
    started = time.monotonic()
    with pytest.raises(UserError) as caught:  # within the limit, all that is sent before the stall arrives
        download(site.address, destination, sha256=DIGEST, stall_timeout=2)
    assert time.monotonic() - started < LIMIT, "the server holds the connection for as long"
    assert "no bytes for 2 seconds" in str(caught.value)
    assert "the 90,000 bytes that came are kept" in str(caught.value)
    assert "run it again" in str(caught.value)
    assert not destination.exists()
    site.stop_at = None
    download(site.address, destination, sha256=DIGEST)
    assert destination.read_bytes() == CONTENT
    assert site.ranges() == [None, "bytes=90000-"]


@pytest.mark.parametrize("to_range", ["ignore", "refuse", "other part"])
def test_a_server_that_does_not_continue_makes_it_start_anew(site: Site, destination: Path, to_range: str) -> None:
    cut_once(site, destination)
    site.to_range = to_range
    download(site.address, destination, sha256=DIGEST)
    assert destination.read_bytes() == CONTENT
    assert site.ranges()[1] == "bytes=120000-"


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(site: Site, destination: Path) -> None:
    cut_once(site, destination)
    site.content, site.etag = CONTENT[::-1], '"second"'
    download(site.address, destination, sha256=None)
    assert destination.read_bytes() == CONTENT[::-1]


def test_a_file_that_grew_under_the_same_etag_starts_anew(site: Site, destination: Path) -> None:
    cut_once(site, destination)
    site.content = CONTENT[::-1] + b"more"
    download(site.address, destination, sha256=None)
    assert destination.read_bytes() == site.content


def test_a_part_from_another_address_is_not_continued(site: Site, destination: Path) -> None:
    cut_once(site, destination)
    download(site.address.replace("/models/", "/elsewhere/"), destination, sha256=DIGEST)
    assert site.ranges() == [None, None]


def test_a_download_stopped_before_its_check_needs_only_the_check(
    site: Site, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_path: Path) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("restune.weights.download._digest", stopped)
        with pytest.raises(KeyboardInterrupt):
            download(site.address, destination, sha256=DIGEST)
    assert not destination.exists()
    download(site.address, destination, sha256=DIGEST)
    assert destination.read_bytes() == CONTENT
    assert len(site.requests) == 1


def test_a_server_that_does_not_say_the_length(site: Site, destination: Path) -> None:
    site.length = False
    download(site.address, destination, sha256=DIGEST)
    assert destination.read_bytes() == CONTENT


def test_a_wrong_hash_names_both_and_keeps_nothing(site: Site, destination: Path) -> None:
    site.content = b"<html>please log in</html>"
    with pytest.raises(UserError) as caught:
        download(site.address, destination, sha256=DIGEST[:8])
    assert f"should be {DIGEST[:8]}..." in str(caught.value)
    assert hashlib.sha256(site.content).hexdigest() in str(caught.value)
    assert "nothing was kept" in str(caught.value)
    assert listing(destination) == []


@pytest.mark.parametrize("status", [404, 503])
def test_an_http_error_names_status_and_address(site: Site, destination: Path, status: int) -> None:
    site.status = status
    with pytest.raises(UserError) as caught:
        download(site.address, destination, sha256=DIGEST)
    assert f"HTTP {status}" in str(caught.value)
    assert site.address in str(caught.value)
    assert ("try again later" in str(caught.value)) == (status == 503)
    assert listing(destination) == []


def test_without_a_network_it_says_what_to_put_where(site: Site, destination: Path) -> None:
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/models/{NAME}"
        with pytest.raises(UserError) as caught:
            download(address, destination, sha256=DIGEST)
    assert f"cannot download {NAME}" in str(caught.value)
    assert f"where: {address}" in str(caught.value)
    assert f"put it at {destination}" in str(caught.value)


def test_a_file_put_there_by_hand_is_checked_and_never_removed(site: Site, destination: Path) -> None:
    destination.parent.mkdir()
    destination.write_bytes(CONTENT)
    assert download(site.address, destination, sha256=DIGEST) == destination
    destination.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError) as caught:
        download(site.address, destination, sha256=DIGEST)
    assert DIGEST in str(caught.value)
    assert str(destination) in str(caught.value)
    assert "delete it" in str(caught.value)
    assert destination.read_bytes() == CONTENT[:-1]
    assert site.requests == []


def test_a_mirror_takes_the_place_of_the_address(
    site: Site, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = site.address.rsplit("/models/", 1)[0] + "/copies/"
    monkeypatch.setenv("RESTUNE_MIRROR", mirror)
    site.status = 404
    with pytest.raises(UserError, match=f"where: {mirror}{NAME}"):
        download("https://original.invalid/models/net.pth", destination, sha256=DIGEST)
    site.status = None
    download("https://original.invalid/models/net.pth", destination, sha256=DIGEST)
    assert destination.read_bytes() == CONTENT
    assert [path for path, *_ in site.requests] == [f"/copies/{NAME}"] * 2


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/x", "/etc/hostname"])
def test_only_web_addresses_are_fetched(site: Site, destination: Path, address: str) -> None:
    with pytest.raises(UserError, match="only http and https"):
        download(address, destination, sha256=None)
    assert not destination.exists()


def test_a_full_disk_is_said_and_what_was_written_is_continued(site: Site, destination: Path) -> None:
    resource = pytest.importorskip("resource", reason="a full disk is played by RLIMIT_FSIZE, which Windows lacks")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # fails in write(), as a full disk does
    try:
        with pytest.raises(UserError, match=f"cannot write {NAME}.*\n.*{destination.parent}"):
            download(site.address, destination, sha256=DIGEST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not destination.exists()
    download(site.address, destination, sha256=DIGEST)
    assert destination.read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made(site: Site, destination: Path) -> None:
    destination.parent.write_text("a file where the folder should be")
    with pytest.raises(UserError, match=f"cannot write {NAME}"):
        download(site.address, destination, sha256=DIGEST)


def test_a_cache_folder_that_cannot_be_written_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=rf"cannot write {NAME}[\s\S]*RESTUNE_CACHE"):
        download(site.address, cache_folder() / "weights" / NAME, sha256=DIGEST)
    for variable in ("RESTUNE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 1_234_567)  # who has no entry in the passwd file
    with pytest.raises(UserError, match=r"no cache folder[\s\S]*HOME is not set[\s\S]*RESTUNE_CACHE"):
        cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "restune"


def test_two_threads_fetch_it_once(site: Site, destination: Path) -> None:
    site.stop_at, site.then = 150_000, "wait"
    failures: list[BaseException] = []

    def fetch() -> None:
        try:
            download(site.address, destination, sha256=DIGEST)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.2)  # the second finds the first at work
    site.go_on.set()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert failures == []
    assert destination.read_bytes() == CONTENT
    assert len(site.requests) == 1
    assert listing(destination) == [NAME]


def start_process(site: Site, destination: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from restune.weights.download import download; "
        "download(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, site.address, str(destination), DIGEST],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_two_processes_fetch_it_once(site: Site, destination: Path) -> None:
    processes = [start_process(site, destination) for _ in range(2)]
    assert [process.wait(2 * LIMIT) for process in processes] == [0, 0]
    assert destination.read_bytes() == CONTENT
    assert site.sent == len(CONTENT)


def test_a_killed_process_leaves_a_part_that_is_continued(site: Site, destination: Path) -> None:
    site.stop_at, site.then = 200_000, "wait"
    process = start_process(site, destination)
    part = destination.with_name(NAME + ".part")
    deadline = time.monotonic() + LIMIT
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = part.stat().st_size
    assert 0 < kept <= 200_000
    site.stop_at = None
    download(site.address, destination, sha256=DIGEST)
    assert destination.read_bytes() == CONTENT
    assert site.ranges() == [None, f"bytes={kept}-"]
