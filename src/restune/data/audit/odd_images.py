"""Findings about single images: dark, light, plain, blurred, of odd size, shape, format or orientation.

Thresholds are CleanVision's (https://github.com/cleanlab/cleanvision), as a start. What more than a tenth of the images
have in common is a property of the set: it is reported once, as a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from restune.data.audit.audit import Audit
from restune.data.audit.findings import Finding

if TYPE_CHECKING:
    from restune.data.audit.image_records import ImageRecords

DARK, LIGHT, BLURRY, FLAT, ASPECT = 0.32, 0.05, 0.29, 0.3, 0.35
"""CleanVision's thresholds of the 99th percentile of brightness, 1 minus the 5th, the blur score, the entropy / 10, and
the short side / the long side."""
_BLUR_SCALE, _ENTROPY_SCALE = 0.01, 0.1
_RANGES = 3.0
"""Interquartile ranges beyond the quartiles from which a size is odd."""
_ODD_RATIO = 0.5
"""Ratio to the median size above which a size is never odd: where all are equal, the quartiles are, too."""
_COMMON = 0.1
"""Share of the images from which a finding is a property of the set."""
_RARE_FORMAT = 0.02
"""Share of the images below which a file format is odd."""
_LEAST_IMAGES = 20
"""Images from which sizes and formats are compared."""
_VISIBLE = 4.0
"""Mean difference of thumbnails, grey levels, from which an orientation flag changes the picture."""
_ORIENTED = {
    2: (False, (2,)), 3: (False, (1, 2)), 4: (False, (1,)), 5: (True, ()),
    6: (True, (1,)), 7: (True, (1, 2)), 8: (True, (2,)),
}  # fmt: skip
"""What a reader that ignores the flag sees of the upright image: transposed or not, then flipped along these axes."""


@dataclass(frozen=True)
class _Odd:
    """One kind of odd images.

    Args:
        name: of the finding.
        rows: of the images.
        scores: of these, from 0 to 1.
        details: of these, for the suggestion.
        together: describes all of them, where they are a property of the set.
    """

    name: str
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    details: list[str]
    together: str


def find_odd_images(audit: Audit) -> Iterator[Finding]:
    """Report odd images one by one, or once for the set where they are common."""
    images = audit.images
    if images is None or not images.is_read.any():
        return
    total = int(images.is_read.sum())
    for odd in _kinds(images):
        share = len(odd.rows) / total
        if share > _COMMON:
            suggestion = f"look: {odd.together} ({len(odd.rows)} of {total} images, a property of the data)"
            yield Finding("", odd.name, "note", share, suggestion)
            continue
        for row, score, details in zip(odd.rows.tolist(), odd.scores.tolist(), odd.details, strict=True):
            yield Finding(audit.dataset.items[row].id, odd.name, "warning", score, f"look: {details}")


def _kinds(images: ImageRecords) -> Iterable[_Odd]:
    is_flat = images["entropy"] * _ENTROPY_SCALE < FLAT
    is_dark = images["brightest"] < DARK
    yield _below(images, "dark", images["brightest"], DARK, "99% of the pixels are darker than {:.2f}", "dark images")
    light = 1 - images["darkest"]
    yield _below(images, "light", light, LIGHT, "95% of the pixels are within {:.2f} of white", "light images")
    entropy = images["entropy"] * _ENTROPY_SCALE
    yield _below(images, "flat", entropy, FLAT, "hardly any structure (entropy score {:.2f})", "plain images")
    blur = 1 - np.exp(-_BLUR_SCALE * images["sharpness"])
    blur = np.where(is_flat, 1, np.minimum(1, blur + np.where(is_dark, 1 - images["brightest"], 0)))
    yield _below(images, "blurry", blur, BLURRY, "hardly any edges (score {:.2f})", "blurred or smooth images")
    yield _odd_sizes(images)
    yield _odd_shapes(images)
    yield _odd_formats(images)
    yield _oriented(images)


def _below(
    images: ImageRecords, name: str, values: NDArray[np.float32], threshold: float, details: str, together: str
) -> _Odd:
    """Return the images whose value is below a threshold; the score grows with the distance from it."""
    rows = np.flatnonzero(images.is_read & (values < threshold))
    found = values[rows].astype(np.float64)
    return _Odd(name, rows, 1 - found, [details.format(value) for value in found], together)


def _odd_sizes(images: ImageRecords) -> _Odd:
    """Return the images much smaller or larger than the others (square root of the area)."""
    together = "images of very different sizes"
    known = np.flatnonzero(images.is_read)
    side = np.sqrt(images["width"][known].astype(np.float64) * images["height"][known])
    if len(known) < _LEAST_IMAGES:
        return _Odd("odd-size", known[:0], side[:0], [], together)
    low, middle, high = np.quantile(side, (0.25, 0.5, 0.75))
    reach = _RANGES * max(high - low, 1.0)
    ratio = np.minimum(side, middle) / np.maximum(side, middle)
    is_odd = ((side < low - reach) | (side > high + reach)) & (ratio < _ODD_RATIO)
    ratio, rows = ratio[is_odd], known[is_odd]
    details = [f"{_size(images, row)}, the median is {middle:.0f} squared" for row in rows.tolist()]
    return _Odd("odd-size", rows, 1 - ratio, details, together)


def _odd_shapes(images: ImageRecords) -> _Odd:
    """Return long, narrow images."""
    short, long = np.minimum(images["width"], images["height"]), np.maximum(images["width"], images["height"])
    ratio = short / np.maximum(1, long)
    rows = np.flatnonzero(images.is_read & (ratio < ASPECT))
    details = [f"{_size(images, row)}, a ratio of {ratio[row]:.2f}" for row in rows.tolist()]
    return _Odd("odd-size", rows, 1 - ratio[rows].astype(np.float64), details, "long, narrow images")


def _odd_formats(images: ImageRecords) -> _Odd:
    """Return the images whose file format hardly any other has, such as a single GIF among JPEG files."""
    known = np.flatnonzero(images.is_read)
    codes = images["format"][known].astype(np.int64)
    counts = np.bincount(codes, minlength=len(images.formats))
    shares = counts / max(1, len(known))
    is_odd = (shares[codes] < _RARE_FORMAT) | (counts[codes] == 1)
    is_odd &= len(known) >= _LEAST_IMAGES
    usual = images.formats[int(counts.argmax())] if len(known) else ""
    rows = known[is_odd]
    details = [
        f"{images.formats[code]}, as {counts[code]} of {len(known)} images; {counts.max()} are {usual}"
        for code in codes[is_odd].tolist()
    ]
    return _Odd("odd-format", rows, 1 - shares[codes[is_odd]], details, "images of several formats")


def _oriented(images: ImageRecords) -> _Odd:
    """Return the images that a reader without EXIF support shows differently."""
    rows = np.flatnonzero(images.is_read & (images["orientation"] > 1))
    differences = np.zeros(len(rows))
    for place, row in enumerate(rows.tolist()):
        is_transposed, flips = _ORIENTED.get(int(images["orientation"][row]), (False, ()))
        upright = images.thumbnails[row][None].astype(np.float32)
        turned = upright.transpose(0, 2, 1) if is_transposed else upright
        seen = np.flip(turned, flips) if flips else turned
        differences[place] = np.abs(seen - upright).mean()
    rows, differences = rows[differences >= _VISIBLE], differences[differences >= _VISIBLE]
    details = [
        f"EXIF orientation {images['orientation'][row]:.0f}: programs that ignore it see another picture"
        for row in rows.tolist()
    ]
    together = "EXIF orientation flags: programs that ignore them see other pictures"
    return _Odd("orientation", rows, np.minimum(1, differences / 128), details, together)


def _size(images: ImageRecords, row: int) -> str:
    return f"{images['width'][row]:.0f}x{images['height'][row]:.0f} pixels"
