"""What the report shows of the items to look at: thumbnails, texts and series, read from the data when a run ends."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from restune.data.dataset import Dataset
from restune.data.items import ids_of
from restune.data.preprocess import Preprocess
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.mistakes import to_look_at
from restune.reporting.gallery import Saved, write_gallery

_SIDE = 160
_FRAMES = 3
_CHARACTERS = 400
_POINTS, _CHANNELS = 160, 3
_MOST_VIDEOS = 12
"""Videos that are decoded once more for their thumbnails."""


def save_gallery(
    folder: Path, scores: Mapping[str, Evaluation], data: Mapping[str, Dataset], preprocess: Preprocess
) -> None:
    """Save what is shown of the worst mistakes and most uncertain items of the test split, else of validation.

    Items that cannot be read are left out. At most 48 items are read.
    """
    split = next((name for name in ("test", "val") if name in scores), None)
    if split is None:
        return
    wanted = [scores[split].ids[one.position] for one in to_look_at(scores[split])]
    if preprocess.kind == "video":
        wanted = wanted[:_MOST_VIDEOS]
    names, items, saved = set(wanted), data[split].items, {}
    for position, name in enumerate(ids_of(items)):
        if name in names and name not in saved:
            with suppress(OSError, ValueError):
                saved[name] = saved_of(items[position].location.read(), preprocess)
    write_gallery(folder, split, saved)


def saved_of(content: Any, preprocess: Preprocess) -> Saved:
    """Return what is shown of an item: what the network reads of an image or a video, a text's beginning, a series.

    Raises OSError, ValueError where it cannot be decoded.
    """
    if preprocess.kind == "text":
        text_of: Any = getattr(preprocess, "text_of")  # noqa: B009  # texts only
        return Saved(text=text_of(content)[:_CHARACTERS])
    sample = preprocess.apply(content).numpy()
    if preprocess.kind == "signal":
        return Saved(series=tuple(map(_thinned, sample[:_CHANNELS])))
    pixels = sample if sample.ndim == 3 else _frames(sample)
    return Saved(image=data_url(Image.fromarray(_rgb(pixels)), _SIDE * (1 if sample.ndim == 3 else _FRAMES)))


def data_url(image: Image.Image, longest: int) -> str:
    """Return a picture as a data URL: small, WebP or where Pillow lacks that JPEG."""
    image.thumbnail((longest, longest))
    kind = "webp" if features.check("webp") else "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, format=kind.upper(), quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _frames(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a few frames of a clip ``[C, T, H, W]`` side by side, ``[C, H, W]``."""
    chosen = np.unique(np.linspace(0, clip.shape[1] - 1, _FRAMES).round().astype(int))
    return np.concatenate([clip[:, frame] for frame in chosen], axis=2)


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``[H, W, 3]`` of ``[C, H, W]``: grey for one channel, the mean of the channels for other than three."""
    if len(pixels) not in (1, 3):
        pixels = pixels.mean(axis=0, keepdims=True).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))


def _thinned(values: NDArray[np.float32]) -> tuple[float, ...]:
    """Return a channel at some of its positions, from 0 to 1."""
    places = np.linspace(0, len(values) - 1, min(_POINTS, len(values))).round().astype(int)
    shown = values[places].astype(np.float64)
    low, span = shown.min(), shown.max() - shown.min()
    return tuple(((shown - low) / span if span > 0 else np.full(len(shown), 0.5)).round(3).tolist())
