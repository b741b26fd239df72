"""Splits: given or drawn, stratified, by group, repeatable, written and read back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import restune
from restune.data.dataset import ArrayLocation, Dataset, Item
from restune.data.splits import read_splits, split_dataset, write_splits

PIXELS = np.zeros((1, 2, 2), np.uint8)


def dataset(counts=(100, 50, 10), groups=False, splits=False):
    items = []
    for target, count in enumerate(counts):
        for number in range(count):
            group = f"g{number // 5}" if groups else None
            split = ("train", "val", "test")[number % 3] if splits else None
            items.append(Item(f"{target}/{number}", ArrayLocation(PIXELS, 0), target, split, group))
    return Dataset(tuple(items), tuple("abc"[: len(counts)]), "made")


def split(data, **options):
    return split_dataset(data, **{"val": None, "test": None, "unreadable": {}, "seed": 0, **options})


def ids(side):
    return {item.id for item in side.items}


def test_a_fifth_of_each_class_is_held_out_by_default():
    made = split(dataset())
    assert made.val.class_counts() == {"a": 20, "b": 10, "c": 2}
    assert made.test is None
    assert ids(made.train) | ids(made.val) == ids(dataset())
    assert not ids(made.train) & ids(made.val)


def test_shares_of_val_and_test():
    made = split(dataset(), val=0.1, test=0.3)
    assert made.test.class_counts() == {"a": 30, "b": 15, "c": 3}
    assert made.val.class_counts() == {"a": 7, "b": 4, "c": 1}
    assert made.counts() == {"train": 100, "val": 12, "test": 48}
    assert split(dataset(), val=0).val is None


def test_the_seed_decides():
    assert ids(split(dataset(), seed=1).val) == ids(split(dataset(), seed=1).val)
    assert ids(split(dataset(), seed=1).val) != ids(split(dataset(), seed=2).val)


def test_given_splits_are_kept():
    made = split(dataset((100, 50, 20), splits=True))
    assert all(item.split == side for side in ("train", "val", "test") for item in getattr(made, side).items)
    assert made.counts() == {"train": 58, "val": 57, "test": 55}


def test_groups_stay_together():
    made = split(dataset((40, 40), groups=True), val=0.25)
    train, val = ({item.group for item in side.items} for side in (made.train, made.val))
    assert not train & val
    assert 0.1 < len(made.val) / 80 < 0.4
    with pytest.raises(restune.UserError, match="groups cannot be split"):
        split(replace(dataset((6, 6)), items=tuple(replace(i, group="one") for i in dataset((6, 6)).items)))


def test_unreadable_items_are_left_out():
    made = split(dataset(), unreadable={"0/3": "truncated"})
    assert "0/3" not in ids(made.train) | ids(made.val)
    assert made.left_out == {"0/3": "truncated"}


def test_small_classes_are_named():
    with pytest.raises(restune.UserError, match=r"'c' \(2\)") as caught:
        split(dataset((10, 10, 2)))
    assert "min_class_items" in caught.value.fix
    assert split(dataset((10, 10, 2)), min_class_items=1).train.class_counts()["c"] == 1


def test_written_and_read_back(tmp_path):
    data = dataset()
    made = split(data, val=0.2, test=0.2, unreadable={"1/1": "empty, or not"})
    write_splits(tmp_path / "split.csv", made)
    again = read_splits(tmp_path / "split.csv", data, None, None)
    assert [ids(getattr(again, side)) for side in ("train", "val", "test")] == [
        ids(getattr(made, side)) for side in ("train", "val", "test")
    ]
    assert again.train.items == made.train.items
    assert again.left_out == made.left_out
    with pytest.raises(restune.UserError, match="no longer in the data"):
        read_splits(tmp_path / "split.csv", replace(data, items=data.items[5:]), None, None)
    lines = Counter(line.split(",")[1] for line in (tmp_path / "split.csv").read_text().splitlines()[1:])
    assert lines["left out"] == 1
