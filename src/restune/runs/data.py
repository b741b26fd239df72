"""The data of a run: its items preloaded at once, and which of them train, validate and test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.data.augment import Augment
from restune.data.dataset import DataOptions, Dataset, Item
from restune.data.preprocess import NOUNS, Preprocess
from restune.data.sources import open_dataset
from restune.data.splits import Splits, read_splits, split_dataset, write_splits
from restune.data.preload import Preloaded, preload
from restune.data.views import needs_wholes
from restune.training.recipe import Recipe


def open_others(dataset: Dataset, recipe: Recipe, options: DataOptions | None) -> tuple[Dataset | None, Dataset | None]:
    """The validation and test data where they are other data."""
    sides: list[Dataset | None] = []
    for name in ("val", "test"):
        value = getattr(recipe, name)
        if not isinstance(value, str):
            sides.append(None)
            continue
        other = open_dataset(value, replace(options or DataOptions(), kind=dataset.kind))
        try:
            sides.append(_renamed(other.with_classes(dataset.classes), name))
        except UserError as error:
            raise UserError(
                error.what.replace("the model", "the training data").replace("the data has", f"the {name} data has"),
                where=other.source,
                fix=f"training and {name} data need the same class names",
            ) from None
    return sides[0], sides[1]


def _renamed(dataset: Dataset, side: str) -> Dataset:
    """Items of another source under ids that cannot be taken for the training data's."""
    return replace(dataset, items=tuple(replace(item, id=f"{side}:{item.id}", split=side) for item in dataset.items))


def preload_all(
    recipe: Recipe,
    dataset: Dataset,
    val: Dataset | None,
    test: Dataset | None,
    preprocess: Preprocess,
    augment: Augment,
) -> Preloaded:
    """Decode everything that will be trained and validated on once; keep it in memory where it fits."""
    found = preload(
        all_items(dataset, val, test),
        preprocess,
        store_size=recipe.store_size,
        as_seen=not needs_wholes(preprocess, augment),
        workers=recipe.workers or None,
    )
    noun = NOUNS[dataset.kind]
    note(f"all {noun} are kept in memory" if found.kept else f"{noun} are read from disk as they are needed")
    return found


def all_items(dataset: Dataset, val: Dataset | None, test: Dataset | None) -> list[Item]:
    return [*dataset.items, *(val.items if val else ()), *(test.items if test else ())]


def report_unreadable(preloaded: Preloaded) -> None:
    if preloaded.unreadable:
        names = shorten(f"{name} ({reason})" for name, reason in list(preloaded.unreadable.items())[:3])
        warn(f"{len(preloaded.unreadable)} items cannot be read and are left out: {names}; all are in split.csv")


def reject_mixing_of_lengths(recipe: Recipe, preloaded: Preloaded, preprocess: Preprocess, train: Dataset) -> None:
    """Raise UserError for mixup of series that are not equally long: there is nothing to mix their ends with."""
    if not recipe.mixup or preprocess.kind != "signal":
        return
    kept = [preloaded.kept[item.id] for item in train.items if item.id in preloaded.kept]
    lengths = {preprocess.view(whole).shape[-1] for whole in kept}
    if len(lengths) > 1:
        raise UserError(
            f"series of {min(lengths)} to {max(lengths)} values cannot be mixed",
            where="--set mixup",
            fix="leave it out, or cut all to one length with --set signal.length",
        )


def settle_splits(
    folder: Path,
    recipe: Recipe,
    dataset: Dataset,
    val: Dataset | None,
    test: Dataset | None,
    preloaded: Preloaded,
    *,
    continues: bool,
    writes: bool,
) -> Splits:
    """The splits of the run: those on disk when it goes on, else drawn now and written."""
    path = folder / "split.csv"
    if continues and path.exists():
        return read_splits(path, dataset, val, test)
    splits = split_dataset(
        dataset,
        val=val if val is not None else _share(recipe.val),
        test=test if test is not None else _share(recipe.test),
        unreadable=preloaded.unreadable,
        seed=recipe.seed,
        min_class_items=recipe.min_class_items,
    )
    lacking = [] if splits.val is None else [name for name, count in splits.val.class_counts().items() if not count]
    if lacking:
        raise UserError(
            f"the validation items have none of {shorten(map(repr, lacking))}",
            where=splits.val.source if splits.val else "--val",
            fix="add some, or let restune draw them: --val 0.2",
        )
    gone = [name for name, count in splits.train.class_counts().items() if not count]
    if gone:
        raise UserError(
            f"no training items are left of {shorten(map(repr, gone))}: their groups are all held out",
            where=splits.train.source,
            fix="name the sides in a column (--split-column), or another --seed",
        )
    if writes:
        write_splits(path, splits)
    counts = ", ".join(f"{name} {count}" for name, count in splits.counts().items())
    note(
        f"{len(dataset.classes)} classes; {counts}" + (f"; left out {len(splits.left_out)}" if splits.left_out else "")
    )
    return splits


def _share(value: float | str | None) -> float | None:
    return value if not isinstance(value, str) else None
