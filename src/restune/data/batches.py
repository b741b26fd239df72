"""Training batches: which items, in which order, and how each looks, all as pure functions of place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.core.streams import generator
from restune.data.ahead import ahead
from restune.data.augment import Augment, RandomKey, augment_pixels
from restune.data.dataset import Item
from restune.data.decode import DecodeError
from restune.data.preload import Preloaded, read_as_seen, read_whole
from restune.data.preprocess import Preprocess
from restune.data.resident import Resident


@dataclass(frozen=True)
class TrainingBatch:
    """What one step sees.

    Args:
        samples: augmented, stacked by the preprocessing: of images uint8 ``[N, C, crop, crop]``.
        targets: class indices ``[N]``.
        items: where each came from.
        key: what its randomness depended on.
        seconds: of processor time it took to make.
        lead: items at the front that are only there for the next one to be mixed with.
    """

    samples: Tensor
    targets: Tensor
    items: tuple[Item, ...]
    key: RandomKey
    seconds: float
    lead: int = 0


def _whole(positions: range) -> range:
    return positions


@dataclass(frozen=True, kw_only=True)
class TrainingBatches:
    """The batches of a run. Batch `index` of epoch `epoch` is the same whoever makes it, and whenever.

    Args:
        items: of the training split.
        classes: how many.
        preprocess: the network's input.
        augment: what changes at random.
        batch_size: items a batch; the epoch's last, smaller batch is left out (its items differ every epoch).
        seed: of the run.
        balanced: draw classes with equal chance, items with replacement.
        store_size: see the recipe.
        survey: holds the samples that are in memory; the others are read when needed.
        workers: threads; 0 makes batches in the caller's thread.
        limit: an epoch ends after so many batches, for a try; None for all.
        part: which positions of a batch this process makes; all by default.
        mixes: whether each item is mixed with the one before it, which a part then holds too.
        pins: whether samples go to memory that a GPU copies from while it computes.
        resident: where all images are kept on the device that computes; they are changed there.
    """

    items: Sequence[Item]
    classes: int
    preprocess: Preprocess
    augment: Augment
    batch_size: int
    seed: int
    balanced: bool = False
    store_size: int | None = None
    preloaded: Preloaded
    workers: int = 1
    limit: int | None = None
    part: Callable[[range], range] = _whole
    mixes: bool = False
    pins: bool = False
    resident: Resident | None = None

    def __post_init__(self) -> None:
        if self.batch_size > len(self.items):
            raise UserError(
                f"a batch of {self.batch_size} is larger than the {len(self.items)} training items",
                where="--batch-size",
                fix=f"use --batch-size {max(1, len(self.items) // 4)} or less",
            )

    def __len__(self) -> int:
        count = len(self.items) // self.batch_size
        return count if self.limit is None else min(count, self.limit)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Indices into `items` in this epoch's order."""
        random = generator(self.seed, "order", epoch)
        count = len(self.items)
        if self.balanced:
            targets = np.array([item.target for item in self.items])
            weights = 1.0 / np.bincount(targets, minlength=self.classes)[targets]
            return random.choice(count, size=count, p=weights / weights.sum()).astype(np.int64)
        order = random.permutation(count)
        # Repeated augmentation: a share of the items, each several times, in as many steps as ever.
        return np.repeat(order[: -(-count // self.augment.repeats)], self.augment.repeats)[:count].astype(np.int64)

    def epoch(self, epoch: int, first_step: int, start: int = 0) -> Iterator[TrainingBatch]:
        """The epoch's batches from number `start` on; `first_step` is the run's step of batch 0."""
        order = self.order(epoch)

        def make(number: int) -> TrainingBatch:
            return self.make(order, epoch, number, first_step + number)

        yield from ahead(make, range(start, len(self)), self.workers, depth=self.workers + 1)

    def make(self, order: NDArray[np.int64], epoch: int, number: int, step: int) -> TrainingBatch:
        """Batch `number` of an epoch, alone."""
        started = time.thread_time()
        positions, lead = self.positions(number)
        items = tuple(self.items[int(index)] for index in order[list(positions)])
        key = RandomKey(seed=self.seed, epoch=epoch, positions=positions, step=step)
        if self.resident is not None:
            samples = augment_pixels(self.resident.take(items), self.augment, key)
        else:
            samples = self.preprocess.training_views(self._sources(items, key), self.augment, key)
            samples = samples.pin_memory() if self.pins else samples
        targets = torch.tensor([item.target for item in items])
        return TrainingBatch(samples, targets, items, key, time.thread_time() - started, lead)

    def positions(self, number: int) -> tuple[tuple[int, ...], int]:
        """Positions in the epoch's order of this process's part of a batch, and how many lead only."""
        whole = range(number * self.batch_size, (number + 1) * self.batch_size)
        mine = self.part(whole)
        if not self.mixes or len(mine) == len(whole):
            return tuple(mine), 0
        return (mine.start - 1 if mine.start > whole.start else whole.stop - 1, *mine), 1

    def _sources(self, items: Sequence[Item], key: RandomKey) -> list[Tensor]:
        """The tensors that `Preprocess.training_views` starts from."""
        wholes = self.preprocess.needs_wholes(self.augment)
        return [self._source(item, wholes, key.of(row)) for row, item in enumerate(items)]

    def _source(self, item: Item, whole: bool, key: RandomKey) -> Tensor:
        read = read_whole if whole else read_as_seen
        kept = self.preloaded.kept.get(item.id) if whole else self.preloaded.inference_view(item, self.preprocess)
        with _reported(item):
            return self.preprocess.training_source(
                kept, lambda: read(item, self.preprocess, self.store_size), item.location.read, key
            )


@contextmanager
def _reported(item: Item) -> Iterator[None]:
    """Within this block a failure to read becomes the user's to mend."""
    try:
        yield
    except (DecodeError, OSError, ValueError, MemoryError) as error:
        raise UserError(
            f"an item that could be read before cannot be now: {error}",
            where=item.id,
            fix="restore it; the run goes on from its last checkpoint with --resume",
        ) from error
