"""A PNG without its metadata, none of which may cost an image."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TEXTS = (b"XML:com.adobe.xmp", b"Raw profile type exif")
_MAX_TEXT = 2**20


def without_metadata(content: bytes) -> bytes:
    """The same pixels in the same orientation, without texts, colour profiles and further frames.

    Pillow refuses a whole image whose text or profile unpacks to more than 1 MiB, and one with a wrong checksum in
    any of them. Content that is not a PNG, or is cut short, is returned as far as it goes.
    """
    if not content.startswith(SIGNATURE):
        return content
    kept, start = [SIGNATURE], len(SIGNATURE)
    while start + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, start)
        end = start + 12 + length
        if _is_needed(name, content[start + 8 : end - 4], content[end - 4 : end]):
            kept.append(content[start:end])
        start = end
        if name == b"IEND":
            break
    else:  # the rest of a file that is cut short
        kept.append(content[start:])
    return b"".join(kept)


def _is_needed(name: bytes, data: bytes, checksum: bytes) -> bool:
    if name[0] & 0x20 == 0 or name == b"tRNS":  # a capital: no reader may pass over it
        return True
    is_orientation = name == b"eXIf" or (name in (b"tEXt", b"zTXt", b"iTXt") and _is_orientation_text(name, data))
    return is_orientation and zlib.crc32(name + data).to_bytes(4, "big") == checksum


def _is_orientation_text(name: bytes, data: bytes) -> bool:
    keyword, _, rest = data.partition(b"\0")
    if keyword not in _ORIENTATION_TEXTS or len(data) > _MAX_TEXT:
        return False
    if name == b"tEXt" or (name == b"iTXt" and rest[:1] == b"\0"):
        return True
    # compressed: after the method's byte, or after flag, method, language and translated keyword
    packed = rest[1:] if name == b"zTXt" else rest[2:].split(b"\0", 2)[-1]
    try:
        unpacker = zlib.decompressobj()
        unpacker.decompress(packed, _MAX_TEXT)
    except zlib.error:
        return False
    return not unpacker.unconsumed_tail
