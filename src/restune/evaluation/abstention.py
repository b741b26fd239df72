"""Abstention: answer only where the probability is high enough; risk and coverage, and thresholds for a precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.evaluation.metrics import wilson_interval
from restune.weights.calibration import RiskCurve

CONFIDENCE = 0.95
"""Probability, over validation sets, that a chosen threshold has the wanted precision."""
_GRID = np.unique(np.round(1 / (1 + 10 ** (-np.arange(-40, 121) / 20)), 6))
"""Thresholds from 1% to 99.9999%, evenly spaced in log-odds: chosen before any item is seen."""
_MANY = 10_000
"""Number of items from which on several thresholds may be the first to be tested."""
_POINTS = 100


def risk_curve(confidence: NDArray[np.float32], is_right: NDArray[np.bool_]) -> RiskCurve:
    """Count the items that have at least each of a grid of probabilities, and the right ones among them.

    Of thresholds with the same items only the highest is kept.
    """
    rising = np.sort(confidence), np.sort(confidence[is_right])
    answered, correct = (len(each) - np.searchsorted(each, _GRID.astype(np.float32), side="left") for each in rising)
    is_last = np.append(answered[1:] != answered[:-1], True) & (answered > 0)
    kept = _GRID[is_last], answered[is_last], correct[is_last]
    thresholds, *counts = (tuple(each.tolist()) for each in kept)
    return RiskCurve(thresholds=thresholds, answered=counts[0], correct=counts[1])


def threshold_for(curve: RiskCurve, precision: float, n: int) -> int | None:
    """Return the place in the curve of the lowest threshold whose precision is at least the wanted one; None without.

    Thresholds are tested in falling order, each by a binomial test of "the precision is less than the wanted one", and
    the last before the first failure is taken: with 95% confidence over validation sets, new items of the same kind are
    answered with the wanted precision or a better one. With 10,000 items or more, the error probability is shared by
    five starting points, so that an error among the most certain items does not end the search.

    Args:
        curve: of validation items.
        precision: wanted share of correct answers.
        n: number of validation items.

    Source: fixed-sequence testing with several starts, Angelopoulos et al. 2021, "Learn then Test", section 4; for
    classifiers that abstain also Geifman and El-Yaniv 2017.
    """
    check_precision(precision)
    answered, correct = np.array(curve.answered, int), np.array(curve.correct, int)
    starts = 5 if n >= _MANY else 1
    level = (1 - CONFIDENCE) / starts
    least = needed_items(precision, level)
    best: int | None = None
    for start in range(starts):
        target = least + start * max(0, n - least) / starts
        place = next((at for at in reversed(range(len(answered))) if answered[at] >= target), None)
        while place is not None and place >= 0 and _chance(answered[place], correct[place], precision) <= level:
            best = place if best is None else min(best, place)
            place -= 1
    return best


def _chance(answered: int, correct: int, precision: float) -> float:
    """Return the probability of so few wrong answers, or fewer, at the wanted precision: a binomial tail."""
    n, wrong = float(answered), torch.arange(int(answered - correct) + 1, dtype=torch.float64)

    def log_factorial(value: Tensor | float) -> Tensor:
        return torch.lgamma(torch.as_tensor(value, dtype=torch.float64) + 1)

    chosen = log_factorial(n) - log_factorial(wrong) - log_factorial(n - wrong)
    terms = chosen + wrong * math.log1p(-precision) + (n - wrong) * math.log(precision)
    return float(terms.logsumexp(0).exp())


def needed_items(precision: float, level: float = 1 - CONFIDENCE) -> int:
    """Return how many answers, all correct, show a precision at an error probability.

    >>> needed_items(0.99)
    299
    """
    return math.ceil(math.log(level) / math.log(precision))


def check_precision(precision: float) -> None:
    """Raise UserError unless a wanted precision lies between 0 and 1."""
    if not 0 < precision < 1:
        raise UserError(
            f"a precision of {precision:g} cannot be promised", where="--target-precision", fix="use 0.99, for example"
        )


@dataclass(frozen=True)
class Selective:
    """The items that are answered at a threshold.

    Args:
        threshold: least probability of the predicted class.
        n: number of items.
        answered: number of these with at least this probability.
        correct: number of these that are predicted correctly.
    """

    threshold: float
    n: int
    answered: int
    correct: int

    @classmethod
    def at(cls, threshold: float, confidence: NDArray[np.float32], is_right: NDArray[np.bool_]) -> Selective:
        """Count the items answered at a threshold."""
        answers = confidence >= np.float32(threshold)
        return cls(threshold, len(confidence), int(answers.sum()), int((answers & is_right).sum()))

    def to_dict(self) -> dict[str, Any]:
        """Return threshold, share of items answered and precision, with Wilson intervals."""
        return {
            "threshold": self.threshold,
            "answered": self.answered / self.n,
            "answered_interval": list(wilson_interval(self.answered, self.n)),
            "precision": self.correct / self.answered if self.answered else None,
            "precision_interval": list(wilson_interval(self.correct, self.answered)),
            "n_answered": self.answered,
        }


class CertainFirst:
    """Items in falling order of their probability, for risk and coverage.

    Args:
        confidence: probability of the predicted class ``[N]``.
        is_right: whether it is the true class ``[N]``.
    """

    def __init__(self, confidence: NDArray[np.float32], is_right: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-confidence, kind="stable")
        self.confidence, self.is_wrong = confidence[self.order], ~is_right[self.order]
        falls = np.append(self.confidence[1:] != self.confidence[:-1], True)
        ends = np.flatnonzero(falls)
        self.end = ends[np.searchsorted(ends, np.arange(len(confidence)))]
        """Of each item, the last one with the same probability: items that no threshold tells apart."""

    def areas(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the area under the risk-coverage curve of resamples: the mean risk over thresholds at the items.

        Args:
            weights: how often each item is drawn ``[B, N]``.

        Source: Geifman et al. 2019, "Bias-reduced uncertainty estimation for deep neural classifiers".
        """
        drawn = weights[:, self.order]
        errors, total = np.cumsum(drawn * self.is_wrong, axis=1), np.cumsum(drawn, axis=1)
        risk = errors[:, self.end] / np.maximum(total[:, self.end], 1e-12)
        area: NDArray[np.float64] = (drawn * risk).sum(axis=1) / drawn.sum(axis=1)
        return area

    def curve(self) -> list[list[float]]:
        """Return up to 100 points of the curve: coverage (share answered), risk (share of these wrong), threshold."""
        n = len(self.confidence)
        places = np.unique(self.end[np.linspace(0, n - 1, min(n, _POINTS)).round().astype(int)])
        risk = np.cumsum(self.is_wrong)[places] / (places + 1)
        points = zip((places + 1) / n, risk, self.confidence[places], strict=True)
        return [[round(float(value), 6) for value in point] for point in points]
