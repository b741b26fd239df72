"""Heat over a photo, and over a strip of frames."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from restune.evaluation.attribution.colours import AGAINST, FOR, scaled

_STRONGEST = 0.8
"""Opacity of the largest value."""
_OUTLINED = 0.5
"""Share of the largest value from which a region is outlined."""
_GAP = 8
_UNSEEN = 0.35


def overlaid(pixels: NDArray[np.uint8], heat: NDArray[np.float32], most: float | None = None) -> NDArray[np.uint8]:
    """Draw a map over a photo turned grey: orange for the class, violet against it.

    Regions of at least half of the largest value are outlined, so that they do not depend on colour. Where the heat is
    NaN the network saw nothing, and the photo is faded.

    Args:
        pixels: uint8 ``[H, W]`` or ``[H, W, C]``.
        heat: ``[H, W]``.
        most: the magnitude of the strongest colour; None: the map's own largest.
    """
    grey = as_rgb(pixels).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    seen, values = np.isfinite(heat), np.nan_to_num(scaled(heat, most))
    base = np.where(seen, 40 + grey * (215 / 255), 255 - _UNSEEN * (255 - grey))[..., None]
    opacity = (_STRONGEST * np.abs(values))[..., None]
    colour = np.where(values[..., None] >= 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    drawn = base * (1 - opacity) + colour * opacity
    strong = values >= _OUTLINED
    if strong.any() and values.size > 64:
        drawn[_edge(strong, outer=True)] = 255.0
        drawn[_edge(strong, outer=False)] = 0.0
    return drawn.round().clip(0, 255).astype(np.uint8)


def beside(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """Return the photo and, to its right, the same photo with the map over it."""
    photo, drawn = as_rgb(pixels), overlaid(pixels, heat)
    gap = np.full((photo.shape[0], _GAP, 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([photo, gap, drawn], axis=1))


def strip(frames: NDArray[np.uint8], heat: NDArray[np.float32], most: int = 8) -> Image.Image:
    """Return frames in a row and, below them, the same frames with their part of the map; evenly spread ones of many.

    Args:
        frames: uint8 ``[T, H, W, C]``.
        heat: ``[T, H, W]``, on one scale over all frames.
        most: frames to draw.
    """
    most_heat = float(np.abs(heat).max())
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int))
    columns = []
    for place in chosen:
        photo = as_rgb(frames[place])
        drawn = overlaid(frames[place], heat[place], most_heat)
        column = np.concatenate([photo, np.full((_GAP // 2, photo.shape[1], 3), 255, np.uint8), drawn])
        columns += [column, np.full((len(column), _GAP // 2, 3), 255, np.uint8)]
    return Image.fromarray(np.concatenate(columns[:-1], axis=1))


def gallery_overlay(content: bytes | NDArray[Any], heat: NDArray[np.float32], side: int = 160) -> str:
    """Return a small overlay as a data URL, for a page.

    Args:
        content: an encoded image that Pillow reads, or uint8 pixels ``[H, W]`` or ``[H, W, C]``, upright.
        heat: the map on the whole image, at any size.
        side: longest side of the result, pixels.

    >>> import numpy as np
    >>> gallery_overlay(np.zeros((40, 40, 3), np.uint8), np.ones((40, 40), np.float32))[:11]
    'data:image/'
    """
    from PIL import ImageOps

    if isinstance(content, np.ndarray):
        image = Image.fromarray(as_rgb(content))
    else:
        with Image.open(io.BytesIO(content)) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    image.thumbnail((side, side))
    drawn = Image.fromarray(np.asarray(heat, np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    return data_url(Image.fromarray(overlaid(np.asarray(image), np.asarray(drawn))))


def data_url(image: Image.Image, longest: int | None = None) -> str:
    """Return a picture as a data URL, shrunk to a longest side."""
    if longest is not None and max(image.size) > longest:
        image = image.copy()
        image.thumbnail((longest, longest))
    suffix, content = encoded(image)
    return f"data:image/{suffix[1:]};base64,{base64.b64encode(content).decode()}"


def encoded(image: Image.Image) -> tuple[str, bytes]:
    """Return a picture's suffix and content: WebP, or PNG where Pillow lacks WebP."""
    webp = features.check("webp")
    buffer = io.BytesIO()
    if webp:
        image.save(buffer, format="WEBP", quality=85, method=4)
    else:
        image.save(buffer, format="PNG", optimize=True)
    return ".webp" if webp else ".png", buffer.getvalue()


def as_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``[H, W, 3]``: grey for one channel, and for more than four the mean of the channels."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] not in (3, 4):
        pixels = pixels.mean(axis=2, keepdims=True).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels[..., :3], (*pixels.shape[:2], 3)))


def _edge(region: NDArray[np.bool_], *, outer: bool) -> NDArray[np.bool_]:
    """Return the outermost pixels of a region, or those just outside it."""
    source = region if outer else ~region
    grown = source.copy()
    grown[1:] |= source[:-1]
    grown[:-1] |= source[1:]
    grown[:, 1:] |= source[:, :-1]
    grown[:, :-1] |= source[:, 1:]
    return grown & ~source
