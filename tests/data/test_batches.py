"""Training batches: the same whatever the workers and whether pixels are in memory or read."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.data.augment import Augment
from restune.data.batches import TrainingBatches
from restune.data.preload import preload
from restune.data.preprocess import ImagePreprocess
from restune.data.sources import open_dataset

AUGMENTS = {
    "crop": Augment(crop_scale=(0.3, 1.0), flip=True),
    "shift": Augment(shift=3, flip=True),
    "policy": Augment(crop_scale=(0.5, 1.0), policy="trivial"),
    "plain": Augment(),
}


@pytest.fixture
def dataset(tmp_path):
    """24 noisy images of different sizes in 3 uneven classes."""
    random = np.random.default_rng(0)
    for name, count in (("a", 12), ("b", 8), ("c", 4)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            size = (*random.integers(20, 50, 2), 3)
            Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(
                tmp_path / "data" / name / f"{number}.png"
            )
    return open_dataset(tmp_path / "data")


def batches(dataset, augment, *, in_memory, workers=2, store_size=None, **more):
    settings = ImagePreprocess(crop=16, resize=18)
    preloaded = preload(
        dataset.items, settings, store_size=store_size, as_seen=augment.crop_scale is None, in_memory=in_memory
    )
    assert bool(preloaded.kept) == in_memory
    return TrainingBatches(
        items=dataset.items,
        classes=3,
        preprocess=settings,
        augment=augment,
        batch_size=5,
        seed=3,
        store_size=store_size,
        preloaded=preloaded,
        workers=workers,
        **more,
    )


def equal(one, other):
    one, other = list(one), list(other)
    assert len(one) == len(other) == 4
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.samples, b.samples)
        assert torch.equal(a.targets, b.targets)
        assert a.items == b.items


@pytest.mark.parametrize("store_size", [None, 20])
@pytest.mark.parametrize("name", AUGMENTS)
def test_in_memory_and_from_files_are_the_same_batches(dataset, name, store_size):
    memory = batches(dataset, AUGMENTS[name], in_memory=True, store_size=store_size)
    files = batches(dataset, AUGMENTS[name], in_memory=False, store_size=store_size)
    equal(memory.epoch(1, 4), files.epoch(1, 4))


@pytest.mark.parametrize("name", AUGMENTS)
def test_workers_change_nothing(dataset, name):
    alone = list(batches(dataset, AUGMENTS[name], in_memory=False, workers=0).epoch(2, 8))
    for workers in (1, 4):
        equal(alone, batches(dataset, AUGMENTS[name], in_memory=False, workers=workers).epoch(2, 8))


def test_an_epoch_can_be_taken_up_in_the_middle(dataset):
    made = batches(dataset, AUGMENTS["crop"], in_memory=True)
    rest = list(made.epoch(0, 0, start=2))
    assert [batch.key.step for batch in rest] == [2, 3]
    whole = list(made.epoch(0, 0))
    assert torch.equal(rest[0].samples, whole[2].samples)


def test_every_epoch_has_another_order_and_sees_each_item_at_most_once(dataset):
    made = batches(dataset, AUGMENTS["plain"], in_memory=True)
    orders = [[item.id for batch in made.epoch(epoch, 4 * epoch) for item in batch.items] for epoch in range(3)]
    assert all(len(set(order)) == 20 for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_repeats_show_an_item_several_times_and_differently(dataset):
    made = batches(dataset, Augment(crop_scale=(0.3, 1.0), repeats=3), in_memory=True)
    seen = Counter(made.order(0).tolist())
    assert len(made.order(0)) == 24
    assert set(seen.values()) == {3}
    first = next(iter(made.epoch(0, 0)))
    assert first.items[0] == first.items[1]
    assert not torch.equal(first.samples[0], first.samples[1])


def test_balanced_sampling_shows_classes_equally_often(dataset):
    made = batches(dataset, AUGMENTS["plain"], in_memory=True, balanced=True)
    seen = Counter(dataset.items[index].target for epoch in range(200) for index in made.order(epoch))
    shares = np.array([seen[target] for target in range(3)]) / (200 * 24)
    assert np.abs(shares - 1 / 3).max() < 0.03


def test_a_batch_larger_than_the_data(dataset):
    made = batches(dataset, AUGMENTS["plain"], in_memory=True)
    with pytest.raises(restune.UserError, match="larger than the 24"):
        TrainingBatches(**{**made.__dict__, "batch_size": 25})


def test_unreadable_items_are_listed(dataset):
    dataset.items[3].location.path.write_bytes(b"")
    preloaded = preload(dataset.items, ImagePreprocess(crop=16), store_size=None, as_seen=True)
    assert preloaded.unreadable == {dataset.items[3].id: "the file is empty (0 bytes)"}


def test_alternate_flips_show_both_sides_of_every_image_in_two_epochs(dataset):
    made = batches(dataset, Augment(flip=True, alternate_flip=True), in_memory=True)
    seen = {}
    for epoch in range(3):
        for batch in made.epoch(epoch, 0):
            for item, sample in zip(batch.items, batch.samples, strict=True):
                seen.setdefault(item.id, {})[epoch] = sample
    both = [views for views in seen.values() if {0, 1} <= set(views)]
    again = [views for views in seen.values() if {0, 2} <= set(views)]
    assert len(both) > 10
    assert len(again) > 10
    assert all(torch.equal(views[1], views[0].flip(-1)) for views in both)
    assert all(torch.equal(views[2], views[0]) for views in again)
