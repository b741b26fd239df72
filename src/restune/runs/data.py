"""The data of a run: opened and read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from restune.core.console import note
from restune.core.errors import UserError
from restune.data.augment import Augment
from restune.data.dataset import DataOptions, Dataset, Item
from restune.data.items import Joined, Rows, splits_of, targets_of
from restune.data.kinds import Kind, kind_of
from restune.data.preload import Draft, Preloaded, preload
from restune.data.preprocess import Preprocess
from restune.data.sources import open_dataset
from restune.data.sources.sentences import group_duplicates
from restune.training.recipe import Recipe

_SMOKE_ITEMS, _SMOKE_BATCHES = 1024, 4
"""Items that a smoke run reads, or batches of items if these are more; some are held out for validation and test."""


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The data sets of a run.

    Args:
        train: the items to train on, and to hold out where `val` or `test` are None.
        val, test: other data sets named for validation and test.
    """

    train: Dataset
    val: Dataset | None = None
    test: Dataset | None = None

    @property
    def kind(self) -> Kind:
        """Kind of data of the items."""
        return kind_of(self.train.kind)

    def items(self) -> Sequence[Item]:
        """Return all items of all data sets."""
        parts = tuple(data.items for data in (self.train, self.val, self.test) if data is not None)
        return parts[0] if len(parts) == 1 else Joined(parts)


def grouped(dataset: Dataset, options: DataOptions | None) -> Dataset:
    """Return the data with one group for texts of equal content, so that they stay in one split."""
    if kind_of(dataset.kind).groups_duplicates:
        return group_duplicates(dataset, None if options is None else options.encoding)
    return dataset


def smoke_sample(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Return the items that a smoke run reads: enough of each class and split for two batches and their validation."""
    targets, splits = targets_of(dataset.items), splits_of(dataset.items)
    if dataset.target_values is not None:  # each row is a target of its own
        targets = np.zeros(len(dataset), np.int32)
    wanted = max(_SMOKE_ITEMS, _SMOKE_BATCHES * recipe.batch_size)
    share = min(1.0, wanted / max(1, len(dataset)))
    chosen = []
    for split in np.unique(splits):
        for target in np.unique(targets):
            members = np.flatnonzero((splits == split) & (targets == target))
            count = min(len(members), max(2 * recipe.min_class_items, round(share * len(members))))
            chosen.append(members[np.linspace(0, len(members) - 1, count).astype(np.int64)])
    positions = np.sort(np.concatenate(chosen))
    if len(positions) == len(dataset):
        return dataset
    note(f"smoke run: reads {len(positions):,} of {len(dataset):,} items")
    return dataset.take(positions)


def open_held_out(train: Dataset, recipe: Recipe, options: DataOptions | None) -> RunData:
    """Open the validation and test data that the recipe names. Raises UserError if their classes differ."""
    opened: dict[str, Dataset] = {}
    for split in ("val", "test"):
        value = getattr(recipe, split)
        if not isinstance(value, str):
            continue
        other = open_dataset(value, replace(options or DataOptions(), kind=train.kind, exclude=None, decisions=None))
        if recipe.smoke:
            other = smoke_sample(other, recipe)
        try:
            if other.task != train.task:
                raise UserError(f"the {split} data is {other.task}, the training data is {train.task}")
            opened[split] = _with_prefix(other.with_classes(train.classes), split)
        except UserError as error:
            raise UserError(
                error.what.replace("the model", "the training data").replace("the data has", f"the {split} data has"),
                where=other.source,
                fix=f"training and {split} data need the same class names",
            ) from None
    return RunData(train=train, **opened)


def preload_all(
    data: RunData,
    recipe: Recipe,
    preprocess: Preprocess,
    augment: Augment,
    *,
    draft: Draft | None = None,
    mine: range | None = None,
) -> Preloaded:
    """Decode every item once; keep all in memory if they fit. `draft` and `mine` are those of `preload`."""
    return preload(
        data.items(),
        preprocess,
        store_size=recipe.store_size,
        as_seen=not preprocess.needs_wholes(augment),
        workers=recipe.workers or None,
        draft=draft,
        mine=mine,
    )


def note_memory(data: RunData, preloaded: Preloaded) -> None:
    """Print whether the items are kept in memory."""
    noun = data.kind.noun
    note(f"all {noun} are kept in memory" if preloaded.kept else f"{noun} are read from disk as they are needed")


def reject_mixup_of_lengths(recipe: Recipe, preloaded: Preloaded, preprocess: Preprocess, train: Dataset) -> None:
    """Raise UserError for mixup of series of different lengths."""
    if not recipe.mixup or preprocess.has_fixed_shape:
        return
    kept = (preloaded.kept.get(name) for name in train.ids())
    lengths = {preprocess.view(whole).shape[-1] for whole in kept if whole is not None}
    if len(lengths) > 1:
        raise UserError(
            f"series of {min(lengths)} to {max(lengths)} values cannot be mixed",
            where="--set mixup",
            fix="leave it out, or cut all to one length with --set signal.length",
        )


def _with_prefix(dataset: Dataset, split: str) -> Dataset:
    """Prefix the ids with the split, so that they differ from the training data's."""
    items = dataset.items
    if isinstance(items, Rows):
        return replace(dataset, items=replace(items, prefix=f"{split}:", split=split))
    return replace(dataset, items=tuple(replace(item, id=f"{split}:{item.id}", split=split) for item in items))
