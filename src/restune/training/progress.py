"""Progress of a run, by optimiser steps or by a time limit: its share done, its learning rate, its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from restune.training.checkpoint import TrainState
from restune.training.image_sizes import ImageSizes
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


def planned_epochs(recipe: Recipe, batches_an_epoch: int) -> int | None:
    """The epochs that a run was planned for, before it was lengthened; None where a time limit decided."""
    first = recipe.lengthened[0] if recipe.lengthened else recipe
    if first.time is not None:
        return None
    return first.epochs if recipe.lengthened else whole_epochs(recipe, batches_an_epoch)


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
        self.image_sizes = ImageSizes.of(recipe)
        self.planned = planned_epochs(recipe, batches_an_epoch)
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
        if self.deadline is not None and self._earlier_epochs(state.step) is None:
            budget = self.seconds_before + self.deadline - self._reserve(state) - self.started
            return (self.seconds() - self.excluded) / max(budget - self.excluded, 1e-9)
        return (state.epoch + state.batches / self.batches_an_epoch) / self.epochs(state.step)

    def seconds_left(self, state: TrainState) -> float | None:
        """Estimate the seconds of training left in the whole run; None before there is anything to judge by."""
        done = self.run_progress(state)
        if self.deadline is None:
            done = self.image_sizes.work(done)
        trained = self.seconds() - self.excluded
        if done <= 0 or trained <= 0:
            return None
        return max(0.0, trained * (1 - done) / done)

    def budget_left(self) -> float | None:
        """Seconds left of the time budget, which the final scores and the report are part of; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.perf_counter())

    def epochs(self, step: int) -> int:
        """The number of epochs whose schedule the run follows at a step: an earlier one where it was lengthened."""
        return self._earlier_epochs(step) or whole_epochs(self.recipe, self.batches_an_epoch)

    def phase_at(self, run_progress: float, step: int) -> int:
        """The index of the phase at a share of the run."""
        return self.phases.at(run_progress, self._stretch(step))

    def lr_multiplier(self, phase: int, run_progress: float, step: int) -> float:
        """The learning rate as a share of its peak; each phase has a whole schedule."""
        start, end = self.phases.span(phase, self._stretch(step))
        share = (run_progress - start) / max(end - start, 1e-9)
        return multiplier(self.recipe.schedule, share, self._warmup(end - start, step))

    def epochs_in(self, phase: int) -> int:
        """The planned number of epochs in a phase; a guess where a time limit decides."""
        start, end = self.phases.span(phase)
        return _GUESSED_EPOCHS if self.planned is None else round((end - start) * self.planned)

    def begins_length(self, state: TrainState) -> bool:
        """Whether a lengthened run begins its next length with this epoch."""
        return state.batches == 0 and any(state.step == length.until_step for length in self.recipe.lengthened)

    def is_late(self, state: TrainState) -> bool:
        """Whether a run with a time limit must end now."""
        return self.deadline is not None and time.perf_counter() >= self.deadline - self._reserve(state)

    def is_over(self, state: TrainState) -> bool:
        """Whether the run has reached its last epoch or its time limit."""
        return self.is_late(state) or (self.deadline is None and state.epoch >= self.epochs(state.step))

    def _earlier_epochs(self, step: int) -> int | None:
        """The epochs of an earlier length that this step belongs to; None for the run's present length."""
        lengths = (length for length in self.recipe.lengthened if length.epochs is not None)
        return next((length.epochs for length in lengths if step < length.until_step), None)

    def _stretch(self, step: int) -> float:
        """The length of the run at a step over the planned one."""
        if not self.recipe.lengthened:
            return 1.0
        if self.planned is not None:
            return self.epochs(step) / self.planned
        return (self.recipe.time or 1.0) / (self.recipe.lengthened[0].time or 1.0)

    def _warmup(self, share_of_run: float, step: int) -> float:
        """Share of a phase with linear warm-up; 0 where that is less than one step.

        Args:
            share_of_run: of the run in this phase.
        """
        schedule = self.recipe.schedule
        if self.has_time_limit:  # the number of epochs is unknown: a tenth at most
            share = schedule.warmup_share
            return min(0.1, schedule.warmup_epochs / 20) if share is None else share
        epochs = max(self.epochs(step) * share_of_run, 1e-9)
        share = min(0.5, schedule.warmup_epochs / epochs) if schedule.warmup_share is None else schedule.warmup_share
        steps = epochs * -(-self.batches_an_epoch // self.recipe.optimizer.accumulate)
        return share if share * steps >= 1 - 1e-9 else 0.0

    def _reserve(self, state: TrainState) -> float:
        """Seconds needed for the last validation, the final scores and writing the files."""
        guess = self.seconds() / state.images / 3 if state.images else 0.0  # a training step costs three forward passes
        return self.afterwards(self.seconds_an_item or min(guess, 0.1))
