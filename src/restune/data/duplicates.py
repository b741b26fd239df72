"""Items of equal content: kept in one split, and named where their classes differ or splits share them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from restune.core.console import note, warn
from restune.core.errors import shorten
from restune.data.dataset import Dataset, Item
from restune.data.splits import Splits


def group_equal(dataset: Dataset, rows_of: Mapping[str, Sequence[int]]) -> Dataset:
    """Give the items of each group one group name, so that a split keeps them together.

    Existing groups that share an item with another are merged.

    Args:
        rows_of: indices of equal items, by the group's name.
    """
    merged = _Merged()
    for name, rows in rows_of.items():
        for row in rows:
            group = dataset.items[row].group
            if group is not None:
                merged.unite(name, group)
    names = {row: name for name, rows in rows_of.items() for row in rows}
    grouped = []
    for row, item in enumerate(dataset.items):
        group = names.get(row, item.group)
        grouped.append(item if group is None else replace(item, group=merged.name(group)))
    return replace(dataset, items=tuple(grouped))


def group_copies(dataset: Dataset, contents: Mapping[str, str]) -> Dataset:
    """Group the items of equal content from which splits are drawn; note their number.

    Args:
        contents: a hash of each item's content, by id. Items without one are not compared.
    """
    repeated = _repeated(contents)
    if not repeated:
        return dataset
    places = {item.id: row for row, item in enumerate(dataset.items) if item.split in (None, "train")}
    alike = [[places[name] for name in names if name in places] for names in repeated.values()]
    copies = {f"content {contents[dataset.items[rows[0]].id]}": rows for rows in alike if len(rows) > 1}
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
    where = {
        item.id: (split, item)
        for split, data in held.items()
        for item in (() if data is None else data.items)
        if contents.get(item.id) in repeated
    }
    groups = [[where[name] for name in names if name in where] for names in repeated.values()]
    notes = _shared(groups, {split: len(data) for split, data in held.items() if data is not None})
    notes |= _conflicting([[item for _, item in group] for group in groups], splits.train.classes)
    return replace(splits, notes=notes) if notes else splits


def _repeated(contents: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the ids of items of equal content, by content, of contents that several items have."""
    if len(set(contents.values())) == len(contents):
        return {}
    twice = {content for content, count in Counter(contents.values()).items() if count > 1}
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(name for name, content in contents.items() if content in twice):
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
