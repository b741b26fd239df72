"""Random augmentation of series and texts, with every parameter drawn from stateless streams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.console import note
from restune.core.streams import generator
from restune.data.augment import Augment, RandomKey
from restune.data.dataset import Item
from restune.data.preprocess import Preprocess

UNKNOWN = 1
"""The token id that replaces a dropped token: the unknown word, or byte 0, which does not occur in texts."""

_KNOTS = 6
"""Points in time with a random speed each when time is warped; speeds are interpolated between them."""


def change_time(series: Sequence[Tensor], augment: Augment, key: RandomKey) -> list[Tensor]:
    """Cut a random window of each raw series ``[C, L]`` and warp its time."""
    changed = list(series)
    if augment.window < 1:
        draws = key.draw("window", 1)[:, 0]
        changed = [_window(one, augment.window, draw) for one, draw in zip(changed, draws, strict=True)]
    if augment.warp:
        draws = key.draw("warp", _KNOTS)
        changed = [_warped(one, augment.warp, row) for one, row in zip(changed, draws, strict=True)]
    return changed


def change_values(batch: Tensor, augment: Augment, key: RandomKey) -> Tensor:
    """Scale each channel of normalised series ``[N, C, L]`` by a random factor and add noise; NaN padding stays NaN."""
    if not augment.scaling and not augment.jitter:
        return batch
    channels, length = batch.shape[1:]
    for row, position in enumerate(key.positions):
        random = generator(key.seed, key.stream + "noise", key.epoch, position)
        if augment.scaling:
            factors = 1 + augment.scaling * random.standard_normal((channels, 1))
            batch[row] *= torch.from_numpy(factors.astype(np.float32))
        if augment.jitter:
            # Drawn along time, so that an item's noise does not depend on how far its batch is padded.
            noise = augment.jitter * random.standard_normal((length, channels), np.float32)
            batch[row] += torch.from_numpy(noise).T
    return batch


def drop_tokens(texts: Sequence[Tensor], share: float, key: RandomKey) -> list[Tensor]:
    """Replace a random share of each text's tokens ``[L]`` by the unknown token."""
    if not share:
        return list(texts)
    dropped = []
    for text, position in zip(texts, key.positions, strict=True):
        random = generator(key.seed, key.stream + "tokens", key.epoch, position)
        gone = torch.from_numpy(random.random(len(text), np.float32) < share)
        dropped.append(text.masked_fill(gone, UNKNOWN))
    return dropped


def _window(series: Tensor, share: float, draw: float) -> Tensor:
    length = series.shape[1]
    size = max(1, round(length * share))
    start = int(draw * (length - size + 1))
    return series[:, start : start + size]


def _warped(series: Tensor, strength: float, draw: NDArray[np.float64]) -> Tensor:
    """Warp time by speeds from ``1 / (1 + strength)`` to ``1 + strength``, keeping the length (Um et al. 2017)."""
    length = series.shape[1]
    if length < 2:
        return series
    speeds = np.exp((2 * draw - 1) * np.log1p(strength))
    knots = np.linspace(0, 1, len(speeds))
    travelled = np.cumsum(np.interp(np.linspace(0, 1, length), knots, speeds))
    positions = (travelled - travelled[0]) / (travelled[-1] - travelled[0]) * (length - 1)
    steps = np.arange(length)
    rows = [np.interp(positions, steps, row) for row in series.numpy()]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


_WINDOW, _LEAST_WINDOW, _SAMPLED = 256, 0.5, 200


def default_window(items: Sequence[Item], preprocess: Preprocess) -> float:
    """Return the default length of random windows as a share of a series: 256 / median length, from 0.5 to 1."""
    lengths = [preprocess.whole(item.location.read()).shape[-1] for item in items[:_SAMPLED]]
    median = sorted(lengths)[len(lengths) // 2]
    window = min(1.0, max(_LEAST_WINDOW, _WINDOW / median))
    if window < 1:
        note(f"augment.window: {window:.2f} (median length {median} values)")
    return window
