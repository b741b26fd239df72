"""Progress of a run, by optimiser steps or by a time limit: its share done, its learning rate, its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from restune.training.checkpoint import TrainState
from restune.training.recipe import Recipe
from restune.training.schedule import multiplier
from restune.training.thawing import Phases

_GUESSED_EPOCHS = 10
"""Epochs in a phase where a time limit decides."""


def whole_epochs(recipe: Recipe, batches_an_epoch: int) -> int:
    """The recipe's epochs, or the whole number nearest to its steps; 1 where a time limit ends the run."""
    if recipe.epochs is None and recipe.steps is not None:
        return max(1, round(recipe.steps * recipe.optimizer.accumulate / max(1, batches_an_epoch)))
    return recipe.epochs or 1


class Progress:
    """How much of a run is done, and what follows from it: learning rate and end.

    Args:
        recipe: without ``auto``.
        phases: of the run.
        batches_an_epoch: number of batches per epoch.
        deadline: `time.perf_counter()` at which a run with ``time`` must have ended; None: steps decide.
        afterwards: seconds from the last step to the end of the command, from the seconds of a forward pass per item.
    """

    def __init__(
        self,
        recipe: Recipe,
        phases: Phases,
        batches_an_epoch: int,
        *,
        deadline: float | None,
        afterwards: Callable[[float], float],
    ) -> None:
        self.recipe, self.phases, self.batches_an_epoch = recipe, phases, max(1, batches_an_epoch)
        self.deadline, self.afterwards = deadline, afterwards
        self.epochs = whole_epochs(recipe, batches_an_epoch)
        self.started = time.perf_counter()
        self.seconds_before = self.excluded = 0.0
        self.seconds_an_item = 0.0

    @property
    def has_time_limit(self) -> bool:
        """Whether the clock, not the number of steps, ends the run."""
        return self.deadline is not None

    def resume(self, seconds: float, excluded: float) -> None:
        """Continue a run that has trained for so many seconds; they count toward a time limit."""
        self.seconds_before, self.excluded = seconds, excluded
        if self.deadline is not None:
            self.deadline -= seconds

    def exclude(self, seconds: float) -> None:
        """Exclude seconds spent outside the epochs from the run's progress."""
        self.excluded += seconds

    @contextmanager
    def excluding(self) -> Iterator[None]:
        """Exclude the time spent within this block."""
        started = time.perf_counter()
        yield
        self.exclude(time.perf_counter() - started)

    def measure_validation(self, seconds: float, items: float) -> None:
        """Take the time of a validation as the measure of a forward pass per item."""
        self.seconds_an_item = seconds / max(1.0, items)

    def seconds(self) -> float:
        """Seconds trained, before and since the run was resumed."""
        return self.seconds_before + time.perf_counter() - self.started

    def run_progress(self, state: TrainState) -> float:
        """Share of the whole run that is done: of the time limit, else of the steps."""
        if self.deadline is not None:
            budget = self.seconds_before + self.deadline - self._reserve(state) - self.started
            return (self.seconds() - self.excluded) / max(budget - self.excluded, 1e-9)
        return (state.epoch + state.batches / self.batches_an_epoch) / self.epochs

    def seconds_left(self, state: TrainState) -> float | None:
        """Estimate the seconds of training left in the whole run; None before there is anything to judge by."""
        done = self.run_progress(state)
        trained = self.seconds() - self.excluded
        if done <= 0 or trained <= 0:
            return None
        return max(0.0, trained * (1 - done) / done)

    def budget_left(self) -> float | None:
        """Seconds left of the time budget, which the final scores and the report are part of; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.perf_counter())

    def lr_multiplier(self, phase: int, run_progress: float) -> float:
        """The learning rate as a share of its peak; each phase has a whole schedule."""
        start, end = self.phases.span(phase)
        return multiplier(self.recipe.schedule, (run_progress - start) / max(end - start, 1e-9), self._warmup(phase))

    def epochs_in(self, phase: int) -> int:
        """The number of epochs in a phase; a guess where a time limit decides."""
        start, end = self.phases.span(phase)
        return _GUESSED_EPOCHS if self.has_time_limit else round((end - start) * self.epochs)

    def is_late(self, state: TrainState) -> bool:
        """Whether a run with a time limit must end now."""
        return self.deadline is not None and time.perf_counter() >= self.deadline - self._reserve(state)

    def is_over(self, state: TrainState) -> bool:
        """Whether the run has reached its last epoch or its time limit."""
        return self.is_late(state) or (self.deadline is None and state.epoch >= self.epochs)

    def _warmup(self, phase: int) -> float:
        """Share of a phase with linear warm-up."""
        if self.recipe.schedule.warmup_share is not None:
            return self.recipe.schedule.warmup_share
        epochs = self.recipe.schedule.warmup_epochs
        if self.has_time_limit:  # the number of epochs is unknown: a tenth at most
            return min(0.1, epochs / 20)
        start, end = self.phases.span(phase)
        return min(0.5, epochs / max(self.epochs * (end - start), 1e-9))

    def _reserve(self, state: TrainState) -> float:
        """Seconds needed for the last validation, the final scores and writing the files."""
        guess = self.seconds() / state.images / 3 if state.images else 0.0  # a training step costs three forward passes
        return self.afterwards(self.seconds_an_item or min(guess, 0.1))
