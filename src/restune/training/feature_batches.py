"""Training batches of cached activations, for networks whose lower layers are frozen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.console import note, warn, warn_once
from restune.core.errors import UserError
from restune.core.files import can_write
from restune.core.machine import local_processes, memory_bytes
from restune.core.rowstore import StoreFullError
from restune.data.ahead import ahead
from restune.data.augment import Augment, RandomKey
from restune.data.batches import TrainingBatch, TrainingBatches, batch_targets
from restune.data.dataset import Dataset
from restune.data.preload import MEMORY_SHARE
from restune.data.preprocess import Preprocess
from restune.inference.features import FeatureCache, FeatureRows, View, features_folder
from restune.networks.layout import laid_out
from restune.networks.resnet import ResNet
from restune.training.recipe import Recipe

_DISK_SHARE = 0.2
"""Largest share of the free disk that the activations of one cut may take."""
_EPOCHS_A_VIEW = 5


@dataclass(frozen=True, kw_only=True)
class FeatureBatches:
    """The batches of a run with cached activations instead of images; successive epochs take successive views.

    Args:
        batches: the batches of images, which determine items and order.
        views: activations of all items, one table per view.
        cut: the stage after which they are taken, see `ResNet.forward_from`.
        val: activations of the validation items.
    """

    batches: TrainingBatches
    views: Sequence[FeatureRows]
    cut: str | int
    val: FeatureRows | None

    def epoch(self, epoch: int, first_step: int, start: int = 0) -> Iterator[TrainingBatch]:
        """Yield batches like `TrainingBatches.epoch`; samples are float32 activations ``[N, ...]``."""
        order = self.batches.order(epoch)
        rows = self.views[epoch % len(self.views)]

        def make(number: int) -> TrainingBatch:
            return self._make(order, rows, epoch, number, first_step + number)

        workers = min(1, self.batches.workers)
        yield from ahead(make, range(start, len(self.batches)), workers, depth=2)

    def _make(self, order: NDArray[np.int64], rows: FeatureRows, epoch: int, number: int, step: int) -> TrainingBatch:
        started = time.thread_time()
        positions, _ = self.batches.positions(number)
        chosen = order[list(positions)]
        items = tuple(self.batches.items[int(index)] for index in chosen)
        key = RandomKey(seed=self.batches.seed, epoch=epoch, positions=positions, step=step)
        targets = batch_targets(items, self.batches.target_values)
        teacher = self.batches.teacher_logits(epoch, chosen)
        return TrainingBatch(rows.take(chosen), targets, items, key, time.thread_time() - started, teacher=teacher)


def make_feature_batches(
    network: ResNet,
    preprocess: Preprocess,
    recipe: Recipe,
    augment: Augment,
    batches: TrainingBatches,
    val: Dataset | None,
    cut: str | int,
    epochs: int,
) -> FeatureBatches | None:
    """Cache the activations at `cut`; None if that saves nothing (few epochs), or if they fit neither on the disk nor
    in memory.

    Args:
        network: the network; its layers below the cut must not change while these batches are used.
        epochs: number of epochs that will use them.
    """
    augmented = augment != Augment(repeats=augment.repeats)
    views = recipe.views or (max(1, round(epochs / _EPOCHS_A_VIEW)) if augmented else 1)
    if batches.teacher is not None:  # both show the same view of an item in the same epoch
        views = batches.teacher.view_count
    device = network.fc.weight.device
    if epochs <= views or device.type != "cpu" or not _can_cache(recipe, augment, preprocess, cut):
        return None
    sample = preprocess.apply(batches.items[0].location.read())
    needed = _bytes_an_item(network, preprocess, sample, cut) * (len(batches.items) * views + len(val or ()))
    on_disk = _storage(needed)
    if on_disk is None:
        return None
    cache = FeatureCache(
        network, preprocess, cut=cut, device=device, bf16=recipe.precision == "bf16", on_disk=on_disk,
        workers=recipe.workers,
    )  # fmt: skip
    shown = [View(augment=augment, seed=recipe.seed, number=number) for number in range(1, views + 1)]
    try:
        tables = [cache.of(batches.items, view) for view in (shown if augmented else [None])]
        held_out = cache.of(val.items) if val is not None else None
    except StoreFullError as error:
        warn(f"{error.what}: the frozen layers are computed again in each epoch. To cache them, {error.fix}")
        return None
    for table in [*tables, *([held_out] if held_out else [])]:
        for name, reason in table.failures.items():  # rows would no longer match targets
            raise UserError(
                f"an item can no longer be read: {reason}", where=name, fix="restore it, or start a new run"
            )
    computed = sum(table.computed for table in tables) + (held_out.computed if held_out else 0)
    copies = (
        f"{len(tables)} augmented {'copy' if len(tables) == 1 else 'copies'} per item" if augmented else "each item"
    )
    note(f"activations of frozen layers cached for {copies}: {computed} computed now, {needed / 2**20:.0f} MiB in all")
    return FeatureBatches(
        batches=batches,
        views=[table.rows.loaded() for table in tables],
        cut=cut,
        val=None if held_out is None else held_out.rows.loaded(),
    )


def _can_cache(recipe: Recipe, augment: Augment, preprocess: Preprocess, cut: str | int) -> bool:
    """Return whether the recipe allows to train on cached activations at `cut`."""
    changes_pixels = bool(recipe.mixup or recipe.cutmix or recipe.augment.erase or recipe.store_size)
    changes_pixels |= augment.repeats > 1  # cached copies of an item would all be the same view
    # Items of different lengths have activations of different shapes.
    has_one_shape = cut == "all" or preprocess.has_fixed_shape
    return recipe.cache and cut != "none" and not changes_pixels and has_one_shape


def _bytes_an_item(network: ResNet, preprocess: Preprocess, sample: Tensor, cut: str | int) -> int:
    """Measure the size of `forward_until`'s output for one item, bytes, by one forward pass."""
    training = network.training
    with torch.inference_mode():
        x, mask = preprocess.inputs(preprocess.stack([sample]).to(network.fc.weight.device))
        size = 4 * network.eval().forward_until(laid_out(x), cut, mask).numel()
    network.train(training)
    return size


def _storage(needed: int) -> bool | None:
    """Decide where to cache so many bytes: True: on disk; False: in memory; None: in neither, with a warning."""
    folder = features_folder()
    writable = folder is not None and can_write(folder)
    free = shutil.disk_usage(folder).free if folder is not None and writable else 0
    if needed <= _DISK_SHARE * free:
        return True
    size = f"{needed / 2**30:.1f} GiB"
    if needed > MEMORY_SHARE * memory_bytes() / local_processes():
        disk = f"{free / 2**30:.1f} GiB are free in {folder}" if writable else "no cache folder can be written"
        warn(
            f"the frozen layers are computed again in each epoch: their activations need {size}, which does not fit in "
            f"memory, and {disk}. To use another cache folder, set RESTUNE_CACHE"
        )
        return None
    if not writable:
        return True  # cached rows may still be readable; the cache holds the others in memory, with a warning
    warn_once(
        f"cached activations of {size} are held in memory, for this run only: {free / 2**30:.1f} GiB are free in "
        f"{folder}. To use a folder on another disk, set RESTUNE_CACHE",
        about=f"writing in {folder}",
    )
    return False
