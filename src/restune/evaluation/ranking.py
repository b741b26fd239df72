"""Area under the ROC curve and average precision of each class against the rest, with intervals, one pass per class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from restune.evaluation.intervals import Interval, mean_of_proportions, wilson_bounds
from restune.evaluation.logits import chunks

_BYTES = 64 * 2**20
"""Of the scores of the classes that are ranked at a time."""


@dataclass(frozen=True)
class RankScore:
    """A ranking score of each class and their mean; NaN for a class that has no items, or all.

    Args:
        value: ``[C]``.
        low, high: 95% limits ``[C]``.
        macro: mean over the classes that have a value; None without any.
        interval: its 95% interval.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    macro: float | None
    interval: Interval | None


class _Estimate(NamedTuple):
    """A score of one class, and the contribution of each item to its error: their squares add up to its variance."""

    value: float
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]


def rank_scores(
    logits: NDArray[np.float32], targets: NDArray[np.int64], temperature: float = 1.0
) -> tuple[RankScore, RankScore]:
    """Compute AUROC and average precision of each class's probability against the rest.

    Args:
        logits: ``[N, C]``.
        targets: class indices ``[N]``.
        temperature: of the probabilities.

    Values equal scikit-learn's ``roc_auc_score`` and ``average_precision_score``. Limits are Wilson's, with the size at
    which a proportion would have the score's variance. That of AUROC is DeLong's (DeLong et al. 1988); that of average
    precision is the infinitesimal jackknife's (Efron 1982), like it. Where it is 0, the size is that of the smaller
    side. Means of classes use the variance of each item's summed contributions.
    """
    n, classes = logits.shape
    auroc, precision = _Collected(n, classes), _Collected(n, classes)
    counts = np.bincount(targets, minlength=classes)
    ranked = np.flatnonzero((counts > 0) & (counts < n))
    for first, block in _log_probabilities(logits, temperature):
        for place in ranked[(ranked >= first) & (ranked < first + block.shape[1])].tolist():
            is_positive, m = targets == place, int(counts[place])
            area, average = _one_against_rest(block[:, place - first], is_positive)
            auroc.add(place, area, is_positive, min(m, n - m))
            precision.add(place, average, is_positive, m)
    return auroc.score(), precision.score()


class _Collected:
    """Collects the estimates of one score over classes."""

    def __init__(self, n: int, classes: int) -> None:
        self.value = np.full(classes, np.nan)
        self.size = np.zeros(classes)
        self.contributions = np.zeros(n)

    def add(self, place: int, estimate: _Estimate, is_positive: NDArray[np.bool_], smaller: int) -> None:
        self.value[place] = estimate.value
        variance = sum(_corrected(part) for part in (estimate.positive, estimate.negative))
        spread = estimate.value * (1 - estimate.value)
        is_known = variance > 1e-15 and spread > 1e-12 and len(estimate.positive) > 1
        self.size[place] = spread / variance if is_known else smaller
        self.contributions[is_positive] += estimate.positive
        self.contributions[~is_positive] += estimate.negative

    def score(self) -> RankScore:
        known = ~np.isnan(self.value)
        if not known.any():
            return RankScore(self.value, self.value, self.value, None, None)
        low, high = (np.where(known, limit, np.nan) for limit in wilson_bounds(self.value, self.size))
        macro = float(self.value[known].mean())
        variance = float((self.contributions**2).sum()) / int(known.sum()) ** 2
        if variance > 1e-15 and macro * (1 - macro) > 1e-12:
            limits = wilson_bounds(np.array([macro]), np.array([macro * (1 - macro) / variance]))
            interval = float(limits[0][0]), float(limits[1][0])
        else:
            interval = mean_of_proportions(self.value[known], low[known], high[known])
        return RankScore(self.value, low, high, macro, interval)


def _corrected(contributions: NDArray[np.float64]) -> float:
    """Return the variance that contributions of n items add up to, with n / (n - 1) for the mean that was estimated."""
    n = len(contributions)
    return float((contributions**2).sum()) * (n / (n - 1) if n > 1 else 1.0)


def _one_against_rest(scores: NDArray[np.float64], is_positive: NDArray[np.bool_]) -> tuple[_Estimate, _Estimate]:
    """Return AUROC and average precision of scores ``[N]``."""
    positive, negative = scores[is_positive], scores[~is_positive]
    order = np.argsort(positive, kind="stable")
    ranked, m, n = positive[order], len(positive), len(negative)
    below = np.searchsorted(ranked, negative, side="left")  # positives below each negative
    upto = np.searchsorted(ranked, negative, side="right")  # positives below or equal
    lower = np.searchsorted(ranked, ranked, side="left")  # positives below each positive
    beaten = np.cumsum(np.bincount(upto, minlength=m + 1))[lower]  # negatives below each positive
    reached = np.cumsum(np.bincount(below, minlength=m + 1))[lower]  # negatives below or equal
    back = np.empty(m, np.int64)
    back[order] = np.arange(m)

    place = (beaten + reached) / (2 * n)
    area = float(place.mean())
    auroc = _Estimate(area, ((place - area) / m)[back], (1 - (below + upto) / (2 * m) - area) / n)

    true, false = m - lower, n - beaten  # items at least as high: positives, negatives
    precision = true / (true + false)
    average = float(precision.mean())
    gain = false / (true + false) ** 2
    loss = true / (true + false) ** 2
    highest = np.searchsorted(ranked, ranked, side="right")
    gains, losses = (np.concatenate([[0.0], np.cumsum(each)]) for each in (gain, loss))
    of_positive = precision - average + gains[highest] - (gain * true).sum() / m
    of_negative = -(losses[upto] - (loss * false).sum() / n)
    return auroc, _Estimate(average, (of_positive / m)[back], of_negative / m)


def _log_probabilities(logits: NDArray[np.float32], temperature: float) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield log-probabilities of blocks of classes ``[N, c]`` with the first class's index, column by column in memory.

    Float64 keeps probabilities apart that float32 rounds to 1.
    """
    n, classes = logits.shape
    norms, start = np.empty(n), 0
    for part in chunks(logits, 2 * 2**20):
        scaled = part.astype(np.float64) / temperature
        highest = scaled.max(axis=1, keepdims=True)
        norms[start : start + len(part)] = highest[:, 0] + np.log(np.exp(scaled - highest).sum(axis=1))
        start += len(part)
    width = max(1, min(classes, math.floor(_BYTES / (8 * max(1, n)))))
    for first in range(0, classes, width):
        block = np.asfortranarray(logits[:, first : first + width].astype(np.float64))
        block /= temperature
        block -= norms[:, None]
        yield first, block
