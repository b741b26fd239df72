"""Items of equal content: kept in one split, and named where their classes differ or splits share them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from restune.core.console import note, warn
from restune.core.errors import shorten
from restune.data.by_id import Contents
from restune.data.dataset import SPLITS, Dataset, Item
from restune.data.items import Groups, Rows, splits_of
from restune.data.splits import Splits
from restune.data.string_array import StringArray


def group_equal(dataset: Dataset, rows_of: Mapping[str, Sequence[int]]) -> Dataset:
    """Give the items of each group one group name, so that a split keeps them together.

    Existing groups that share an item with another are merged.

    Args:
        rows_of: indices of equal items, by the group's name.
    """
    items = dataset.items
    if isinstance(items, Rows) and items.groups is None and items.chosen is None:
        codes = np.full(len(items), -1, np.int32)
        for code, rows in enumerate(rows_of.values()):
            codes[rows] = code
        return replace(dataset, items=replace(items, groups=Groups(StringArray(rows_of), codes)))
    merged = _Merged()
    for name, rows in rows_of.items():
        for row in rows:
            group = items[row].group
            if group is not None:
                merged.unite(name, group)
    names = {row: name for name, rows in rows_of.items() for row in rows}
    groups = [names.get(row, item.group) for row, item in enumerate(items)]
    groups = [None if group is None else merged.name(group) for group in groups]
    return replace(dataset, items=_with_groups(items, groups))


def _with_groups(items: Sequence[Item], groups: Sequence[str | None]) -> Sequence[Item]:
    """Return the items with these groups."""
    if not isinstance(items, Rows):
        return tuple(replace(item, group=group) for item, group in zip(items, groups, strict=True))
    known = {group: code for code, group in enumerate(dict.fromkeys(group for group in groups if group is not None))}
    codes = np.full(len(items.targets), -1, np.int32)
    codes[items.column(np.arange(len(codes)))] = [-1 if group is None else known[group] for group in groups]
    return replace(items, groups=Groups(StringArray(known), codes))


def group_copies(dataset: Dataset, contents: Mapping[str, str]) -> Dataset:
    """Group the items of equal content from which splits are drawn; note their number.

    Args:
        contents: a hash of each item's content, by id. Items without one are not compared.
    """
    repeated = _repeated(contents)
    if not repeated:
        return dataset
    wanted = {name for names in repeated.values() for name in names}
    is_drawn = splits_of(dataset.items) <= SPLITS.index("train")
    rows_of = (row for row, name in enumerate(dataset.ids()) if name in wanted and is_drawn[row])
    places = {dataset.items[row].id: row for row in rows_of}
    alike = {content: [places[name] for name in names if name in places] for content, names in repeated.items()}
    copies = {f"content {content}": rows for content, rows in alike.items() if len(rows) > 1}
    if not copies:
        return dataset
    note(
        f"{sum(map(len, copies.values()))} items repeat the content of another ({len(copies)} "
        f"content{'s' * (len(copies) > 1)}): each such group goes into one split"
    )
    return group_equal(dataset, copies)


def name_copies(splits: Splits, contents: Mapping[str, str]) -> Splits:
    """Warn of items of equal content that differ in their class, or that training and held-out items share.

    Returns the splits with a note on each such item, for split.csv.
    """
    repeated = _repeated(contents)
    if not repeated:
        return splits
    held = {"train": splits.train, "val": splits.val, "test": splits.test}
    wanted = {name for names in repeated.values() for name in names}
    where = {
        name: (split, data.items[row])
        for split, data in held.items()
        if data is not None
        for row, name in enumerate(data.ids())
        if name in wanted
    }
    groups = [[where[name] for name in names if name in where] for names in repeated.values()]
    notes = _shared(groups, {split: len(data) for split, data in held.items() if data is not None})
    notes |= _conflicting([[item for _, item in group] for group in groups], splits.train.classes)
    return replace(splits, notes=notes) if notes else splits


def _repeated(contents: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the ids of items of equal content, by content, of contents that several items have."""
    if isinstance(contents, Contents):
        names: Iterable[str] = contents.repeated()
    else:
        counts = Counter(contents.values())
        names = (name for name, content in contents.items() if counts[content] > 1)
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        found[contents[name]].append(name)
    return dict(found)


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


def _conflicting(groups: Iterable[Sequence[Item]], classes: Sequence[str]) -> dict[str, str]:
    """Warn of items of equal content in several classes. Returns a note for each."""
    notes: dict[str, str] = {}
    listed = []
    for group in groups:
        if len({item.target for item in group}) < 2:
            continue
        listed.append(" = ".join(f"{item.id} ({classes[item.target]!r})" for item in group[:4]))
        for item in group:
            other = next(one for one in group if one.target != item.target)
            notes[item.id] = f"same content as {other.id}, which is labelled {classes[other.target]!r}"
    if notes:
        warn(
            f"{len(notes)} items have the content of an item of another class: {shorten(listed, 3)}; at most one of "
            "their labels is right; all are in split.csv"
        )
    return notes


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
