"""Figures of a server in Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Requests, latencies, queue lengths and batch sizes of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "restune_requests", "Requests answered.", ["path", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "restune_request_seconds", "Seconds from a request's head to the end of its answer.", ["path"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._queue = Gauge(
            "restune_queue_length", "Items that are accepted and not yet answered.", ["model"], registry=self.registry
        )
        self._batches = Histogram(
            "restune_batch_size", "Items computed at a time.", ["model"], buckets=_SIZES, registry=self.registry
        )

    def answered(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            path: the route, not the address: addresses that nothing serves must not fill the memory.
        """
        self._requests.labels(path, method, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch_sizes(self, model: str) -> Callable[[int], None]:
        """Return a function that counts a batch's size."""
        return self._batches.labels(model).observe

    def watch_queue(self, model: str, length: Callable[[], int]) -> None:
        """Read a model's queue length whenever the figures are asked for."""
        self._queue.labels(model).set_function(length)

    def text(self) -> bytes:
        """Return all figures."""
        return generate_latest(self.registry)
