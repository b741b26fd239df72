"""Splits of multi-label data and of regression have alike targets, and keep groups whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from restune.data.dataset import ArrayLocation, Dataset, Item
from restune.data.splits import split_dataset
from restune.data.stratify import draw_by_labels


def dataset(task, values, groups=None):
    array = np.zeros((len(values), 2, 2), np.uint8)
    items = tuple(
        Item(f"{row:03d}", ArrayLocation(array, row), row, group=None if groups is None else f"g{groups[row]}")
        for row in range(len(values))
    )
    names = tuple(f"label {c}" for c in range(values.shape[1]))
    return Dataset(items=items, classes=names, source="test", task=task, target_values=values.astype(np.float32))


def split(data, **options):
    return split_dataset(data, val=0.2, test=0.2, unreadable={}, seed=3, **options)


def test_rare_labels_are_in_every_split():
    """Of 400 items, labels have 200, 40, 10 and 5: drawn by chance, the rarest would often be missing from a split."""
    random = np.random.default_rng(0)
    values = np.zeros((400, 4))
    for column, count in enumerate((200, 40, 10, 5)):
        values[random.choice(400, count, replace=False), column] = 1
    splits = split(dataset("multi-label", values))
    sides = [splits.train, splits.val, splits.test]
    assert sum(len(side) for side in sides) == 400
    for side, share in ((splits.test, 0.2), (splits.val, 0.16)):
        assert abs(len(side) - share * 400) <= 2
        counts = list(side.class_counts().values())
        assert abs(counts[0] - share * 200) <= 1
        assert abs(counts[1] - share * 40) <= 1
        assert counts[2] >= 1
        assert counts[3] >= 1
    assert [item.id for item in split(dataset("multi-label", values)).val.items] == [i.id for i in splits.val.items]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_groups_stay_whole(seed, groups):
    random = np.random.default_rng(seed)
    units = random.integers(0, groups, 200)
    _, units = np.unique(units, return_inverse=True)
    labels = random.random((200, 3)) < (0.5, 0.2, 0.05)
    drawn = draw_by_labels(labels, units, 0.25, random)
    assert 0 < drawn.sum() < 200
    assert all(len(set(drawn[units == unit].tolist())) == 1 for unit in set(units.tolist()))


def test_numbers_of_each_size_are_in_every_split():
    values = np.sort(np.random.default_rng(1).exponential(size=(200, 1)), axis=0)
    splits = split(dataset("regression", values))
    for side, each in ((splits.test, 4), (splits.val, 3)):
        rows = sorted(item.target for item in side.items)
        assert [sum(20 * k <= row < 20 * k + 20 for row in rows) for k in range(10)] == [each] * 10


def test_groups_of_numbers_stay_whole():
    random = np.random.default_rng(2)
    groups = np.repeat(np.arange(40), 5)
    splits = split(dataset("regression", random.normal(size=(200, 2)), groups))
    sides = [{item.group for item in side.items} for side in (splits.train, splits.val, splits.test)]
    assert len(sides[0] & sides[1]) == len(sides[0] & sides[2]) == len(sides[1] & sides[2]) == 0
