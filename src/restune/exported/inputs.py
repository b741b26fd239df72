"""Read items as a graph's raw inputs, in threads, in order, in bounded memory; and stack them to batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.data.dataset import Item
from restune.data.pixels import DecodeError, decode_pixels
from restune.data.preprocess import Preprocess
from restune.data.preprocess.image import ImagePreprocess
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.exported.shrink import shrunk

Raw = NDArray[Any]


def raw_input(content: Any, preprocess: Preprocess) -> Raw:
    """Return an item's content as the graph takes it, without the batch axis.

    Images are uint8 ``[H, W, C]``, series float32 ``[C, L]``, texts int64 ``[L]``. Raises DecodeError.
    """
    if isinstance(preprocess, ImagePreprocess):
        channels = 3 if preprocess.channels in (1, 3) else preprocess.channels
        return shrunk(decode_pixels(content, channels), preprocess)
    if isinstance(preprocess, SignalPreprocess):
        return preprocess.whole_values(content)
    if isinstance(preprocess, TextPreprocess):
        return preprocess.token_ids(content).astype(np.int64)
    raise AssertionError(f"reject_unreadable_kind lets no {preprocess.kind} through")


def reject_unreadable_kind(preprocess: Preprocess, where: str) -> None:
    """Raise UserError for an export of a kind whose items are not read here."""
    if not isinstance(preprocess, ImagePreprocess | SignalPreprocess | TextPreprocess):
        raise UserError(
            "videos are not read for exported graphs", where=where, fix="use the run's folder or its model.safetensors"
        )


def stacked(raws: Sequence[Raw]) -> Raw:
    """Stack inputs of one shape, or pad series with NaN and texts with 0 at the end."""
    if len({raw.shape for raw in raws}) == 1:
        return np.stack(raws)
    longest = max(raw.shape[-1] for raw in raws)
    padding = np.nan if raws[0].dtype.kind == "f" else 0
    batch = np.full((len(raws), *raws[0].shape[:-1], longest), padding, raws[0].dtype)
    for row, raw in zip(batch, raws, strict=True):
        row[..., : raw.shape[-1]] = raw
    return batch


def read_item(item: Item, preprocess: Preprocess) -> Raw | str:
    """Return an item's raw input, or the reason why it cannot be read."""
    try:
        return raw_input(item.location.read(), preprocess)
    except (DecodeError, OSError, MemoryError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return reason or type(error).__name__


def read_items(items: Iterable[Item], preprocess: Preprocess, workers: int) -> Iterator[tuple[Item, Raw | str]]:
    """Yield items with what `read_item` returns, in order; threads read a few items ahead.

    Args:
        workers: number of threads; 0: read in the caller's thread.
    """
    if workers == 0:
        yield from ((item, read_item(item, preprocess)) for item in items)
        return
    waiting: deque[tuple[Item, Future[Raw | str]]] = deque()
    with ThreadPoolExecutor(workers, "exported") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(read_item, item, preprocess)))
                if len(waiting) > 2 * workers:
                    first, read = waiting.popleft()
                    yield first, read.result()
            while waiting:
                first, read = waiting.popleft()
                yield first, read.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
