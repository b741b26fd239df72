"""Resize and crop images inside a graph, by operators that every runtime computes alike.

The ``Resize`` operators of ONNX Runtime, OpenVINO and torch differ with antialiasing. Here the filter's weights are
computed from the image's shape and applied as two matrix products, each rounded, as Pillow does (``Resample.c``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from restune.data.preprocess.image import ImagePreprocess
from restune.data.resize import longest_aspect

LUMA = (19595.0, 38470.0, 7471.0)
"""Pillow's weights of red, green and blue, in 1/65536 (ITU-R BT.601)."""


class ResizedCrop(nn.Module):
    """Resize and centre-crop images of any size, as `ImagePreprocess` does on uint8 pixels.

    Shapes: uint8 ``[N, H, W, 3]`` (of any other number of channels where the network has neither 1 nor 3) to float32
    ``[N, C, crop, crop]`` with whole values 0..255. Of a network with one channel colours become luma first.

    Args:
        preprocess: the sizes, the filter and the number of channels.
        aspect: longer images are cut to their middle.
    """

    def __init__(self, preprocess: ImagePreprocess, aspect: int | None = None) -> None:
        super().__init__()
        self.crop, self.resize, self.filter = preprocess.crop, preprocess.resize, preprocess.interpolation
        self.channels = preprocess.channels
        self.aspect = aspect or longest_aspect(self.resize or self.crop)

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's pixels; in float32 whatever the network's precision."""
        pixels = images.permute(0, 3, 1, 2).float()
        if self.channels == 1:
            pixels = _luma(pixels)
        if self.resize is not None:
            pixels = self._middle_of_strip(pixels)
        height, width = pixels.shape[2:]
        across, down = self._weights(width, height), self._weights(height, width)
        resized = _rounded(pixels @ across.transpose(0, 1))
        return _rounded(down @ resized)

    def _middle_of_strip(self, pixels: Tensor) -> Tensor:
        """Return at most `aspect` times as much length as width, as `data.resize.centre_of_strip`."""
        height: Any = pixels.shape[2]
        width: Any = pixels.shape[3]
        longest = torch.sym_min(height, width) * self.aspect
        top, left = torch.sym_max(0, (height - longest) // 2), torch.sym_max(0, (width - longest) // 2)
        rows = torch.arange(torch.sym_min(height, longest), device=pixels.device) + top
        columns = torch.arange(torch.sym_min(width, longest), device=pixels.device) + left
        return pixels.index_select(2, rows).index_select(3, columns)

    def _weights(self, size: Any, other: Any) -> Tensor:
        """Return the filter ``[crop, size]`` along an axis of an image whose other axis has `other` pixels."""
        target: Any = self.crop
        start: Any = 0
        if self.resize is not None:
            target = self.resize * size // torch.sym_min(size, other)
            start = _half_to_even(target - self.crop)
        scale: Any = torch.sym_float(size) / torch.sym_float(target)
        outputs = torch.arange(self.crop, dtype=torch.float32) + start
        if self.filter == "nearest":  # torch's rule, which starts from the pixels' edges
            chosen = (outputs * scale).floor()[:, None]
            nearest: Tensor = (torch.arange(size, dtype=torch.float32)[None] == chosen).float()
            return nearest
        # The first position of the whole image has the largest weight, since its filter is cut off at the edge.
        outputs = torch.cat([torch.zeros(1), outputs])
        centres = (outputs + 0.5) * scale
        pixels = torch.arange(size, dtype=torch.float32) + 0.5
        distance = (pixels[None] - centres[:, None]).abs() / torch.sym_max(scale, 1.0)
        weights: Tensor = _triangle(distance) if self.filter == "bilinear" else _cubic(distance)
        return _fixed_point(weights / weights.sum(dim=1, keepdim=True))[1:]


class BytePixels(nn.Module):
    """`ResizedCrop` as bytes: what goes before a graph that takes resized and cropped pixels."""

    def __init__(self, preprocess: ImagePreprocess) -> None:
        super().__init__()
        self.pixels = ResizedCrop(preprocess)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 ``[N, H, W, 3]`` to uint8 ``[N, C, crop, crop]``."""
        pixels: Tensor = self.pixels(images).to(torch.uint8)
        return pixels


def _fixed_point(weights: Tensor) -> Tensor:
    """Round weights to the 16-bit fixed-point numbers that torch's kernel for bytes computes with.

    The kernel takes the most binary places with which the largest weight stays below 2^15. Sums that are a tie in real
    numbers then round to the same side.
    """
    powers = 2.0 ** torch.arange(23, dtype=torch.float32)
    places = (weights.max() * powers[1:] < 32767.5).sum()
    one = powers.index_select(0, places.reshape(1))
    scaled = weights * one
    return torch.where(scaled < 0, -((-scaled + 0.5).floor()), (scaled + 0.5).floor()) / one


def _triangle(x: Tensor) -> Tensor:
    return (1 - x).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5 (Keys 1981)."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _rounded(pixels: Tensor) -> Tensor:
    """Round halves up, as the resampling of bytes does in integers."""
    return (pixels + 0.5).floor().clamp(0, 255)


def _half_to_even(margin: Any) -> Any:
    """Return ``round(margin / 2)``: Python rounds halves to even."""
    half = margin // 2
    return half + (margin % 2) * (half % 2)


def _luma(pixels: Tensor) -> Tensor:
    """``[N, 3, H, W] -> [N, 1, H, W]``, rounded as Pillow does; exact in float32."""
    red, green, blue = (pixels[:, channel : channel + 1] * weight for channel, weight in enumerate(LUMA))
    return ((red + green + blue + 32768) / 65536).floor()
