"""Read every item once before training: find unreadable items, and keep all in memory if they fit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor

from restune.core.console import progress
from restune.core.machine import cpu_count, local_processes, memory_bytes
from restune.core.rowstore import content_key
from restune.data.ahead import ahead_in_groups
from restune.data.by_id import Contents, RowsById, Samples
from restune.data.dataset import Item, Location
from restune.data.decode import DecodeError, decode_image
from restune.data.items import location_at
from restune.data.preprocess import Preprocess
from restune.data.resize import resize_and_crop

Result = TypeVar("Result")

_SAMPLE = 64
_QUICK_SECONDS = 0.0005
"""Seconds per item. If decoding is faster than this, threads are slower than none."""
MEMORY_SHARE = 0.25
"""Share of the machine's memory that samples may take in all its processes together."""


class Draft(Protocol):
    """Makes samples before the preprocessing is fitted."""

    def apply(self, content: Any) -> Tensor:
        """Return the sample of an item's content. Raises DecodeError."""
        ...


class Preloaded:
    """The result of reading every item once.

    Args:
        items: all of them, in order.
        as_seen: whether `kept` holds inference samples, such as centre crops of images.

    Attributes:
        unreadable: reasons by item id.
        kept: samples in memory by item id: wholes, or inference samples if `as_seen`; empty if they do not fit.
        seconds_an_item: reading time per item.
        contents: a content hash (16 hex digits) by item id, of every readable item.
    """

    def __init__(self, items: Sequence[Item] = (), *, as_seen: bool = False) -> None:
        rows = RowsById(items)
        self.as_seen = as_seen
        self.unreadable: dict[str, str] = {}
        self.kept = Samples(rows)
        self.contents: Mapping[str, str] = Contents(rows)
        self.seconds_an_item = 0.0

    def inference_view(self, item: Item, preprocess: Preprocess) -> Tensor | None:
        """Return the inference sample of an item; None if it is not in memory."""
        kept = self.kept.get(item.id)
        return kept if kept is None or self.as_seen else preprocess.view(kept)

    def largest(self, preprocess: Preprocess, otherwise: Item) -> Tensor:
        """Return the largest inference sample in memory, else that of the item `otherwise`."""
        if not self.kept:
            return preprocess.apply(otherwise.location.read())
        longest = self.kept.largest()
        return longest if self.as_seen else preprocess.view(longest)


def read_whole(item: Item, preprocess: Preprocess, store_size: int | None) -> Tensor:
    """Read a whole item, from which training views are cut.

    Args:
        store_size: side to which images are first resized and cropped; None: they are not.

    Raises DecodeError, OSError.
    """
    return decoder(preprocess, store_size, as_seen=False)(item.location.read())


def read_as_seen(item: Item, preprocess: Preprocess, store_size: int | None) -> Tensor:
    """Read the inference sample of an item, with `store_size` as `read_whole`. Raises as it does."""
    return decoder(preprocess, store_size, as_seen=True)(item.location.read())


def decoder(preprocess: Preprocess, store_size: int | None, *, as_seen: bool) -> Callable[[Any], Tensor]:
    """Return the function from an item's content to its sample, as `read_whole` or `read_as_seen`."""
    if store_size is None:
        return preprocess.apply if as_seen else preprocess.whole

    def decode(content: Any) -> Tensor:
        def then(pixels: Tensor) -> Tensor:
            stored = _stored(pixels, store_size)
            return preprocess.view(stored) if as_seen else stored

        return decode_image(content, preprocess.channels, then=then)

    return decode


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
    draft: Draft | None = None,
    mine: range | None = None,
) -> Preloaded:
    """Decode every item, and keep all samples in memory if they fit.

    Args:
        items: the items to read.
        preprocess: decodes items to samples.
        store_size: see `Recipe.store_size`.
        as_seen: keep inference samples instead of wholes, if training views are made from those.
        in_memory: False: keep nothing, as if the data were too large.
        workers: threads; None: one per core.
        draft: makes the samples instead of `preprocess`, which is not fitted yet.
        mine: the positions that this process reads; the others are left to other processes. None: all.
    """
    preloaded = Preloaded(items, as_seen=as_seen)
    mine = range(len(items)) if mine is None else mine
    started = time.perf_counter()
    room = _Room(samples_room() * len(mine) / max(1, len(items)) if in_memory else 0)
    contents = Contents(preloaded.kept.by_id)
    preloaded.contents = contents

    def sample(content: Any) -> Tensor | None:
        if draft is None and not as_seen and store_size is None:
            whole = preprocess.whole_if(content, room.take)
            return None if whole is None else whole.contiguous()
        decode = draft.apply if draft is not None else decoder(preprocess, store_size, as_seen=as_seen)
        made = decode(content)
        return made.contiguous() if room.take(made.nbytes) else None

    def read_once(row: int) -> tuple[str, Tensor | str | None]:
        return read_item(location_at(items, row), sample)

    with progress("reading", len(mine)) as advance:
        for row, (digits, result) in zip(mine, _in_order(read_once, mine, workers or cpu_count()), strict=True):
            if digits:
                contents.put(row, digits)
            if isinstance(result, str):
                preloaded.unreadable[items[row].id] = result
            elif result is not None and not room.is_full:
                preloaded.kept.put(row, result)
            if room.is_full:
                preloaded.kept.clear()  # all or nothing: with a part in memory, timings would not be comparable
            advance(1)
    preloaded.seconds_an_item = (time.perf_counter() - started) / max(1, len(mine))
    return preloaded


def read_item(location: Location, decode: Callable[[Any], Result]) -> tuple[str, Result | str]:
    """Return an item's content hash (empty if its content cannot be read) and what `decode` makes of its content.

    If it cannot be decoded, the reason takes the place of the latter.
    """
    digits = ""
    try:
        content = location.read()
        digits = content_hash(content)
        return digits, decode(content)
    except (DecodeError, OSError, ValueError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return digits, reason or type(error).__name__


def samples_room() -> float:
    """Return the bytes that this process's samples may take."""
    return memory_bytes() * MEMORY_SHARE / local_processes()


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


def _in_order(read: Callable[[int], Result], rows: range, workers: int) -> Iterator[Result]:
    """Yield each row's result in order, computed by threads unless the first items are so small that threads would
    mostly wait for the interpreter lock."""
    started = time.perf_counter()
    for row in rows[:_SAMPLE]:
        yield read(row)
    is_quick = time.perf_counter() - started < _QUICK_SECONDS * _SAMPLE
    yield from ahead_in_groups(read, rows[_SAMPLE:], 0 if is_quick else workers, 16)
