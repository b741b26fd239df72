"""Columns in place of objects: the same items, ids, samples and splits, in a few bytes for each."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from restune.core.streams import generator
from restune.data import by_id
from restune.data.by_id import Contents, RowsById, Samples
from restune.data.items import ArrayLocation, Groups, Item, Numbers, Rows
from restune.data.sources import open_dataset
from restune.data.splits import read_splits, split_dataset, write_splits
from restune.data.string_array import StringArray

NAMES = ["", "a/b.jpg", "Zürich", "\udcff.jpg", "\ud800", "line\nbreak", 'quo"te', "我"] * 700
PLACES = [ArrayLocation(np.zeros((1, 2, 2), np.uint8), 0)] * 5000


def test_strings_come_back_as_they_were():
    texts = StringArray(NAMES[:100])
    texts.add(NAMES[100:])
    assert list(texts) == NAMES
    assert [texts[row] for row in (0, 3, 4999, -1)] == [NAMES[0], NAMES[3], NAMES[4999], NAMES[-1]]
    assert texts[7:20:3] == NAMES[7:20:3]
    assert texts.numbered().tolist() == [row % 8 for row in range(len(NAMES))]
    with pytest.raises(IndexError):
        texts[len(NAMES)]


def rows_and_items(count=4000, groups=None, classes=3, seed=0):
    """The same items as rows and as a tuple; `groups`: number of groups, 0 in 5 items without one."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, count).astype(np.int32)
    codes = None if groups is None else np.where(random.random(count) < 0.2, -1, random.integers(0, groups, count))
    names = [f"g{number * 7919 % 1000}" for number in range(groups or 0)]
    rows = Rows(
        names=Numbers(2, count),
        places=PLACES,
        targets=targets,
        groups=None if codes is None else Groups(StringArray(names), codes.astype(np.int32)),
    )
    items = tuple(
        Item(
            str(2 + row),
            PLACES[row],
            int(targets[row]),
            None,
            None if codes is None or codes[row] < 0 else names[codes[row]],
        )
        for row in range(count)
    )
    return rows, items


def dataset(items, classes=3):
    from restune.data.dataset import Dataset

    return Dataset(items, tuple("abcdefg"[:classes]), "made")


def test_rows_are_the_items():
    rows, items = rows_and_items(groups=30)
    assert tuple(rows) == items
    assert tuple(rows[5:60:5][2:]) == items[5:60:5][2:]
    assert list(rows.take(np.array([7, 3]))) == [items[7], items[3]]
    assert list(dataset(rows[10:]).ids()) == [item.id for item in items[10:]]
    assert dataset(rows).class_counts() == dataset(items).class_counts()
    assert dataset(rows).fingerprint() == dataset(items).fingerprint()


def drawn(items, share, seed, side):
    """The rule in plain Python: ids of a share, by class, or by whole groups in random order."""
    if all(item.group is None for item in items):
        chosen = set()
        by_class = defaultdict(list)
        for item in items:
            by_class[item.target].append(item.id)
        for target, ids in by_class.items():
            order = generator(seed, f"split-{side}", target).permutation(len(ids))
            chosen |= {ids[place] for place in order[: min(len(ids) - 1, max(1, round(share * len(ids))))]}
        return chosen
    members = defaultdict(list)
    for item in items:
        members[item.group if item.group is not None else f"item {item.id}"].append(item)
    random = generator(seed, f"split-{side}")
    counts = Counter(item.target for item in items)
    left = {target: min(count - 1, max(1, round(share * count))) for target, count in counts.items()}
    order = [list(members)[place] for place in random.permutation(len(members))]
    chosen = []
    for group in sorted(order, key=lambda name: -len(members[name])):
        wanted = Counter(item.target for item in members[group])
        if len(members[group]) > 1 and random.random() > share:
            continue
        if all(left[target] >= count for target, count in wanted.items()):
            left.update({target: left[target] - count for target, count in wanted.items()})
            chosen.append(group)
    return {item.id for group in chosen for item in members[group]}


