"""Properties of one image: size, brightness, blur, colour, compression.

Brightness, blur and entropy are computed as CleanVision 0.3 computes them
(https://github.com/cleanlab/cleanvision, issue_managers/image_property.py).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter, ImageStat

from restune.data.decode import Preview

MEASURES = (
    *("width", "height", "brightness", "darkest", "brightest", "contrast", "red", "green", "blue", "colourfulness"),
    *("sharpness", "entropy", "bytes_per_pixel", "orientation", "format"),
)
"""Names of the columns: `darkest` and `brightest` are the 5th and 99th percentile of brightness, `sharpness` the
standard deviation of the edges, `entropy` in bits; brightness and colours from 0 to 1."""
_BLUR_SIDE = 64
"""Longer side at which blur is measured, pixels."""
_SAMPLED = 128
"""Rows and columns that brightness is measured on."""
_LUMA = np.array([0.241, 0.691, 0.068], np.float32)


def measure(image: Image.Image, preview: Preview, size: int) -> tuple[float, ...]:
    """Return the values of `MEASURES` but the last.

    Args:
        image: the preview's pixels.
        preview: the image at a reduced size.
        size: bytes of the encoded image; 0 if it was not encoded.
    """
    array = np.asarray(image)
    step = max(1, max(array.shape[:2]) // _SAMPLED)
    sampled = array[::step, ::step].astype(np.float32)
    bright = np.sqrt(np.square(sampled) @ _LUMA).ravel() / 255
    low, high = np.quantile(bright, (0.05, 0.99))
    red, green, blue = (float(value) / 255 for value in sampled.mean((0, 1)))
    colourfulness = float((sampled.max(2) - sampled.min(2)).mean()) / 255
    return (
        *(preview.width, preview.height, float(bright.mean()), float(low), float(high), float(bright.std())),
        *(red, green, blue, colourfulness, _sharpness(image), image.entropy()),
        *(size / (preview.width * preview.height), preview.orientation),
    )


def _sharpness(image: Image.Image) -> float:
    """Return the standard deviation of the edges of the image at `_BLUR_SIDE`; small for blurred images."""
    ratio = max(image.size) / _BLUR_SIDE
    if ratio > 1:
        image = image.resize((max(1, int(image.width // ratio)), max(1, int(image.height // ratio))))
    return float(ImageStat.Stat(image.convert("L").filter(ImageFilter.FIND_EDGES)).var[0] ** 0.5)
