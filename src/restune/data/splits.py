"""Train, validation and test splits: defined by the data, or drawn once from the seed."""

from __future__ import annotations

import csv
import io
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError, shorten
from restune.core.files import written_whole
from restune.core.streams import generator
from restune.data.by_id import RowsById
from restune.data.dataset import SPLITS, Dataset, Item
from restune.data.items import GroupNumbers, groups_of, splits_of, taken, targets_of
from restune.data.stratify import draw_by_labels
from restune.data.targets import TargetScale, strata

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

    def target_scale(self) -> TargetScale | None:
        """Return the scale of the training targets of regression; None for other tasks."""
        return TargetScale.of(self.train.values()) if self.train.task == "regression" else None

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
    readable = _readable(dataset, unreadable)
    named = readable.splits()
    codes = splits_of(readable.items)
    positions = np.flatnonzero((codes < 0) | (codes == SPLITS.index("train")))
    if not len(positions):
        first = next(iter(unreadable.items()), ("", ""))
        raise UserError(
            "this data has no items to train on",
            where=dataset.source,
            fix=f"all its items that can be read are marked {' or '.join(named)}: mark some as train"
            if named
            else f"none of its items can be read, such as {first[0]}: {first[1]}",
        )
    _reject_small_classes(readable.take(positions), min_class_items)
    pool = _Pool.of(readable, positions)
    sides: dict[str, Dataset | None] = {}
    for side, wanted in (("test", test), ("val", val)):
        if isinstance(wanted, Dataset):
            sides[side] = _readable(wanted, unreadable)
        elif wanted is None and side in named:
            sides[side] = readable.select(side)
        else:
            share = (0.2 if side == "val" else 0.0) if wanted is None else wanted
            is_drawn = _draw(pool, share, seed, side, dataset.source)
            drawn, pool = pool.positions[is_drawn], pool.without(is_drawn)
            sides[side] = readable.take(drawn) if len(drawn) else None
    train = readable.take(pool.positions)
    return Splits(
        train=train,
        val=sides["val"],
        test=sides["test"],
        left_out={**dataset.left_out, **unreadable},
        notes=dict(dataset.notes),
    )


def _readable(dataset: Dataset, unreadable: Mapping[str, str]) -> Dataset:
    """Return the items that are not among the unreadable ones."""
    if not unreadable:
        return dataset
    is_readable = np.fromiter((name not in unreadable for name in dataset.ids()), bool, len(dataset))
    return dataset if is_readable.all() else dataset.take(np.flatnonzero(is_readable))


