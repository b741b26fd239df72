"""Decode an image file or array to uint8 [C, H, W], upright, with correct colours, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from restune.core.errors import UserError
from restune.data.dataset import Location
from restune.data.pixels import (
    MAX_PIXELS,
    DecodeError,
    first_line,
    from_array,
    max_pixels,
    open_image,
    orientation_of,
    reject_many_scans,
    turn_of,
    with_pixels,
)

__all__ = [
    "MAX_PIXELS",
    "DecodeError",
    "Preview",
    "decode_image",
    "decode_preview",
    "max_pixels",
    "read_size",
    "upright_size",
]


def decode_image(
    content: bytes | NDArray[Any], channels: int = 3, then: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Decode to uint8 ``[channels, H, W]``, upright: EXIF's orientation is applied. See `pixels.with_pixels`.

    Args:
        content: an encoded file, or an array.
        channels: of the result.
        then: a reduction of the pixels, such as a resize, applied before another large image is decoded.

    Raises DecodeError; UserError if ``$RESTUNE_MAX_PIXELS`` is invalid.
    """

    def use(pixels: NDArray[np.uint8], orientation: int) -> Tensor:
        turned = _upright(torch.from_numpy(pixels), orientation)
        del pixels  # a large image that was turned is in memory once
        return turned if then is None else then(turned)

    return with_pixels(content, channels, use)


@dataclass(frozen=True)
class Preview:
    """An image at a reduced size, for measurements.

    Args:
        pixels: uint8 ``[3, H, W]``, upright.
        width, height: of the whole image, upright.
        format: of the file, such as ``JPEG``; ``array`` for arrays.
        orientation: EXIF's, which `pixels` already follow; 1 without one.
    """

    pixels: Tensor
    width: int
    height: int
    format: str
    orientation: int = 1


def decode_preview(content: bytes | NDArray[Any], least: int) -> Preview:
    """Decode an image of which no side needs more than `least` pixels; JPEG files are decoded at a reduced size.

    The same contents are refused as by `decode_image`: the whole file is read. Raises DecodeError.
    """
    if isinstance(content, np.ndarray):
        pixels = _array_preview(content)
        return Preview(pixels, pixels.shape[2], pixels.shape[1], "array")
    try:
        with closing(open_image(content)) as image:
            orientation, (width, height) = orientation_of(image), image.size
            name = "JPEG" if image.format == "MPO" else image.format or "image"
            reduced = _reduced_jpeg(image, content, least) if name == "JPEG" else None
    except (DecodeError, UserError):
        raise
    except Exception as error:  # the readers raise arbitrary exceptions on a broken file
        kind = "image"
        raise DecodeError(f"a damaged {kind}: {first_line(error)}") from error
    pixels = decode_image(content) if reduced is None else _upright(reduced, orientation)
    if 5 <= orientation <= 8:
        width, height = height, width
    return Preview(pixels, width, height, name, orientation)


def _reduced_jpeg(image: Image.Image, content: bytes, least: int) -> Tensor | None:
    """Decode a large JPEG to a fraction of its size; None for small ones and for those with any irregularity."""
    if image.mode not in ("RGB", "L") or min(image.size) < 2 * least:
        return None
    reject_many_scans(image.size, content)
    try:
        decoded = simplejpeg.decode_jpeg(content, "RGB", min_height=least, min_width=least, min_factor=2)
    except ValueError:
        return None
    return torch.from_numpy(decoded).permute(2, 0, 1)


def _array_preview(array: NDArray[Any]) -> Tensor:
    """Convert an array with any number of channels to three: its first three, or its first one repeated."""
    if array.ndim == 3 and not {array.shape[2], array.shape[0]} & {1, 3, 4}:
        array = array[..., :3] if array.shape[2] > 3 else array[..., :1]
    return decode_image(array)


def read_size(location: Location) -> tuple[int, int] | None:
    """Return an image's height and width without decoding it, before its orientation is applied; None if unreadable."""
    try:
        content = location.read()
        if isinstance(content, np.ndarray):
            return int(content.shape[0]), int(content.shape[1])
        with closing(open_image(content)) as image:
            return image.height, image.width
    except Exception:  # the readers raise arbitrary exceptions on a broken file; preloading reports it
        return None


def upright_size(content: bytes | NDArray[Any], channels: int = 3) -> tuple[int, int]:
    """Return the height and width of `decode_image`'s result, from the header alone. Raises DecodeError."""
    if isinstance(content, np.ndarray):
        return tuple(from_array(content, channels).shape[1:])
    with closing(open_image(content)) as image:
        turned = 5 <= orientation_of(image) <= 8
        return (image.width, image.height) if turned else (image.height, image.width)


def _upright(pixels: Tensor, orientation: int) -> Tensor:
    """Return upright ``[C, H, W]``."""
    swapped, flipped = turn_of(orientation)
    turned = pixels.transpose(1, 2) if swapped else pixels
    return turned.flip(flipped) if flipped else turned
