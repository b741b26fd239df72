"""The data of a run: opened and read once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from restune.core.console import note
from restune.core.errors import UserError
from restune.data.augment import Augment
from restune.data.dataset import DataOptions, Dataset, Item
from restune.data.kinds import Kind, kind_of
from restune.data.preload import Preloaded, preload
from restune.data.preprocess import Preprocess
from restune.data.sources import open_dataset
from restune.data.sources.sentences import group_duplicates
from restune.training.recipe import Recipe


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

    def items(self) -> list[Item]:
        """Return all items of all data sets."""
        return [item for data in (self.train, self.val, self.test) if data is not None for item in data.items]


def open_train(data: Any, options: DataOptions | None) -> Dataset:
    """Open the training data; texts with equal content get one group, so that they stay in one split."""
    dataset = open_dataset(data, options)
    if kind_of(dataset.kind).groups_duplicates:
        return group_duplicates(dataset, None if options is None else options.encoding)
    return dataset


def open_held_out(train: Dataset, recipe: Recipe, options: DataOptions | None) -> RunData:
    """Open the validation and test data that the recipe names. Raises UserError if their classes differ."""
    opened: dict[str, Dataset] = {}
    for split in ("val", "test"):
        value = getattr(recipe, split)
        if not isinstance(value, str):
            continue
        other = open_dataset(value, replace(options or DataOptions(), kind=train.kind))
        try:
            opened[split] = _with_prefix(other.with_classes(train.classes), split)
        except UserError as error:
            raise UserError(
                error.what.replace("the model", "the training data").replace("the data has", f"the {split} data has"),
                where=other.source,
                fix=f"training and {split} data need the same class names",
            ) from None
    return RunData(train=train, **opened)


def preload_all(data: RunData, recipe: Recipe, preprocess: Preprocess, augment: Augment) -> Preloaded:
    """Decode every item once; keep all in memory if they fit."""
    preloaded = preload(
        data.items(),
        preprocess,
        store_size=recipe.store_size,
        as_seen=not preprocess.needs_wholes(augment),
        workers=recipe.workers or None,
    )
    noun = data.kind.noun
    note(f"all {noun} are kept in memory" if preloaded.kept else f"{noun} are read from disk as they are needed")
    return preloaded


def reject_mixup_of_lengths(recipe: Recipe, preloaded: Preloaded, preprocess: Preprocess, train: Dataset) -> None:
    """Raise UserError for mixup of series of different lengths."""
    if not recipe.mixup or preprocess.has_fixed_shape:
        return
    kept = [preloaded.kept[item.id] for item in train.items if item.id in preloaded.kept]
    lengths = {preprocess.view(whole).shape[-1] for whole in kept}
    if len(lengths) > 1:
        raise UserError(
            f"series of {min(lengths)} to {max(lengths)} values cannot be mixed",
            where="--set mixup",
            fix="leave it out, or cut all to one length with --set signal.length",
        )


def _with_prefix(dataset: Dataset, split: str) -> Dataset:
    """Prefix the ids with the split, so that they differ from the training data's."""
    return replace(dataset, items=tuple(replace(item, id=f"{split}:{item.id}", split=split) for item in dataset.items))
