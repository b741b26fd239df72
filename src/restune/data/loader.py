"""Batches of preprocessed items, decoded in parallel, in order, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from restune.core.errors import UserError
from restune.core.machine import cpu_count, local_processes
from restune.data.ahead import ahead
from restune.data.dataset import Item
from restune.data.pixels import DecodeError
from restune.data.preprocess import Preprocess

RETRY_PAUSES = (0.1, 0.4, 1.0)
"""Seconds before each further attempt to read an item that could be read before."""


@dataclass(frozen=True)
class Batch:
    """Consecutive items and the evaluation views of those that could be read.

    Args:
        items: all of them, in order.
        samples: V views of each of the N readable items, in order, ``[N, V, *sample]``: images are uint8
            ``[N, V, C, H, W]``, clips ``[N, V, C, T, H, W]``; None if no item is readable.
        failures: the reason for each unreadable item, by its position in `items`.
    """

    items: tuple[Item, ...]
    samples: Tensor | None
    failures: Mapping[int, str]

    def readable(self) -> list[Item]:
        """Return the items whose samples are in the batch, in order."""
        return [item for position, item in enumerate(self.items) if position not in self.failures]


def read_batches(
    items: Iterable[Item],
    preprocess: Preprocess,
    *,
    batch_size: int,
    workers: int | None = None,
    views: str = "single",
    retry: bool = False,
) -> Iterator[Batch]:
    """Yield the items in batches of `batch_size`, in order, whatever the number of workers.

    At most ``workers + 1`` batches are in memory besides the one being used, and no further items are consumed.

    Args:
        items: a sequence, or an iterator that produces them lazily.
        workers: decoding threads; 0: decode in the caller's thread; None: one per core, shared
            by the processes of this machine.
        views: one of the kind's `view_modes`.
        retry: retry failed reads a few times, after short pauses: for items that could be read before.

    Raises UserError for a batch size below 1 or a negative number of workers.
    """
    if batch_size < 1 or (workers is not None and workers < 0):
        raise UserError(
            f"a batch size of {batch_size} with {workers} workers is not possible",
            where="batch_size, workers",
            fix="use 1 or more",
        )
    workers = max(1, cpu_count() // local_processes()) if workers is None else workers
    pauses = RETRY_PAUSES if retry else ()
    groups = _in_groups(items, batch_size)
    yield from ahead(lambda part: _read(part, preprocess, views, pauses), groups, workers, depth=workers)


def _in_groups(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """Yield groups of `size` consecutive items, taken when they are needed."""
    rest = iter(items)
    while group := tuple(islice(rest, size)):
        yield group


def read_views(item: Item, preprocess: Preprocess, views: str = "single") -> Tensor | str:
    """Return an item's evaluation views ``[V, *sample]``, or the reason why it cannot be read."""
    try:
        return preprocess.views(item.location.read(), views)
    except (DecodeError, OSError, MemoryError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return reason or type(error).__name__


def _read(items: Sequence[Item], preprocess: Preprocess, views: str, pauses: Sequence[float]) -> Batch:
    read = [read_views(item, preprocess, views) for item in items]
    for pause in pauses:
        failed = [position for position, result in enumerate(read) if isinstance(result, str)]
        if not failed:
            break
        time.sleep(pause)
        for position in failed:
            read[position] = read_views(items[position], preprocess, views)
    return as_batch(items, read, preprocess)


def as_batch(items: Sequence[Item], read: Sequence[Tensor | str], preprocess: Preprocess) -> Batch:
    """Return items as a batch, given what `read_views` returned for each."""
    readable = [result for result in read if isinstance(result, Tensor)]
    samples = None
    if readable:
        stacked = preprocess.stack([view for views_of_item in readable for view in views_of_item])
        samples = stacked.reshape(len(readable), len(readable[0]), *stacked.shape[1:])
    return Batch(
        items=tuple(items),
        samples=samples,
        failures={position: result for position, result in enumerate(read) if isinstance(result, str)},
    )
