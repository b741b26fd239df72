"""Training data and other data for validation or test, as one data set with splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from restune.core.errors import UserError
from restune.data.dataset import Dataset
from restune.data.items import Item, Joined, Rows
from restune.data.kinds import kind_of


def with_held_out(train: Dataset, **held_out: Dataset) -> Dataset:
    """Return the items of all, those of `held_out` (``val``, ``test``) with their split before their ids.

    Items of `train` without a split are training items. Raises UserError for other classes or another kind of data.
    """
    parts = [_in_split(train.items, "train", "")]
    for split, other in held_out.items():
        if other.kind != train.kind:
            raise UserError(
                f"the {split} data is {kind_of(other.kind).noun}, the training data {kind_of(train.kind).noun}",
                where=other.source,
                fix="name data of the same kind, or set it with --kind",
            )
        unknown = [name for name, count in other.class_counts().items() if count and name not in train.classes]
        if unknown:
            raise UserError(
                f"the {split} data has classes that the training data does not have: {', '.join(unknown[:5])}",
                where=other.source,
                fix=f"training and {split} data need the same class names",
            )
        matched = other.with_classes(train.classes, allow_missing=True)
        parts.append(_in_split(matched.items, split, f"{split}:"))
    skipped = tuple(one for data in (train, *held_out.values()) for one in data.not_taken)
    return replace(train, items=Joined(tuple(parts)), not_taken=skipped)


def _in_split(items: Sequence[Item], split: str, prefix: str) -> Sequence[Item]:
    """Return items of a split; with a prefix all of them, else those without one."""
    if isinstance(items, Rows) and (prefix or items.splits is None):
        return replace(items, prefix=prefix + items.prefix, split=items.split if not prefix and items.split else split)
    return tuple(
        replace(item, id=prefix + item.id, split=split if prefix else item.split or split) for item in items
    )  # fmt: skip
