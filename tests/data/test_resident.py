"""Images kept on the device: the same batches as from memory, to the bit. Here the device is the processor."""

from __future__ import annotations

import pytest
import torch

from restune.data.augment import Augment
from restune.data.batches import TrainingBatches
from restune.data.preload import preload
from restune.data.preprocess import ImagePreprocess
from restune.data.resident import resident
from restune.data.sources import open_dataset

CPU = torch.device("cpu")
PREPROCESS = ImagePreprocess(crop=16)


@pytest.fixture
def dataset(tmp_path, write_noise):
    return open_dataset(write_noise(tmp_path / "data", bright=(120, 9), dark=(0, 9)))


@pytest.mark.parametrize("augment", [Augment(), Augment(shift=2, flip=True), Augment(flip=True, repeats=2)])
def test_the_same_batches_as_from_memory(dataset, augment):
    preloaded = preload(dataset.items, PREPROCESS, store_size=None, as_seen=True)
    kept = resident(dataset.items, preloaded, PREPROCESS, augment, CPU, room=1e9)
    assert kept.samples.shape == (18, 3, 16, 16)
    alike = {"items": dataset.items, "classes": 2, "preprocess": PREPROCESS, "augment": augment, "preloaded": preloaded}
    alike |= {"batch_size": 5, "seed": 3}
    plain = TrainingBatches(**alike)
    for one, other in zip(plain.epoch(1, 4), TrainingBatches(**alike, resident=kept).epoch(1, 4), strict=True):
        assert torch.equal(one.samples, other.samples)
        assert torch.equal(one.targets, other.targets)


def test_only_where_that_is_possible(dataset):
    preloaded = preload(dataset.items, PREPROCESS, store_size=None, as_seen=True)
    assert resident(dataset.items, preloaded, PREPROCESS, Augment(), CPU, room=18 * 3 * 256) is not None
    assert resident(dataset.items, preloaded, PREPROCESS, Augment(), CPU, room=18 * 3 * 256 - 1) is None, "no room"
    assert resident(dataset.items, preloaded, PREPROCESS, Augment(policy="trivial"), CPU, room=1e9) is None
    assert resident(dataset.items, preloaded, PREPROCESS, Augment(crop_scale=(0.5, 1.0)), CPU, room=1e9) is None
    assert resident(dataset.items, preloaded, PREPROCESS, Augment(), CPU) is None, "the processor needs no copy"
    wholes = preload(dataset.items, PREPROCESS, store_size=None, as_seen=False)
    assert resident(dataset.items, wholes, PREPROCESS, Augment(), CPU, room=1e9) is None
