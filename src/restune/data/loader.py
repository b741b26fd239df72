"""Batches of preprocessed items, decoded in parallel, in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from restune.core.errors import UserError
from restune.core.machine import cpu_count
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

    At most ``workers + 1`` batches are in memory besides the one being used. Workers are threads: decoding and
    resizing release the interpreter's lock. 0 workers decode in the caller's thread.
    """
    if batch_size < 1 or (workers is not None and workers < 0):
        raise UserError(
            f"batches of {batch_size} by {workers} workers cannot be", where="batch_size, workers", fix="use 1 or more"
        )
    slices = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    workers = cpu_count() if workers is None else workers
    if workers == 0:
        for part in slices:
            yield _read(part, preprocess)
        return
    # One thread of arithmetic a worker: several workers that each spread over all cores would get in their own way.
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode", initializer=torch.set_num_threads, initargs=(1,))
    threads = torch.get_num_threads()
    waiting: deque[Future[Batch]] = deque()
    try:
        for part in slices:
            waiting.append(pool.submit(_read, part, preprocess))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(threads)  # torch gives new threads what was set last, by whichever thread


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
