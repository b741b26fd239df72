"""How far a run has come, by its steps or by the clock, and what follows: phase, schedule, when to end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

from restune.training.checkpoint import TrainState
from restune.training.freeze import Phase
from restune.training.recipe import Recipe
from restune.training.schedule import multiplier

GUESSED_EPOCHS = 10
"""Of a phase, where the clock decides."""


def whole_epochs(recipe: Recipe, batches_an_epoch: int) -> int:
    """The recipe's epochs, or as many as come nearest to its steps; of a run that the clock ends 1."""
    if recipe.epochs is None and recipe.steps is not None:
        return max(1, round(recipe.steps * recipe.optimizer.accumulate / max(1, batches_an_epoch)))
    return recipe.epochs or 1


class Progress:
    """The run's position, from its state.

    Args:
        recipe: settled.
        phases: the parts of the run, in order.
        batches_an_epoch: how many.
        deadline: `time.perf_counter()` at which a run with ``time`` must have ended; None: steps decide.
        afterwards: seconds from the last step to the end of the command, given those an item takes to compute.
    """

    def __init__(
        self,
        recipe: Recipe,
        phases: Sequence[Phase],
        batches_an_epoch: int,
        *,
        deadline: float | None,
        afterwards: Callable[[float], float],
    ) -> None:
        self.recipe, self.phases, self.batches_an_epoch = recipe, phases, max(1, batches_an_epoch)
        self.deadline, self.afterwards = deadline, afterwards
        self.epochs = whole_epochs(recipe, batches_an_epoch)
        self.started = time.perf_counter()
        self.spent_before = self.aside = 0.0
        self.seconds_an_item = 0.0
        self.phase_ends = self._phase_ends()

    def take_up(self, seconds: float, aside: float) -> None:
        """Go on with a run that has taken so long; a budget of time is what is left of it."""
        self.spent_before, self.aside = seconds, aside
        if self.deadline is not None:
            self.deadline -= seconds

    def seconds(self) -> float:
        """Trained so far, by this process and those before it."""
        return self.spent_before + time.perf_counter() - self.started

    def set_aside(self, seconds: float) -> None:
        """Leave time out of the run's progress: solving the head and computing features are no epochs."""
        self.aside += seconds

    def run_progress(self, state: TrainState) -> float:
        """Share of the whole run that is done: by the clock where there is a deadline, else by steps."""
        if self.deadline is not None:
            budget = self.spent_before + self.deadline - self._reserve(state) - self.started
            return (self.seconds() - self.aside) / max(budget - self.aside, 1e-9)
        return (state.epoch + state.batches / self.batches_an_epoch) / self.epochs

    def rate(self, state: TrainState, run_progress: float) -> float:
        """Share of the peak learning rate; each phase has a whole schedule."""
        start, end = self._span(state.phase)
        return multiplier(self.recipe.schedule, (run_progress - start) / max(end - start, 1e-9), self._warmup(state))

    def phase_at(self, run_progress: float) -> int:
        """The phase that a share of the run belongs to."""
        return next((i for i, end in enumerate(self.phase_ends) if run_progress < end - 1e-9), len(self.phases) - 1)

    def epochs_of(self, phase: int) -> int:
        """How many a phase has; guessed where the clock decides."""
        start, end = self._span(phase)
        return GUESSED_EPOCHS if self.deadline is not None else round((end - start) * self.epochs)

    def is_late(self, state: TrainState) -> bool:
        """Whether a run with a budget must end now."""
        return self.deadline is not None and time.perf_counter() >= self.deadline - self._reserve(state)

    def is_over(self, state: TrainState) -> bool:
        """Whether all is done."""
        return self.is_late(state) or (self.deadline is None and state.epoch >= self.epochs)

    def _span(self, phase: int) -> tuple[float, float]:
        start, end = [0.0, *self.phase_ends][phase : phase + 2]
        return start, end

    def _warmup(self, state: TrainState) -> float:
        if self.recipe.schedule.warmup_share is not None:
            return self.recipe.schedule.warmup_share
        epochs = self.recipe.schedule.warmup_epochs
        if self.deadline is not None:  # how many epochs there will be is not known: a tenth at most
            return min(0.1, epochs / 20)
        start, end = self._span(state.phase)
        return min(0.5, epochs / max(self.epochs * (end - start), 1e-9))

    def _phase_ends(self) -> list[float]:
        """Shares of the run at which its phases end: at ends of epochs, unless the clock decides."""
        ends = list(itertools.accumulate(phase.share for phase in self.phases))
        if self.deadline is None:
            epochs = self.epochs
            ends = [min(1.0, max(number, round(end * epochs)) / epochs) for number, end in enumerate(ends, start=1)]
        return [*ends[:-1], 1.0]

    def _reserve(self, state: TrainState) -> float:
        """Seconds to keep for the last validation, the final scores and for writing."""
        guessed = self.seconds() / state.images / 3 if state.images else 0.0  # a step is three passes
        return self.afterwards(self.seconds_an_item or min(guessed, 0.1))
