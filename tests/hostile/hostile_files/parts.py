"""What hostile files of all kinds are made with."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

USED, REFUSED, EITHER = "used", "refused", "either"
LIMIT = 89_478_485
"""Pixels of the largest image that is decoded by default."""


@dataclass(frozen=True)
class Case:
    """A hostile file.

    Args:
        family: which reader it is for: image, table, array, archive, weights or recipe.
        kind: what is wrong with it.
        path: where it is, below the folder.
        expected: what must become of it: ``used``, ``refused`` with a reason, or ``either``.
    """

    family: str
    kind: str
    path: str
    expected: str


Content = tuple[str, str, bytes, str]
"""Kind, name, content and what is expected."""


def photo(random: np.random.Generator, width: int = 24, height: int = 18) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def flipped(content: bytes, random: np.random.Generator, bits: int, within: int | None = None) -> bytes:
    """`content` with some bits turned, among its first `within` bytes."""
    changed = bytearray(content)
    for place in random.integers(0, 8 * min(within or len(content), len(content)), bits).tolist():
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def damaged(content: bytes, stem: str, suffix: str, random: np.random.Generator, each: int) -> Iterator[Content]:
    """Cut at any byte, and with bits turned anywhere and near the start, where headers are."""
    for number, length in enumerate(sorted(random.integers(1, len(content), each).tolist())):
        yield "cut", f"{stem} cut {number}.{suffix}", content[:length], EITHER
    for number in range(each):
        within = 128 if number % 2 else None
        yield (
            "bits turned",
            f"{stem} turned {number}.{suffix}",
            flipped(content, random, 1 + number % 8, within),
            EITHER,
        )
