"""Hostile tars."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator

import numpy as np

from hostile_files.parts import EITHER, REFUSED, USED, Content, damaged, encoded, photo


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def archives(random: np.random.Generator) -> Iterator[Content]:
    first, second = encoded(photo(random), "JPEG"), encoded(photo(random), "PNG")
    good = [(member("a/1.jpg"), first), (member("b/2.png"), second)]
    whole = tar(*good)
    yield "whole", "whole.tar", whole, USED
    yield from damaged(whole, "tar", "tar", random, each=12)
    yield from damaged(gzip.compress(whole), "tgz", "tgz", random, each=8)
    hostile = {
        "absolute paths": [(member("/etc/a/1.jpg"), first)],
        "paths upwards": [(member("../../../a/5.jpg"), first), (member("a/../../b/3.jpg"), second)],
        "soft link out": [(member("a/link.jpg", tarfile.SYMTYPE, "/etc/passwd"), b"")],
        "hard link out": [(member("a/link.jpg", tarfile.LNKTYPE, "../../etc/passwd"), b"")],
        "link to itself": [(member("a/link.jpg", tarfile.LNKTYPE, "a/link.jpg"), b"")],
        "character device": [(member("a/device.jpg", tarfile.CHRTYPE), b"")],
        "block device": [(member("a/device.jpg", tarfile.BLKTYPE), b"")],
        "FIFO": [(member("a/pipe.jpg", tarfile.FIFOTYPE), b"")],
        "folder named .jpg": [(member("a/folder.jpg", tarfile.DIRTYPE), b"")],
        "unknown type": [(member("a/unknown.jpg", b"Z"), first)],
        "broken image": [(member("a/broken.jpg"), b"broken")],
        "long name": [(member("a/" + "x" * 5000 + ".jpg"), first)],
        "deep name": [(member("a/" + "d/" * 2000 + "1.jpg"), first)],
        "new line in a name": [(member("a/new\nline 🐝.jpg"), first)],
        "name that is no UTF-8": [(member("a/\udcff.jpg"), first)],
    }
    for name, members in hostile.items():
        yield "members", f"{name}.tar", tar(*good, *members), USED
    yield "members", "listed twice.tar", tar(*good, (member("/a/1.jpg"), second)), REFUSED
    yield "members", "only links.tar", tar((member("a/1.jpg", tarfile.SYMTYPE, "x"), b"")), REFUSED
    yield "empty", "empty.tar", b"", REFUSED
    yield "empty", "zeros.tar", bytes(10240), REFUSED
    yield "empty", "empty.tgz", gzip.compress(b""), REFUSED
    for name, field in {"negative": b"\xff" * 12, "huge": b"\x80" + b"\x7f" * 11, "letters": b"abcdefghijk\0"}.items():
        yield "lying size", f"size {name}.tar", resized(whole, field), EITHER
    yield "extended headers", "pax.tar", b"".join(pax_header(b"path=a/1.jpg") for _ in range(3000)) + whole, EITHER
    yield "extended headers", "pax size.tar", pax_header(b"size=-512") + whole, EITHER
    yield "extended headers", "pax letters.tar", pax_header(b"size=abc") + whole, EITHER
    yield "extended headers", "pax sparse.tar", pax_header(b"GNU.sparse.map=1,2,x") + whole, EITHER
    yield "bomb", "bomb.tgz", gzip.compress(bytes(60_000_000), 1), REFUSED
    yield "another format", "picture.tar", first, REFUSED
    yield "another format", "noise.tar", b"\x01" + random.bytes(20_000), REFUSED
    yield "another format", "noise.tgz", b"\x1f\x8b" + random.bytes(2000), REFUSED


def resized(content: bytes, field: bytes) -> bytes:
    """A tar whose first header claims another size, with a checksum that is right."""
    header = bytearray(content[:512])
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[512:]


def pax_header(record: bytes) -> bytes:
    length = next(length for length in range(200) if length == len(f"{length} ") + len(record) + 1)
    body = f"{length} ".encode() + record + b"\n"
    info = member("pax", tarfile.XHDTYPE)
    info.size = len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0")
