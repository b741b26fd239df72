"""Raw inputs of an exported graph: real items where there are some, else noise; what verification compares on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restune.data.dataset import Item
from restune.data.decode import DecodeError, decode_image
from restune.data.preprocess import Preprocess
from restune.data.preprocess.image import ImagePreprocess
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.exporting.raw_inputs import frame_preprocess

NOISE_SIZES = ((1, 1), (17, 43), (32, 32), (97, 1500), (300, 224), (480, 640), (225, 225), (500, 333))
"""Heights and widths of made-up images: tiny, odd, long, of the network's size."""


@dataclass(frozen=True)
class RawExample:
    """One item as the graph's raw input, and as restune's own path takes it.

    Args:
        id: the item's id.
        raw: ``[1, ...]``, see `Deployable`.
        content: what `Preprocess.apply` reads; None for a made-up clip.
        rendered: a made-up clip, preprocessed frame by frame.
    """

    id: str
    raw: Tensor
    content: Any
    rendered: Tensor | None = None

    def sample(self, preprocess: Preprocess) -> Tensor:
        """Return the item preprocessed by restune itself. Raises DecodeError."""
        return preprocess.apply(self.content) if self.rendered is None else self.rendered


def raw_of(content: Any, preprocess: Preprocess) -> Tensor:
    """Decode an item's content to the graph's raw input ``[1, ...]``. Raises DecodeError, OSError."""
    if isinstance(preprocess, ImagePreprocess):
        channels = 3 if preprocess.channels in (1, 3) else preprocess.channels
        return decode_image(content, channels).permute(1, 2, 0).contiguous()[None]
    if isinstance(preprocess, VideoPreprocess):
        return preprocess.raw_clip(content).permute(1, 2, 3, 0).contiguous()[None]
    if isinstance(preprocess, SignalPreprocess):
        return preprocess.whole(content)[None]
    return preprocess.apply(content).long()[None]


def raw_examples(items: Iterable[Item], preprocess: Preprocess, most: int) -> list[RawExample]:
    """Return up to `most` items that can be read."""
    examples: list[RawExample] = []
    for item in items:
        if len(examples) == most:
            break
        try:
            content = item.location.read()
            examples.append(RawExample(item.id, raw_of(content, preprocess), content))
        except (DecodeError, OSError, ValueError):
            continue
    return examples


def made_up_examples(preprocess: Preprocess, count: int = 8) -> list[RawExample]:
    """Return smooth noise of several sizes, for models without data at hand."""
    random = np.random.default_rng(0)
    return [_made_up(preprocess, random, number) for number in range(count)]


def _made_up(preprocess: Preprocess, random: np.random.Generator, number: int) -> RawExample:
    name = f"noise {number}"
    if isinstance(preprocess, ImagePreprocess | VideoPreprocess):
        channels = 3 if preprocess.channels in (1, 3) else preprocess.channels
        height, width = NOISE_SIZES[number % len(NOISE_SIZES)]
        if isinstance(preprocess, ImagePreprocess):
            pixels = _smooth(random, height, width, channels)
            return RawExample(name, torch.from_numpy(pixels)[None], pixels)
        height, width = min(height, 4 * width), min(width, 4 * height)  # longer frames are cut before
        frames = np.stack([_smooth(random, height, width, channels) for _ in range(preprocess.frames)])
        single = frame_preprocess(preprocess)
        rendered = torch.stack([single.apply(frame) for frame in frames], dim=1)
        return RawExample(name, torch.from_numpy(frames)[None], None, rendered)
    length = int(random.integers(20, 300))
    if isinstance(preprocess, SignalPreprocess):
        series = random.normal(size=(preprocess.channels, length)).cumsum(axis=1).astype(np.float32)
        return RawExample(name, torch.from_numpy(series)[None], series)
    text = " ".join("".join(random.choice(list("abcdefghij"), 4)) for _ in range(max(1, length // 5)))
    return RawExample(name, preprocess.apply(text).long()[None], text)


def _smooth(random: np.random.Generator, height: int, width: int, channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return an image of waves and a little noise: neighbouring pixels are alike, as in photos."""
    rows, columns = np.linspace(0, 9, height)[:, None, None], np.linspace(0, 9, width)[None, :, None]
    phase, slope = random.uniform(0, 6, channels), random.uniform(-1, 1, channels)
    waves = 110 * np.sin(rows + slope * columns + phase) + 128 + random.normal(0, 6, (height, width, channels))
    return waves.clip(0, 255).astype(np.uint8)


def batched(examples: Sequence[RawExample]) -> list[Tensor]:
    """Return raw batches: examples of equal shape together, in order of first appearance."""
    by_shape: dict[tuple[int, ...], list[Tensor]] = {}
    for example in examples:
        by_shape.setdefault(tuple(example.raw.shape), []).append(example.raw)
    return [torch.cat(group) for group in by_shape.values()]
