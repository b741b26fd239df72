"""Model selection: which epoch is the best by the monitored metric, and when to stop early."""

from __future__ import annotations

import math

_HIGHER_IS_BETTER = {
    "val_accuracy": True,
    "val_balanced_accuracy": True,
    "val_macro_f1": True,
    "val_map": True,
    "val_r2": True,
    "val_mae": False,
    "val_loss": False,
    "train_loss": False,
}


def higher_is_better(monitor: str) -> bool:
    """Return whether larger values of a metric are better."""
    return _HIGHER_IS_BETTER[monitor]


def improves(
    score: float, best: float | None, *, monitor: str, min_delta: float = 0.0, val_loss: float | None = None
) -> bool:
    """Whether a score beats the best one so far.

    Args:
        score: of the monitored metric, in this epoch.
        best: None before the first score.
        monitor: ``val_accuracy``, ``val_balanced_accuracy``, ``val_macro_f1``, ``val_map``, ``val_r2`` (higher is
            better), ``val_mae``, ``val_loss`` or ``train_loss`` (lower is better).
        min_delta: a score counts as better only by more than this: for early stopping, whose `best` is the last score
            that counted. Which weights are kept is decided without it.
        val_loss: of this epoch; an epoch with a NaN or infinite validation loss is never the best.
    """
    if not math.isfinite(score) or (val_loss is not None and not math.isfinite(val_loss)):
        return False
    sign = 1.0 if _HIGHER_IS_BETTER[monitor] else -1.0
    return best is None or sign * (score - best) > min_delta


def breaks_tie(score: float, best: float | None, *, val_loss: float | None, best_loss: float | None) -> bool:
    """Whether an epoch with exactly the best score so far replaces the earlier one as the best.

    It does unless its validation loss is higher: with few validation items many epochs have the same accuracy, and an
    early one has it by luck. Patience does not count it as an improvement.

    Args:
        score: of the monitored metric, in this epoch.
        best: the best one so far.
        val_loss, best_loss: validation losses of the two epochs; without them, or with one that is NaN or infinite,
            the earlier epoch stays the best.
    """
    if score != best or val_loss is None or best_loss is None:
        return False
    return math.isfinite(val_loss) and val_loss <= best_loss


def is_stale(stale_epochs: int, patience: int | None) -> bool:
    """Whether early stopping ends the run: `patience` epochs in a row without improvement; None never does."""
    return patience is not None and stale_epochs >= patience
