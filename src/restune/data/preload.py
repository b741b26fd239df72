"""Read every item once before training: find unreadable items, and keep all in memory if they fit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from torch import Tensor

from restune.core.console import progress
from restune.core.machine import cpu_count, local_processes, memory_bytes
from restune.core.rowstore import content_key
from restune.data.ahead import ahead_in_groups
from restune.data.dataset import Item, Location
from restune.data.decode import DecodeError, decode_image
from restune.data.preprocess import Preprocess
from restune.data.resize import resize_and_crop

Result = TypeVar("Result")

_SAMPLE = 64
_QUICK_SECONDS = 0.0005
"""Seconds per item. If decoding is faster than this, threads are slower than none."""
MEMORY_SHARE = 0.25
"""Share of the machine's memory that samples may take in all its processes together."""


@dataclass
class Preloaded:
    """The result of reading every item once.

    Args:
        unreadable: reasons by item id.
        kept: samples in memory by item id: wholes, or inference samples if `as_seen`; empty if they do not fit.
        as_seen: whether `kept` holds inference samples, such as centre crops of images.
        seconds_an_item: reading time per item.
        contents: a content hash (16 hex digits) by item id, of every readable item.
    """

    unreadable: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    as_seen: bool = False
    seconds_an_item: float = 0.0
    contents: dict[str, str] = field(default_factory=dict)

    def inference_view(self, item: Item, preprocess: Preprocess) -> Tensor | None:
        """Return the inference sample of an item; None if it is not in memory."""
        kept = self.kept.get(item.id)
        return kept if kept is None or self.as_seen else preprocess.view(kept)

    def largest(self, preprocess: Preprocess, otherwise: Item) -> Tensor:
        """Return the largest inference sample in memory, else that of the item `otherwise`."""
        if not self.kept:
            return preprocess.apply(otherwise.location.read())
        longest = max(self.kept.values(), key=lambda sample: sample.shape[-1] if sample.ndim < 3 else 0)
        return longest if self.as_seen else preprocess.view(longest)


def read_whole(item: Item, preprocess: Preprocess, store_size: int | None) -> Tensor:
    """Read a whole item, from which training views are cut.

    Args:
        store_size: side to which images are first resized and cropped; None: they are not.

    Raises DecodeError, OSError.
    """
    content = item.location.read()
    if store_size is None:
        return preprocess.whole(content)
    return decode_image(content, preprocess.channels, then=lambda pixels: _stored(pixels, store_size))


def read_as_seen(item: Item, preprocess: Preprocess, store_size: int | None) -> Tensor:
    """Read the inference sample of an item, with `store_size` as `read_whole`. Raises as it does."""
    content = item.location.read()
    if store_size is None:
        return preprocess.apply(content)
    return decode_image(content, preprocess.channels, then=lambda pixels: preprocess.view(_stored(pixels, store_size)))


def _stored(pixels: Tensor, store_size: int) -> Tensor:
    return resize_and_crop(pixels, store_size, store_size, "bilinear")


def preload(
    items: Sequence[Item],
    preprocess: Preprocess,
    *,
    store_size: int | None,
    as_seen: bool,
    in_memory: bool = True,
    workers: int | None = None,
) -> Preloaded:
    """Decode every item, and keep all samples in memory if they fit.

    Args:
        items: the items to read.
        preprocess: decodes items to samples.
        store_size: see `Recipe.store_size`.
        as_seen: keep inference samples instead of wholes, if training views are made from those.
        in_memory: False: keep nothing, as if the data were too large.
        workers: threads; None: one per core.
    """
    preloaded = Preloaded(as_seen=as_seen)
    started = time.perf_counter()
    room = _Room(memory_bytes() * MEMORY_SHARE / local_processes() if in_memory else 0)

    def read_once(item: Item) -> Tensor | str | None:
        item = replace(item, location=HashedLocation(item.location, item.id, preloaded.contents))
        try:
            if not as_seen and store_size is None:
                whole = preprocess.whole_if(item.location.read(), room.take)
                return None if whole is None else whole.contiguous()
            read = read_as_seen if as_seen else read_whole
            sample = read(item, preprocess, store_size)
        except (DecodeError, OSError, ValueError, MemoryError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return reason or type(error).__name__
        return sample.contiguous() if room.take(sample.nbytes) else None

    with progress("reading", len(items)) as advance:
        for item, result in zip(items, _in_order(read_once, items, workers or cpu_count()), strict=True):
            if isinstance(result, str):
                preloaded.unreadable[item.id] = result
            elif result is not None:
                preloaded.kept[item.id] = result
            if room.is_full:
                preloaded.kept.clear()  # all or nothing: with a part in memory, timings would not be comparable
            advance(1)
    preloaded.seconds_an_item = (time.perf_counter() - started) / max(1, len(items))
    return preloaded


@dataclass(frozen=True, slots=True)
class HashedLocation:
    """A location that notes what it read, by the item's id: 16 hex digits over the content."""

    location: Location
    id: str
    contents: dict[str, str]

    def read(self) -> Any:
        content = self.location.read()
        self.contents[self.id] = content_hash(content)
        return content

    def signature(self) -> str:
        return self.location.signature()


def content_hash(content: Any) -> str:
    """16 hex digits over what a location read: equal content, equal digits. Raises OSError."""
    return content_key(content).hex()[:16]


class _Room:
    """Memory budget for samples. Threads charge it when they decode, since many results may queue behind a slow one."""

    def __init__(self, size: float) -> None:
        self.left = size
        self.is_full = size <= 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Charge `size` bytes; return whether they, and all before them, fit."""
        with self._lock:
            self.left -= size
            self.is_full = self.is_full or self.left < 0
            return not self.is_full


def _in_order(read: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Yield each item's result in order, computed by threads unless the first items are so small that threads would
    mostly wait for the interpreter lock."""
    started = time.perf_counter()
    for item in items[:_SAMPLE]:
        yield read(item)
    is_quick = time.perf_counter() - started < _QUICK_SECONDS * _SAMPLE
    yield from ahead_in_groups(read, items[_SAMPLE:], 0 if is_quick else workers, 16)
