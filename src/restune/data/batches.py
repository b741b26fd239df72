"""Training batches: their items, order and augmentation are pure functions of seed, epoch and position."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.core.streams import generator
from restune.data.ahead import ahead
from restune.data.augment import Augment, RandomKey
from restune.data.dataset import Item
from restune.data.items import targets_of
from restune.data.pixels import DecodeError
from restune.data.preload import Preloaded, read_as_seen, read_whole
from restune.data.preprocess import Preprocess
from restune.data.resident import Resident


@dataclass(frozen=True)
class TrainingBatch:
    """The batch of one training step.

    Args:
        samples: augmented, stacked by the preprocessing; images are uint8 ``[N, C, crop, crop]``.
        targets: class indices ``[N]``, or target values ``[N, C]``.
        items: the item of each sample.
        key: random key of the augmentation.
        seconds: CPU time spent making the batch.
        lead: number of leading items that are present only to be mixed with the item after them.
        teacher: a teacher's logits of these samples ``[N, classes]``, to be learnt as well; None without a teacher.
    """

    samples: Tensor
    targets: Tensor
    items: tuple[Item, ...]
    key: RandomKey
    seconds: float
    lead: int = 0
    teacher: Tensor | None = None


def batch_targets(items: Sequence[Item], values: NDArray[np.float32] | None) -> Tensor:
    """Return the items' targets: class indices ``[N]``, or their rows of `values` ``[N, C]``."""
    targets = torch.tensor([item.target for item in items])
    return targets if values is None else torch.from_numpy(values[targets.numpy()])


class TeacherViews(Protocol):
    """What training batches need of a teacher."""

    @property
    def view_count(self) -> int:
        """Number of views of each item, which epochs show in turn."""
        ...

    def key(self, epoch: int, items: Sequence[Item]) -> RandomKey | None:
        """Return the key that augments these items in this epoch; None where nothing is augmented."""
        ...

    def logits(self, epoch: int, chosen: NDArray[np.int64]) -> Tensor:
        """Return its logits ``[N, classes]`` of the items at these indices, in this epoch."""
        ...


def _whole(positions: range) -> range:
    return positions


@dataclass(frozen=True, kw_only=True)
class TrainingBatches:
    """The batches of a run. A batch does not depend on the thread or process that makes it, nor on when it is made.

    Args:
        items: items of the training split.
        classes: number of classes.
        preprocess: the network's input.
        augment: the augmentation.
        batch_size: items per batch; the smaller last batch of an epoch is dropped (other items each epoch).
        seed: the run's seed.
        balanced: draw classes with equal probability, items with replacement.
        store_size: see `Recipe.store_size`.
        preloaded: samples in memory; other items are read when needed.
        workers: threads; 0: make batches in the caller's thread.
        limit: maximum batches per epoch, for a smoke run; None: no limit.
        part: selects the positions of a batch that this process makes; all by default.
        mixes: whether each item is mixed with the one before it, which is then added in front of this process's part.
        pins: whether samples are put in pinned memory, for asynchronous copies to a GPU.
        target_values: of multi-label data or regression ``[rows, C]``, as the loss takes them; None for class indices.
        resident: all training images on the compute device, where they are augmented; None: they are not there.
        teacher: decides which view of each item an epoch shows, and has the teacher's logits of it.
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
    target_values: NDArray[np.float32] | None = None
    teacher: TeacherViews | None = None

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
        """Return indices into `items` in this epoch's order."""
        random = generator(self.seed, "order", epoch)
        count = len(self.items)
        if self.balanced:
            targets = targets_of(self.items)
            weights = 1.0 / np.bincount(targets, minlength=self.classes)[targets]
            return random.choice(count, size=count, p=weights / weights.sum()).astype(np.int64)
        order = random.permutation(count)
        # Repeated augmentation: a share of the items, each several times, in the same number of steps.
        return np.repeat(order[: -(-count // self.augment.repeats)], self.augment.repeats)[:count].astype(np.int64)

    def epoch(self, epoch: int, first_step: int, start: int = 0) -> Iterator[TrainingBatch]:
        """Yield the epoch's batches from batch `start` on; `first_step` is the run's step at batch 0."""
        order = self.order(epoch)

        def make(number: int) -> TrainingBatch:
            return self.make(order, epoch, number, first_step + number)

        yield from ahead(make, range(start, len(self)), self.workers, depth=self.workers + 1)

    def make(self, order: NDArray[np.int64], epoch: int, number: int, step: int) -> TrainingBatch:
        """Make batch `number` of an epoch."""
        started = time.thread_time()
        positions, lead = self.positions(number)
        chosen = order[list(positions)]
        items = tuple(self.items[int(index)] for index in chosen)
        key = RandomKey(seed=self.seed, epoch=epoch, positions=positions, step=step, items=tuple(chosen.tolist()))
        shown = key if self.teacher is None else self.teacher.key(epoch, items) or key
        if self.resident is not None:
            samples = self.preprocess.training_views(list(self.resident.take(items)), self.augment, shown)
        else:
            samples = self.preprocess.training_views(self._sources(items, shown), self.augment, shown)
            samples = samples.pin_memory() if self.pins else samples
        targets = batch_targets(items, self.target_values)
        teacher = self.teacher_logits(epoch, chosen)
        return TrainingBatch(samples, targets, items, key, time.thread_time() - started, lead, teacher)

    def teacher_logits(self, epoch: int, chosen: NDArray[np.int64]) -> Tensor | None:
        """Return the teacher's logits of the items at these indices; None without a teacher."""
        return None if self.teacher is None else self.teacher.logits(epoch, chosen)

    def positions(self, number: int) -> tuple[tuple[int, ...], int]:
        """Return this process's positions of a batch in the epoch's order, and how many of them are `lead` items."""
        whole = range(number * self.batch_size, (number + 1) * self.batch_size)
        mine = self.part(whole)
        if not self.mixes or len(mine) == len(whole):
            return tuple(mine), 0
        return (mine.start - 1 if mine.start > whole.start else whole.stop - 1, *mine), 1

    def _sources(self, items: Sequence[Item], key: RandomKey) -> list[Tensor]:
        """Return the tensors that `Preprocess.training_views` starts from."""
        wholes = self.preprocess.needs_wholes(self.augment)
        return [self._source(item, wholes, key.of(row)) for row, item in enumerate(items)]

    def _source(self, item: Item, whole: bool, key: RandomKey) -> Tensor:
        read = read_whole if whole else read_as_seen
        cached = self.preloaded.kept.get(item.id) if whole else self.preloaded.inference_view(item, self.preprocess)
        with _reported(item):
            return self.preprocess.training_source(
                cached, lambda: read(item, self.preprocess, self.store_size), item.location.read, key
            )


@contextmanager
def _reported(item: Item) -> Iterator[None]:
    """Turn a read failure within this block into a UserError."""
    try:
        yield
    except (DecodeError, OSError, ValueError, MemoryError) as error:
        raise UserError(
            f"this item became unreadable during the run: {error}",
            where=item.id,
            fix="restore it, then continue from the last checkpoint with --resume",
        ) from error
