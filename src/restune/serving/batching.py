"""A bounded queue before a model: what arrives while it computes is computed together next."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
PreparedT = TypeVar("PreparedT")
AnswerT = TypeVar("AnswerT")
SettingsT = TypeVar("SettingsT", bound=Hashable)

_PAUSE = 0.001
"""Seconds without a further item after which a batch begins, while another one is computed."""
_SMALLEST_SHARE = 4
"""Least items that a batch leaves to another one that could be computed at the same time."""
_PATIENCE = 0.25
"""Most time that a batch waits for further items, as a share of the time that a batch takes."""


class QueueFullError(Exception):
    """As many items as the queue may hold are waiting.

    Args:
        retry_after: seconds after which there is probably room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; retry after {retry_after} s")
        self.retry_after = retry_after


class ClosedError(Exception):
    """The queue no longer takes items: the server shuts down."""


@dataclass(eq=False)
class _Request(Generic[SettingsT, AnswerT]):
    """Items that are answered together, and what is known of them so far."""

    settings: SettingsT
    deadline: float
    answers: list[AnswerT | None]
    missing: int
    future: Future[list[AnswerT]] = field(default_factory=Future)

    def answer(self, place: int, answer: AnswerT) -> None:
        self.answers[place] = answer
        self.missing -= 1
        if not self.missing:
            with suppress(InvalidStateError):  # cancelled at the same moment
                self.future.set_result(self.answers)  # type: ignore[arg-type]

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(eq=False)
class _Waiting(Generic[SettingsT, PreparedT, AnswerT]):
    """A prepared item that waits for the model."""

    request: _Request[SettingsT, AnswerT]
    place: int
    prepared: PreparedT


class Slots:
    """How many batches are computed at a time, by all batchers that share a processor.

    Args:
        count: batches.

    >>> slots = Slots(2)
    >>> with slots:
    ...     slots.busy
    1
    """

    def __init__(self, count: int = 1) -> None:
        self.count, self.busy = count, 0
        self._lock, self._waiting = threading.Lock(), deque[threading.Event]()

    def __enter__(self) -> Slots:
        with self._lock:
            if self.busy < self.count:
                self.busy += 1
                return self
            turn = threading.Event()
            self._waiting.append(turn)
        turn.wait()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # hand the slot over to whoever waits longest
            else:
                self.busy -= 1


