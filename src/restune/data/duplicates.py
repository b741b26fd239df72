"""Items of equal content: kept in one split, and named where their classes differ or splits share them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, warn
from restune.core.errors import shorten
from restune.data.by_id import Contents, HexDigits
from restune.data.dataset import Dataset, Item
from restune.data.items import SPLITS, Groups, Rows, groups_of, ids_of, splits_of
from restune.data.splits import Splits
from restune.data.string_array import StringArray


def repeated(keys: NDArray[np.uint64], is_known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rows whose key another row has, too, in order."""
    rows = np.flatnonzero(is_known)
    order = rows[np.argsort(keys[rows], kind="stable")]
    same = keys[order][1:] == keys[order][:-1]
    return np.sort(order[np.append(same, False) | np.append(False, same)]) if len(order) else order


def group_equal(dataset: Dataset, rows: NDArray[np.int64], keys: NDArray[np.uint64], noun: str) -> Dataset:
    """Give the items of equal key one group, so that a split keeps them together.

    Existing groups that share an item with another are merged.

    Args:
        rows: indices of items whose key another of them has, too, see `repeated`.
        keys: of all items.
        noun: of what is equal, for the groups' names.
    """
    return replace(dataset, items=_with_groups(dataset.items, rows, keys, noun))


_FEWEST_CONTENTS = 5
"""With fewer different contents, groups of equal ones cannot be divided into splits."""


def group_copies(dataset: Dataset, contents: Mapping[str, str], skipped: Collection[str] = ()) -> Dataset:
    """Group the items of equal content from which splits are drawn; note their number.

    Args:
        contents: a hash of each item's content, by id. Items without one are not compared.
        skipped: ids of items that are in no split.
    """
    digits, codes = _digits(dataset.items, contents), splits_of(dataset.items)
    is_compared = digits.is_known & ((codes < 0) | (codes == SPLITS.index("train")))
    if skipped:
        is_compared &= np.fromiter((name not in skipped for name in dataset.ids()), bool, len(dataset))
    rows = repeated(digits.values, is_compared)
    if not len(rows):
        return dataset
    count = len(np.unique(digits.values[rows]))
    different = int(is_compared.sum()) - len(rows) + count
    if different < _FEWEST_CONTENTS and groups_of(dataset.items) is None:
        warn(
            f"the {int(is_compared.sum())} items have only {different} different contents: copies are divided over the "
            "splits, so that scores say nothing about new items"
        )
        return dataset
    note(
        f"{len(rows)} items repeat the content of another ({count} content{'s' * (count > 1)}): each such group goes "
        "into one split"
    )
    return group_equal(dataset, rows, digits.values, "content")


def name_copies(splits: Splits, contents: Mapping[str, str]) -> Splits:
    """Warn of items of equal content that differ in their class, or that training and held-out items share.

    Returns the splits with a note on each such item, for split.csv.
    """
    held = {"train": splits.train, "val": splits.val, "test": splits.test}
    groups = _equal_items({split: data for split, data in held.items() if data is not None}, contents)
    if not groups:
        return splits
    notes = _shared(groups, splits.counts())
    texts = [[(item, _target_text(held[split], item)) for split, item in group] for group in groups]
    notes |= _conflicting(texts)
    return replace(splits, notes=_joined(splits.notes, notes)) if notes else splits


