"""A JPEG without its metadata, none of which may cost an image."""

from __future__ import annotations

import struct

START = b"\xff\xd8\xff"
_SCAN, _COMMENT = 0xDA, 0xFE


def without_metadata(content: bytes) -> bytes:
    """The same pixels without the segments that Pillow stumbles over where they are malformed.

    EXIF stays for its orientation, and Adobe's segment where it is whole, since it says how colours are coded.
    """
    kept, start = [content[:2]], 2
    while start + 4 <= len(content) and content[start] == 0xFF and content[start + 1] != _SCAN:
        marker, length = struct.unpack_from(">BH", content, start + 1)
        end = start + 2 + length
        if not _is_metadata(marker, content[start + 4 : end]):
            kept.append(content[start:end])
        start = end
    return b"".join((*kept, content[start:]))


def _is_metadata(marker: int, data: bytes) -> bool:
    if marker == 0xE1:
        return not data.startswith(b"Exif\0\0")
    if marker == 0xEE:
        return not (data.startswith(b"Adobe") and len(data) >= 12)
    return 0xE0 <= marker <= 0xEF or marker == _COMMENT
