"""ONNX Runtime Web's two files: from a folder, from the cache, or fetched once by the npm client."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.files import cache_folder, write_bytes

VERSION = "1.30.0"
SCRIPT, BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
_LARGEST = 64 * 2**20
"""Maximum size of either file, bytes."""


@dataclass(frozen=True)
class WebRuntime:
    """The JavaScript module and the WebAssembly binary of ONNX Runtime Web."""

    script: bytes
    binary: bytes


def web_runtime(folder: Path | None = None) -> WebRuntime:
    """Return the runtime.

    Args:
        folder: an unpacked ``onnxruntime-web`` package, or its ``dist``; None: the cache folder, else npm.

    Raises UserError where there is none and npm is missing or fails.
    """
    if folder is not None:
        return _read(_dist(folder))
    kept = cache_folder() / "onnxruntime-web" / VERSION
    if not all((kept / name).is_file() for name in (SCRIPT, BINARY)):
        _fetch(kept)
    return _read(kept)


def _dist(folder: Path) -> Path:
    for place in (folder, folder / "dist", folder / "package" / "dist"):
        if (place / SCRIPT).is_file() and (place / BINARY).is_file():
            return place
    raise UserError(
        f"this folder does not contain {SCRIPT} and {BINARY}", where=str(folder),
        fix="name the folder of an unpacked onnxruntime-web package",
    )  # fmt: skip


def _fetch(kept: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "the page needs ONNX Runtime Web, and npm is not installed",
            where="--to html",
            fix="install npm, or name a folder with the onnxruntime-web package: --web-runtime DIR",
        )
    note(f"fetching onnxruntime-web {VERSION} with npm (33 MB, once)")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        done = subprocess.run(
            [npm, "pack", "--silent", f"onnxruntime-web@{VERSION}"], cwd=place, capture_output=True, check=False,
            timeout=300,
        )  # fmt: skip
        packed = next(place.glob("*.tgz"), None)
        if done.returncode or packed is None:
            reason = next(iter(done.stderr.decode(errors="replace").strip().splitlines()), "unknown reason")
            raise UserError(
                f"npm could not fetch onnxruntime-web: {reason[:200]}",
                where="--to html",
                fix="check the network, or name a folder with the package: --web-runtime DIR",
            )
        with tarfile.open(packed) as archive:
            for file in (SCRIPT, BINARY):
                write_bytes(kept / file, _member(archive, f"package/dist/{file}"))


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.getmember(name)
    content = archive.extractfile(member) if member.size <= _LARGEST else None
    if content is None:
        raise UserError(f"{name} of onnxruntime-web is not a plain file of usual size", where="--to html")
    return content.read()


def _read(folder: Path) -> WebRuntime:
    return WebRuntime((folder / SCRIPT).read_bytes(), (folder / BINARY).read_bytes())
