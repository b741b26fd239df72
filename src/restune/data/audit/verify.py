"""Compare thumbnails of candidate pairs: the same picture, or another one of the same scene?

Two photographs of one scene agree in their low frequencies; copies of one photograph agree in the fine structure, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from restune.data.audit.candidates import WINDOW_SIDE, WINDOWS
from restune.data.audit.perceptual import TRANSFORMS, window_matrices

_LEAST_WHOLE = 0.85
"""Correlation of whole thumbnails that copies have."""
_LEAST_FINE = 0.87
"""Correlation of fine structure that copies have: two photographs of one hand reach 0.85."""
_LEAST_FINE_SMALL = 0.7
"""The same for images of at most `_SMALL` pixels, whose fine structure re-encoding and resizing change."""
_LEAST_FINE_CUT, _LEAST_FINE_CUT_SMALL = 0.915, 0.8
"""The same for cut-outs, whose window is fitted: successive photographs of a moving hand reach 0.91."""
_SMALL = 64
_BLUR = 5
"""Side of the mean filter that is subtracted to leave the fine structure, pixels."""
_MARGIN, _RISE, _RISES = 0.06, 0.01, 35
"""Scores just below a limit, how far it rises at a time, and how often at most."""
_FEW, _FEW_BELOW = 0.001, 0.1
"""Pairs per item, or per pair above the limit, that may lie just below it."""
_CHUNK = 2048
_STEPS = 6
_LEAST_BEFORE = 0.65
"""Correlation of whole thumbnails below which aligning a cut-out is hopeless."""


@dataclass(frozen=True)
class Pairs:
    """Verified pairs of copies.

    Args:
        first, second: indices of images.
        change: what turns the second image into the first, see `candidate_pairs`.
        scores: correlation of their fine structure.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    change: NDArray[np.int64]
    scores: NDArray[np.float32]


def verified(thumbnails: NDArray[np.uint8], sides: NDArray[np.int64], candidates: NDArray[np.int64]) -> Pairs:
    """Return the candidate pairs that are copies.

    Args:
        thumbnails: of the images, ``[N, 32, 32]``.
        sides: each image's longer side, pixels.
        candidates: rows from `candidate_pairs`.
    """
    is_cut = candidates[:, 2] >= len(TRANSFORMS)
    scores = np.zeros(len(candidates), np.float32)
    is_copy = np.zeros(len(candidates), bool)
    whole_rows = np.flatnonzero(~is_cut)
    _score(scores, whole_rows, thumbnails, candidates)
    is_copy[whole_rows] = _accepted(scores[whole_rows], _least_fine(candidates[whole_rows], sides), len(thumbnails))
    pairs = np.sort(candidates[:, :2], axis=1) @ np.array([len(thumbnails), 1])
    cut_rows = np.flatnonzero(is_cut & ~np.isin(pairs, pairs[is_copy]))  # copies of whole images need no window
    _score(scores, cut_rows, thumbnails, candidates)
    is_copy[cut_rows] = _accepted(scores[cut_rows], _least_fine(candidates[cut_rows], sides), len(thumbnails))
    first, second, change = candidates[is_copy].T
    return Pairs(first, second, change, scores[is_copy])


def _score(
    scores: NDArray[np.float32], rows: NDArray[np.int64], thumbnails: NDArray[np.uint8], candidates: NDArray[np.int64]
) -> None:
    """Set the scores of some rows; 0 where the whole thumbnails do not agree."""
    for change in np.unique(candidates[rows, 2]).tolist():
        own = rows[candidates[rows, 2] == change]
        for start in range(0, len(own), _CHUNK):
            part = own[start : start + _CHUNK]
            whole, fine = _compared(thumbnails[candidates[part, 0]], thumbnails[candidates[part, 1]], change)
            scores[part] = np.where(whole >= _LEAST_WHOLE, fine, 0)


def _accepted(scores: NDArray[np.float32], least: NDArray[np.float64], items: int) -> NDArray[np.bool_]:
    """Return which scores are high enough.

    Copies agree far better than the next best pairs. Where many pairs lie just below the limit, as among handwritten
    digits, which consist of a few strokes, the limit rises until few do.
    """
    above = np.sort(scores - least)
    for step in range(_RISES):
        raised = step * _RISE
        start, middle = np.searchsorted(above, [raised - _MARGIN, raised])
        if middle - start <= max(_FEW_BELOW * (len(above) - middle), _FEW * items):
            accepted: NDArray[np.bool_] = scores >= least + raised
            return accepted
    return np.zeros(len(scores), bool)


