"""One look at every item before training: which cannot be read, and whether all of them fit in memory."""

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
"""Threads that decode images quicker than this are slower than none."""
MEMORY_SHARE = 0.25
"""Of the machine's memory, what pixels of all its processes may take."""


@dataclass
class Preloaded:
    """What a look at all items showed.

    Args:
        unreadable: ids and reasons.
        kept: samples by id where they are in memory: wholes, or inference samples where `as_seen`.
        as_seen: whether what is kept is what inference sees, such as the centre crop of an image.
        seconds_an_item: what reading took.
        contents: of each item that could be read, 16 hex digits over its content.
    """

    unreadable: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    as_seen: bool = False
    seconds_an_item: float = 0.0
    contents: dict[str, str] = field(default_factory=dict)

    def inference_view(self, item: Item, preprocess: Preprocess) -> Tensor | None:
        """An item as inference sees it; None where it is not in memory."""
        kept = self.kept.get(item.id)
        return kept if kept is None or self.as_seen else preprocess.view(kept)

    def largest(self, preprocess: Preprocess, otherwise: Item) -> Tensor:
        """A sample as large as inference meets them: of what is in memory, else of an item."""
        if not self.kept:
            return preprocess.apply(otherwise.location.read())
        longest = max(self.kept.values(), key=lambda kept: kept.shape[-1] if kept.ndim < 3 else 0)
        return longest if self.as_seen else preprocess.view(longest)


def read_whole(item: Item, preprocess: Preprocess, store_size: int | None) -> Tensor:
    """All that training views of an item are cut from; of an image in the form that the recipe has stored.

    Raises DecodeError, OSError.
    """
    content = item.location.read()
    if store_size is None:
        return preprocess.whole(content)
    return decode_image(content, preprocess.channels, then=lambda pixels: _stored(pixels, store_size))


def read_as_seen(item: Item, preprocess: Preprocess, store_size: int | None) -> Tensor:
    """An item as inference sees it, or would see it in the form that the recipe has stored. Raises as `read_whole`."""
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
    """Decode every item, and keep what fits.

    Args:
        items: what to look at.
        preprocess: decides what is kept.
        store_size: see the recipe.
        as_seen: training changes only what inference sees, so only that is kept.
        in_memory: False keeps nothing, as when the data is too large.
        workers: threads.
    """
    found = Preloaded(as_seen=as_seen)
    started = time.perf_counter()
    room = _Room(memory_bytes() * MEMORY_SHARE / local_processes() if in_memory else 0)

    def look(item: Item) -> Tensor | str | None:
        item = replace(item, location=HashedLocation(item.location, item.id, found.contents))
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
        for item, result in zip(items, _looks(look, items, workers or cpu_count()), strict=True):
            if isinstance(result, str):
                found.unreadable[item.id] = result
            elif result is not None:
                found.kept[item.id] = result
            if room.is_full:
                found.kept.clear()  # all or nothing: a mixture would be two speeds with one name
            advance(1)
    found.seconds_an_item = (time.perf_counter() - started) / max(1, len(items))
    return found


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
    """Bytes that samples may take. Request before a result waits to be fetched, since many wait behind a slow one."""

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
