"""Read every image once: what can be measured of it, its hashes and its thumbnail."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restune.core.console import progress
from restune.core.machine import cpu_count
from restune.data.ahead import ahead_in_groups
from restune.data.audit.image_measures import MEASURES, measure
from restune.data.audit.perceptual import THUMBNAIL
from restune.data.dataset import Dataset, Location
from restune.data.decode import Preview, decode_preview
from restune.data.items import location_at
from restune.data.preload import read_item

_PREVIEW = 128
"""Least side of the decoded images, pixels, where the file can be decoded at a reduced size."""
_GROUP = 16


@dataclass(frozen=True)
class ImageRecords:
    """What one pass over the images knows. All arrays have one row per item.

    Args:
        is_read: whether the item could be decoded; the rows of others are 0.
        contents: a hash of the encoded content.
        pixels: a hash of the decoded pixels and the size.
        thumbnails: uint8 ``[N, 32, 32]``, grey, upright, in a temporary file.
        measures: columns by name, see `MEASURES`.
        formats: names of file formats; the measure ``format`` is an index into them.
    """

    is_read: NDArray[np.bool_]
    contents: NDArray[np.uint64]
    pixels: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]
    measures: Mapping[str, NDArray[np.float32]]
    formats: tuple[str, ...]

    def __getitem__(self, measure: str) -> NDArray[np.float32]:
        return self.measures[measure]


@dataclass(frozen=True, slots=True)
class _Record:
    pixels: int
    thumbnail: NDArray[np.uint8]
    measures: tuple[float, ...]
    format: str


def read_images(dataset: Dataset, workers: int | None = None) -> tuple[ImageRecords, dict[str, str]]:
    """Read all images in threads, in bounded memory.

    Returns the records, and the reason by id of each image that cannot be read.
    """
    count = len(dataset)
    thumbnails = _on_disk(count)
    is_read, contents, pixels = np.zeros(count, bool), np.zeros(count, np.uint64), np.zeros(count, np.uint64)
    columns = np.zeros((len(MEASURES), count), np.float32)
    formats: dict[str, int] = {}
    unreadable: dict[str, str] = {}

    def read(row: int) -> tuple[str, _Record | str]:
        return _read(location_at(dataset.items, row))

    with progress("checking images", count) as advance:
        rows = range(count)
        for row, (digits, record) in zip(
            rows, ahead_in_groups(read, rows, workers or cpu_count(), _GROUP), strict=True
        ):
            if digits:
                contents[row] = int(digits, 16)
            if isinstance(record, str):
                unreadable[dataset.items[row].id] = record
            else:
                is_read[row], pixels[row], thumbnails[row] = True, record.pixels, record.thumbnail
                columns[:-1, row] = record.measures
                columns[-1, row] = formats.setdefault(record.format, len(formats))
            advance(1)
    measures = dict(zip(MEASURES, columns, strict=True))
    return ImageRecords(is_read, contents, pixels, thumbnails, measures, tuple(formats)), unreadable


def _read(location: Location) -> tuple[str, _Record | str]:
    size = 0

    def decode(content: object) -> Preview:
        nonlocal size
        size = len(content) if isinstance(content, bytes) else 0
        return decode_preview(content, _PREVIEW)  # type: ignore[arg-type]

    digits, preview = read_item(location, decode)
    return digits, preview if isinstance(preview, str) else _recorded(preview, size)


def _recorded(preview: Preview, size: int) -> _Record:
    array = preview.pixels.permute(1, 2, 0).contiguous().numpy()  # [H, W, 3]
    image = Image.fromarray(array)
    thumbnail = np.asarray(image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR))
    digest = hashlib.blake2b(
        array.data, digest_size=8, person=f"{preview.width}x{preview.height}"[:16].encode()
    ).digest()
    return _Record(int.from_bytes(digest, "big"), thumbnail, measure(image, preview, size), preview.format)


def _on_disk(count: int) -> NDArray[np.uint8]:
    """Return room for thumbnails in an unnamed temporary file, so that they take no memory of the process's own."""
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a crash while writing
            os.posix_fallocate(file.fileno(), 0, max(1, count) * THUMBNAIL**2)
        return np.memmap(file, np.uint8, "w+", shape=(max(1, count), THUMBNAIL, THUMBNAIL))[:count]