def _least_fine(candidates: NDArray[np.int64], sides: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each candidate pair the correlation of fine structure that copies have."""
    is_cut = candidates[:, 2] >= len(TRANSFORMS)
    small = np.minimum(sides[candidates[:, 0]], sides[candidates[:, 1]]) <= _SMALL
    ordinary = np.where(is_cut, _LEAST_FINE_CUT, _LEAST_FINE)
    return np.where(small, np.where(is_cut, _LEAST_FINE_CUT_SMALL, _LEAST_FINE_SMALL), ordinary)


def _compared(
    first: NDArray[np.uint8], second: NDArray[np.uint8], change: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the correlations of whole thumbnails and of their fine structure, the second image changed."""
    if change < len(TRANSFORMS):
        turned = TRANSFORMS[change].of_images(second)
        return correlations(first.astype(np.float32), turned.astype(np.float32))
    top, left = WINDOWS[change - len(TRANSFORMS)]
    return _aligned(first.astype(np.float32), second.astype(np.float32), top, left)


def correlations(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the correlations of images ``[N, H, W]``, whole and of their fine structure."""
    return _correlation(first, second), _correlation(_fine(first), _fine(second))


def _fine(images: NDArray[np.float32]) -> NDArray[np.float32]:
    blurred: NDArray[np.float32] = uniform_filter(images, (0, _BLUR, _BLUR))
    return images - blurred


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    one, other = _standardised(first), _standardised(second)
    product: NDArray[np.float32] = (one * other).sum(1)
    return product


def _standardised(images: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = images.reshape(len(images), -1)
    rows = rows - rows.mean(1, keepdims=True)
    standardised: NDArray[np.float32] = rows / np.maximum(1e-6, np.linalg.norm(rows, axis=1, keepdims=True))
    return standardised


def _aligned(
    cut: NDArray[np.float32], whole: NDArray[np.float32], top: float, left: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the correlations of cut-outs with the windows of whole images that fit them best.

    Gauss-Newton steps on the window's top, left, height and width, as Lucas and Kanade (1981) register images.
    """
    count = len(cut)
    windows = np.tile(
        np.array([top, left, WINDOW_SIDE, WINDOW_SIDE], np.float32), (count, 1)
    )  # top, left, height, width
    target = _standardised(cut).reshape(cut.shape)
    image = _standardised(whole).reshape(whole.shape)
    is_open = _correlation(cut, _cut_out(whole, windows)) >= _LEAST_BEFORE
    rows = np.flatnonzero(is_open)
    for _ in range(_STEPS):
        if not len(rows):
            break
        windows[rows] = _stepped(target[rows], image[rows], windows[rows])
    is_inside = (windows[:, :2] > -0.03).all(1) & (windows[:, :2] + windows[:, 2:] < 1.03).all(1)
    is_inside &= (windows[:, 2:] > 0.8).all(1) & is_open
    whole_score, fine_score = correlations(cut, _cut_out(whole, windows))
    return np.where(is_inside, whole_score, 0), np.where(is_inside, fine_score, 0)


def _stepped(
    target: NDArray[np.float32], image: NDArray[np.float32], windows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return windows after one Gauss-Newton step on the squared difference, with a free gain and offset."""
    seen = _cut_out(image, windows)
    down, right = np.gradient(seen, axis=1), np.gradient(seen, axis=2)
    side = seen.shape[1]
    place = ((np.arange(side, dtype=np.float32) + 0.5) / side).astype(np.float32)
    scale_down, scale_right = side / windows[:, 2], side / windows[:, 3]  # from shares of the image to pixels seen
    columns = np.stack(
        [
            down * scale_down[:, None, None],
            right * scale_right[:, None, None],
            down * place[:, None] * scale_down[:, None, None],
            right * place * scale_right[:, None, None],
            seen,
            np.ones_like(seen),
        ],
        axis=3,
    ).reshape(len(seen), side * side, 6)
    residual = (target - seen).reshape(len(seen), side * side, 1)
    turned = columns.transpose(0, 2, 1)
    normal = turned @ columns + 1e-4 * np.eye(6, dtype=np.float32)
    step = np.linalg.solve(normal, turned @ residual)[:, :4, 0]
    stepped: NDArray[np.float32] = np.clip(windows + np.clip(step, -0.06, 0.06), -0.1, 1.1).astype(np.float32)
    return stepped


def _cut_out(images: NDArray[np.float32], windows: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = window_matrices(windows[:, 0], windows[:, 2])
    columns = window_matrices(windows[:, 1], windows[:, 3])
    return np.asarray(rows @ images @ columns.transpose(0, 2, 1), np.float32)
