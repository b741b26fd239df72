"""Which epoch is best by the monitored metric, and when a run stops early, against hand computation."""

from __future__ import annotations

import math

import pytest

from restune.training.checkpoint import TrainState
from restune.training.selection import breaks_tie, improves, is_stale


@pytest.mark.parametrize(
    ("monitor", "better", "worse"),
    [("val_accuracy", 0.8, 0.6), ("val_loss", 0.6, 0.8), ("train_loss", 0.6, 0.8)],
)
def test_accuracy_rises_and_losses_fall(monitor, better, worse):
    assert improves(better, 0.7, monitor=monitor)
    assert not improves(worse, 0.7, monitor=monitor)
    assert not improves(0.7, 0.7, monitor=monitor), "an equal score is no improvement"


@pytest.mark.parametrize("monitor", ["val_accuracy", "val_loss"])
def test_the_first_score_is_the_best_so_far(monitor):
    assert improves(0.0, None, monitor=monitor)


def test_an_improvement_must_exceed_min_delta():
    assert improves(0.75, 0.5, monitor="val_accuracy", min_delta=0.125)
    assert not improves(0.625, 0.5, monitor="val_accuracy", min_delta=0.125)
    assert improves(0.25, 0.5, monitor="val_loss", min_delta=0.125)
    assert not improves(0.375, 0.5, monitor="val_loss", min_delta=0.125)
    assert improves(0.0, None, monitor="val_accuracy", min_delta=0.5), "nothing to compare the first score with"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_epoch_with_a_loss_that_is_not_finite_is_never_the_best(bad):
    assert not improves(bad, None, monitor="val_loss", val_loss=bad)
    assert not improves(bad, 0.5, monitor="train_loss")
    assert not improves(0.9, 0.5, monitor="val_accuracy", val_loss=bad)
    assert improves(0.9, 0.5, monitor="val_accuracy", val_loss=0.1)


def test_of_equal_scores_the_lower_validation_loss_wins_and_then_the_later_epoch():
    """8 of 8 items right in the first epoch by luck, and again at the end with a tenth of the loss."""
    assert breaks_tie(1.0, 1.0, val_loss=0.07, best_loss=0.7)
    assert breaks_tie(1.0, 1.0, val_loss=0.7, best_loss=0.7)
    assert not breaks_tie(1.0, 1.0, val_loss=0.8, best_loss=0.7)
    assert not breaks_tie(0.875, 1.0, val_loss=0.07, best_loss=0.7), "a lower score is not a tie"
    assert not breaks_tie(1.0, 1.0, val_loss=math.nan, best_loss=0.7)
    assert not breaks_tie(0.5, 0.5, val_loss=None, best_loss=None), "nothing to decide by: the first stays the best"


def test_a_tie_won_is_the_best_but_no_improvement():
    """Patience counts the epochs since the score last rose."""
    state = TrainState(tensors={})
    for score, loss, is_best, is_better in ((0.5, 0.9, True, True), (0.5, 0.6, True, False), (0.5, 0.7, False, False)):
        state.step += 6
        state.val_loss = loss
        state.end_epoch()
        state.select(score, is_best=is_best, improves=is_better)
    assert (state.best_epoch, state.best_step, state.best_loss, state.stale_epochs) == (1, 12, 0.6, 2)


def test_patience_counts_epochs_without_improvement():
    assert [is_stale(epochs, 2) for epochs in range(4)] == [False, False, True, True]
    assert not is_stale(10**6, None)


def test_the_state_remembers_the_best_epoch_and_counts_those_since():
    """Epochs from 0: the second of four is the best."""
    state = TrainState(tensors={})
    for score, is_best in ((0.5, True), (0.75, True), (0.5, False), (0.625, False)):
        state.step, state.batches, state.epoch_loss = state.step + 6, 6, 9.0
        state.end_epoch()
        assert (state.batches, state.epoch_loss) == (0, 0.0)
        state.select(score, is_best=is_best)
    assert (state.epoch, state.best_epoch, state.best_step, state.best_score) == (4, 1, 12, 0.75)
    assert state.stale_epochs == 2
