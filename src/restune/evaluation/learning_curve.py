"""The learning curve: an inverse power law through accuracies at several numbers of labels, and what more would bring.

Cortes et al. 1993 (Learning curves: asymptotic values and rate of convergence); Hestness et al. 2017
(arXiv:1712.00409): the error of n labels is about ``c + a * n ** -b``; with very few labels it falls more slowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_EXPONENTS = np.geomspace(0.05, 3.0, 24)
_SHIFTS = np.array([0.0, 0.25, 0.5, 1.0, 2.0])
_FLOORS = np.linspace(0, 1, 21)
_LEVELS = np.linspace(-4, 4, 17)
"""The grid of power laws: exponents; shifts, as a share of the pivot; floors, as a share of the error there; and errors
there, in standard deviations from the measured one."""
_USUAL_EXPONENT, _SPREAD = 0.5, 0.7
"""Middle and spread (of its logarithm) of the exponents that are expected before the accuracies are looked at."""
_MISFIT = 0.01
"""By how much a curve may miss the law, per halving of the labels: with few labels it has not begun to follow it."""
_NORMAL = np.array([-1.645, -1.15, -0.76, -0.43, -0.14, 0.14, 0.43, 0.76, 1.15, 1.645])
"""Ten values that stand for a normal distribution, each for a tenth of it."""


@dataclass(frozen=True, kw_only=True)
class CurvePoints:
    """Cross-validated accuracies.

    Args:
        sizes: numbers of labels that heads were fitted to, ascending, ``[K]``.
        correct: share of an item's heads that were right on it, by item and size, ``[N, K]``.
        noise: standard deviation of one head's accuracy from one drawing of the labels to another, ``[K]``.
        heads: number of heads of each size.
    """

    sizes: NDArray[np.int64]
    correct: NDArray[np.float64]
    noise: NDArray[np.float64]
    heads: int = 1

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Mean accuracy of each size, ``[K]``."""
        mean: NDArray[np.float64] = self.correct.mean(axis=0)
        return mean


