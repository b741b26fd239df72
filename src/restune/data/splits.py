"""Train, validation and test splits: defined by the data, or drawn once from the seed."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError, shorten
from restune.core.files import write_bytes
from restune.core.streams import generator
from restune.data.dataset import Dataset, Item

MIN_CLASS_ITEMS = 5
_RESTORE = "restore it and run the same command again, or start another run with --out"


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The items of a run, each in one split.

    Args:
        train, val, test: data sets with the same classes; val and test may be None.
        left_out: unused items, by id, with the reason.
        notes: remarks on items of a split, by id, such as another item of equal content.
    """

    train: Dataset
    val: Dataset | None
    test: Dataset | None
    left_out: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return the number of items per split."""
        sides = {"train": self.train, "val": self.val, "test": self.test}
        return {name: len(side) for name, side in sides.items() if side is not None}


def split_dataset(
    dataset: Dataset,
    *,
    val: float | Dataset | None,
    test: float | Dataset | None,
    unreadable: Mapping[str, str],
    seed: int,
    min_class_items: int = MIN_CLASS_ITEMS,
) -> Splits:
    """Split as the data defines it; draw requested shares from train, stratified by class and by group.

    Args:
        val, test: another data set with the same classes, a share of train, or None for the data's own split
            (val: 20% if it has none).
        unreadable: items to skip, by id, with the reason.
        seed: of the draw; the same seed gives the same splits.
        min_class_items: minimum items per class.

    Raises UserError for classes that are too small or missing in a split, and for shares that leave no items.
    """
    readable = replace(dataset, items=tuple(item for item in dataset.items if item.id not in unreadable))
    named = readable.splits()
    pool = [item for item in readable.items if item.split in (None, "train")]
    if not pool:
        first = next(iter(unreadable.items()), ("", ""))
        raise UserError(
            "this data has no items to train on",
            where=dataset.source,
            fix=f"all its items that can be read are marked {' or '.join(named)}: mark some as train"
            if named
            else f"none of its items can be read, such as {first[0]}: {first[1]}",
        )
    _reject_small_classes(replace(readable, items=tuple(pool)), min_class_items)
    sides: dict[str, Dataset | None] = {}
    for side, wanted in (("test", test), ("val", val)):
        if isinstance(wanted, Dataset):
            kept = tuple(item for item in wanted.items if item.id not in unreadable)
            sides[side] = replace(wanted, items=kept)
        elif wanted is None and side in named:
            sides[side] = readable.select(side)
        else:
            share = (0.2 if side == "val" else 0.0) if wanted is None else wanted
            chosen = _draw(pool, share, seed, side, dataset.source)
            pool = [item for item in pool if item.id not in chosen]
            drawn = tuple(item for item in readable.items if item.id in chosen)
            sides[side] = replace(readable, items=drawn) if drawn else None
    train = replace(readable, items=tuple(pool))
    return Splits(train=train, val=sides["val"], test=sides["test"], left_out=dict(unreadable))


def write_splits(path: Path, splits: Splits) -> None:
    """Write ``split.csv``: see `splits_text`. File names are preserved, also if they are not valid UTF-8."""
    write_bytes(path, splits_text(splits).encode("utf-8", "surrogateescape"))


def splits_text(splits: Splits) -> str:
    """Format a table of items: each one's split, with a note if there is one, or the reason why it was left out.

    Files that are not items, such as those of an unsupported format, come last, one row per folder and suffix:
    ``dog/*.xyz,not taken,"12 files .xyz, not read"``.
    """
    buffer = io.StringIO()
    rows = [("item", "split", "reason")]
    for name, side in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        rows.extend((item.id, name, splits.notes.get(item.id, "")) for item in (side.items if side else ()))
    rows.extend((item, "left out", reason) for item, reason in splits.left_out.items())
    sides = [side for side in (splits.train, splits.val, splits.test) if side is not None]
    passed_over = dict.fromkeys(one for side in sides for one in side.not_taken)  # each once
    rows.extend((one.pattern, "not taken", one.reason) for one in passed_over)
    # Before Python 3.13 the csv module does not quote a carriage return, and then reads it as the row's end.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if any("\r" in row[0] for row in rows) else csv.QUOTE_MINIMAL
    csv.writer(buffer, lineterminator="\n", quoting=quoting).writerows(rows)
    return buffer.getvalue()


def read_splits(path: Path, dataset: Dataset, val: Dataset | None, test: Dataset | None) -> Splits:
    """Read the splits that `write_splits` wrote, for the same data. Raises UserError if an item is missing."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return splits_from_text(text, dataset, val, test, source=str(path))


def splits_from_text(text: str, dataset: Dataset, val: Dataset | None, test: Dataset | None, source: str) -> Splits:
    """Parse the splits that `splits_text` wrote, for the same data. Raises UserError if an item is missing."""
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    known: dict[str, dict[str, Item]] = {"train": {item.id: item for item in dataset.items}}
    known["val"] = known["train"] if val is None else {item.id: item for item in val.items}
    known["test"] = known["train"] if test is None else {item.id: item for item in test.items}
    items: dict[str, list[Item]] = defaultdict(list)
    left_out: dict[str, str] = {}
    notes: dict[str, str] = {}
    for row in rows:
        side, name = row["split"], row["item"]
        if side == "left out":
            left_out[name] = row["reason"]
        elif side == "not taken":
            continue
        elif side not in known or name not in known[side]:
            raise UserError("an item of this run is no longer in the data", where=name, fix=_RESTORE)
        else:
            items[side].append(known[side][name])
            if row["reason"]:
                notes[name] = row["reason"]
    made = {side: replace(dataset, items=tuple(items[side])) if items[side] else None for side in known}
    train = made["train"]
    if train is None:
        raise UserError("this run's split has no training items", where=source)
    return Splits(train=train, val=made["val"], test=made["test"], left_out=left_out, notes=notes)


def read_left_out(path: Path) -> dict[str, str]:
    """Return the items that a ``split.csv`` lists as left out, with the reason; empty without such a file."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return {row["item"]: row["reason"] for row in csv.DictReader(file) if row["split"] == "left out"}


def _reject_small_classes(pool: Dataset, least: int) -> None:
    small = {name: count for name, count in pool.class_counts().items() if count < least}
    if small:
        listed = shorten(f"{name!r} ({count})" for name, count in small.items())
        raise UserError(
            f"too few items to learn from in {'class' if len(small) == 1 else 'classes'} {listed}; "
            f"each needs at least {least}",
            where=pool.source,
            fix="add items, remove the class, or lower the limit with --set min_class_items=1",
        )


def _draw(pool: Sequence[Item], share: float, seed: int, side: str, source: str) -> set[str]:
    """Draw the ids of a share of the pool, stratified by class; groups, if there are any, stay whole."""
    if not 0 <= share < 1:
        raise UserError(f"a share is at least 0 and below 1, not {share}", where=f"--{side}")
    if share == 0:
        return set()
    if any(item.group is not None for item in pool):
        return _draw_groups(pool, share, seed, side, source)
    by_class: dict[int, list[str]] = defaultdict(list)
    for item in pool:
        by_class[item.target].append(item.id)
    chosen: set[str] = set()
    for target, ids in sorted(by_class.items()):
        order = generator(seed, f"split-{side}", target).permutation(len(ids))
        count = min(len(ids) - 1, max(1, round(share * len(ids))))
        chosen.update(ids[position] for position in order[:count])
    return chosen


def _draw_groups(pool: Sequence[Item], share: float, seed: int, side: str, source: str) -> set[str]:
    """Take one fold of scikit-learn's StratifiedGroupKFold, as near to the share as whole groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = [item.group if item.group is not None else f"item {item.id}" for item in pool]
    sizes = Counter(groups)
    alone = sum(size == 1 for size in sizes.values())
    if len(sizes) > _MANY_GROUPS or alone > max(_ENOUGH_ALONE, 0.5 * len(pool)):
        return _draw_many_groups(pool, groups, share, generator(seed, f"split-{side}"))
    folds = max(2, round(1 / share))
    if len(set(groups)) < folds:
        raise UserError(
            f"{len(set(groups))} groups cannot be split into {folds} parts",
            where=source,
            fix=f"raise the share with --{side}, or name {side} items with --split-column",
        )
    targets = np.array([item.target for item in pool])
    random_state = int(generator(seed, f"split-{side}").integers(2**31))
    folder = StratifiedGroupKFold(folds, shuffle=True, random_state=random_state)
    picked = [held_out for _, held_out in folder.split(np.zeros(len(pool)), targets, groups)]
    whole = [held_out for held_out in picked if side == "val" and _covers(held_out, targets)]
    return {pool[position].id for position in (whole or picked)[0]}


def _covers(held_out: NDArray[np.int64], targets: NDArray[np.int64]) -> bool:
    """Return whether each class has an item in a fold and one outside it."""
    return set(targets[held_out]) == set(np.delete(targets, held_out)) == set(targets)


_MANY_GROUPS, _ENOUGH_ALONE = 1000, 50
"""Number of groups, or of single-item groups if these are the majority, from which groups are drawn one by one.

That gets arbitrarily near to the share; folds allow only 1/2, 1/3, ..., and take seconds."""


def _draw_many_groups(
    pool: Sequence[Item], groups: Sequence[str], share: float, random: np.random.Generator
) -> set[str]:
    """Take groups in random order, large ones first, while no class exceeds its share.

    A class without any item then contributes its smallest group.
    """
    members: dict[str, list[Item]] = defaultdict(list)
    for item, group in zip(pool, groups, strict=True):
        members[group].append(item)
    counts = Counter(item.target for item in pool)
    left = {target: min(count - 1, max(1, round(share * count))) for target, count in counts.items()}
    order = [list(members)[position] for position in random.permutation(len(members))]
    chosen: dict[str, None] = {}
    for group in sorted(order, key=lambda name: -len(members[name])):
        wanted = Counter(item.target for item in members[group])
        if len(members[group]) > 1 and random.random() > share:  # else all large groups would go into this split
            continue
        if all(left[target] >= count for target, count in wanted.items()):
            left = {target: count - wanted[target] for target, count in left.items()}
            chosen[group] = None
    covered = {item.target for group in chosen for item in members[group]}
    for target in sorted(set(counts) - covered):
        own = [group for group in order if {item.target for item in members[group]} == {target}]
        if len(own) > 1:
            chosen[min(own, key=lambda name: len(members[name]))] = None
    return {item.id for group in chosen for item in members[group]}
