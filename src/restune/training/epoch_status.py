"""The live line of an epoch on a terminal: loss, accuracy, speed, time left, learning rate."""

from __future__ import annotations

import time
from collections.abc import Callable

from restune.core.console import StatusFields, duration
from restune.training.checkpoint import TrainState
from restune.training.metrics_log import MetricsLog
from restune.training.progress import Progress


class EpochStatus:
    """What the line shows while an epoch trains.

    Args:
        progress: of the run.
        state: of the run, which training changes.
        batches: per epoch.
        log: knows the run's epochs and kind of data.
        val_accuracy: returns the accuracy of the last validation; None before the first.
        image_size: returns the side to which training images are resized; None where they keep theirs.
    """

    def __init__(
        self,
        progress: Progress,
        state: TrainState,
        batches: int,
        log: MetricsLog,
        val_accuracy: Callable[[], float | None],
        image_size: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.progress, self.state, self.batches, self.log = progress, state, batches, log
        self.val_accuracy, self.image_size = val_accuracy, image_size
        self.started, self.images_before = time.perf_counter(), state.images

    def fields(self) -> StatusFields:
        """Return the present values, the most important first."""
        state = self.state
        of = "" if self.log.epochs is None else f"/{self.log.epochs}"
        parts = []
        if state.batches:
            parts.append(f"loss {state.epoch_loss / state.batches:.4f}")
        left = self.progress.seconds_left(state)
        if left is not None:
            parts.append(f"{duration(left)} left")
        budget = self.progress.budget_left()
        if budget is not None:
            parts.append(f"budget {duration(budget)}")
        accuracy = self.val_accuracy()
        if accuracy is not None:
            parts.append(f"val {accuracy:.1%}")
        side = self.image_size()
        if side is not None:
            parts.append(f"{side} px")
        speed = (state.images - self.images_before) / max(time.perf_counter() - self.started, 1e-9)
        parts += [f"{speed:.0f} {self.log.kind.sample_noun}/s", f"lr {state.rate:.2g}"]
        return StatusFields(f"epoch {state.epoch + 1}{of}", state.batches / max(1, self.batches), tuple(parts))
