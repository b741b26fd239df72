"""Pairs of images that may be copies: those whose hashes agree in one of several bands of low frequencies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from restune.data.audit.perceptual import TRANSFORMS, coefficients_of, distances, hashes_of, window_matrix

_CORNERS = ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1))
_BANDS, _BITS = 4, 16
_UNSURE = 4
"""Bits of a band with the smallest coefficients: they are tried with either sign, up to `_FLIPS` at a time."""
_FLIPS = 2
_WINDOW = 48
"""Members of a bucket that an image is compared with: those with the nearest hashes. Larger buckets hold many images of
one scene."""
_MOST, _MOST_WINDOWS = 8, 3
"""Candidates of an image for each change, and for each cut-out: the nearest."""
_MOST_BITS = 90
"""Bits of 256 in which candidates may differ; unrelated images differ in 128 on average."""
_CHUNK = 4096
"""Images whose buckets are looked up at a time."""
WINDOW_SIDE = 0.92
"""Side of the cut-outs that are looked up, as a share of the image's side: cut-outs of 88% to 96% resemble them."""
WINDOWS = tuple((top * (1 - WINDOW_SIDE), left * (1 - WINDOW_SIDE)) for top, left in _CORNERS)
"""Top and left of these cut-outs, as shares of the image's side."""


def _frequencies() -> NDArray[np.int64]:
    """Return the places of the lowest coefficients, those of a band in one row; each band has low and high ones."""
    places = sorted((u + v, abs(u - v), u, v) for u in range(16) for v in range(16) if u + v)
    lowest = [u * 16 + v for _, _, u, v in places[: _BANDS * _BITS]]
    return np.array([lowest[band::_BANDS] for band in range(_BANDS)])


_PLACES = _frequencies()
_WEIGHTS = (1 << np.arange(_BITS)).astype(np.int64)


@dataclass(frozen=True)
class _Buckets:
    """Images by their key in one band.

    Args:
        order: indices of images, sorted by key, then by hash.
        starts: where each key's images begin in `order`.
        keys: of the images in this order, each with the first bits of its hash.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    keys: NDArray[np.uint64]

    @classmethod
    def of(cls, keys: NDArray[np.int64], hashes: NDArray[np.uint64]) -> _Buckets:
        whole = _with_hash(keys, hashes)
        order = np.argsort(whole, kind="stable")
        return cls(order, np.searchsorted(keys[order], np.arange(2**_BITS + 1)), whole[order])

    def pairs(
        self, band: NDArray[np.float32], hashes: NDArray[np.uint64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield index pairs of images here and rows of `band` with the same key, probe by probe.

        Of a large bucket only the images with the nearest hashes.
        """
        for probe in _probes(band):
            low, counts = self.starts[probe], self.starts[probe + 1] - self.starts[probe]
            large = np.flatnonzero(counts > _WINDOW)
            if len(large):
                places = np.searchsorted(self.keys, _with_hash(probe[large], hashes[large])) - _WINDOW // 2
                low[large] = np.clip(places, low[large], low[large] + counts[large] - _WINDOW)
                counts[large] = _WINDOW
            second = np.repeat(np.arange(len(band)), counts)
            within = np.arange(len(second)) - np.repeat(np.cumsum(counts) - counts, counts)
            yield self.order[low[second] + within], second


def _with_hash(keys: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return keys followed by the first bits of the hashes."""
    return (keys.astype(np.uint64) << np.uint64(64 - _BITS)) | (hashes[:, 0] >> np.uint64(_BITS))


def candidate_pairs(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return rows ``(first, second, change)``: the second image, changed, resembles the first.

    A change below 8 is one of `TRANSFORMS`, from 8 on one of `WINDOWS`: the first image is a cut-out of the second.

    Args:
        thumbnails: of the images, ``[N, 32, 32]``.
    """
    hashes, keys = _indexed(thumbnails)
    buckets = [_Buckets.of(key, hashes) for key in keys]
    found = [np.empty((0, 3), np.int64)]
    for start in range(0, len(thumbnails), _CHUNK):
        part = thumbnails[start : start + _CHUNK]
        for change, coefficients in enumerate(_changed(part)):
            turned = hashes_of(coefficients)
            flat = coefficients.reshape(len(part), -1)
            near: list[NDArray[np.int64]] = []
            for band, places in enumerate(_PLACES):
                for first, second in buckets[band].pairs(flat[:, places], turned):
                    apart = distances(hashes[first], turned[second])
                    kept = (apart <= _MOST_BITS) & (first != second + start)
                    near.append(np.stack([second[kept], apart[kept], first[kept]], 1))
            most = _MOST if change < len(TRANSFORMS) else _MOST_WINDOWS
            second, first = _nearest(np.concatenate(near), most)
            found.append(np.stack([first, second + start, np.full(len(first), change)], 1))
    return _each_once(np.concatenate(found))


def _nearest(pairs: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each query its nearest images, at most `most`, from rows ``(query, distance, image)``."""
    pairs = np.unique(pairs, axis=0)  # sorted by query, then by distance
    first_of = np.searchsorted(pairs[:, 0], pairs[:, 0])
    pairs = pairs[np.arange(len(pairs)) - first_of < most]
    return pairs[:, 0], pairs[:, 2]


def _indexed(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the hashes of all thumbnails and, for each band, their keys."""
    hashes = np.empty((len(thumbnails), 4), np.uint64)
    keys = np.empty((_BANDS, len(thumbnails)), np.int64)
    for start in range(0, len(thumbnails), _CHUNK):
        coefficients = coefficients_of(thumbnails[start : start + _CHUNK])
        hashes[start : start + _CHUNK] = hashes_of(coefficients)
        flat = coefficients.reshape(len(coefficients), -1)
        for band, places in enumerate(_PLACES):
            keys[band, start : start + _CHUNK] = (flat[:, places] > 0) @ _WEIGHTS
    return hashes, keys


def _changed(thumbnails: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """Yield the coefficients of flipped and turned images, then those of cut-outs."""
    whole = coefficients_of(thumbnails)
    for transform in TRANSFORMS:
        yield np.ascontiguousarray(transform.of_coefficients(whole))
    images = thumbnails.astype(np.float32)
    for top, left in WINDOWS:
        rows, columns = window_matrix(top, WINDOW_SIDE), window_matrix(left, WINDOW_SIDE)
        yield coefficients_of(rows @ images @ columns.T)


def _probes(band: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
    """Yield keys: the band's own, and those with one or two of its least certain bits inverted."""
    key = (band > 0) @ _WEIGHTS
    unsure = np.argpartition(np.abs(band), _UNSURE, axis=1)[:, :_UNSURE]
    for count in range(_FLIPS + 1):
        for chosen in combinations(range(_UNSURE), count):
            yield key ^ _WEIGHTS[unsure[:, list(chosen)]].sum(1, dtype=np.int64)


def _each_once(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each pair with each change once; without a window, the smaller index first."""
    inverse = np.array([0, 1, 2, 3, 4, 6, 5, 7, *range(len(TRANSFORMS), len(TRANSFORMS) + len(WINDOWS))])
    swapped = (pairs[:, 0] > pairs[:, 1]) & (pairs[:, 2] < len(TRANSFORMS))
    pairs[swapped] = np.stack([pairs[swapped, 1], pairs[swapped, 0], inverse[pairs[swapped, 2]]], 1)
    return np.unique(pairs, axis=0)
