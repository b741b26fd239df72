"""The engine that is fastest for a model on this machine, measured on real work or remembered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from restune.core.console import note
from restune.core.errors import UserError
from restune.inference.engines.agreement import TOLERANCES, Answers, largest_difference
from restune.inference.engines.measured import Measurement, measurement_key, remember, remembered
from restune.inference.engines.runtime import Outputs, ReplaceableRuntime, Runtime

MEASURED_ITEMS = 16
"""Number of items on which engines are measured at most; larger batches are as fast per item."""
BUILD_SECONDS, START_SECONDS = 15.0, 2.0
"""Expected time to make a graph, and to start an engine."""
WORTH = 5.0
"""How many times the cost of measuring the expected work must be."""
_LEAST_GAIN = 1.1
"""Speed of another engine, as a multiple of torch's, from which it is chosen."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An engine that may be chosen.

    Args:
        engine, precision: its name and precision.
        build: starts it. Raises UserError where it does not have this model.
    """

    engine: str
    precision: str
    build: Callable[[], Runtime]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the choice needs to know of a model; computed when there is something to choose.

    Args:
        key: returns the key of the model's graph.
        has_graph: returns whether the graph is made.
        answers: see `agreement.Answers`.
    """

    key: Callable[[], str]
    has_graph: Callable[[], bool]
    answers: Answers


class ChosenRuntime(ReplaceableRuntime):
    """Computes with torch until another engine is known to be faster, and worth its start, for the rest of the work.

    The first batch is always torch's. From the second one on a remembered measurement for this model, machine and
    batch size decides; without one, engines are measured on a batch of the work, once the expected work is `WORTH`
    times the cost of measuring. The work that is expected is the rest of the items; where their number is not known,
    as much as is done already.

    Args:
        default: torch in fp32.
        candidates: the other engines.
        facts: of the model.
        items: number of items to compute; None: not known.
        clock: returns seconds.
    """

    def __init__(
        self,
        default: Runtime,
        candidates: Sequence[Candidate],
        facts: ModelFacts,
        *,
        items: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(default)
        self._default = default
        self._candidates, self._facts, self._items, self._clock = candidates, facts, items, clock
        self._lock = threading.Lock()
        self._is_decided = not candidates
        self._batches: list[tuple[int, float]] = []
        """Items and seconds of each batch so far."""
        self._known: Measurement | None = None
        self._key: tuple[tuple[int, ...], str] | None = None

    def __call__(self, samples: Tensor) -> Outputs:
        """Compute samples ``[N, *sample]``."""
        if self._is_decided:
            return self.current(samples)
        with self._lock:
            if self._is_decided:
                return self.current(samples)
            if self._batches:
                self._consider(samples)
            return self._computed(samples)

    def settle(self, samples: Tensor) -> None:
        """Choose now: by a remembered measurement, else by one on these samples."""
        with self._lock:
            part = samples[:MEASURED_ITEMS]
            if not self._is_decided:
                key = self._key_of(part)
                if self._known is None:
                    self._measure(key, part)
                else:
                    self._take(self._known)

    def _computed(self, samples: Tensor) -> Outputs:
        started = self._clock()
        outputs = self.current(samples)
        self._batches.append((len(samples), self._clock() - started))
        return outputs

    def _consider(self, samples: Tensor) -> None:
        """Choose the engine, where that is worth its cost by now."""
        # The first batch also prepares the network: its time counts only while there is no other.
        timed = self._batches[1:] or self._batches
        an_item = sum(seconds for _, seconds in timed) / sum(count for count, _ in timed)
        done = sum(count for count, _ in self._batches)
        expected = (done if len(self._batches) > 1 else 0) if self._items is None else self._items - done
        if expected * an_item <= START_SECONDS:
            return
        part = samples[:MEASURED_ITEMS]
        key = self._key_of(part)
        cost = START_SECONDS + (0.0 if self._facts.has_graph() else BUILD_SECONDS)
        known = self._known
        if known is not None:
            if known.engine == self._default.name and known.precision == self._default.precision:
                self._is_decided = True
            elif expected * (known.torch_seconds - known.seconds) > max(cost, known.start_seconds):
                self._take(known)
        elif len(self._batches) > 1:
            cost += 2 * (len(self._candidates) + 1) * len(part) * an_item
            if expected * an_item > WORTH * cost:
                self._measure(key, part)

    def _key_of(self, part: Tensor) -> str:
        """Return the key of the measurement for such batches, whose entry is looked up once."""
        shape = tuple(part.shape)
        if self._key is None or self._key[0] != shape:
            precisions = [candidate.precision for candidate in self._candidates]
            self._key = shape, measurement_key(self._facts.key(), shape, precisions)
            self._known = remembered(self._key[1])
        return self._key[1]

    def _take(self, known: Measurement) -> None:
        """Start the engine that an earlier measurement found the fastest."""
        self._is_decided = True
        for candidate in self._candidates:
            if (candidate.engine, candidate.precision) == (known.engine, known.precision):
                try:
                    self.current = candidate.build()
                except UserError as error:
                    note(f"engine {self._default.name}: {known.engine} cannot be started: {error.what}")
                    return
                gain = known.torch_seconds / known.seconds
                note(f"engine {known.engine} ({known.precision}): {gain:.1f} times torch's speed when measured here")

    def _measure(self, key: str, part: Tensor) -> None:
        """Time all engines on a batch, and take the fastest one whose answers agree with torch's."""
        self._is_decided = True
        (expected, _), whole = self._timed(self._default, part)
        torch_seconds, runtime = whole / len(part), self._default
        best = Measurement(
            engine=runtime.name, precision=runtime.precision, seconds=torch_seconds, torch_seconds=torch_seconds,
            start_seconds=0.0, difference=0.0,
        )  # fmt: skip
        for candidate in self._candidates:
            started = self._clock()
            try:
                other = candidate.build()
                start_seconds = self._clock() - started
                (found, _), whole = self._timed(other, part)
            except (UserError, RuntimeError, MemoryError):  # an engine that cannot compute this is not chosen
                continue
            seconds, difference = whole / len(part), largest_difference(self._facts.answers, expected, found)
            agrees = difference <= TOLERANCES[candidate.precision]
            if agrees and seconds * _LEAST_GAIN < torch_seconds and seconds < best.seconds:
                runtime = other
                best = Measurement(
                    engine=candidate.engine, precision=candidate.precision, seconds=seconds,
                    torch_seconds=torch_seconds, start_seconds=start_seconds, difference=difference,
                )  # fmt: skip
        self.current = runtime
        remember(key, best)
        if runtime is self._default:
            note(f"engine {best.engine}: no other is faster for this model here, measured on {len(part)} items")
            return
        gain = torch_seconds / best.seconds
        note(
            f"engine {best.engine} ({best.precision}): {gain:.1f} times torch's speed, answers agree to "
            f"{best.difference:.2g}, measured on {len(part)} items"
        )

    def _timed(self, runtime: Runtime, part: Tensor) -> tuple[Outputs, float]:
        """Return the outputs, and the time of a second run: the first one prepares the engine."""
        outputs = runtime(part)
        started = self._clock()
        runtime(part)
        return outputs, self._clock() - started
