"""Batches of preprocessed items, decoded in parallel, in order, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from restune.core.errors import UserError
from restune.core.machine import cpu_count
from restune.data.ahead import ahead
from restune.data.dataset import Item
from restune.data.decode import DecodeError
from restune.data.preprocess import ImagePreprocess


@dataclass(frozen=True)
class Batch:
    """Some consecutive items and the pixels of those that could be read.

    Args:
        items: all of them, in order.
        pixels: uint8 ``[N, C, H, W]`` of the N that could be read, in order; None when there is none.
        failures: for each of the others its position in `items`, and why it could not be read.
    """

    items: tuple[Item, ...]
    pixels: Tensor | None
    failures: Mapping[int, str]

    def readable(self) -> list[Item]:
        """The items whose pixels are in the batch, in their order."""
        return [item for position, item in enumerate(self.items) if position not in self.failures]


def read_batches(
    items: Sequence[Item], preprocess: ImagePreprocess, *, batch_size: int, workers: int | None = None
) -> Iterator[Batch]:
    """Yield the items in batches of `batch_size`, in order, whatever the number of workers.

    At most ``workers + 1`` batches are in memory besides the one being used. Workers are threads; 0 workers decode in
    the caller's.
    """
    if batch_size < 1 or (workers is not None and workers < 0):
        raise UserError(
            f"batches of {batch_size} by {workers} workers cannot be", where="batch_size, workers", fix="use 1 or more"
        )
    slices = (items[start : start + batch_size] for start in range(0, len(items), batch_size))
    workers = cpu_count() if workers is None else workers
    yield from ahead(lambda part: _read(part, preprocess), slices, workers, depth=workers)


def read_item(item: Item, preprocess: ImagePreprocess) -> Tensor | str:
    """One item's uint8 ``[C, H, W]``, or why it cannot be read."""
    try:
        return preprocess.apply(item.location.read())
    except (DecodeError, OSError, MemoryError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return reason or type(error).__name__


def _read(items: Sequence[Item], preprocess: ImagePreprocess) -> Batch:
    read = [read_item(item, preprocess) for item in items]
    pixels = [result for result in read if isinstance(result, Tensor)]
    return Batch(
        items=tuple(items),
        pixels=torch.stack(pixels) if pixels else None,
        failures={position: result for position, result in enumerate(read) if isinstance(result, str)},
    )