@dataclass(frozen=True)
class Gain:
    """What more labels would bring: accuracies are shares, not percent.

    Args:
        more: number of labels more, drawn at random.
        expected: median gain of accuracy.
        low, high: ends of its 95% interval.
    """

    more: int
    expected: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """A power law fitted to accuracies by number of labels.

    Args:
        labels: number of labels at hand.
        sizes, accuracy: the measured points.
        now: the curve's accuracy with the labels at hand, and the ends of its 95% interval.
        gains: what more labels would bring.
        at, middle, low, high: the drawn curve: numbers of labels, median accuracy, ends of the 95% interval.
    """

    labels: int
    sizes: tuple[int, ...]
    accuracy: tuple[float, ...]
    now: tuple[float, float, float]
    gains: tuple[Gain, ...]
    at: tuple[int, ...] = field(repr=False, default=())
    middle: tuple[float, ...] = field(repr=False, default=())
    low: tuple[float, ...] = field(repr=False, default=())
    high: tuple[float, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class PowerLaws:
    """Many power laws ``c + a * (n + s) ** -b`` with their posterior probabilities.

    Args:
        level: error at `pivot` labels, ``[M]``.
        floor: share of that error which no label takes away, ``[M]``.
        exponent, shift: `b` and `s`, ``[M]``.
        weight: posterior probability of each, adding up to 1.
        pivot: number of labels.
    """

    level: NDArray[np.float64]
    floor: NDArray[np.float64]
    exponent: NDArray[np.float64]
    shift: NDArray[np.float64]
    weight: NDArray[np.float64]
    pivot: float

    def error(self, labels: float) -> NDArray[np.float64]:
        """Return the error of each law at a number of labels, ``[M]``."""
        fall = ((labels + self.shift) / (self.pivot + self.shift)) ** -self.exponent
        found: NDArray[np.float64] = np.minimum(1, self.level * (self.floor + (1 - self.floor) * fall))
        return found


def fit_power_law(points: CurvePoints) -> PowerLaws:
    """Return the posterior of the power law's parameters on a grid.

    The likelihood is normal around the mean errors. Their covariance is that of resampled items, plus the variance of
    drawing the labels. The shift lets errors of very few labels fall more slowly than the law says. Priors: the
    exponent at the largest number of labels log-normal around 0.5, as measured curves have (Hestness et al. 2017);
    small floors more likely than large ones.
    """
    error, covariance = 1 - points.accuracy, _covariance(points)
    pivot = float(points.sizes[-1])
    levels = np.unique(np.clip(error[-1] + _LEVELS * covariance[-1, -1] ** 0.5, 0, 1))
    grids = np.meshgrid(_EXPONENTS, _SHIFTS * pivot, _FLOORS, levels)
    exponent, shift, floor, level = (grid.reshape(-1) for grid in grids)
    laws = PowerLaws(level, floor, exponent, shift, np.ones(len(level)), pivot)
    difference = error - np.stack([laws.error(float(size)) for size in points.sizes], axis=1)  # [M, K]
    fitting = -0.5 * np.einsum("mk,kl,ml->m", difference, np.linalg.inv(covariance), difference)
    local = exponent * pivot / (pivot + shift)
    logs = fitting - 0.5 * (np.log(local / _USUAL_EXPONENT) / _SPREAD) ** 2 + np.log(1.02 - floor)
    weight = np.exp(logs - logs.max())
    keep = weight > 1e-5
    return PowerLaws(
        level[keep], floor[keep], exponent[keep], shift[keep], weight[keep] / weight[keep].sum(), pivot
    )  # fmt: skip


def _covariance(points: CurvePoints) -> NDArray[np.float64]:
    """Return the covariance of the mean errors, ``[K, K]``."""
    count = len(points.correct)
    items = np.atleast_2d(np.cov(points.correct, rowvar=False)) / count
    accuracy = np.clip(points.accuracy, 1 / (count + 2), 1 - 1 / (count + 2))
    least = accuracy * (1 - accuracy) / count * 0.05  # where every item is right, or wrong, nothing varies
    shared = np.minimum(1.0, points.sizes / count + 1 / points.heads)  # small subsets average out, large ones overlap
    repeats = points.noise**2 * shared
    unlike = (_MISFIT * np.log2(points.sizes[-1] / points.sizes)) ** 2
    covariance: NDArray[np.float64] = items + np.diag(repeats + least + unlike)
    return covariance


def learning_curve(points: CurvePoints, labels: int, more: Sequence[int]) -> LearningCurve:
    """Fit the curve and say what more labels, drawn at random, would bring.

    Args:
        points: cross-validated accuracies.
        labels: number of labels at hand.
        more: numbers of labels more.

    >>> sizes = np.array([10, 20, 40, 80])
    >>> right = np.random.default_rng(0).random((400, 1)) > 0.05 + 0.9 * sizes**-0.5
    >>> points = CurvePoints(sizes=sizes, correct=right.astype(float), noise=np.full(4, 0.01))
    >>> gain = learning_curve(points, 80, [80]).gains[0]
    >>> gain.low < 0.9 * (80**-0.5 - 160**-0.5) < gain.high
    True
    """
    laws = fit_power_law(points)
    now = laws.error(labels)
    gains = []
    for count in more:
        noise = _noise(points, labels, labels + count)
        drawn = (now - laws.error(labels + count))[:, None] + noise * _NORMAL[None] / _NORMAL.std()
        low, middle, high = _quantiles(drawn, np.repeat(laws.weight[:, None], len(_NORMAL), 1))
        gains.append(Gain(count, middle, low, high))
    end = labels + max(more)
    at = np.unique(np.geomspace(points.sizes[0], end, 24).round().astype(np.int64))
    curve = [_quantiles(1 - laws.error(float(size)), laws.weight) for size in at]
    low, middle, high = _quantiles(1 - now, laws.weight)
    return LearningCurve(
        labels=labels,
        sizes=tuple(points.sizes.tolist()),
        accuracy=tuple(points.accuracy.tolist()),
        now=(middle, low, high),
        gains=tuple(gains),
        at=tuple(at.tolist()),
        middle=tuple(one[1] for one in curve),
        low=tuple(one[0] for one in curve),
        high=tuple(one[2] for one in curve),
    )


def _noise(points: CurvePoints, labels: int, total: int) -> float:
    """Return the standard deviation of a gain from one drawing of labels to another.

    That of a head's accuracy falls about as ``n ** -0.5``; heads of n and m labels share n of them.
    """
    steady = float(np.median(points.noise * np.sqrt(points.sizes)))
    before, after = steady / labels**0.5, steady / total**0.5
    shared = labels / total
    return float(np.sqrt(max(0.0, before**2 + after**2 - 2 * shared * before * after)))


def _quantiles(values: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the weighted 2.5%, 50% and 97.5% quantiles."""
    values, weight = values.reshape(-1), weight.reshape(-1)
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    places = np.searchsorted(total / total[-1], [0.025, 0.5, 0.975]).clip(max=len(values) - 1)
    low, middle, high = values[order][places].tolist()
    return low, middle, high
