"""Resizing and centre crop on uint8 pixels, equal to torchvision's evaluation transform."""

from __future__ import annotations

import platform

import torch
from torch import Tensor
from torch.nn.functional import interpolate

_MAX_ASPECT = 16
_MOST_RESIZED = 2**26
"""Pixels of a resized image, beyond which a strip is cut shorter than `_MAX_ASPECT`."""


def resize_and_crop(pixels: Tensor, resize: int | None, crop: int, interpolation: str) -> Tensor:
    """uint8 ``[C, H, W] -> [C, crop, crop]``: shorter side to `resize`, then the centre; see `ImagePreprocess`."""
    if resize is None:
        return resize_to(pixels, crop, crop, interpolation)
    resized = resize_shorter_side(pixels, resize, interpolation)
    height, width = resized.shape[1:]
    # torchvision's rounding; Python rounds halves to even, and so does it.
    top = round((height - crop) / 2.0)
    left = round((width - crop) / 2.0)
    return resized[:, top : top + crop, left : left + crop]


def resize_shorter_side(pixels: Tensor, resize: int, interpolation: str) -> Tensor:
    """uint8 ``[C, H, W]`` with its shorter side at `resize` and the other in proportion, as torchvision rounds it."""
    pixels = centre_of_strip(pixels, longest_aspect(resize))
    return resize_to(pixels, *shorter_side_sizes(pixels.shape[1], pixels.shape[2], resize), interpolation)


def shorter_side_sizes(height: int, width: int, resize: int) -> tuple[int, int]:
    """Return the size of an image whose shorter side is resized to `resize`."""
    short = min(height, width)
    return (
        resize if height == short else int(resize * height / short),
        resize if width == short else int(resize * width / short),
    )


def longest_side(short: int, resize: int) -> int:
    """Return the longer side that `resize_shorter_side` keeps of a strip that is `short` pixels wide."""
    return short * longest_aspect(resize)


def longest_aspect(resize: int) -> int:
    """Return the aspect ratio beyond which an image is cut to its middle before its shorter side becomes `resize`."""
    return max(2, min(_MAX_ASPECT, _MOST_RESIZED // resize**2))


def resize_to(pixels: Tensor, height: int, width: int, interpolation: str) -> Tensor:
    """uint8 ``[..., C, H, W]`` at exactly this size, with antialiasing; ``nearest`` has none.

    The same calls of `interpolate` as torchvision's ``resize``, whose import takes longer than most commands.
    """
    if tuple(pixels.shape[-2:]) == (height, width):
        return pixels
    batch = pixels.reshape(-1, *pixels.shape[-3:])
    if len(batch) == 1 and batch.is_contiguous(memory_format=torch.channels_last):
        # One image's first stride may be anything: with this one the result stays channels-last (pytorch #68430).
        batch = batch.as_strided(batch.shape, (batch.numel(), *batch.stride()[1:]))
    smooth = interpolation != "nearest"
    in_floats = smooth and not _resizes_bytes(batch, interpolation)
    resized = interpolate(
        batch.float() if in_floats else batch,
        size=[height, width],
        mode=interpolation,
        align_corners=False if smooth else None,
        antialias=smooth,
    )
    if in_floats:  # bicubic overshoots
        resized = resized.clamp_(0, 255).round_().to(torch.uint8)
    return resized.reshape(*pixels.shape[:-2], height, width)


def _resizes_bytes(pixels: Tensor, interpolation: str) -> bool:
    """Whether torch has a kernel for bytes here, which rounds otherwise than floats do."""
    if pixels.device.type != "cpu":
        return False
    vectorized = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return interpolation == "bicubic" or vectorized or platform.machine() in ("aarch64", "arm64")


def centre_of_strip(pixels: Tensor, most: int) -> Tensor:
    """At most `most` times as long as wide: a 30000x1 strip would be resized to millions of pixels of which the crop
    keeps few."""
    height, width = pixels.shape[1:]
    longest = min(height, width) * most
    if max(height, width) <= longest:
        return pixels
    top, left = max(0, (height - longest) // 2), max(0, (width - longest) // 2)
    return pixels[:, top : top + longest, left : left + longest]