class Batcher(Generic[SettingsT, ItemT, PreparedT, AnswerT]):
    """Prepare items in threads, and compute those that are ready in batches, in the order in which they are ready.

    A batch begins at once where nothing is computed, with what is ready by then. While another batch is computed, it
    waits a moment for the items that are about to be ready: many small batches take longer than a few larger ones. A
    batch holds items of equal settings only.

    Args:
        prepare: converts an item, such as decoding an image; runs in `pool`.
        compute: answers a batch of prepared items, in order.
        pool: threads that prepare items.
        slots: how many batches are computed at a time; several batchers that share a processor share it.
        max_queue: items that are accepted and not yet answered.
        max_batch: items computed at a time.
        on_batch: told the size of each batch.

    >>> pool = ThreadPoolExecutor(1)
    >>> batcher = Batcher(lambda _, item: item + 1, lambda _, batch: [2 * one for one in batch], pool=pool)
    >>> batcher.submit([1, 2], settings=None, timeout=5).result()
    [4, 6]
    >>> batcher.close()
    """

    def __init__(
        self,
        prepare: Callable[[SettingsT, ItemT], PreparedT],
        compute: Callable[[SettingsT, list[PreparedT]], Sequence[AnswerT]],
        *,
        pool: ThreadPoolExecutor,
        slots: Slots | None = None,
        max_queue: int = 256,
        max_batch: int = 32,
        on_batch: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self.max_queue, self.max_batch = max_queue, max_batch
        self._prepare, self._compute, self._pool, self._on_batch = prepare, compute, pool, on_batch
        self._slots = Slots() if slots is None else slots
        self._changed, self._forming = threading.Condition(), threading.Lock()
        self._ready: deque[_Waiting[SettingsT, PreparedT, AnswerT]] = deque()
        self._accepted, self._computed_now, self._is_closed = 0, 0, False
        self._seconds_per_item, self._seconds_per_batch = 0.01, 0.01
        self._workers = [
            threading.Thread(target=self._work, name="batches", daemon=True) for _ in range(self._slots.count)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def length(self) -> int:
        """Number of items that are accepted and not yet answered."""
        return self._accepted

    def submit(self, items: Sequence[ItemT], settings: SettingsT, timeout: float) -> Future[list[AnswerT]]:
        """Accept items to be answered together, in order.

        The future raises TimeoutError where they were not computed in `timeout` seconds, and what `prepare` and
        `compute` raise. Raises QueueFullError and ClosedError, and ValueError for no items.
        """
        if not items:
            raise ValueError("there are no items")
        with self._changed:
            if self._is_closed:
                raise ClosedError
            if self._accepted + len(items) > self.max_queue:
                raise QueueFullError(max(1, round(self._accepted * self._seconds_per_item)))
            self._accepted += len(items)
        request: _Request[SettingsT, AnswerT] = _Request(
            settings, time.monotonic() + timeout, [None] * len(items), len(items)
        )
        for place, item in enumerate(items):
            self._pool.submit(self._make_ready, request, place, item)
        return request.future

    def close(self, timeout: float | None = None) -> None:
        """Take no more items, and return when all accepted ones are answered, or after `timeout` seconds."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        end = None if timeout is None else time.monotonic() + timeout
        for worker in self._workers:
            worker.join(None if end is None else max(0.0, end - time.monotonic()))

    def _make_ready(self, request: _Request[SettingsT, AnswerT], place: int, item: ItemT) -> None:
        if self._is_over(request):
            self._leave(1)
            return
        try:
            prepared = self._prepare(request.settings, item)
        except BaseException as error:
            request.fail(error)
            self._leave(1)
            return
        with self._changed:
            self._ready.append(_Waiting(request, place, prepared))
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with ExitStack() as slot:
                with self._forming:  # one batch at a time
                    if not self._wait():
                        return
                    slot.enter_context(self._slots)
                    self._gather()  # while another batch is computed, and with what became ready meanwhile
                    batch = self._take()
                if batch:
                    self._answer(batch)

    def _wait(self) -> bool:
        """Wait for an item; return False when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or (self._is_closed and not self._accepted))
            return bool(self._ready)

    def _gather(self) -> None:
        """Wait for items that become ready one after the other, as long as another batch is computed."""
        end = time.monotonic() + _PATIENCE * self._seconds_per_batch
        while self._slots.busy > 1 and (ready := len(self._ready)) < self.max_batch and time.monotonic() < end:
            time.sleep(_PAUSE)
            is_preparing = self._accepted - self._computed_now > len(self._ready)
            if len(self._ready) == ready and not is_preparing:
                return

    def _share(self) -> int:
        """Return how many of the ready items are taken: all, or an equal share for each slot that is free, too."""
        free = 1 + self._slots.count - self._slots.busy
        return min(self.max_batch, max(_SMALLEST_SHARE, -(-len(self._ready) // free)))

    def _take(self) -> list[_Waiting[SettingsT, PreparedT, AnswerT]]:
        """Return the first ready items of equal settings, without those that nobody waits for any more."""
        batch: list[_Waiting[SettingsT, PreparedT, AnswerT]] = []
        with self._changed:
            most = self._share()
            while self._ready and len(batch) < most:
                first = self._ready[0]
                if self._is_over(first.request):
                    self._ready.popleft()
                    self._accepted -= 1
                elif batch and first.request.settings != batch[0].request.settings:
                    break
                else:
                    batch.append(self._ready.popleft())
            self._computed_now += len(batch)
        return batch

    def _answer(self, batch: list[_Waiting[SettingsT, PreparedT, AnswerT]]) -> None:
        started = time.monotonic()
        self._on_batch(len(batch))
        try:
            answers = self._compute(batch[0].request.settings, [one.prepared for one in batch])
            for one, answer in zip(batch, answers, strict=True):
                one.request.answer(one.place, answer)
        except BaseException as error:
            self._answer_apart(batch, error)
        seconds = time.monotonic() - started
        with self._changed:
            self._seconds_per_batch += 0.1 * (seconds - self._seconds_per_batch)
            self._seconds_per_item += 0.1 * (seconds / len(batch) / self._slots.count - self._seconds_per_item)
            self._computed_now -= len(batch)
        self._leave(len(batch))

    def _answer_apart(self, batch: list[_Waiting[SettingsT, PreparedT, AnswerT]], error: BaseException) -> None:
        """Compute the items of a failed batch one by one, so that one request's fault does not fail the others."""
        for one in batch:
            try:
                (answer,) = self._compute(one.request.settings, [one.prepared]) if len(batch) > 1 else ()
            except BaseException as fault:
                one.request.fail(fault if len(batch) > 1 else error)
            else:
                one.request.answer(one.place, answer)

    def _is_over(self, request: _Request[SettingsT, AnswerT]) -> bool:
        """Return whether nobody waits for a request any more; one whose time is over fails."""
        if time.monotonic() > request.deadline:
            request.fail(TimeoutError("not computed in time"))
        return request.future.done()

    def _leave(self, count: int) -> None:
        with self._changed:
            self._accepted -= count
            self._changed.notify_all()
