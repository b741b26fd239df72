"""Perceptual hashes of thumbnails that know the eight flips and quarter turns of an image.

A hash is the signs of the lowest 16 x 16 coefficients of the thumbnail's discrete cosine transform, 256 bits, of which
the first carries nothing. Signs ignore brightness and contrast. A flip of the image changes the sign of every second
coefficient, and a transposition exchanges rows and columns, so that the hashes of all eight variants follow from one
transform. Source: Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010), 3.2.1, which
takes 64 bits and the median as threshold; 64 bits group unrelated dark and plain images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

THUMBNAIL = 32
"""Side of the thumbnails, pixels."""
_SIDE = 16
_CHUNK = 4096
_LEAST_DEVIATION = 4.0
"""Standard deviation of a thumbnail, grey levels, below which it is too plain to be compared: signs are noise."""


@dataclass(frozen=True)
class Transform:
    """One of the eight variants of a square image: transposed first, then flipped.

    Args:
        name: for messages.
        is_transposed: rows become columns.
        flips_rows, flips_columns: top and bottom, left and right are exchanged.
    """

    name: str
    is_transposed: bool = False
    flips_rows: bool = False
    flips_columns: bool = False

    def of_images(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return images ``[N, H, W]`` transformed."""
        turned = images.transpose(0, 2, 1) if self.is_transposed else images
        return turned[:, :: -1 if self.flips_rows else 1, :: -1 if self.flips_columns else 1]

    def of_coefficients(self, coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the coefficients ``[N, U, V]`` of the transformed images."""
        turned = coefficients.transpose(0, 2, 1) if self.is_transposed else coefficients
        alternating = np.where(np.arange(coefficients.shape[1]) % 2, -1, 1).astype(np.float32)
        if self.flips_rows:
            turned = turned * alternating[:, None]
        return turned * alternating if self.flips_columns else turned


TRANSFORMS = (
    Transform("as it is"),
    Transform("mirrored", flips_columns=True),
    Transform("flipped upside down", flips_rows=True),
    Transform("rotated by 180 degrees", flips_rows=True, flips_columns=True),
    Transform("transposed", is_transposed=True),
    Transform("rotated by 90 degrees", is_transposed=True, flips_columns=True),
    Transform("rotated by 270 degrees", is_transposed=True, flips_rows=True),
    Transform("transposed along the other diagonal", is_transposed=True, flips_rows=True, flips_columns=True),
)


def coefficients_of(thumbnails: NDArray[Any]) -> NDArray[np.float32]:
    """Return the lowest 16 x 16 cosine coefficients of thumbnails ``[N, 32, 32]``, the mean replaced by 0."""
    rows = dct(thumbnails.astype(np.float32), axis=1, norm="ortho")[:, :_SIDE]
    lowest: NDArray[np.float32] = dct(rows, axis=2, norm="ortho")[:, :, :_SIDE]
    lowest[:, 0, 0] = 0
    return np.asarray(lowest, np.float32)


def hashes_of(coefficients: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return 256-bit hashes ``[N, 4]`` of coefficients ``[N, 16, 16]``."""
    bits = np.packbits(coefficients.reshape(len(coefficients), -1) > 0, axis=1)
    return bits.view(np.uint64).reshape(len(coefficients), 4)


def distances(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of bits by which hashes ``[N, 4]`` differ, pair by pair."""
    counts: NDArray[np.int64] = np.bitwise_count(first ^ second).sum(1, dtype=np.int64)
    return counts


def is_comparable(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which thumbnails show enough to be compared; dark, light and plain ones resemble each other."""
    deviations = np.zeros(len(thumbnails), np.float32)
    for start in range(0, len(thumbnails), _CHUNK):
        part = thumbnails[start : start + _CHUNK]
        deviations[start : start + _CHUNK] = part.reshape(len(part), -1).std(1, dtype=np.float32)
    comparable: NDArray[np.bool_] = deviations >= _LEAST_DEVIATION
    return comparable


def window_matrix(start: float, side: float) -> NDArray[np.float32]:
    """Return the 32 x 32 matrix that resamples a thumbnail's rows (or columns) from a window of it, linearly.

    Args:
        start, side: of the window, as shares of the thumbnail's side.
    """
    matrix: NDArray[np.float32] = window_matrices(np.array([start], np.float32), np.array([side], np.float32))[0]
    return matrix


def window_matrices(start: NDArray[np.float32], side: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the matrices ``[N, 32, 32]`` of N windows, see `window_matrix`."""
    centres = (np.arange(THUMBNAIL, dtype=np.float32) + 0.5) / THUMBNAIL
    places = np.clip((start[:, None] + side[:, None] * centres) * THUMBNAIL - 0.5, 0, THUMBNAIL - 1)
    apart = np.abs(places[:, :, None] - np.arange(THUMBNAIL, dtype=np.float32))
    matrices: NDArray[np.float32] = np.maximum(0, 1 - apart).astype(np.float32)
    return matrices
