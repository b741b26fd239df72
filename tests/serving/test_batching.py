"""The queue before a model: batches form only while it computes, nothing accepted is lost, nothing grows."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from restune.serving import batching
from restune.serving.batching import Batcher, ClosedError, QueueFullError, Slots

LIMIT = 60
"""Seconds until a test fails that waits for an event, however busy the machine is."""


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as threads:
        yield threads


class Gated:
    """A model that computes when it is let, and notes its batches."""

    def __init__(self):
        self.batches, self.gate, self.began = [], threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, settings, batch):
        self.batches.append((settings, list(batch)))
        self.began.release()
        assert self.gate.acquire(timeout=LIMIT)
        return [f"{settings}{one}" for one in batch]


def made(pool, compute, **limits):
    return Batcher(lambda _settings, item: item, compute, pool=pool, **limits)


def until(holds):
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_items_that_arrive_while_the_model_computes_form_the_next_batch(pool):
    model = Gated()
    batcher = made(pool, model, max_batch=3)
    first = batcher.submit([0], "a", LIMIT)
    assert model.began.acquire(timeout=LIMIT)  # it did not wait for others
    others = [batcher.submit([number], "a", LIMIT) for number in range(1, 5)]
    until(lambda: len(batcher._ready) == 4)
    for _ in range(3):
        model.gate.release()
    assert [future.result(LIMIT) for future in (first, *others)] == [["a0"], ["a1"], ["a2"], ["a3"], ["a4"]]
    assert [len(batch) for _, batch in model.batches] == [1, 3, 1]
    batcher.close()


def test_a_batch_holds_equal_settings_only(pool):
    model = Gated()
    batcher = made(pool, model)
    futures = [batcher.submit([0], "a", LIMIT)]
    assert model.began.acquire(timeout=LIMIT)
    for number, settings in enumerate("aab", start=1):
        futures.append(batcher.submit([number], settings, LIMIT))
        until(lambda expected=number: len(batcher._ready) == expected)
    for _ in range(3):
        model.gate.release()
    assert [future.result(LIMIT)[0] for future in futures] == ["a0", "a1", "a2", "b3"]
    assert model.batches == [("a", [0]), ("a", [1, 2]), ("b", [3])]
    batcher.close()


def test_a_full_queue_refuses_and_has_room_again_later(pool):
    model = Gated()
    batcher = made(pool, model, max_queue=2)
    future = batcher.submit([1, 2], "a", LIMIT)
    with pytest.raises(QueueFullError) as refused:
        batcher.submit([3], "a", LIMIT)
    assert refused.value.retry_after >= 1
    for _ in range(3):
        model.gate.release()
    assert future.result(LIMIT) == ["a1", "a2"]
    until(lambda: batcher.length == 0)
    assert batcher.submit([3], "a", LIMIT).result(LIMIT) == ["a3"]
    batcher.close()


def test_items_whose_time_is_over_are_not_computed(pool, monkeypatch):
    model, later = Gated(), [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later[0], sleep=time.sleep)
    monkeypatch.setattr(batching, "time", clock)
    batcher = made(pool, model)
    first = batcher.submit([0], "a", LIMIT)
    assert model.began.acquire(timeout=LIMIT)
    late = batcher.submit([1], "a", 1000)
    cancelled = batcher.submit([2], "a", 5000)
    until(lambda: len(batcher._ready) == 2)
    cancelled.cancel()
    later[0] = 2000.0
    model.gate.release()
    assert first.result(LIMIT) == ["a0"]
    with pytest.raises(TimeoutError):
        late.result(LIMIT)
    until(lambda: batcher.length == 0)
    assert model.batches == [("a", [0])]
    batcher.close()


def test_one_requests_fault_does_not_fail_the_others_of_its_batch(pool):
    model, seen = Gated(), []

    def compute(settings, batch):
        if not seen:
            seen.append(True)
            return model(settings, batch)
        if -1 in batch:
            raise ValueError("an impossible item")
        return batch

    batcher = made(pool, compute)
    futures = [batcher.submit([0], "a", LIMIT)]
    assert model.began.acquire(timeout=LIMIT)
    futures += [batcher.submit([number], "a", LIMIT) for number in (5, -1, 7)]
    until(lambda: len(batcher._ready) == 3)
    model.gate.release()
    assert futures[1].result(LIMIT) == [5]
    assert futures[3].result(LIMIT) == [7]
    with pytest.raises(ValueError, match="an impossible item"):
        futures[2].result(LIMIT)
    until(lambda: batcher.length == 0)
    batcher.close()


def test_an_item_that_cannot_be_prepared_fails_alone_and_leaves_the_queue(pool):
    batcher = Batcher(lambda _, item: 1 // item, lambda _, batch: batch, pool=pool)
    with pytest.raises(ZeroDivisionError):
        batcher.submit([0, 1], None, LIMIT).result(LIMIT)
    assert batcher.submit([1], None, LIMIT).result(LIMIT) == [1]
    until(lambda: batcher.length == 0)
    batcher.close()


def test_closing_answers_everything_accepted_and_refuses_more(pool):
    model = Gated()
    batcher = made(pool, model, max_batch=1)
    futures = [batcher.submit([number], "a", LIMIT) for number in range(4)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    until(lambda: batcher._is_closed)
    with pytest.raises(ClosedError):
        batcher.submit([9], "a", LIMIT)
    for _ in range(4):
        model.gate.release()
    closing.join(LIMIT)
    assert not closing.is_alive()
    assert sorted(future.result(0)[0] for future in futures) == ["a0", "a1", "a2", "a3"]


def test_models_that_share_a_slot_compute_in_turn(pool):
    slots, now, most, order, ready = Slots(1), [0], [0], [], threading.Event()

    def compute(settings, batch):
        assert ready.wait(LIMIT)
        now[0] += 1
        most[0] = max(most[0], now[0])
        order.append(settings)
        other = batchers[settings == "a"]
        until(lambda: slots._waiting or not other._ready)  # while this one computes, the other one asks for the slot
        now[0] -= 1
        return batch

    batchers = [made(pool, compute, slots=slots, max_batch=1) for _ in range(2)]
    futures = [
        batcher.submit([number], name, LIMIT)
        for number in range(10)
        for name, batcher in zip("ab", batchers, strict=True)
    ]
    until(lambda: sum(len(batcher._ready) for batcher in batchers) == 19)
    ready.set()
    assert sum(future.result(LIMIT)[0] for future in futures) == 90
    assert most == [1]
    longest = max(len(run) for name in "ab" for run in "".join(order).split(name))
    assert longest == 1  # neither waits until the other one has nothing more to do
    for batcher in batchers:
        batcher.close()


def test_a_lone_request_of_many_items_uses_all_slots(pool):
    model, taken = Gated(), []
    batcher = made(pool, model, slots=Slots(2), max_batch=32)
    real = batcher._take

    def late():  # as if all had become ready at the same moment
        if not taken:
            until(lambda: len(batcher._ready) == 16)
        taken.append(real())
        return taken[-1]

    batcher._take = late
    future = batcher.submit(list(range(16)), "a", LIMIT)
    for _ in range(2):  # both compute at a time
        assert model.began.acquire(timeout=LIMIT)
    for _ in range(2):
        model.gate.release()
    assert len(future.result(LIMIT)) == 16
    assert [len(batch) for _, batch in model.batches] == [8, 8]
    batcher.close()


def slow_at_two(ready):
    """Prepare items at once, but item 2 only when the event is set."""

    def prepared(_settings, item):
        if item == 2:
            ready.wait(LIMIT)
        return item

    return prepared


def test_a_batch_beside_another_one_waits_for_items_that_are_about_to_be_ready(pool):
    model, slow = Gated(), threading.Event()
    batcher = Batcher(slow_at_two(slow), model, pool=pool, slots=Slots(2))
    batcher._seconds_per_batch = 4.0 * LIMIT  # of which it may wait a quarter
    first = batcher.submit([0], "a", LIMIT)
    assert model.began.acquire(timeout=LIMIT)  # nothing else was computed: it did not wait
    rest = batcher.submit([1, 2], "a", LIMIT)
    until(lambda: len(batcher._ready) == 1)
    assert not model.began.acquire(timeout=0.05)
    slow.set()
    assert model.began.acquire(timeout=LIMIT)
    assert model.batches[1] == ("a", [1, 2])
    for _ in range(2):
        model.gate.release()
    assert first.result(LIMIT) + rest.result(LIMIT) == ["a0", "a1", "a2"]
    batcher.close()


def test_a_batch_that_waits_begins_when_nothing_else_is_computed(pool):
    model, slow = Gated(), threading.Event()
    batcher = Batcher(slow_at_two(slow), model, pool=pool, slots=Slots(2))
    batcher._seconds_per_batch = 4.0 * LIMIT
    first = batcher.submit([0], "a", LIMIT)
    assert model.began.acquire(timeout=LIMIT)
    rest = batcher.submit([1, 2], "a", LIMIT)
    until(lambda: len(batcher._ready) == 1)
    model.gate.release()
    assert first.result(LIMIT) == ["a0"]
    assert model.began.acquire(timeout=LIMIT)
    assert model.batches[1] == ("a", [1])
    slow.set()
    for _ in range(2):
        model.gate.release()
    assert rest.result(LIMIT) == ["a1", "a2"]
    batcher.close()


@pytest.mark.parametrize(("ready", "taken"), [(1, 1), (7, 7), (8, 8), (11, 8), (23, 20), (40, 32)])
def test_larger_batches_have_few_sizes(pool, ready, taken):
    batcher = made(pool, Gated(), max_batch=32)
    batcher._slots.busy = 1  # this batch's
    batcher._ready.extend(range(ready))
    assert min(batcher._share(), ready) == taken
    batcher._ready.clear()
    batcher._slots.busy = 0
    batcher.close()