@pytest.mark.parametrize("groups", [None, 900, 4000])
@pytest.mark.parametrize("seed", [0, 1])
def test_splits_of_rows_are_those_of_the_rule(groups, seed):
    rows, items = rows_and_items(groups=groups, seed=seed)
    test = drawn(items, 0.1, seed, "test")
    val = drawn([item for item in items if item.id not in test], 0.25, seed, "val")
    for data in (dataset(rows), dataset(items)):
        splits = split_dataset(data, val=0.25, test=0.1, unreadable={}, seed=seed)
        assert list(splits.test.ids()) == [item.id for item in items if item.id in test]
        assert list(splits.val.ids()) == [item.id for item in items if item.id in val]
        assert list(splits.train.ids()) == [item.id for item in items if item.id not in test | val]


@pytest.mark.parametrize("groups", [20, 60])
def test_splits_by_few_groups_do_not_depend_on_the_form(groups):
    rows, items = rows_and_items(count=300, groups=groups)
    items = tuple(item for item in items if item.group)
    rows = rows.take(np.array([int(item.id) - 2 for item in items]))
    one, other = (split_dataset(dataset(data), val=0.2, test=0.2, unreadable={}, seed=3) for data in (rows, items))
    assert [list(side.ids()) for side in (one.train, one.val, one.test)] == [
        list(side.ids()) for side in (other.train, other.val, other.test)
    ]


def test_splits_of_rows_are_written_and_read(tmp_path):
    data = dataset(rows_and_items()[0])
    made = split_dataset(data, val=0.25, test=None, unreadable={"7": "torn"}, seed=0)
    write_splits(tmp_path / "split.csv", made)
    read = read_splits(tmp_path / "split.csv", data, None, None)
    assert list(read.train.ids()) == list(made.train.ids())
    assert list(read.val.items) == list(made.val.items)
    assert (read.test, read.left_out) == (None, {"7": "torn"})


def test_ids_with_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(by_id, "hash", lambda name: len(name), raising=False)
    rows, items = rows_and_items(count=200)
    known = RowsById(rows)
    assert [known.row(item.id) for item in items] == list(range(200))
    assert known.rows((item.id for item in items[::-1]), 200).tolist() == list(range(200))[::-1]
    assert known.row("1000") == -1


def test_contents_and_samples_by_id():
    rows, items = rows_and_items(count=300)
    known = RowsById(rows)
    contents, samples = Contents(known), Samples(known)
    made = {}
    for row, item in enumerate(items[:250]):
        contents.put(row, f"{row * 2**53:016x}")
        shape = (3, row % 7 + 1, 40) if row % 2 else (row + 1,)
        made[item.id] = torch.arange(int(np.prod(shape)), dtype=torch.uint8 if row % 2 else torch.float32).reshape(
            shape
        )
        samples.put(row, made[item.id])
    assert dict(contents) == {item.id: f"{row * 2**53:016x}" for row, item in enumerate(items[:250])}
    assert list(contents.of(items[248:252])) == [contents["250"], contents["251"], "", ""]
    assert set(samples) == set(made)
    assert all(
        torch.equal(samples[name], tensor) and samples[name].dtype == tensor.dtype for name, tensor in made.items()
    )
    assert samples.get(items[250].id) is None
    assert samples.holds(items[:250])
    assert not samples.holds(items[249:251])
    assert samples.largest().shape[-1] == 249
    copy = Samples(known)
    copy.imported(*samples.exported())
    assert all(torch.equal(copy[name], tensor) for name, tensor in made.items())


def test_a_table_of_many_texts_takes_few_bytes_an_item(tmp_path):
    """Measured as a user's machine would: 100 bytes for each of 100,000 rows, besides their 40 characters."""
    import tracemalloc

    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "".join(f"number {row:033d},{'ab'[row % 2]}\n" for row in range(100_000)))
    open_dataset(path)  # imports
    tracemalloc.start()
    data = open_dataset(path)
    splits = split_dataset(data, val=0.2, test=None, unreadable={}, seed=0)
    size = tracemalloc.get_traced_memory()[0] / 100_000
    tracemalloc.stop()
    assert len(splits.train) == 80_000
    assert 40 < size < 140
