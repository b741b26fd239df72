"""The first part of an exported graph: raw input to the network's input and mask, one module per kind of data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restune.core.errors import UserError
from restune.data.preprocess import Preprocess
from restune.data.preprocess.image import ImagePreprocess
from restune.data.preprocess.signal import CONSTANT, SignalPreprocess
from restune.data.preprocess.text import PADDING, TextPreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.exporting.pixels import ResizedCrop

NetworkInput = tuple[Tensor, Tensor | None]
"""The network's input and its mask, bool ``[N, L]``; None where nothing is padded."""


class RawImages(nn.Module):
    """uint8 ``[N, H, W, 3]`` of any size, upright, to normalised float32 ``[N, C, crop, crop]``."""

    def __init__(self, preprocess: ImagePreprocess) -> None:
        super().__init__()
        self.pixels = ResizedCrop(preprocess)
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> NetworkInput:
        return (self.pixels(images) / 255 - self.get_buffer("mean")) / self.get_buffer("std"), None


class CroppedImages(nn.Module):
    """uint8 ``[N, C, crop, crop]``, resized and cropped already, to normalised float32."""

    def __init__(self, preprocess: ImagePreprocess | VideoPreprocess) -> None:
        super().__init__()
        shape = (1, -1, 1, 1) if isinstance(preprocess, ImagePreprocess) else (1, -1, 1, 1, 1)
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(shape))
        self.register_buffer("std", torch.tensor(preprocess.std).view(shape))

    def forward(self, images: Tensor) -> NetworkInput:
        return (images.float() / 255 - self.get_buffer("mean")) / self.get_buffer("std"), None


def frame_preprocess(preprocess: VideoPreprocess) -> ImagePreprocess:
    """Return the preprocessing of single frames."""
    return ImagePreprocess(
        crop=preprocess.crop,
        resize=preprocess.resize,
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
    )


class RawClips(nn.Module):
    """uint8 ``[N, T, H, W, 3]``, the clip's frames, to normalised float32 ``[N, C, T, crop, crop]``."""

    def __init__(self, preprocess: VideoPreprocess) -> None:
        super().__init__()
        self.frames = preprocess.frames
        aspect = None if preprocess.resize is None else preprocess.longest_aspect()
        self.pixels = ResizedCrop(frame_preprocess(preprocess), aspect)
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, -1, 1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, -1, 1, 1, 1))

    def forward(self, clips: Tensor) -> NetworkInput:
        pixels = self.pixels(clips.flatten(0, 1)).unflatten(0, (-1, self.frames)).transpose(1, 2)
        return (pixels / 255 - self.get_buffer("mean")) / self.get_buffer("std"), None


class RawSeries(nn.Module):
    """float32 ``[N, C, L]``, shorter series padded at the end with NaN, to normalised series and their mask."""

    def __init__(self, preprocess: SignalPreprocess) -> None:
        super().__init__()
        self.normalization, self.length = preprocess.normalization, preprocess.length
        if preprocess.normalization == "channel":
            self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, -1, 1))
            self.register_buffer("std", torch.tensor(preprocess.std).view(1, -1, 1))

    def forward(self, series: Tensor) -> NetworkInput:
        mask = ~series[:, 0].isnan()  # [N, L]
        values = torch.where(mask[:, None], series, torch.zeros_like(series))
        if self.length is not None:
            values, mask = self._centres(values, mask)
        return torch.where(mask[:, None], self._normalised(values, mask), torch.zeros_like(values)), mask

    def _centres(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Cut each series to its centre where it is longer than `length`."""
        assert self.length is not None
        count = mask.sum(dim=1, keepdim=True)
        start = ((count - self.length) // 2).clamp(min=0)
        kept = torch.arange(torch.sym_min(self.length, values.shape[2]))[None]
        places = start + kept  # [N, at most length]
        inside = kept < count.clamp(max=self.length)
        index = places[:, None].expand(-1, values.shape[1], -1)
        return values.gather(2, index), inside

    def _normalised(self, values: Tensor, mask: Tensor) -> Tensor:
        if self.normalization == "none":
            return values
        if self.normalization == "channel":
            return (values - self.get_buffer("mean")) / self.get_buffer("std")
        count = mask.sum(dim=1).clamp(min=1)[:, None, None]
        mean = values.sum(dim=2, keepdim=True) / count
        centred = torch.where(mask[:, None], values - mean, torch.zeros_like(values))
        deviation = (centred.square().sum(dim=2, keepdim=True) / count).sqrt()
        varies = deviation > CONSTANT * values.abs().amax(dim=2, keepdim=True)
        return torch.where(varies, centred / torch.where(varies, deviation, 1.0), 0.0)


class RawTokens(nn.Module):
    """int64 tokens ``[N, L]``, shorter texts padded with 0, and their mask."""

    def forward(self, tokens: Tensor) -> NetworkInput:
        return tokens, tokens != PADDING


def raw_input(preprocess: Preprocess) -> nn.Module:
    """Return the module for a kind of data. Raises UserError for one that cannot be exported."""
    if isinstance(preprocess, ImagePreprocess):
        return RawImages(preprocess)
    if isinstance(preprocess, VideoPreprocess):
        return RawClips(preprocess)
    if isinstance(preprocess, SignalPreprocess):
        return RawSeries(preprocess)
    if isinstance(preprocess, TextPreprocess):
        return RawTokens()
    raise UserError(f"models of {preprocess.kind!r} data cannot be exported")
