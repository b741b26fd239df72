"""The loader: same batches whatever the workers, in order, in bounded memory, failures in their place."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from restune.data.dataset import Item
from restune.data.loader import read_batches
from restune.data.preprocess import ImagePreprocess
from restune.data.sources import open_dataset

SETTINGS = ImagePreprocess(crop=16)


@pytest.mark.parametrize("workers", [0, 1, 4, None])
def test_batches_do_not_depend_on_workers(photos, workers):
    items = open_dataset(photos).items
    batches = list(read_batches(items, SETTINGS, batch_size=4, workers=workers))
    assert [len(batch.items) for batch in batches] == [4, 2]
    together = torch.cat([batch.samples for batch in batches])[:, 0]  # the only view
    alone = torch.stack([SETTINGS.apply((photos / item.id).read_bytes()) for item in items])
    assert torch.equal(together, alone)
    assert [item for batch in batches for item in batch.items] == list(items)


def test_failures_keep_their_place(photos):
    (photos / "blue" / "1.jpg").write_bytes(b"")
    (photos / "red" / "2.jpg").unlink()
    (photos / "red" / "2.jpg").mkdir()
    items = open_dataset(photos).items
    (batch,) = read_batches(
        (*items, Item("gone", items[0].location.__class__(photos / "gone.jpg"), 0)), SETTINGS, batch_size=9
    )
    assert {batch.items[position].id: reason for position, reason in batch.failures.items()} == {
        "blue/1.jpg": "the file is empty (0 bytes)",
        "gone": f"there is no such file: {photos / 'gone.jpg'}",
    }
    assert [item.id for item in batch.readable()] == ["blue/0.jpg", "blue/2.jpg", "red/0.jpg", "red/1.jpg"]
    assert batch.samples.shape == (4, 1, 3, 16, 16)


def test_nothing_of_torchs_threads_is_changed(photos):
    before = torch.get_num_threads()
    list(read_batches(open_dataset(photos).items, SETTINGS, batch_size=2, workers=3))
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [before] == [torch.get_num_threads()]


def test_a_batch_of_nothing_but_failures(photos):
    (photos / "blue" / "0.jpg").write_bytes(b"x")
    (batch,) = read_batches(open_dataset(photos).items[:1], SETTINGS, batch_size=4)
    assert batch.samples is None
    assert batch.readable() == []


@dataclass(frozen=True)
class CountingLocation:
    counter: list
    lock: threading.Lock

    def read(self):
        with self.lock:
            self.counter[0] += 1
        return np.zeros((16, 16, 3), np.uint8)

    def signature(self):
        return ""


def test_memory_is_bounded():
    """A slow consumer is not run away from: no more than workers + 1 batches are read ahead."""
    counter, lock = [0], threading.Lock()
    items = [Item(str(i), CountingLocation(counter, lock), 0) for i in range(1000)]
    for used, _batch in enumerate(read_batches(items, SETTINGS, batch_size=10, workers=2), start=1):
        threading.Event().wait(0.002)
        with lock:
            assert counter[0] <= (used + 3) * 10
    assert counter[0] == 1000