def write_splits(path: Path, splits: Splits) -> None:
    """Write ``split.csv``: see `splits_text`. File names are preserved, also if they are not valid UTF-8."""
    with (
        written_whole(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        _write_rows(file, splits)


def splits_text(splits: Splits) -> str:
    """Format a table of items: each one's split, with a note if there is one, or the reason why it was left out.

    Files that are not items, such as those of an unsupported format, come last, one row per folder and suffix:
    ``dog/*.xyz,not taken,"12 files .xyz, not read"``.
    """
    buffer = io.StringIO()
    _write_rows(buffer, splits)
    return buffer.getvalue()


def _write_rows(file: TextIO, splits: Splits) -> None:
    # Before Python 3.13 the csv module does not quote a carriage return, and then reads it as the row's end.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if any("\r" in row[0] for row in _rows(splits)) else csv.QUOTE_MINIMAL
    csv.writer(file, lineterminator="\n", quoting=quoting).writerows(_rows(splits))


def _rows(splits: Splits) -> Iterator[tuple[str, str, str]]:
    yield "item", "split", "reason"
    for name, side in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        yield from ((item, name, splits.notes.get(item, "")) for item in (side.ids() if side else ()))
    yield from ((item, "left out", reason) for item, reason in splits.left_out.items())
    sides = [side for side in (splits.train, splits.val, splits.test) if side is not None]
    passed_over = dict.fromkeys(one for side in sides for one in side.not_taken)  # each once
    yield from ((one.pattern, "not taken", one.reason) for one in passed_over)


def read_splits(path: Path, dataset: Dataset, val: Dataset | None, test: Dataset | None) -> Splits:
    """Read the splits that `write_splits` wrote, for the same data. Raises UserError if an item is missing."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return _parsed(file, dataset, val, test, source=str(path))


def splits_from_text(text: str, dataset: Dataset, val: Dataset | None, test: Dataset | None, source: str) -> Splits:
    """Parse the splits that `splits_text` wrote, for the same data. Raises UserError if an item is missing."""
    return _parsed(io.StringIO(text, newline=""), dataset, val, test, source)


def _parsed(file: TextIO, dataset: Dataset, val: Dataset | None, test: Dataset | None, source: str) -> Splits:
    sources = {"train": dataset, "val": dataset if val is None else val, "test": dataset if test is None else test}
    known = {id(data): RowsById(data.items) for data in sources.values()}
    positions: dict[str, array[int]] = {split: array("q") for split in sources}
    left_out: dict[str, str] = {}
    notes: dict[str, str] = {}
    for row in csv.DictReader(file):
        side, name = row["split"], row["item"]
        if side == "left out":
            left_out[name] = row["reason"]
        elif side == "not taken":
            continue
        else:
            place = known[id(sources[side])].row(name) if side in sources else -1
            if place < 0:
                raise UserError("an item of this run is no longer in the data", where=name, fix=_RESTORE)
            positions[side].append(place)
            if row["reason"]:
                notes[name] = row["reason"]
    made = {
        side: replace(
            dataset, items=taken(data.items, np.array(positions[side], np.int64)), target_values=data.target_values
        )
        for side, data in sources.items()
        if positions[side]
    }
    train = made.get("train")
    if train is None:
        raise UserError("this run's split has no training items", where=source)
    return Splits(train=train, val=made.get("val"), test=made.get("test"), left_out=left_out, notes=notes)


def read_left_out(path: Path) -> dict[str, str]:
    """Return the items that a ``split.csv`` lists as left out, with the reason; empty without such a file."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return {row["item"]: row["reason"] for row in csv.DictReader(file) if row["split"] == "left out"}


def _reject_small_classes(pool: Dataset, least: int) -> None:
    if pool.task == "regression":
        if len(pool) < least:
            raise UserError(f"{len(pool)} items are too few for regression; it needs at least {least}",
                            where=pool.source, fix="add items")  # fmt: skip
        return
    if pool.task == "multi-label":
        _reject_rare_labels(pool, least)
        return
    small = {name: count for name, count in pool.class_counts().items() if count < least}
    if small:
        listed = shorten(f"{name!r} ({count})" for name, count in small.items())
        raise UserError(
            f"too few items to learn from in {'class' if len(small) == 1 else 'classes'} {listed}; "
            f"each needs at least {least}",
            where=pool.source,
            fix="add items, remove the class, or lower the limit with --set min_class_items=1",
        )


def _reject_rare_labels(pool: Dataset, least: int) -> None:
    """Raise UserError for labels that too few items have, or that too few lack."""
    rare = {name: count for name, count in pool.class_counts().items() if min(count, len(pool) - count) < least}
    if rare:
        listed = shorten(f"{name!r} ({count} of {len(pool)})" for name, count in rare.items())
        raise UserError(
            f"too few items with or without the {'label' if len(rare) == 1 else 'labels'} {listed}; "
            f"each label needs at least {least} of both",
            where=pool.source,
            fix="leave these labels out (--label-column names the others), or lower the limit with "
            "--set min_class_items=1",
        )


@dataclass(frozen=True)
class _Pool:
    """The items that a split is drawn from.

    Args:
        items: more of them.
        positions: of the pool's items among these, in order.
        targets: of `items`; of regression the stratum of each, of multi-label data its target row.
        groups: of `items`; None if they have none.
        labels: which target row has which label ``[rows, C]``; None unless the data is multi-label.
    """

    items: Sequence[Item]
    positions: NDArray[np.int64]
    targets: NDArray[np.int32]
    groups: GroupNumbers | None
    labels: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, dataset: Dataset, positions: NDArray[np.int64]) -> _Pool:
        """Read the items' targets and groups."""
        items, targets, labels = dataset.items, targets_of(dataset.items), None
        if dataset.task == "regression":
            targets = strata(dataset.values())
        elif dataset.task == "multi-label":
            assert dataset.target_values is not None
            labels = dataset.target_values > 0.5
        return cls(items, positions, targets, groups_of(items), labels)

    def __len__(self) -> int:
        return len(self.positions)

    def without(self, is_drawn: NDArray[np.bool_]) -> _Pool:
        """Return the pool without the drawn items."""
        return replace(self, positions=self.positions[~is_drawn])

    def own_targets(self) -> NDArray[np.int32]:
        """Return the targets of the pool's items."""
        return self.targets[self.positions]

    def own_groups(self) -> _Members | None:
        """Return the groups of the pool's items; None if none of these has a group."""
        if self.groups is None or not self.groups.is_grouped[self.positions].any():
            return None
        _, first, codes, sizes = np.unique(
            self.groups.numbers[self.positions], return_index=True, return_inverse=True, return_counts=True
        )
        order = np.argsort(first)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return _Members(rank[codes], sizes[order], first[order])

    def group_name(self, place: int) -> str:
        """Return the name of the group of the pool's item at `place`, made from its id if it is alone."""
        item = self.items[int(self.positions[place])]
        return item.group if item.group is not None else f"item {item.id}"


@dataclass(frozen=True)
class _Members:
    """The groups of a pool, numbered in order of first appearance.

    Args:
        codes: the group of each item.
        sizes: number of items of each group.
        first: place of the first item of each group.
    """

    codes: NDArray[np.int64]
    sizes: NDArray[np.int64]
    first: NDArray[np.int64]


def _draw(pool: _Pool, share: float, seed: int, side: str, source: str) -> NDArray[np.bool_]:
    """Draw a share of the pool, stratified by class; groups, if there are any, stay whole. Returns which are drawn."""
    if not 0 <= share < 1:
        raise UserError(f"a share is at least 0 and below 1, not {share}", where=f"--{side}")
    is_drawn = np.zeros(len(pool), bool)
    if share == 0:
        return is_drawn
    groups = pool.own_groups()
    if pool.labels is not None:
        units = np.arange(len(pool)) if groups is None else groups.codes
        return draw_by_labels(pool.labels[pool.own_targets()], units, share, generator(seed, f"split-{side}"))
    if groups is not None:
        return _draw_groups(pool, groups, share, seed, side, source)
    targets = pool.own_targets()
    for target in np.unique(targets).tolist():
        members = np.flatnonzero(targets == target)
        order = generator(seed, f"split-{side}", target).permutation(len(members))
        count = min(len(members) - 1, max(1, round(share * len(members))))
        is_drawn[members[order[:count]]] = True
    return is_drawn


def _draw_groups(
    pool: _Pool, groups: _Members, share: float, seed: int, side: str, source: str
) -> NDArray[np.bool_]:  # fmt: skip
    """Take one fold of scikit-learn's StratifiedGroupKFold, as near to the share as whole groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    count, alone = len(groups.sizes), int(np.count_nonzero(groups.sizes == 1))
    if count > _MANY_GROUPS or alone > max(_ENOUGH_ALONE, 0.5 * len(pool)):
        return _draw_many_groups(pool.own_targets(), groups, share, generator(seed, f"split-{side}"))
    folds = max(2, round(1 / share))
    if count < folds:
        raise UserError(
            f"{count} groups cannot be split into {folds} parts",
            where=source,
            fix=f"raise the share with --{side}, or name {side} items with --split-column",
        )
    names = [pool.group_name(place) for place in groups.first.tolist()]
    by_name = np.empty(count, np.int64)  # scikit-learn numbers groups in this order
    by_name[sorted(range(count), key=names.__getitem__)] = np.arange(count)
    random_state = int(generator(seed, f"split-{side}").integers(2**31))
    folder = StratifiedGroupKFold(folds, shuffle=True, random_state=random_state)
    targets = pool.own_targets()
    picked = [held_out for _, held_out in folder.split(np.zeros(len(pool)), targets, by_name[groups.codes])]
    whole = [held_out for held_out in picked if side == "val" and _covers(held_out, targets)]
    is_drawn = np.zeros(len(pool), bool)
    is_drawn[(whole or picked)[0]] = True
    return is_drawn


def _covers(held_out: NDArray[np.int64], targets: NDArray[np.int32]) -> bool:
    """Return whether each class has an item in a fold and one outside it."""
    return set(targets[held_out]) == set(np.delete(targets, held_out)) == set(targets)


_MANY_GROUPS, _ENOUGH_ALONE = 1000, 50
"""Number of groups, or of single-item groups if these are the majority, from which groups are drawn one by one.

That gets arbitrarily near to the share; folds allow only 1/2, 1/3, ..., and take seconds."""


def _draw_many_groups(
    targets: NDArray[np.int32], groups: _Members, share: float, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Take groups in random order, large ones first, while no class exceeds its share.

    A class without any item then contributes its smallest group.
    """
    counts = np.bincount(targets).tolist()
    left = [min(count - 1, max(1, round(share * count))) for count in counts]
    order = random.permutation(len(groups.sizes))
    by_group = targets[np.argsort(groups.codes, kind="stable")]
    ends = np.cumsum(groups.sizes)
    is_chosen = np.zeros(len(groups.sizes), bool)
    large_first = order[np.argsort(-groups.sizes[order], kind="stable")]
    for group, size in zip(large_first.tolist(), groups.sizes[large_first].tolist(), strict=True):
        if size > 1 and random.random() > share:  # else all large groups would go into this split
            continue
        end = int(ends[group])
        wanted = Counter(by_group[end - size : end].tolist())
        if all(left[target] >= count for target, count in wanted.items()):
            for target, count in wanted.items():
                left[target] -= count
            is_chosen[group] = True
    starts = ends - groups.sizes
    least, most = np.minimum.reduceat(by_group, starts), np.maximum.reduceat(by_group, starts)
    covered = set(targets[is_chosen[groups.codes]].tolist())
    for target in sorted(set(targets.tolist()) - covered):
        own = order[(least[order] == target) & (most[order] == target)]
        if len(own) > 1:
            is_chosen[own[np.argmin(groups.sizes[own])]] = True
    return is_chosen[groups.codes]
