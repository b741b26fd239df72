"""Small previews of items for pages: a picture, a curve, or the beginning of a text."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import shorten
from restune.data.dataset import Dataset
from restune.data.decode import DecodeError, decode_image
from restune.data.items import location_at
from restune.data.preprocess.text import TextPreprocess

_SIDE = 112
"""Longer side of a picture, pixels."""
_QUALITY = 72
_CHARACTERS = 280
_POINTS = 120
_WIDTH, _HEIGHT = 240, 72
_CHANNELS = 3


@dataclass(frozen=True)
class Preview:
    """One of three, or nothing.

    Args:
        picture: data URL of a JPEG.
        curves: points of polylines in a 240 x 72 box, one per channel.
        text: the beginning of a text, or why there is no preview.
    """

    picture: str = ""
    curves: tuple[str, ...] = ()
    text: str = ""

    @property
    def size(self) -> int:
        """Return its characters on a page."""
        return len(self.picture) + sum(map(len, self.curves)) + len(self.text)


def preview(dataset: Dataset, position: int, *, side: int = _SIDE, characters: int = _CHARACTERS) -> Preview:
    """Return the preview of an item; for one that cannot be read, the reason.

    Args:
        side: longer side of a picture, pixels; a video's frames are together as wide as twice that or less.
        characters: of a text.
    """
    try:
        content = location_at(dataset.items, position).read()
        if dataset.kind == "text":
            return Preview(text=_beginning(TextPreprocess().text_of(content), characters))
        if dataset.kind == "signal":
            return Preview(curves=_curves(_series(content)))
        return Preview(picture=_video(content, side) if dataset.kind == "video" else _picture(content, side))
    except (DecodeError, OSError, ValueError, MemoryError) as error:
        return Preview(text=shorten([str(error)]))


def _beginning(text: str, characters: int) -> str:
    """Return the text's first characters, without half of an emoji's."""
    cut = text[:characters].encode("utf-8", "replace").decode("utf-8")
    return cut + ("…" if len(text) > characters else "")


def _picture(content: Any, side: int) -> str:
    from restune.data.resize import resize_to

    def shrink(pixels: Any) -> Any:
        height, width = pixels.shape[-2:]
        scale = min(1.0, side / max(height, width))
        return resize_to(pixels, max(1, round(height * scale)), max(1, round(width * scale)), "bilinear")

    return _jpeg(decode_image(content, 3, then=shrink).permute(1, 2, 0).numpy())


def _video(content: Any, side: int) -> str:
    """Return three frames side by side."""
    from restune.data.preprocess.video import VideoPreprocess

    clip = VideoPreprocess(frames=1, crop=side * 72 // _SIDE, resize=None, clips=3).views(content, "spread")[:, :, 0]
    return _jpeg(np.concatenate([frame.permute(1, 2, 0).numpy() for frame in clip], 1))


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _series(content: Any) -> NDArray[np.float64]:
    from restune.data.wav import decode_wav

    values = decode_wav(content, None) if isinstance(content, bytes) else np.asarray(content)
    return np.atleast_2d(values).astype(np.float64)


def _curves(values: NDArray[np.float64]) -> tuple[str, ...]:
    """Return the polylines of the first channels; long ones alternate between minimum and maximum of each stretch."""
    shown = values[:_CHANNELS]
    finite = shown[np.isfinite(shown)]
    least, most = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    lines = []
    for row in shown:
        known = row[np.isfinite(row)]
        if len(known) > 2 * _POINTS:
            known = np.array([edge for part in np.array_split(known, _POINTS) for edge in (part.min(), part.max())])
        across = np.linspace(2, _WIDTH - 2, max(1, len(known)))
        down = _HEIGHT - 4 - (known - least) / max(most - least, 1e-30) * (_HEIGHT - 8)
        lines.append(" ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=False)))
    return tuple(lines)
