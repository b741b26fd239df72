"""Metrics from counts: intervals, per-class scores, accuracy of video clips."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Z_95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a proportion (Wilson 1927), valid at 0% and 100% and for small n; (0, 1) for n = 0.

    >>> low, high = wilson_interval(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.596, 0.982)
    """
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + Z_95**2 / (2 * n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n))
    scale = 1 + Z_95**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class's scores; None where the denominator is 0.

    Args:
        n: number of items of this class.
        predicted: number of items that are predicted as this class.
        precision: share of these predictions that are correct.
        recall: share of the class's items that are predicted as it: the class's accuracy.
        interval: 95% Wilson interval of the recall.
        f1: harmonic mean of precision and recall.
    """

    n: int
    predicted: int
    precision: float | None
    recall: float | None
    interval: tuple[float, float]
    f1: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**self.__dict__, "interval": list(self.interval)}


def class_scores(hits: int, n: int, predicted: int) -> ClassScores:
    """Compute one class's scores from its correct predictions, its items, and the predictions of it."""
    return ClassScores(
        n=n,
        predicted=predicted,
        precision=hits / predicted if predicted else None,
        recall=hits / n if n else None,
        interval=wilson_interval(hits, n),
        f1=2 * hits / (n + predicted) if n + predicted else None,
    )


def balanced_scores(
    hits: NDArray[np.int64], actual: NDArray[np.int64], predicted: NDArray[np.int64]
) -> tuple[float, float]:
    """Compute balanced accuracy and macro F1, as scikit-learn does, from counts per class.

    Args:
        hits: items of each class that are predicted right ``[C]``.
        actual: items of each class ``[C]``.
        predicted: items that the model assigned to each class ``[C]``.

    Balanced accuracy is the mean recall over the classes that have items; macro F1 is the mean F1 over the classes that
    have items or are predicted. Both are NaN without items.

    >>> import numpy as np
    >>> balanced_scores(np.array([98, 0]), np.array([98, 2]), np.array([100, 0]))[0]
    0.5
    """
    there, used = actual > 0, (actual + predicted) > 0
    if not there.any():
        return math.nan, math.nan
    recall = hits[there] / actual[there]
    f1 = 2 * hits[used] / (actual[used] + predicted[used])
    return float(recall.mean()), float(f1.mean())


@dataclass(frozen=True)
class Agreement:
    """How well predicted classes agree with true ones, beyond accuracy; arrays of one value per resample, or scalars.

    Args:
        macro_f1: mean F1 over the classes that have items or are predicted.
        weighted_f1: mean F1 over classes, weighted by their items.
        mcc: Matthews correlation coefficient of several classes (Gorodkin 2004); 0 where it is undefined.
        kappa: Cohen's kappa; NaN where chance alone agrees always.
    """

    macro_f1: NDArray[np.float64]
    weighted_f1: NDArray[np.float64]
    mcc: NDArray[np.float64]
    kappa: NDArray[np.float64]

    @classmethod
    def of(cls, hits: NDArray[np.float64], actual: NDArray[np.float64], predicted: NDArray[np.float64]) -> Agreement:
        """Compute the scores from counts per class ``[..., C]``, as `balanced_scores` takes them."""
        either, n = actual + predicted, actual.sum(axis=-1)
        f1 = np.divide(2 * hits, either, out=np.zeros(either.shape), where=either > 0)
        cross = (actual * predicted).sum(axis=-1)
        surplus = hits.sum(axis=-1) * n - cross
        spread = np.sqrt((n * n - (predicted**2).sum(axis=-1)) * (n * n - (actual**2).sum(axis=-1)))
        chance = n * n - cross
        return cls(
            macro_f1=f1.sum(axis=-1) / np.maximum((either > 0).sum(axis=-1), 1),
            weighted_f1=(f1 * actual).sum(axis=-1) / n,
            mcc=np.divide(surplus, spread, out=np.zeros(surplus.shape), where=spread > 0),
            kappa=np.divide(surplus, chance, out=np.full(surplus.shape, np.nan), where=chance > 0),
        )


def f1_interval(hits: int, n: int, predicted: int) -> tuple[float, float]:
    """Return the 95% interval of a class's F1.

    F1 is 2 J / (1 + J) of the share J of right ones among the items that are of the class or predicted as it, whose
    interval is Wilson's.

    >>> low, high = f1_interval(9, 10, 10)
    >>> round(low, 3), round(high, 3)
    (0.687, 0.974)
    """
    low, high = wilson_interval(hits, n + predicted - hits)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def confusion_matrix(targets: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Count items ``[true, predicted]``."""
    counts = np.bincount(targets * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64, copy=False)


def confused_pairs(targets: NDArray[np.int64], predicted: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return the nonzero entries of the confusion matrix: true class, predicted class, count."""
    pairs, counts = np.unique(np.stack([targets, predicted], axis=1), axis=0, return_counts=True)
    return [(int(true), int(guess), int(count)) for (true, guess), count in zip(pairs, counts, strict=True)]


@dataclass(frozen=True)
class ClipCount:
    """Accuracy of single video clips, without an interval: the clips of one video are not independent.

    Args:
        n: number of clips.
        correct: number of clips whose most probable class is their video's.
    """

    n: int = 0
    correct: int = 0

    def plus(self, logits: Tensor, targets: list[int]) -> ClipCount:
        """Return the count with more videos: logits ``[N, clips, classes]`` and one class index per video."""
        hits = logits.argmax(dim=2) == torch.tensor(targets)[:, None]
        return ClipCount(self.n + hits.numel(), self.correct + int(hits.sum()))

    @property
    def accuracy(self) -> float:
        """Share of clips predicted correctly."""
        return self.correct / self.n

    def to_dict(self) -> dict[str, Any]:
        """Return accuracy and n."""
        return {"accuracy": self.accuracy, "n": self.n}
