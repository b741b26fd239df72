"""Prefetch results in threads, in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from restune.core.console import warn
from restune.data.threads import compute_alone

STALL_SECONDS = 60
"""Seconds of waiting for data before a warning."""

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], workers: int, depth: int
) -> Iterator[Result]:
    """Yield ``function(argument)`` for each argument, in order; prefetch at most `depth` results.

    Decoding and resizing release the GIL, so threads use all cores. Each computes with one torch thread, to avoid
    oversubscription. 0 workers: work in the caller's thread.
    """
    if workers == 0:
        yield from map(function, arguments)
        return
    pool = ThreadPoolExecutor(workers, "ahead", initializer=compute_alone)
    waiting: deque[Future[Result]] = deque()
    try:
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) > depth:
                yield _awaited(waiting.popleft())
        while waiting:
            yield _awaited(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def ahead_in_groups(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], workers: int, size: int
) -> Iterator[Result]:
    """Like `ahead`, for many cheap calls: threads take `size` arguments at a time to reduce overhead."""
    groups = (arguments[start : start + size] for start in range(0, len(arguments), size))
    for results in ahead(lambda group: [function(argument) for argument in group], groups, workers, 2 * workers):
        yield from results


def _awaited(future: Future[Result]) -> Result:
    """Wait for the result; warn if it takes long."""
    waited = 0
    while True:
        try:
            return future.result(timeout=STALL_SECONDS)
        except TimeoutError:
            if future.done():  # it was just in time, or the error is the function's own
                return future.result()
            waited += STALL_SECONDS
            warn(f"no data for {waited} s: is the disk or the network share stuck?")
