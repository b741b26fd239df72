"""Batches of preprocessed items, decoded in parallel, in order, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from restune.core.errors import UserError
from restune.core.machine import cpu_count
from restune.data.ahead import ahead
from restune.data.dataset import Item
from restune.data.decode import DecodeError
from restune.data.preprocess import Preprocess


@dataclass(frozen=True)
class Batch:
    """Consecutive items and the evaluation views of those that could be read.

    Args:
        items: all of them, in order.
        samples: of the N that could be read, in order, ``[N, V, *sample]`` with V views each: of images uint8
            ``[N, V, C, H, W]``, of clips ``[N, V, C, T, H, W]``; None when there is none.
        failures: for each of the others its position in `items`, and why it could not be read.
    """

    items: tuple[Item, ...]
    samples: Tensor | None
    failures: Mapping[int, str]

    def readable(self) -> list[Item]:
        """The items whose samples are in the batch, in their order."""
        return [item for position, item in enumerate(self.items) if position not in self.failures]


def read_batches(
    items: Iterable[Item],
    preprocess: Preprocess,
    *,
    batch_size: int,
    workers: int | None = None,
    views: str = "single",
) -> Iterator[Batch]:
    """Yield the items in batches of `batch_size`, in order, whatever the number of workers.

    At most ``workers + 1`` batches are in memory besides the one being used, and no more items are taken.

    Args:
        items: a sequence, or an iterator that finds them on the way.
        workers: threads that decode; 0 decodes in the caller's thread, None takes one per core.
        views: one of the kind's `view_modes`. Raises UserError for sizes and numbers below what is possible.
    """
    if batch_size < 1 or (workers is not None and workers < 0):
        raise UserError(
            f"batches of {batch_size} by {workers} workers are not possible",
            where="batch_size, workers",
            fix="use 1 or more",
        )
    workers = cpu_count() if workers is None else workers
    groups = _in_groups(items, batch_size)
    yield from ahead(lambda part: _read(part, preprocess, views), groups, workers, depth=workers)


def _in_groups(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """Consecutive items, `size` at a time, taken when they are asked for."""
    rest = iter(items)
    while group := tuple(islice(rest, size)):
        yield group


def read_views(item: Item, preprocess: Preprocess, views: str = "single") -> Tensor | str:
    """One item's evaluation views ``[V, *sample]``; else why it cannot be read."""
    try:
        return preprocess.views(item.location.read(), views)
    except (DecodeError, OSError, MemoryError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return reason or type(error).__name__


def _read(items: Sequence[Item], preprocess: Preprocess, views: str) -> Batch:
    read = [read_views(item, preprocess, views) for item in items]
    found = [result for result in read if isinstance(result, Tensor)]
    samples = None
    if found:
        stacked = preprocess.stack([view for views_of_item in found for view in views_of_item])
        samples = stacked.reshape(len(found), len(found[0]), *stacked.shape[1:])
    return Batch(
        items=tuple(items),
        samples=samples,
        failures={position: result for position, result in enumerate(read) if isinstance(result, str)},
    )
