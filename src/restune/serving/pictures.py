"""What the server answers of explanations and feature maps: pictures as data URLs, or numbers that a page draws."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from restune.data.decode import decode_image
from restune.data.resize import resize_to
from restune.evaluation.attribution.overlay import as_rgb, data_url, overlaid
from restune.inference.attribution.explanation import Explanation
from restune.inference.feature_maps import StageMaps
from restune.inference.model import Model

_LONGEST, _LONGEST_FRAMES = 560, 1040
_FRAMES, _COLUMNS = 8, 4
_MOST_CHARACTERS = 20_000
_MOST_CHANNELS = 12
_MOST_POINTS = 600
"""Values of a series and of its map that are sent; longer ones are thinned."""
_MAP_SIDE, _MAP_LENGTH = 64, 256
"""Longest sides of a feature map's picture, of images and of series."""


def explained(explanation: Explanation, content: Any, model: Model) -> str | dict[str, Any]:
    """Return an explanation as the server answers it.

    Of an image it is a data URL: the photo turned grey with the map over it. Of a clip it is ``{"frames", "map"}``,
    data URLs of some of its frames side by side, as they are and with the map over them. Of a text it is
    ``{"pieces": [[text, value], ...]}``, and of a series ``{"length", "heat", "channels"}`` with values at equal
    distances; null where the network saw nothing.
    """
    kind = model.preprocess.kind
    if kind == "text":
        return {"pieces": list(_pieces(explanation))}
    if kind == "signal":
        return _series(model.preprocess.whole(content).numpy(), explanation.on_original())
    if kind == "video":
        return _frames(model.preprocess.apply(content).permute(1, 2, 3, 0).numpy(), explanation.map)
    return _overlay(explanation, content, model)


def drawn(stages: Sequence[StageMaps]) -> list[dict[str, Any]]:
    """Return feature maps as the server answers them: a grey picture of each, black at its least value."""
    return [
        {
            "name": stage.name,
            "shape": list(stage.shape),
            "maps": [_feature_map(channel, values) for channel, values in zip(stage.channels, stage.maps, strict=True)],
        }
        for stage in stages
    ]


def _overlay(explanation: Explanation, content: Any, model: Model) -> str:
    """Return the upright image, shrunk and grey, with the map over it, as a data URL."""
    from PIL import Image

    def shrunk(pixels: Tensor) -> Tensor:
        height, width = pixels.shape[1:]
        share = _LONGEST / max(height, width)
        size = max(1, round(height * share)), max(1, round(width * share))
        return resize_to(pixels, *size, "bilinear" if share < 1 else "nearest")

    pixels = decode_image(content, model.preprocess.channels, then=shrunk).permute(1, 2, 0).numpy()
    heat = explanation.on_original((pixels.shape[0], pixels.shape[1]))
    return data_url(Image.fromarray(overlaid(pixels, heat)))


def _frames(frames: NDArray[np.uint8], heat: NDArray[np.float32]) -> dict[str, str]:
    """Return evenly spread frames in rows, as they are and with their part of the map, on one scale over the clip.

    Args:
        frames: uint8 ``[T, H, W, C]``.
        heat: ``[T, H, W]``.
    """
    from PIL import Image

    most = float(np.abs(heat).max())
    places = np.unique(np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).round().astype(int)).tolist()
    pictures = {
        "frames": [as_rgb(frames[place]) for place in places],
        "map": [overlaid(frames[place], heat[place], most) for place in places],
    }
    empty = [np.full_like(pictures["map"][0], 128)] * (-len(places) % _COLUMNS if len(places) > _COLUMNS else 0)
    urls = {}
    for name, drawn_frames in pictures.items():
        tiles = drawn_frames + empty
        rows = [np.concatenate(tiles[start : start + _COLUMNS], axis=1) for start in range(0, len(tiles), _COLUMNS)]
        urls[name] = data_url(Image.fromarray(np.concatenate(rows)), _LONGEST_FRAMES)
    return urls


def _pieces(explanation: Explanation) -> Iterator[list[Any]]:
    """Yield runs of characters of equal value, with that value."""
    text = explanation.text or ""
    values = [_plain(value) for value in explanation.on_original()[:_MOST_CHARACTERS].tolist()]
    at = 0
    for value, run in groupby(values):
        end = at + len(list(run))
        yield [text[at:end], value]
        at = end
    if len(text) > at:
        yield ["…", None]


def _series(values: NDArray[np.float32], heat: NDArray[np.float32]) -> dict[str, Any]:
    """Return channels and map with at most `_MOST_POINTS` values each."""
    return {
        "length": values.shape[1],
        "heat": [_plain(value) for value in _strongest(heat).tolist()],
        "channels": [[_plain(value) for value in _ends(one).tolist()] for one in values[:_MOST_CHANNELS]],
        "all_channels": len(values),
    }


def _strongest(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thin a map: the value of largest magnitude of each of many equal parts."""
    if len(heat) <= _MOST_POINTS:
        return heat
    strengths = np.nan_to_num(np.abs(heat), nan=-1.0)
    return heat[[start + int(strengths[start:end].argmax()) for start, end in _parts(len(heat), _MOST_POINTS)]]


def _ends(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thin a channel: least and largest value of each of many equal parts, in their order."""
    if len(values) <= _MOST_POINTS:
        return values
    places = [
        place
        for start, end in _parts(len(values), _MOST_POINTS // 2)
        for place in sorted((start + int(values[start:end].argmin()), start + int(values[start:end].argmax())))
    ]
    return values[places]


def _parts(length: int, count: int) -> list[tuple[int, int]]:
    return list(pairwise(np.linspace(0, length, count + 1).astype(int).tolist()))


def _plain(value: float) -> float | None:
    """Return a number for JSON, with as many digits as a drawing needs; None for what is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _feature_map(channel: int, values: NDArray[np.float32]) -> dict[str, Any]:
    """Return one channel ``[H, W]`` or ``[L]`` as a grey PNG, with the range of its values."""
    from PIL import Image

    least, largest = float(values.min()), float(values.max())
    grey = (values - least) * (255 / (largest - least)) if largest > least else np.zeros_like(values)
    rows = np.atleast_2d(grey.round().astype(np.uint8))
    picture = Image.fromarray(rows)
    longest = _MAP_SIDE if values.ndim == 2 else _MAP_LENGTH
    if max(picture.size) > longest:
        share = longest / max(picture.size)
        size = max(1, round(picture.width * share)), max(1, round(picture.height * share))
        picture = picture.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"channel": channel, "least": _plain(least), "largest": _plain(largest), "image": url}
