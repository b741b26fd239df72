"""What the report shows of the items to look at, with attribution: read from the data when a run ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restune.core.console import quiet
from restune.core.errors import UserError
from restune.data.dataset import Dataset, Item
from restune.data.items import ids_of
from restune.data.preprocess import Preprocess
from restune.evaluation.attribution.colours import scaled
from restune.evaluation.attribution.overlay import as_rgb, data_url, overlaid
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.mistakes import to_look_at
from restune.inference.attribution.explain import explain_items
from restune.inference.attribution.explanation import Explanation
from restune.inference.attribution.method import Attribution
from restune.inference.model import Model
from restune.networks.custom import CustomNetwork
from restune.reporting.gallery import Saved, write_gallery

_SIDE, _FRAMES = 160, 3
_SMALL = 80
_CHARACTERS = 400
_POINTS, _CHANNELS = 160, 3
_MOST_VIDEOS = 12
"""Videos that are decoded once more for their thumbnails."""


def save_gallery(folder: Path, scores: Mapping[str, Any], data: Mapping[str, Dataset], model: Model) -> None:
    """Save what is shown of the worst mistakes and most uncertain items of the test split, else of validation.

    At most 48 items are read, 12 videos. Items that cannot be read are left out.
    """
    split = next((name for name in ("test", "val") if isinstance(scores.get(name), Evaluation)), None)
    if split is None:
        return
    wanted = [scores[split].ids[one.position] for one in to_look_at(scores[split])]
    if model.preprocess.kind == "video":
        wanted = wanted[:_MOST_VIDEOS]
    names, items = set(wanted), data[split].items
    chosen = [items[position] for position, name in enumerate(ids_of(items)) if name in names]
    explanations = _explanations(model, chosen)
    saved: dict[str, Saved] = {}
    for item in chosen:
        with suppress(OSError, ValueError):
            saved[item.id] = saved_of(item.location.read(), model.preprocess, explanations.get(item.id))
    write_gallery(folder, split, saved)


def _explanations(model: Model, items: Sequence[Item]) -> dict[str, Explanation]:
    """Return the map of each item's predicted class, by id; none of a module of one's own, whose maps are unknown."""
    found: dict[str, Explanation] = {}
    if isinstance(model.module, CustomNetwork):
        return found
    with quiet(), suppress(UserError):
        for item, _, explanation in explain_items(model, items, Attribution(), batch_size=16, views="single"):
            if explanation is not None:
                found[item.id] = explanation
    return found


def saved_of(content: Any, preprocess: Preprocess, explanation: Explanation | None = None) -> Saved:
    """Return what is shown of an item: what the network reads of an image or a video, a text's beginning, a series.

    Raises OSError, ValueError where it cannot be decoded.
    """
    if preprocess.kind == "text":
        return _text(content, preprocess, explanation)
    sample = preprocess.apply(content).numpy()
    heat = None if explanation is None else explanation.map
    if preprocess.kind == "signal":
        weight = () if heat is None else _numbers(_strongest(scaled(heat)))
        return Saved(series=tuple(_between_0_and_1(_extremes(values)) for values in sample[:_CHANNELS]), weight=weight)
    clip = sample[:, None] if sample.ndim == 3 else sample
    heats = None if heat is None else heat[None] if heat.ndim == 2 else heat
    chosen = np.unique(np.linspace(0, clip.shape[1] - 1, _FRAMES).round().astype(int)).tolist()
    pictures = [np.ascontiguousarray(clip[:, frame].transpose(1, 2, 0)) for frame in chosen]
    overlay = ""
    if heats is not None:
        most = float(np.abs(heats).max())
        overlay = _row([overlaid(one, heats[frame], most) for one, frame in zip(pictures, chosen, strict=True)])
    return Saved(image=_row([as_rgb(one) for one in pictures]), overlay=overlay, is_small=sample.shape[-1] < _SMALL)


def _row(pictures: Sequence[NDArray[np.uint8]]) -> str:
    """Return pictures side by side as one small data URL."""
    return data_url(Image.fromarray(np.concatenate(pictures, axis=1)), _SIDE * len(pictures))


def _text(content: Any, preprocess: Any, explanation: Explanation | None) -> Saved:
    text = preprocess.text_of(content) if explanation is None or explanation.text is None else explanation.text
    if explanation is None or explanation.text is None:
        return Saved(text=text[:_CHARACTERS])
    heat = np.nan_to_num(scaled(explanation.on_original()))[:_CHARACTERS]
    return Saved(text=text[:_CHARACTERS], heat=_numbers(heat))


def _extremes(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return all values of a short series, else the smallest and the largest of each of equal parts, in their order."""
    if len(values) <= _POINTS:
        return values
    parts = np.array_split(values, _POINTS // 2)
    return np.array([part[place] for part in parts for place in sorted((part.argmin(), part.argmax()))], np.float32)


def _strongest(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the value of largest magnitude of each of equal parts."""
    parts = np.array_split(np.nan_to_num(heat), min(_POINTS, len(heat)))
    return np.array([part[np.abs(part).argmax()] for part in parts], np.float32)


def _between_0_and_1(values: NDArray[np.float32]) -> tuple[float, ...]:
    low, span = float(values.min()), float(values.max() - values.min())
    return _numbers((values - low) / span if span > 0 else np.full(len(values), 0.5, np.float32))


def _numbers(values: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(np.nan_to_num(values).astype(np.float64).round(2).tolist())
