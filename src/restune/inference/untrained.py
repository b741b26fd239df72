"""Features of items of any kind without a trained network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.console import progress
from restune.core.machine import cpu_count
from restune.data.ahead import ahead_in_groups
from restune.data.dataset import Dataset
from restune.data.items import location_at
from restune.data.pixels import DecodeError
from restune.data.preprocess.base import InputSettings
from restune.data.preprocess.image import ImagePreprocess, array_channels
from restune.data.preprocess.video import VideoPreprocess
from restune.inference.kernel_features import kernel_features
from restune.inference.patch_features import SIDE, patch_features
from restune.inference.term_features import term_features

_FRAMES = 4
"""Frames of a video that are read, evenly spread."""


@dataclass(frozen=True, kw_only=True)
class UntrainedFeatures:
    """Features of the items that could be read.

    Args:
        rows: float32 ``[N, D]``.
        readable: positions of their items, ``[N]``.
        name: what they are, for messages.
    """

    rows: Tensor
    readable: NDArray[np.int64]
    name: str


NAMES = {
    "image": "whitened patches, untrained",
    "signal": "random convolution kernels, untrained",
    "text": "weighted terms, untrained",
    "video": "whitened patches of four frames, untrained",
}


def untrained_features(dataset: Dataset, seed: int = 0) -> UntrainedFeatures:
    """Compute features of all items that can be read: of images and videos `patch_features`, of series
    `kernel_features`, of texts `term_features`.

    >>> from restune.data.sources import open_dataset
    >>> features = untrained_features(open_dataset(photos))
    >>> features.rows.shape[0], features.name
    (20, 'whitened patches, untrained')
    """
    read = _reader(dataset)
    gathered = _Images(len(dataset)) if dataset.kind == "image" else _Samples()
    readable: list[int] = []
    with progress("features", len(dataset)) as advance:
        for position, sample in enumerate(ahead_in_groups(read, range(len(dataset)), cpu_count(), 16)):
            if sample is not None:
                gathered.add(sample)
                readable.append(position)
            advance(1)
    rows = gathered.features(dataset.kind, seed) if readable else torch.zeros(0, 1)
    return UntrainedFeatures(rows=rows, readable=np.array(readable, np.int64), name=NAMES[dataset.kind])


class _Samples:
    """Samples of any size."""

    def __init__(self) -> None:
        self.samples: list[Any] = []

    def add(self, sample: Any) -> None:
        self.samples.append(sample)

    def features(self, kind: str, seed: int) -> Tensor:
        """Return the features of texts, series or videos."""
        if kind == "text":
            return term_features(self.samples, seed)
        if kind == "signal":
            return kernel_features(self.samples, seed)
        counts = [len(frames) for frames in self.samples]
        rows = patch_features(torch.cat(self.samples), seed)
        return torch.stack([part.mean(0) for part in torch.split(rows, counts)])


class _Images:
    """Images of one size, in one block of memory: a tensor for each would take as much again."""

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self.images = torch.empty(0, dtype=torch.uint8)

    def add(self, sample: Tensor) -> None:
        if not self.count:
            self.images = torch.empty((self.most, *sample.shape), dtype=torch.uint8)
        self.images[self.count] = sample
        self.count += 1

    def features(self, kind: str, seed: int) -> Tensor:  # noqa: ARG002
        return patch_features(self.images[: self.count], seed)


def _reader(dataset: Dataset) -> Callable[[int], Any]:
    """Return the function from a position to the item's sample; None if it cannot be read."""
    make = _sampler(dataset)

    def read(position: int) -> Any:
        try:
            return make(location_at(dataset.items, position).read())
        except (DecodeError, OSError, ValueError, MemoryError):
            return None

    return read


def _sampler(dataset: Dataset) -> Callable[[Any], Any]:
    """Return the function from an item's content to its sample."""
    if dataset.kind == "image":
        return ImagePreprocess(crop=SIDE).with_channels(array_channels(dataset) or 3).apply
    if dataset.kind == "video":
        clip = VideoPreprocess(frames=1, crop=SIDE, resize=None, clips=_FRAMES)
        return lambda content: clip.views(content, "spread")[:, :, 0]  # [V, C, H, W]
    from restune.data.kinds import kind_of

    section = {"normalization": "none"} if dataset.kind == "signal" else {}
    preprocess = kind_of(dataset.kind).initial_preprocess(None, dataset, InputSettings(section=section))
    return preprocess.text_of if dataset.kind == "text" else preprocess.whole  # type: ignore[attr-defined]