def _joined(notes: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    return {**notes, **{item: f"{notes[item]}; {text}" if item in notes else text for item, text in more.items()}}


def _equal_items(held: Mapping[str, Dataset], contents: Mapping[str, str]) -> list[list[tuple[str, Item]]]:
    """Return the items of equal content with their splits, group by group, in the order of their ids."""
    digits = [_digits(data.items, contents) for data in held.values()]
    keys = np.concatenate([one.values for one in digits])
    rows = repeated(keys, np.concatenate([one.is_known for one in digits]))
    groups: dict[int, list[tuple[str, Item]]] = defaultdict(list)
    start = 0
    for split, data in held.items():
        for row in rows[(rows >= start) & (rows < start + len(data))].tolist():
            groups[int(keys[row])].append((split, data.items[row - start]))
        start += len(data)
    in_order = (sorted(group, key=lambda entry: entry[1].id) for group in groups.values())
    return sorted(in_order, key=lambda group: group[0][1].id)


def _digits(items: Sequence[Item], contents: Mapping[str, str]) -> HexDigits:
    """Return the content hashes of some items, in order."""
    if isinstance(contents, Contents):
        return contents.of(items)
    return HexDigits.parsed([contents.get(name, "") for name in ids_of(items)])


def _shared(groups: Iterable[Sequence[tuple[str, Item]]], counts: Mapping[str, int]) -> dict[str, str]:
    """Warn of held-out items with the content of training items. Returns a note for each."""
    notes: dict[str, str] = {}
    pairs: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        trained = next((item.id for split, item in group if split == "train"), None)
        for split, item in group if trained is not None else ():
            if split != "train":
                notes[item.id] = f"same content as {trained} (train)"
                pairs[split].append(f"{item.id} = {trained}")
    for split, listed in pairs.items():
        items = "1 of the" if len(listed) == 1 else f"{len(listed)} of the"
        warn(
            f"{items} {counts[split]} {'validation' if split == 'val' else split} items have the content of training "
            f"items, so their score says nothing about new data: {shorten(listed, 3)}; all are in split.csv"
        )
    return notes


def _target_text(data: Dataset | None, item: Item) -> str:
    assert data is not None, "the item is in this split"
    return data.target_text(item.target)


def _conflicting(groups: Iterable[Sequence[tuple[Item, str]]]) -> dict[str, str]:
    """Warn of items of equal content in several classes, given each one's target as text. Returns a note for each."""
    notes: dict[str, str] = {}
    listed = []
    for group in groups:
        if len({target for _, target in group}) < 2:
            continue
        listed.append(" = ".join(f"{item.id} ({target})" for item, target in group[:4]))
        for item, target in group:
            other, label = next(one for one in group if one[1] != target)
            notes[item.id] = f"same content as {other.id}, which is labelled {label}"
    if notes:
        warn(
            f"{len(notes)} items have the content of an item of another class: {shorten(listed, 3)}; at most one of "
            "their labels is right; all are in split.csv"
        )
    return notes


def _with_groups(items: Sequence[Item], rows: NDArray[np.int64], keys: NDArray[np.uint64], noun: str) -> Sequence[Item]:
    """Return the items with a group for each key that several of `rows` have; existing groups are merged into it."""
    distinct = np.unique(keys[rows])
    if isinstance(items, Rows) and items.groups is None and items.chosen is None:
        codes = np.full(len(items), -1, np.int32)
        codes[rows] = np.searchsorted(distinct, keys[rows])
        return replace(items, groups=Groups(StringArray(f"{noun} {key:016x}" for key in distinct.tolist()), codes))
    merged = _Merged()
    names = {row: f"{noun} {key:016x}" for row, key in zip(rows.tolist(), keys[rows].tolist(), strict=True)}
    for row, name in names.items():
        group = items[row].group
        if group is not None:
            merged.unite(name, group)
    groups = [names.get(row, item.group) for row, item in enumerate(items)]
    groups = [None if group is None else merged.name(group) for group in groups]
    if not isinstance(items, Rows):
        return tuple(replace(item, group=group) for item, group in zip(items, groups, strict=True))
    known = {group: code for code, group in enumerate(dict.fromkeys(group for group in groups if group is not None))}
    codes = np.full(len(items.targets), -1, np.int32)
    codes[items.column(np.arange(len(codes)))] = [-1 if group is None else known[group] for group in groups]
    return replace(items, groups=Groups(StringArray(known), codes))


class _Merged:
    """Merged groups (union-find): a merged group has the first of its names."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def name(self, group: str) -> str:
        """Return the name of the merged group that a group belongs to."""
        while group in self._above:
            group = self._above[group]
        return group

    def unite(self, one: str, other: str) -> None:
        """Merge two groups."""
        first, second = sorted((self.name(one), self.name(other)))
        if first != second:
            self._above[second] = first
