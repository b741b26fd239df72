"""Resize large images before a graph sees them: it would hold several copies of the whole image in float32.

The same filters in the same fixed-point weights as the graph's (`exporting.pixels`), in blocks of bounded memory. The
graph then finds the image at its final size and leaves its pixels as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from restune.data.preprocess.image import ImagePreprocess

LARGE = 2**21
"""Pixels from which an image is resized here."""
_ASPECT, _MOST_RESIZED = 16, 2**26
_OUTPUTS = 32
"""Outputs whose filters are applied in one matrix product: neighbours, whose windows overlap."""
_STRIP = 2**20
"""Values resized at a time."""
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def shrunk(pixels: Pixels, preprocess: ImagePreprocess) -> Pixels:
    """Resize uint8 ``[H, W, C]`` as the graph would, where it is large and the size is not final already."""
    height, width = pixels.shape[:2]
    resize, crop = preprocess.resize, preprocess.crop
    if height * width < LARGE or min(height, width) <= (resize or crop):
        return pixels
    if resize is None:
        size = (crop, crop)
    else:
        pixels = _middle(pixels, max(2, min(_ASPECT, _MOST_RESIZED // resize**2)))
        height, width = pixels.shape[:2]
        short = min(height, width)
        size = (resize * height // short, resize * width // short)
    if preprocess.interpolation == "nearest":
        rows, columns = (_nearest(*pair) for pair in zip(pixels.shape[:2], size, strict=True))
        return pixels[rows][:, columns]
    across = _along(np.swapaxes(pixels, 0, 1), size[1], preprocess.interpolation)  # [W', H, C]
    return _along(np.swapaxes(across, 0, 1), size[0], preprocess.interpolation)


def _middle(pixels: Pixels, aspect: int) -> Pixels:
    height, width = pixels.shape[:2]
    longest = min(height, width) * aspect
    top, left = max(0, (height - longest) // 2), max(0, (width - longest) // 2)
    return pixels[top : top + longest, left : left + longest]


def _nearest(size: int, target: int) -> NDArray[np.int64]:
    places: NDArray[np.int64] = np.floor(np.arange(target, dtype=np.float32) * np.float32(size / target)).astype(
        np.int64
    )
    places[places >= size] = size - 1
    return places


def _along(pixels: Pixels, target: int, interpolation: str) -> Pixels:
    """Resize the first axis of ``[L, M, C]``, each value rounded to a byte."""
    length, others, channels = pixels.shape
    blocks = list(_blocks(length, target, interpolation))
    one = _unit(max(float(weights.max()) for _, _, weights in blocks))
    result = np.empty((target, others, channels), np.uint8)
    step = max(1, _STRIP // (length * channels))
    for first in range(0, others, step):
        strip = pixels[:, first : first + step]
        for start, window, weights in blocks:
            fixed = np.trunc(weights * one + np.copysign(np.float32(0.5), weights)) / one
            values = strip[window].astype(np.float32).reshape(weights.shape[1], -1)
            resized = np.floor(fixed @ values + np.float32(0.5)).clip(0, 255)
            result[start : start + len(weights), first : first + step] = resized.reshape(len(weights), -1, channels)
    return result


def _blocks(length: int, target: int, interpolation: str) -> Iterator[tuple[int, slice, Floats]]:
    """Yield the first output of each block, its window of inputs, and the filters ``[outputs, window]``."""
    scale = np.float32(length / target)
    reach = int(np.ceil((1 if interpolation == "bilinear" else 2) * max(scale, np.float32(1)))) + 1
    for start in range(0, target, _OUTPUTS):
        outputs = np.arange(start, min(target, start + _OUTPUTS), dtype=np.float32)
        centres = (outputs + np.float32(0.5)) * scale
        window = slice(max(0, int(centres[0]) - reach), min(length, int(centres[-1]) + reach + 1))
        inputs = np.arange(window.start, window.stop, dtype=np.float32) + np.float32(0.5)
        distance: Floats = np.abs(inputs[None] - centres[:, None]) / np.maximum(scale, np.float32(1))
        weights = _triangle(distance) if interpolation == "bilinear" else _cubic(distance)
        yield start, window, weights / weights.sum(axis=1, keepdims=True)


def _unit(largest: float) -> np.float32:
    """Return 1 as torch's kernel for bytes writes it: with the most binary places that keep the largest weight below
    2^15."""
    places = sum(largest * 2.0**place < 32767.5 for place in range(1, 23))
    return np.float32(2.0**places)


def _triangle(x: Floats) -> Floats:
    weights: Floats = np.maximum(np.float32(1) - x, np.float32(0))
    return weights


def _cubic(x: Floats) -> Floats:
    """Keys' kernel with a = -0.5 (Keys 1981)."""
    near = (np.float32(1.5) * x - np.float32(2.5)) * x * x + 1
    far = ((np.float32(-0.5) * x + np.float32(2.5)) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, np.float32(0))).astype(np.float32)
