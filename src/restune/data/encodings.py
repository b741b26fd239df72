"""The encoding of a text: named, or detected from its bytes."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from restune.core.console import note
from restune.core.errors import UserError

_CHUNK = 2**20
WESTERN = ("cp1252", "latin-1")
"""Results of detection if nothing else fits."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is its prefix
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode_text(content: bytes, encoding: str | None = None) -> str:
    """Decode bytes in the named or else the detected encoding, without a byte order mark.

    Raises ValueError for bytes that are invalid in the named encoding.
    """
    text = content.decode(encoding or find_encoding([content]))
    return text.removeprefix("\ufeff")


def find_encoding(chunks: Iterable[bytes]) -> str:
    """Detect the encoding of a text in chunks: by its byte order mark, else UTF-8 if valid.

    Else gb18030 if valid and most non-ASCII characters are common Chinese ones (Latin-1 read as gb18030 has few), else
    Windows' Western encoding (cp1252), else Latin-1, which fits any bytes.
    """
    candidates = {name: codecs.getincrementaldecoder(name)() for name in ("utf-8", "gb18030", "cp1252")}
    foreign = common = 0
    is_first = True
    for chunk in _and_the_end(chunks):
        if is_first and chunk:
            mark = next((name for mark, name in _MARKS.items() if chunk.startswith(mark)), None)
            if mark:
                return mark
            is_first = False
        for name, decoder in list(candidates.items()):
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError:
                del candidates[name]
                continue
            if name == "gb18030":
                plain = len(text.encode("ascii", "ignore"))
                foreign += len(text) - plain
                common += (len(text.encode("gb2312", "ignore")) - plain) // 2  # GB 2312: two bytes beyond ASCII each
    if "gb18030" in candidates and "utf-8" not in candidates and 2 * common <= foreign:
        del candidates["gb18030"]
    return next(iter(candidates), "latin-1")


def head_encoding(head: bytes, is_cut: bool) -> str:
    """Detect the encoding of a file's first bytes; if more follow, the last character may be truncated."""
    whole = head[: head.rfind(b"\n") + 1] if is_cut else head
    return find_encoding([whole or head])


def file_encoding(path: Path, named: str | None) -> str:
    """Return the encoding of a text file: the named one, checked against the whole file, else the detected one.

    Raises UserError for an unknown encoding, and for invalid bytes (with their line).
    """
    if named is not None:
        check_encoding(named)
        _reject_undecodable(path, named)
        return "utf-8-sig" if codecs.lookup(named).name == "utf-8" else named
    found = find_encoding(_chunks(path))
    if found in _MARKS.values():  # only the mark has been checked
        _reject_undecodable(path, found)
    note_encoding(path, found)
    return "utf-8-sig" if found == "utf-8" else found


def likely_encoding(path: Path, named: str | None) -> str:
    """Return the encoding of a table: the named one, else detected from its first bytes only."""
    if path.suffix.lower() == ".parquet":
        return "utf-8"
    if named is not None:
        return "utf-8-sig" if codecs.lookup(named).name == "utf-8" else named
    with path.open("rb") as file:
        head = file.read(_CHUNK)
    found = head_encoding(head, len(head) == _CHUNK)
    return "utf-8-sig" if found == "utf-8" else found


def note_encoding(path: Path, found: str) -> None:
    """Note the encoding in which a file is read, unless it is UTF-8."""
    if found not in ("utf-8", "utf-8-sig"):
        note(f"{path.name} is not UTF-8 and is read as {found}; --encoding names another")


def check_encoding(name: str) -> None:
    """Raise UserError for an unknown text encoding."""
    try:
        "a".encode(name)
    except (LookupError, ValueError) as error:
        raise UserError(
            f"there is no encoding {name[:40]!r}",
            where="--encoding",
            fix="name one such as utf-8, latin-1, cp1252, gb18030 or utf-16",
        ) from error


def _reject_undecodable(path: Path, encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    try:
        for chunk in _and_the_end(_chunks(path)):
            line += decoder.decode(chunk, final=not chunk).count("\n")
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        raise UserError(
            f"the byte 0x{error.object[error.start]:02x} is not valid {encoding} here",
            where=f"{path}, line {line}",
            fix="name another encoding with --encoding, or leave the option out to detect it",
        ) from error
    except UnicodeError as error:  # from codecs that do not give the position
        raise UserError(f"this is not in {encoding}: {error}", where=str(path), fix="name another encoding") from error


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _and_the_end(chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield from (chunk for chunk in chunks if chunk)
    yield b""
