"""95% intervals: Wilson's for proportions, MOVER for means of proportions, the bootstrap for other scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from restune.core.streams import generator
from restune.evaluation.metrics import Z_95

Interval = tuple[float, float]
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From how often each item is drawn ``[B, N]`` to the scores of each resample ``[B, K]``."""

_MOST_DRAWS = 20_000_000
"""Items drawn in all resamples together, which bounds the time; but at least 200 resamples are drawn."""
_RESAMPLES = 1000
_AT_ONCE = 1_000_000
"""Items drawn at a time, which bounds the memory to about 30 MB."""
_SEED = 0


def wilson_bounds(
    share: NDArray[np.float64], n: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Wilson's limits of many proportions; `n` may be an effective, fractional size; (0, 1) where it is 0.

    >>> import numpy as np
    >>> low, high = wilson_bounds(np.array([0.9]), np.array([10.0]))
    >>> round(float(low[0]), 3), round(float(high[0]), 3)
    (0.596, 0.982)
    """
    size = np.maximum(n, 1e-12)
    centre = share + Z_95**2 / (2 * size)
    half = Z_95 * np.sqrt(share * (1 - share) / size + Z_95**2 / (4 * size * size))
    scale = 1 + Z_95**2 / size
    low, high = np.maximum(0.0, (centre - half) / scale), np.minimum(1.0, (centre + half) / scale)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def mean_of_proportions(shares: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> Interval:
    """Return the interval of the mean of independent proportions from the intervals of each.

    Source: MOVER, Zou and Donner 2008, "Construction of confidence limits about effect measures". Unlike resampling it
    is not empty of width where every item of a small class is right.
    """
    mean, count = float(shares.mean()), len(shares)
    below = float(np.sqrt(((shares - low) ** 2).sum())) / count
    above = float(np.sqrt(((high - shares) ** 2).sum())) / count
    return max(0.0, mean - below), min(1.0, mean + above)


def resampled(
    n: int, statistic: Statistic, purpose: str, *, strata: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Draw bootstrap resamples of `n` items and return their scores ``[B, K]`` (Efron and Tibshirani 1993).

    Args:
        n: number of items.
        statistic: computes the scores of some resamples at once.
        purpose: names the stream of random numbers; results are the same in every call.
        strata: class of each item ``[N]``; as many items of each class are drawn as there are. None draws from all.

    There are 1,000 resamples, fewer beyond 20,000 items, and at least 200.
    """
    count = int(np.clip(_MOST_DRAWS // n, 200, _RESAMPLES))
    at_once = max(1, _AT_ONCE // n)
    parts = []
    for number, start in enumerate(range(0, count, at_once)):
        rows = min(at_once, count - start)
        random = generator(_SEED, f"bootstrap {purpose}", number)
        drawn = random.integers(0, n, (rows, n)) if strata is None else _stratified(random, rows, strata)
        drawn += np.arange(rows)[:, None] * n
        weights = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        parts.append(statistic(weights))
    return np.concatenate(parts)


def percentile_interval(draws: NDArray[np.float64]) -> Interval:
    """Return the 2.5% and 97.5% quantiles of a score's resamples ``[B]``; those that are NaN are left out."""
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return float(low), float(high)


def _stratified(random: np.random.Generator, rows: int, strata: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw items by position, within each item's class."""
    order = np.argsort(strata, kind="stable")
    sizes = np.bincount(strata)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    sorted_strata = strata[order]
    within = (random.random((rows, len(strata))) * sizes[sorted_strata]).astype(np.int64)
    return order[starts[sorted_strata] + within]
