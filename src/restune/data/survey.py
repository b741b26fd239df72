"""One look at every item before training: which cannot be read, and whether all of them fit in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from restune.core.console import progress
from restune.core.machine import cpu_count, local_processes, memory_bytes
from restune.data.ahead import ahead_in_groups
from restune.data.dataset import Item
from restune.data.decode import DecodeError, decode_image
from restune.data.preprocess import ImagePreprocess
from restune.data.resize import resize_and_crop

Result = TypeVar("Result")

_SAMPLE = 64
_QUICK_SECONDS = 0.0005
"""Threads that decode images quicker than this are slower than none."""
MEMORY_SHARE = 0.25
"""Of the machine's memory, what pixels of all its processes may take."""


@dataclass
class Survey:
    """What a look at all items showed.

    Args:
        unreadable: ids and reasons.
        pixels: uint8 ``[C, H, W]`` by id where they are kept in memory.
        seconds_an_item: what reading took.
        cropped: whether these are the inference crops rather than whole images.
    """

    unreadable: dict[str, str] = field(default_factory=dict)
    pixels: dict[str, Tensor] = field(default_factory=dict)
    cropped: bool = False
    seconds_an_item: float = 0.0

    def inference_view(self, item: Item, preprocess: ImagePreprocess) -> Tensor | None:
        """An item's inference crop ``[C, crop, crop]``; None where it is not in memory."""
        kept = self.pixels.get(item.id)
        return kept if kept is None or self.cropped else inference_crop(kept, preprocess)


def inference_crop(pixels: Tensor, preprocess: ImagePreprocess) -> Tensor:
    """``[C, H, W]`` to ``[C, crop, crop]``."""
    return resize_and_crop(pixels, preprocess.resize, preprocess.crop, preprocess.interpolation)


def read_pixels(item: Item, channels: int, store_size: int | None, crop_for: ImagePreprocess | None = None) -> Tensor:
    """One item's pixels, resized and cropped to `store_size` where the recipe says so, and then to the inference
    crop of `crop_for`. Raises DecodeError, OSError."""

    def fewer(pixels: Tensor) -> Tensor:
        if store_size is not None:
            pixels = resize_and_crop(pixels, store_size, store_size, "bilinear")
        return pixels if crop_for is None else inference_crop(pixels, crop_for)

    return decode_image(item.location.read(), channels, then=fewer)


def survey(
    items: Sequence[Item],
    preprocess: ImagePreprocess,
    *,
    store_size: int | None,
    crop_once: bool,
    in_memory: bool = True,
    workers: int | None = None,
) -> Survey:
    """Decode every item, and keep what fits.

    Args:
        items: what to look at.
        preprocess: its inference geometry is applied at once with `crop_once`.
        store_size: see the recipe.
        crop_once: training needs no random crops, so only the inference crop is kept.
        in_memory: False keeps nothing, as when the data is too large.
        workers: threads.
    """
    found = Survey(cropped=crop_once)
    started = time.perf_counter()
    room = _Room(memory_bytes() * MEMORY_SHARE / local_processes() if in_memory else 0)
    crop_for = preprocess if crop_once else None

    def look(item: Item) -> Tensor | str | None:
        try:
            pixels = read_pixels(item, preprocess.channels, store_size, crop_for)
        except (DecodeError, OSError, ValueError, MemoryError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return reason or type(error).__name__
        return pixels.contiguous() if room.take(pixels.numel()) else None

    with progress("reading", len(items)) as advance:
        for item, result in zip(items, _looks(look, items, workers or cpu_count()), strict=True):
            if isinstance(result, str):
                found.unreadable[item.id] = result
            elif result is not None:
                found.pixels[item.id] = result
            if room.is_full:
                found.pixels.clear()  # all or nothing: a mixture would be two speeds with one name
            advance(1)
    found.seconds_an_item = (time.perf_counter() - started) / max(1, len(items))
    return found


class _Room:
    """Bytes that pixels may take. Asked before a result waits to be fetched, since many wait behind a slow one."""

    def __init__(self, size: float) -> None:
        self.left = size
        self.is_full = size <= 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there was room for this, and for all before it."""
        with self._lock:
            self.left -= size
            self.is_full = self.is_full or self.left < 0
            return not self.is_full


def _looks(look: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Each item's look, in order: by threads, unless the first few show that items are so small that threads would
    mostly wait for the interpreter."""
    started = time.perf_counter()
    for item in items[:_SAMPLE]:
        yield look(item)
    is_quick = time.perf_counter() - started < _QUICK_SECONDS * _SAMPLE
    yield from ahead_in_groups(look, items[_SAMPLE:], 0 if is_quick else workers, 16)
