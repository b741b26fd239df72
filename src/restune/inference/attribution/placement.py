"""Where positions of a network's map lie in its input, and where the input lies in the original."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Placement:
    """The part of the original that the network saw.

    Args:
        size: of the original: pixels ``(H, W)`` of the upright photo, values ``(L,)`` of a series.
        seen: start and end of that part along each axis; fractions of pixels for photos.
    """

    size: tuple[int, ...]
    seen: tuple[tuple[float, float], ...]


def image_placement(size: tuple[int, int], resize: int | None, crop: int) -> Placement:
    """Return which part of an upright photo `resize.resize_and_crop` keeps."""
    if resize is None:
        return Placement(size, ((0.0, float(size[0])), (0.0, float(size[1]))))
    from restune.data.resize import longest_side, shorter_side_sizes

    short = min(size)
    strip = tuple(min(side, longest_side(short, resize)) for side in size)
    seen = []
    for side, kept, resized in zip(size, strip, shorter_side_sizes(strip[0], strip[1], resize), strict=True):
        offset = (side - kept) // 2  # of a strip's middle
        start, scale = round((resized - crop) / 2.0), kept / resized
        seen.append((offset + start * scale, offset + (start + crop) * scale))
    return Placement(size, (seen[0], seen[1]))


def series_placement(length: int, longest: int | None) -> Placement:
    """Return which values of a series `SignalPreprocess.view` keeps."""
    kept = length if longest is None else min(length, longest)
    start = (length - kept) // 2
    return Placement((length,), ((float(start), float(start + kept)),))


def enlarged(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Interpolate a stage's map linearly to the input's shape.

    Position p of a map of stride s is drawn where its receptive field is centred, at ``s * p`` of the input; beyond the
    last centre its value is repeated.
    """
    for axis, length in enumerate(shape):
        have = values.shape[axis]
        if have != length:
            values = _along(values, axis, np.arange(length) / stride_of(length, have))
    return values.astype(np.float32, copy=False)


def stride_of(length: int, positions: int) -> float:
    """Return the stride between an input's length and a map's: the power of 2 that gives this many positions."""
    stride = 1
    while stride <= length:
        if -(-length // stride) == positions:
            return float(stride)
        stride *= 2
    return length / positions


def on_original(values: NDArray[np.float32], placement: Placement, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Place a map in the input's coordinates on the original, drawn at a `size`; NaN where the network saw nothing."""
    for axis, (whole, length, (start, end)) in enumerate(zip(placement.size, size, placement.seen, strict=True)):
        centres = (np.arange(length) + 0.5) * (whole / length)
        places = (centres - start) * (values.shape[axis] / (end - start)) - 0.5
        placed = _along(values, axis, places)
        unseen = (centres < start) | (centres > end)
        if unseen.any():
            selection: list[slice | NDArray[np.bool_]] = [slice(None)] * placed.ndim
            selection[axis] = unseen
            placed[tuple(selection)] = np.nan
        values = placed
    return values


def _along(values: NDArray[np.float32], axis: int, places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate linearly at fractional places along an axis; ends are repeated."""
    most = values.shape[axis] - 1
    places = np.clip(places, 0, most)
    low = np.floor(places).astype(np.intp)
    share = (places - low).astype(np.float32).reshape([-1 if at == axis else 1 for at in range(values.ndim)])
    before, after = np.take(values, low, axis), np.take(values, np.minimum(low + 1, most), axis)
    return np.asarray(before * (1 - share) + after * share, np.float32)
