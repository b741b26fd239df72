"""The splits of a run: drawn or read by the first process, the same for all, recorded, and compared on resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from restune.core.console import note, warn
from restune.core.errors import SharedError, UserError, shorten
from restune.data.dataset import Dataset
from restune.data.duplicates import group_copies, name_copies
from restune.data.preload import content_hash
from restune.data.splits import Splits, read_splits, split_dataset, splits_from_text, splits_text, write_splits
from restune.runs.data import RunData
from restune.runs.split_record import (
    SplitRecord,
    read_split_record,
    reject_changed_data,
    write_split_record,
)
from restune.training.distributed import World
from restune.training.recipe import Recipe


def split_data(
    data: RunData,
    unreadable: Mapping[str, str],
    contents: Mapping[str, str],
    recipe: Recipe,
    folder: Path,
    world: World,
    *,
    continues: bool,
    accept_changes: bool = False,
) -> tuple[Splits, SplitRecord]:
    """Return the run's splits without unreadable items: read from disk on resume, else drawn and written.

    Args:
        unreadable: items of `data` that this process could not read, with the reason; those of the first process are
            skipped in all processes.
        contents: 16 hex digits over the content of each other item.

    Raises UserError if a class has no training or no validation item, if data or classes changed since the run began
    (unless `accept_changes`), and if a process has other data than the first one.
    """
    decided: list[tuple[Splits, SplitRecord]] = []

    def decide() -> str:
        begun = continues and (folder / "split.csv").exists()
        splits = _read_or_draw(data, unreadable, contents, recipe, folder, begun=begun)
        before = read_split_record(folder) if begun else None
        splits, record = _compared(
            splits, contents, len(data.items()), before, folder, accept_changes=accept_changes
        )  # fmt: skip
        write_split_record(folder, record)
        if not begun:
            write_splits(folder / "split.csv", splits)
        decided.append((splits, record))
        return json.dumps([splits_text(splits), record.to_json()]) if world.size > 1 else ""

    text = world.agreed(decide)
    if world.size == 1:
        return decided[0]
    table, record = json.loads(text)
    main = SplitRecord.from_json(record)
    splits, problem = decided[0][0] if decided else None, ""
    if splits is None:
        splits, problem = _same_splits(table, main, data, contents)
    _reject_other_data(problem, world, data.train.source)
    assert splits is not None
    return splits, main


def drawn_splits(
    data: RunData, unreadable: Mapping[str, str], contents: Mapping[str, str], recipe: Recipe
) -> Splits:  # fmt: skip
    """Return the splits that the data defines or the recipe's seed draws; see `split_data`."""
    return split_dataset(
        data.train if data.kind.groups_duplicates else group_copies(data.train, contents, unreadable),
        val=data.val if data.val is not None else _share(recipe.val),
        test=data.test if data.test is not None else _share(recipe.test),
        unreadable=unreadable,
        seed=recipe.seed,
        min_class_items=recipe.min_class_items,
    )


def _read_or_draw(
    data: RunData,
    unreadable: Mapping[str, str],
    contents: Mapping[str, str],
    recipe: Recipe,
    folder: Path,
    *,
    begun: bool,
) -> Splits:
    if unreadable:
        names = shorten(f"{name} ({reason})" for name, reason in list(unreadable.items())[:3])
        count = f"{len(unreadable)} unreadable item" + "s" * (len(unreadable) > 1)
        warn(f"skipped {count}: {names}; all are in split.csv")
    if begun:
        splits = read_splits(folder / "split.csv", data.train, data.val, data.test)
        _reject_lost(splits, unreadable)
        return splits
    splits = drawn_splits(data, unreadable, contents, recipe)
    _reject_empty_classes(splits)
    counts = ", ".join(f"{name} {count}" for name, count in splits.counts().items())
    skipped = f"; skipped {len(splits.left_out)}" if splits.left_out else ""
    task, width = data.train.task, len(data.train.classes)
    nouns = {"multi-label": "labels", "regression": "numbers to predict" if width > 1 else "number to predict"}
    note(f"{width} {nouns.get(task, 'classes')}; {counts}{skipped}")
    if task == "single-label":
        _note_imbalance(splits, recipe)
    named = name_copies(splits, contents)
    if named.notes or unreadable:
        note("`restune check DATA` lists such items, and also changed copies and odd images")
    return named


def _compared(
    splits: Splits,
    contents: Mapping[str, str],
    total: int,
    before: SplitRecord | None,
    folder: Path,
    *,
    accept_changes: bool,
) -> tuple[Splits, SplitRecord]:
    """Read the splits and their record, with the run's original classes. Raises UserError for changes."""
    record = SplitRecord.of(splits, contents, total)
    if before is None:
        return splits, record
    if not accept_changes:
        reject_changed_data(before, record, folder)
    elif before.classes != record.classes:
        splits = _with_classes(splits, before.classes)
        record = SplitRecord.of(splits, contents, total)
    if record.total > before.total:
        warn(f"the data has {record.total} items, {before.total} when this run began: it continues with those")
    return splits, record


