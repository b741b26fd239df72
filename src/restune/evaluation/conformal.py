"""Prediction sets that contain the true class with a wanted probability: split-conformal and class-conditional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restune.evaluation.intervals import Interval
from restune.evaluation.logits import chunks
from restune.evaluation.metrics import Z_95, wilson_interval
from restune.inference.forward import prediction_sets, probabilities
from restune.weights.calibration import ConformalThresholds

LEVELS = (*(round(0.5 + 0.01 * step, 2) for step in range(50)), 0.995, 0.999)
_MOST_CLASSES = 2000
"""Up to which thresholds per class are stored."""


def conformal_thresholds(true: NDArray[np.float32], targets: NDArray[np.int64], classes: int) -> ConformalThresholds:
    """Compute the thresholds of prediction sets from the true class's probability of validation items ``[N]``.

    A class belongs to an item's set if its probability is at least that of rank floor((n + 1) (1 - coverage)) among the
    validation items' true classes, so a new item's true class does with at least the wanted probability. Thresholds of
    a class use the validation items of that class: then this holds for the items of each class. With too few items for
    a coverage the threshold is 0: 9 are needed for 90%.

    Source: the "LAC" score of Sadinle et al. 2019; Vovk 2012, "Conditional validity of inductive conformal predictors".
    """
    rows = None
    if classes <= _MOST_CLASSES:
        order = np.argsort(targets, kind="stable")
        ends = np.cumsum(np.bincount(targets, minlength=classes))[:-1]
        rows = tuple(_quantiles(part) for part in np.split(true[order], ends))
    return ConformalThresholds(levels=LEVELS, marginal=_quantiles(true), class_conditional=rows)


def _quantiles(true: NDArray[np.float32]) -> tuple[float, ...]:
    ranked, n = np.sort(true), len(true)
    ranks = [int(np.floor((n + 1) * (1 - level) + 1e-9)) for level in LEVELS]
    return tuple(_rounded_down(float(ranked[rank - 1])) if rank else 0.0 for rank in ranks)


def _rounded_down(value: float) -> float:
    """Return a probability with six significant digits, never a greater one: sets only grow."""
    if value <= 0:
        return 0.0
    digits = 5 - int(np.floor(np.log10(value)))
    short = round(value, digits)
    return short if short <= value else round(value - 10.0**-digits, digits)


@dataclass(frozen=True)
class SetScores:
    """How prediction sets fare on labelled items.

    Args:
        covered: whether an item's set contains its class ``[N]``.
        sizes: number of classes in each set ``[N]``.
    """

    covered: NDArray[np.bool_]
    sizes: NDArray[np.int64]

    @property
    def coverage(self) -> float:
        """Share of items whose set contains their class."""
        return float(self.covered.mean())

    @property
    def interval(self) -> Interval:
        """Its 95% Wilson interval."""
        return wilson_interval(int(self.covered.sum()), len(self.covered))

    @property
    def mean_size(self) -> float:
        """Mean number of classes in a set."""
        return float(self.sizes.mean())

    def to_dict(self) -> dict[str, Any]:
        """Return coverage and mean size with intervals, and the share of sets with one class."""
        half = Z_95 * float(self.sizes.std()) / np.sqrt(len(self.sizes))
        return {
            "coverage": self.coverage,
            "coverage_interval": list(self.interval),
            "mean_size": self.mean_size,
            "mean_size_interval": [max(1.0, self.mean_size - half), self.mean_size + half],
            "single": float((self.sizes == 1).mean()),
        }


def set_scores(
    logits: NDArray[np.float32],
    targets: NDArray[np.int64],
    thresholds: float | tuple[float, ...],
    temperature: float = 1.0,
) -> SetScores:
    """Form the prediction sets of items and compare them with their classes, in bounded memory."""
    covered, sizes, start = np.empty(len(targets), np.bool_), np.empty(len(targets), np.int64), 0
    for part in chunks(logits, 2 * 2**20):
        rows = slice(start, start + len(part))
        sets = prediction_sets(probabilities(torch.from_numpy(np.array(part)), temperature), thresholds).numpy()
        covered[rows] = np.take_along_axis(sets, targets[rows, None], axis=1)[:, 0]
        sizes[rows] = sets.sum(axis=1)
        start += len(part)
    return SetScores(covered, sizes)
