"""What the numbers in a TIFF are: bands, type, and whether 0 is white."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT = 258, 259, 262, 277, 339
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Type codes of whole numbers and how `struct` calls them."""
_MAX_ENTRIES = 4096
_COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}


@dataclass(frozen=True)
class TiffLayout:
    """Of a TIFF's first page.

    Args:
        bands: samples of each pixel.
        bits: of each number.
        sample_format: 1 unsigned, 2 signed, 3 float; others as in the TIFF 6.0 specification.
        photometric: 0 grey with white at 0, 1 grey, 2 RGB.
        compression: as in the specification; 1 is none.
    """

    bands: int = 1
    bits: int = 1
    sample_format: int = 1
    photometric: int = 1
    compression: int = 1

    @property
    def type_name(self) -> str:
        """As NumPy calls it."""
        kind = {1: "uint", 2: "int", 3: "float"}.get(self.sample_format, "unknown")
        return f"{kind}{self.bits}"

    def __str__(self) -> str:
        colours = _COLOURS.get(self.photometric, f"photometric {self.photometric}")
        return f"{self.bands} band{'s' if self.bands > 1 else ''} of {self.type_name} ({colours})"


def read_layout(content: bytes) -> TiffLayout | None:
    """The layout of a TIFF or BigTIFF; None where the content is something else or its directory is broken."""
    try:
        return _read_layout(content)
    except (struct.error, KeyError):
        return None


def _read_layout(content: bytes) -> TiffLayout | None:
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    (version,) = struct.unpack_from(f"{order}H", content, 2)
    if version not in (42, 43):
        return None
    big = version == 43
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, start)
    entry, header = (order + "HHQ", 12) if big else (order + "HHI", 8)
    size = header + (8 if big else 4)
    values = {}
    for number in range(min(count, _MAX_ENTRIES)):
        place = start + (8 if big else 2) + number * size
        tag, kind, length = struct.unpack_from(entry, content, place)
        if tag in (_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT) and kind in _NUMBERS and length:
            at = place + header
            if length * struct.calcsize(_NUMBERS[kind]) > size - header:  # too many to stand in the entry
                (at,) = struct.unpack_from(order + ("Q" if big else "I"), content, at)
            (values[tag],) = struct.unpack_from(order + _NUMBERS[kind], content, at)  # the first band's
    return TiffLayout(
        bands=values.get(_SAMPLES, 1),
        bits=values.get(_BITS, 1),
        sample_format=values.get(_FORMAT, 1),
        photometric=values.get(_PHOTOMETRIC, 1),
        compression=values.get(_COMPRESSION, 1),
    )
