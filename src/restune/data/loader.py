"""Batches of preprocessed items, decoded in parallel, in order, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from restune.core.errors import UserError
from restune.core.machine import cpu_count
from restune.data.ahead import ahead
from restune.data.dataset import Item
from restune.data.decode import DecodeError
from restune.data.preprocess import Preprocess
from restune.data.preprocess.video import VideoPreprocess


@dataclass(frozen=True)
class Batch:
    """Some consecutive items and the samples of those that could be read.

    Args:
        items: all of them, in order.
        samples: of the N that could be read, in order, stacked: of images uint8 ``[N, C, H, W]``, of clips ``[N, clips,
            C, T, H, W]``; None when there is none.
        failures: for each of the others its position in `items`, and why it could not be read.
    """

    items: tuple[Item, ...]
    samples: Tensor | None
    failures: Mapping[int, str]

    def readable(self) -> list[Item]:
        """The items whose samples are in the batch, in their order."""
        return [item for position, item in enumerate(self.items) if position not in self.failures]


def read_batches(
    items: Sequence[Item],
    preprocess: Preprocess,
    *,
    batch_size: int,
    workers: int | None = None,
    spread: bool = True,
) -> Iterator[Batch]:
    """Yield the items in batches of `batch_size`, in order, whatever the number of workers.

    At most ``workers + 1`` batches are in memory besides the one being used. Workers are threads; 0 workers decode in
    the caller's. Of a video there are clips spread over all of it, or its centre clip where not `spread`.
    """
    if batch_size < 1 or (workers is not None and workers < 0):
        raise UserError(
            f"batches of {batch_size} by {workers} workers cannot be", where="batch_size, workers", fix="use 1 or more"
        )
    slices = (items[start : start + batch_size] for start in range(0, len(items), batch_size))
    workers = cpu_count() if workers is None else workers
    yield from ahead(lambda part: _read(part, preprocess, spread), slices, workers, depth=workers)


def read_item(item: Item, preprocess: Preprocess, *, spread: bool = True) -> Tensor | str:
    """One item's sample, or of a video its evenly spread clips; else why it cannot be read."""
    try:
        content = item.location.read()
        if spread and isinstance(preprocess, VideoPreprocess):
            return preprocess.spread(content)
        return preprocess.apply(content)
    except (DecodeError, OSError, MemoryError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return reason or type(error).__name__


def _read(items: Sequence[Item], preprocess: Preprocess, spread: bool) -> Batch:
    read = [read_item(item, preprocess, spread=spread) for item in items]
    samples = [result for result in read if isinstance(result, Tensor)]
    return Batch(
        items=tuple(items),
        samples=preprocess.stack(samples) if samples else None,
        failures={position: result for position, result in enumerate(read) if isinstance(result, str)},
    )
