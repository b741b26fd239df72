"""Calibration: temperature fitted on validation items, calibration error with its debiased forms, reliability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restune.core.streams import generator
from restune.evaluation.abstention import risk_curve
from restune.evaluation.conformal import conformal_thresholds
from restune.evaluation.intervals import Interval
from restune.evaluation.items import item_scores
from restune.evaluation.logits import chunks
from restune.evaluation.metrics import wilson_interval
from restune.weights.calibration import Calibration

_BINS = 15
_LEAST_IN_BIN = 20
_PRIOR_ITEMS = 1.0
_LIMITS = (1e-3, 1e3)
"""Of 1 / temperature."""
_TRIED, _SIMULATED = 61, 500
"""True calibration errors that are tried for an interval, and samples simulated for each."""
_TOLERANCE = 1e-4
"""Of the last step; Newton's method has then about the square of it left."""


def fit_calibration(
    logits: NDArray[np.float32], targets: NDArray[np.int64], predicted: NDArray[np.int64]
) -> Calibration:
    """Fit the temperature on validation items, then their abstention curve and conformal thresholds at it.

    Args:
        logits: of items ``[N, C]``.
        targets: class indices ``[N]``.
        predicted: most probable classes ``[N]``.
    """
    temperature = fit_temperature(logits, targets)
    is_right = targets == predicted
    before, after = item_scores(logits, targets), item_scores(logits, targets, temperature)
    if after.nll.mean() > before.nll.mean():  # by rounding: the likelihoods are equal
        temperature, after = 1.0, before
    errors = [Reliability.of(scores.confidence, is_right).ece for scores in (before, after)]
    return Calibration(
        temperature=temperature,
        n=len(targets),
        nll=(float(before.nll.mean()), float(after.nll.mean())),
        ece=(errors[0], errors[1]),
        abstention=risk_curve(after.confidence, is_right),
        conformal=conformal_thresholds(after.true, targets, logits.shape[1]),
    )


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """Return the temperature by which dividing the logits minimises the negative log-likelihood (Guo et al. 2017).

    The likelihood is log-concave in b = 1 / temperature. A prior that weighs about as much as one item, b exp(-b) with
    its mode at temperature 1, keeps the minimum finite where all items are right. With it, too, the likelihood of the
    items is never worse than at temperature 1: the prior is highest there. Solved by Newton's method between bounds
    that shrink.

    Args:
        logits: of items ``[N, C]``.
        targets: class indices ``[N]``.
    """
    low, high = _LIMITS
    inverse = 1.0
    for _ in range(60):
        slope, curvature = _derivatives(logits, targets, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature
        following = step if low < step < high else float(np.sqrt(low * high))
        inverse, previous = following, inverse
        if abs(inverse - previous) <= _TOLERANCE * inverse:
            break
    return float(f"{1 / inverse:.6g}")


def _derivatives(logits: NDArray[np.float32], targets: NDArray[np.int64], inverse: float) -> tuple[float, float]:
    """Return the first and second derivative of the negative log-posterior by 1 / temperature."""
    slope = _PRIOR_ITEMS * (1 - 1 / inverse)
    curvature = _PRIOR_ITEMS / inverse**2
    start = 0
    for part in chunks(logits, 2 * 2**20):
        values = torch.from_numpy(np.array(part)).double()
        values -= values.max(dim=1, keepdim=True).values
        values.clamp_(min=-1e30)  # a logit of minus infinity has no weight
        target = torch.from_numpy(np.array(targets[start : start + len(part)]))[:, None]
        p = (values * inverse).softmax(dim=1)
        mean = (p * values).sum(dim=1)
        slope += float((mean - values.gather(1, target)[:, 0]).sum())
        curvature += float((p * (values - mean[:, None]).square()).sum())
        start += len(part)
    return slope, curvature


@dataclass(frozen=True)
class Reliability:
    """Items in bins of equal size by their probability: how often they are right, and how often they claim to be.

    Args:
        bins: index of each item's bin ``[N]``.
        n: items of each bin ``[B]``.
        confidence: mean probability of the predicted class ``[B]``.
        accuracy: share of the bin's items that are predicted correctly ``[B]``.
    """

    bins: NDArray[np.int64]
    n: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @classmethod
    def of(cls, confidence: NDArray[np.float32], is_right: NDArray[np.bool_]) -> Reliability:
        """Sort items into at most 15 bins of at least about 20 items; equal probabilities share a bin.

        Args:
            confidence: probability of the predicted class ``[N]``.
            is_right: whether it is the true class ``[N]``.
        """
        n = len(confidence)
        count = int(np.clip(n // _LEAST_IN_BIN, 1, _BINS))
        edges = np.unique(np.sort(confidence)[(np.arange(count) * n) // count])
        bins = np.searchsorted(edges[1:], confidence, side="right")
        sizes = np.bincount(bins)
        sums = (np.bincount(bins, weights=values.astype(np.float64)) for values in (confidence, is_right))
        return cls(bins, sizes, *(total / sizes for total in sums))

    @property
    def ece(self) -> float:
        """Expected calibration error: mean difference of probability and accuracy (Naeini et al. 2015, equal mass)."""
        return float((self.n * np.abs(self._gap)).sum() / self.n.sum())

    @property
    def ece_debiased(self) -> float:
        """The same without what the chance of small bins adds: 0 in the mean for a calibrated model.

        The mean of the absolute value of a normal variable replaces the resampling of Kumar et al. 2019 ("Verified
        uncertainty calibration", the debiased estimator of their code for the first power).
        """
        spread = np.sqrt(self.accuracy * (1 - self.accuracy) / self.n)
        gap, positive = np.abs(self._gap), spread > 0
        ratio = np.divide(gap, spread, out=np.zeros_like(gap), where=positive)
        tail = torch.erf(torch.from_numpy(ratio / np.sqrt(2))).numpy()
        folded = spread * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + gap * tail
        expected = np.where(positive, folded, gap)
        return max(0.0, float((self.n * (2 * gap - expected)).sum() / self.n.sum()))

    @property
    def rms_debiased(self) -> float:
        """Root mean squared calibration error without the variance of accuracies (Bröcker 2012; Kumar et al. 2019)."""
        variance = self.accuracy * (1 - self.accuracy) / np.maximum(self.n - 1, 1)
        return float(np.sqrt(max(0.0, float((self.n * (self._gap**2 - variance)).sum() / self.n.sum()))))

    @property
    def _gap(self) -> NDArray[np.float64]:
        return self.confidence - self.accuracy

    @property
    def interval(self) -> Interval:
        """The 95% interval of the calibration error: the errors under which one like this sample's is not unusual.

        Chance adds to the error, the more the smaller it is, so neither resampling nor a normal approximation holds
        the truth often enough. Instead, true errors of many sizes are tried: those are kept whose simulated samples
        have this sample's error within their central 95%. Their gaps are spread over bins in three ways: as in the
        sample, evenly, and by the bins' noise; the interval holds what any of them keeps.
        """
        weight, claimed = self.n / self.n.sum(), np.abs(self._gap)
        smoothed = (self.accuracy * self.n + 1) / (self.n + 2)
        spread = np.sqrt(smoothed * (1 - smoothed) / self.n)
        observed, noise = self.ece, float(weight @ spread)
        errors = np.linspace(0, 1, _TRIED) * (observed + 2.5 * noise)
        drawn = generator(0, "calibration error").normal(size=(_SIMULATED, len(weight))) * spread
        kept = []
        for shape in (claimed / max(observed, 1e-12), np.ones(len(weight)), spread / max(noise, 1e-12)):
            simulated = np.abs(errors[:, None, None] * shape + drawn) @ weight
            low, high = np.quantile(simulated, (0.025, 0.975), axis=1)
            kept.append(errors[(low <= observed) & (observed <= high)])
        held = np.concatenate(kept)
        if not len(held):  # the sample's error is smaller than chance alone makes it
            return 0.0, max(observed, noise)
        return float(min(held.min(), observed)), min(1.0, float(max(held.max(), observed)))

    def diagram(self) -> list[dict[str, Any]]:
        """Return the reliability diagram: a point per bin, with the Wilson interval of its accuracy."""
        rows = zip(self.n.tolist(), self.confidence.tolist(), self.accuracy.tolist(), strict=True)
        return [
            {
                "confidence": confidence,
                "accuracy": accuracy,
                "interval": list(wilson_interval(round(accuracy * n), n)),
                "n": n,
            }
            for n, confidence, accuracy in rows
        ]