def _with_classes(splits: Splits, classes: tuple[str, ...]) -> Splits:
    """Return the items with targets as indices into these classes. Raises UserError for an item of another class."""

    def renumbered(data: Dataset) -> Dataset:
        return data.with_classes(classes, allow_missing=True)

    val, test = splits.val, splits.test
    try:
        return replace(
            splits,
            train=renumbered(splits.train),
            val=None if val is None else renumbered(val),
            test=None if test is None else renumbered(test),
        )
    except UserError as error:
        raise UserError(
            "items of this run have another class than when it began",
            where=error.where,
            fix="undo the change, or start another run with --out",
        ) from error


def _same_splits(
    table: str, main: SplitRecord, data: RunData, contents: Mapping[str, str]
) -> tuple[Splits | None, str]:
    """Return the first process's splits of this process's data, and the first difference (empty if none)."""
    try:
        splits = splits_from_text(table, data.train, data.val, data.test, data.train.source)
    except UserError as error:
        return None, f"{error.where} is not there"
    known = dict(contents)
    for split in (splits.train, splits.val, splits.test):
        for item in () if split is None else split.items:
            if item.id not in known:  # it failed once, but may be readable now
                try:
                    known[item.id] = content_hash(item.location.read())
                except (OSError, ValueError, MemoryError) as error:
                    return splits, f"{item.id} cannot be read: {error}"
    mine = SplitRecord.of(splits, known, main.total)
    if mine.classes != main.classes:
        try:
            splits = _with_classes(splits, main.classes)
        except UserError:
            return splits, f"its classes are {shorten(mine.classes)}, not {shorten(main.classes)}"
        mine = SplitRecord.of(splits, known, main.total)
    difference = next(main.changes(mine), None)
    return splits, "" if difference is None else f"{difference.item} differs: {difference.what}"


def _reject_other_data(problem: str, world: World, source: str) -> None:
    """Raise SharedError in all processes if one of them has a problem."""
    for rank, text in enumerate(world.texts(problem)):
        if text:
            raise SharedError(
                f"process {rank} has other data than process 0: {text}",
                where=source,
                fix="give all processes the same files and start them again",
            )


def _reject_lost(splits: Splits, unreadable: Mapping[str, str]) -> None:
    """Raise UserError if an item of the run can no longer be read."""
    for data in (splits.train, splits.val, splits.test):
        for name in () if data is None else data.ids():
            if name in unreadable:
                raise UserError(
                    f"an item of this run can no longer be read: {unreadable[name]}",
                    where=name,
                    fix="restore it and resume again, or start another run with --out",
                )


_STRONG_IMBALANCE = 5.0


def _note_imbalance(splits: Splits, recipe: Recipe) -> None:
    """Print the accuracy of always predicting the commonest class, and the settings for imbalanced classes."""
    counts = splits.train.class_counts()
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] < _STRONG_IMBALANCE * max(1, counts[smallest]):
        return
    held_out = splits.val or splits.train
    share = held_out.class_counts()[largest] / max(1, len(held_out))
    of = "validation" if splits.val is not None else "training"
    text = (
        f"imbalanced classes: {largest!r} has {counts[largest]:,} training items, {smallest!r} {counts[smallest]:,}; "
        f"always predicting {largest!r} scores {share:.2%} accuracy and {1 / len(counts):.2%} balanced accuracy on the "
        f"{of} items"
    )
    if recipe.sampling == "uniform" and recipe.class_weights == "none":
        text += "; consider --set sampling=balanced or --set class_weights=balanced"
    if recipe.monitor == "val_accuracy":
        text += "; --monitor val_balanced_accuracy or val_macro_f1 selects the epoch by all classes alike"
    note(text)


def _reject_empty_classes(splits: Splits) -> None:
    if splits.train.task == "regression":
        return
    if splits.train.task == "multi-label":
        _reject_labels_without_items(splits)
        return
    without = [] if splits.val is None else [name for name, count in splits.val.class_counts().items() if not count]
    if without:
        raise UserError(
            f"there are no validation items of {shorten(map(repr, without))}",
            where=splits.val.source if splits.val else "--val",
            fix="add some, or let restune draw them: --val 0.2",
        )
    without = [name for name, count in splits.train.class_counts().items() if not count]
    if without:
        raise UserError(
            f"no training items are left of {shorten(map(repr, without))}: "
            "their groups (or copies of one item) are all held out",
            where=splits.train.source,
            fix="name the splits in a column (--split-column), or use another --seed",
        )


def _reject_labels_without_items(splits: Splits) -> None:
    """Raise UserError for labels that no training item has; warn of those that no validation item has."""
    without = [name for name, count in splits.train.class_counts().items() if not count]
    if without:
        raise UserError(
            f"no training item has the label {shorten(map(repr, without))}",
            where=splits.train.source,
            fix="name the splits in a column (--split-column), use another --seed, or leave the label out",
        )
    without = [] if splits.val is None else [name for name, count in splits.val.class_counts().items() if not count]
    if without:
        warn(f"no validation item has the label {shorten(map(repr, without))}: it is not in the mean average precision")


def _share(value: float | str | None) -> float | None:
    return value if not isinstance(value, str) else None
