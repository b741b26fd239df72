"""From an encoded image or an array to pixels: uint8 [C, H, W], upright, in the right colours, in bounded memory."""

from __future__ import annotations

import io
import os
import warnings
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from restune.data.dataset import MAX_BYTES

MAX_PIXELS = 89_478_485
"""Pillow's own limit, a quarter of a gigabyte of RGB. ``$RESTUNE_MAX_PIXELS`` sets another, up to twice this."""

# Pillow warns from this size on; here it is an error of its own, or wanted.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


# Half as long as Pillow for the same pixels. torchvision 0.29 announced its end in favour of TorchCodec.
_HAS_JPEG = hasattr(torchvision.io, "decode_jpeg")
warnings.filterwarnings("ignore", message=".*TorchVision are deprecated", category=DeprecationWarning)


class DecodeError(ValueError):
    """This content is no image that can be used; the text says why in a few words."""


def decode_image(content: bytes | NDArray[Any], channels: int = 3) -> Tensor:
    """uint8 ``[channels, H, W]``.

    EXIF orientation is applied; transparency is laid over white; 16-bit greys are scaled, not clipped; of an
    animation the first frame is taken. One channel means luma, three RGB; other numbers need an array that has
    them. Raises DecodeError.
    """
    if isinstance(content, np.ndarray):
        return _from_array(content, channels)
    if channels not in (1, 3):
        raise DecodeError(f"an image file has 1 or 3 channels, the model wants {channels}")
    try:
        with _open(content) as image:
            if image.format == "JPEG" and image.mode in ("RGB", "L") and _HAS_JPEG:
                return _decode_jpeg(content, channels)
            return _from_pillow(image, channels)
    except DecodeError:
        raise
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        RuntimeError,
        IndexError,
        KeyError,
        TypeError,
    ) as error:
        # Pillow's readers let whatever a broken file provokes escape; here they all mean the same.
        raise DecodeError(_first_line(error)) from error


def max_pixels() -> int:
    """The largest image that is decoded, in pixels."""
    named = os.environ.get("RESTUNE_MAX_PIXELS", "")
    return min(int(named), 2 * MAX_PIXELS) if named.isdigit() else MAX_PIXELS


def _open(content: bytes) -> Image.Image:
    """The image with only its header read, when its size is within the limits."""
    if not content:
        raise DecodeError("the file is empty (0 bytes)")
    if len(content) > MAX_BYTES:
        raise DecodeError(f"the file has {len(content) / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20}")
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:
        raise DecodeError(f"too many pixels (the limit is {max_pixels():,})") from error
    except UnidentifiedImageError as error:
        raise DecodeError(_not_an_image(content)) from error
    width, height = image.size
    if width * height > max_pixels():
        raise DecodeError(f"{width}x{height} is too many pixels (the limit is {max_pixels():,})")
    return image


def _decode_jpeg(content: bytes, channels: int) -> Tensor:
    mode = torchvision.io.ImageReadMode.RGB if channels == 3 else torchvision.io.ImageReadMode.GRAY
    data = torch.from_numpy(np.frombuffer(bytearray(content), dtype=np.uint8))
    pixels: Tensor = torchvision.io.decode_jpeg(data, mode=mode, apply_exif_orientation=True)
    return pixels


def _from_pillow(image: Image.Image, channels: int) -> Tensor:
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_uint8(_sixteen_bit(np.asarray(image))))
    elif image.mode == "F":  # Pillow's floats run from 0 to 255
        image = Image.fromarray(_to_uint8(np.asarray(image) / np.float32(255)))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba.getchannel("A"))
    image = image.convert("RGB" if channels == 3 else "L")
    pixels = torch.from_numpy(np.array(image))  # [H, W] or [H, W, C]
    return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def _from_array(array: NDArray[Any], channels: int) -> Tensor:
    """``[H, W]``, ``[H, W, C]`` or ``[C, H, W]``; see `_to_uint8` for what numbers mean."""
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise DecodeError(f"an image array has the shape [H, W] or [H, W, C], not {list(array.shape)}")
    pixels = torch.from_numpy(_to_uint8(array))
    if pixels.ndim == 2:
        pixels = pixels.unsqueeze(2)
    elif pixels.shape[2] not in (1, 3, 4, channels) and pixels.shape[0] in (1, 3, 4, channels):
        pixels = pixels.permute(1, 2, 0)
    have = pixels.shape[2]
    if have == channels:
        return pixels.permute(2, 0, 1).contiguous()
    if have == 4 and channels in (1, 3):
        alpha = pixels[..., 3:].float() / 255
        pixels = (pixels[..., :3] * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
        have = 3
    if have == 1 and channels == 3:
        pixels = pixels.expand(-1, -1, 3)
    elif have == 3 and channels == 1:
        luma = pixels.float() @ torch.tensor([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow's "L"
        pixels = luma.round().to(torch.uint8).unsqueeze(2)
    elif have != channels:
        raise DecodeError(f"the array has {have} channels, the model wants {channels}")
    return pixels.permute(2, 0, 1).contiguous()


def _sixteen_bit(array: NDArray[Any]) -> NDArray[np.uint16]:
    """Pillow widens 16-bit greys to 32 bits in some formats."""
    if array.min() < 0 or array.max() > 65535:
        raise DecodeError(f"grey levels run from {array.min()} to {array.max()}, which is no 16-bit image")
    return array.astype(np.uint16)


def _to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey levels from 0 to 255. The type decides, never an image's own values: uint16 runs to 65535, other whole
    numbers to 255, floats to 1."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return np.where(array, np.uint8(255), np.uint8(0))
    if array.dtype == np.uint16:
        wide = array.astype(np.uint32)
        return np.ascontiguousarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if array.dtype.kind not in "iuf":
        raise DecodeError(f"pixels of type {array.dtype} mean nothing here")
    floats = array.dtype.kind == "f"
    low, high, most = float(array.min()), float(array.max()), 1 if floats else 255
    if not (low >= 0 and high <= most):
        kind = "floats run from 0 to 1" if floats else "whole numbers run from 0 to 255 (uint16: to 65535)"
        raise DecodeError(f"pixels run from {low:g} to {high:g}; {kind}")
    scaled = (array.astype(np.float32) * 255).round() if floats else array
    return np.ascontiguousarray(scaled.astype(np.uint8))


def _not_an_image(content: bytes) -> str:
    start = content[:256].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, not an image (it starts like HTML)"
    if start.startswith(b"%pdf"):
        return "a PDF, not an image"
    return "not an image in a known format"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
