"""A split without leaks: each group of copies goes whole into one split, as a table that training reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.core.files import write_bytes
from restune.data.audit.audit import Audit
from restune.data.audit.copies import Copies
from restune.data.duplicates import group_equal
from restune.data.items import SPLITS, FileLocation, location_at, splits_of, targets_of
from restune.data.splits import split_dataset

_VAL, _TEST = 0.2, 0.2
"""Shares that are held out where the data names no splits."""


def write_split(path: Path, audit: Audit) -> bool:
    """Write ``split.csv``: path (or item), label, split and group of each item that is worth keeping.

    Where the data has splits, a group with a training item goes into training; else splits are drawn by class and
    group. Unreadable items and all but the first of equal ones are left out. Returns whether it was written: not where
    a class is too small to be split, or items have several labels or none.
    """
    if audit.copies is None or not audit.dataset.classes or audit.dataset.task != "single-label":
        return False
    kept, groups = _kept(audit, audit.copies), _group_names(audit.copies)
    codes = splits_of(audit.dataset.items)
    try:
        splits = _moved(codes, audit.copies.groups) if (codes >= 0).any() else _drawn(audit, kept)
    except UserError:
        return False
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    is_file = len(audit.dataset) > 0 and isinstance(location_at(audit.dataset.items, 0), FileLocation)
    writer.writerow(("path" if is_file else "item", "label", "split", "group"))
    writer.writerows(_rows(audit, kept, splits, groups))
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))
    return True


def _rows(
    audit: Audit, kept: NDArray[np.int64], splits: NDArray[np.int8], groups: dict[int, str]
) -> Iterator[tuple[str, str, str, str]]:
    classes, targets = audit.dataset.classes, targets_of(audit.dataset.items)
    source = Path(audit.dataset.source)
    root = source if source.is_dir() else source.parent
    assert audit.copies is not None
    for row in kept.tolist():
        item = audit.dataset.items[row]
        name = _path(item.location.path, root) if isinstance(item.location, FileLocation) else item.id
        label = classes[targets[row]] if targets[row] >= 0 else ""
        group = groups.get(int(audit.copies.groups[row]), item.group or f"item {item.id}")
        yield name, label, SPLITS[splits[row]], group


def _path(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _kept(audit: Audit, copies: Copies) -> NDArray[np.int64]:
    """Return the rows of readable, labelled items, of equal ones the first, training items before others."""
    splits = splits_of(audit.dataset.items)
    order = np.lexsort((np.arange(len(splits)), np.where(splits < 0, 0, splits)))
    first = order[np.unique(copies.exact[order], return_index=True)[1]]
    is_readable = np.fromiter((name not in audit.unreadable for name in audit.dataset.ids()), bool, len(splits))
    is_usable = is_readable & (targets_of(audit.dataset.items) >= 0)
    return np.sort(first[is_usable[first]])


def _group_names(copies: Copies) -> dict[int, str]:
    return {int(copies.groups[rows[0]]): f"copies {number}" for number, rows in enumerate(copies.members(), 1)}


def _moved(codes: NDArray[np.int8], groups: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return each item's split: the first of its group's splits, training first."""
    train = SPLITS.index("train")
    wanted = np.where(codes < 0, train, codes)
    first = np.full(int(groups.max(initial=0)) + 1, len(SPLITS), np.int64)
    np.minimum.at(first, groups, wanted)
    return first[groups].astype(np.int8)


def _drawn(audit: Audit, kept: NDArray[np.int64]) -> NDArray[np.int8]:
    """Draw validation and test items by class and group."""
    assert audit.copies is not None
    keys = audit.copies.groups.astype(np.uint64)
    rows = np.sort(np.concatenate([np.empty(0, np.int64), *audit.copies.members()]))
    grouped = group_equal(audit.dataset, rows, keys, "copies") if len(rows) else audit.dataset
    drawn = split_dataset(grouped.take(kept), val=_VAL, test=_TEST, unreadable={}, seed=0, min_class_items=5)
    codes = np.zeros(len(audit.dataset), np.int8)
    place = {name: row for row, name in enumerate(audit.dataset.ids())}
    for name, part in (("val", drawn.val), ("test", drawn.test)):
        if part is not None:
            codes[[place[item] for item in part.ids()]] = SPLITS.index(name)
    return codes
