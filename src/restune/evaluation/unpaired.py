"""Differences of scores not measured on the same items: of two proportions, and of the means of two samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from restune.evaluation.metrics import wilson_interval


def difference_of_proportions(hits: int, n: int, other_hits: int, other_n: int) -> tuple[float, float, float]:
    """Return the difference of two independent proportions and its 95% interval.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.

    >>> [round(value, 4) for value in difference_of_proportions(56, 70, 48, 80)]
    [0.2, 0.0524, 0.3339]
    """
    one, two = hits / n, other_hits / other_n
    low_one, high_one = wilson_interval(hits, n)
    low_two, high_two = wilson_interval(other_hits, other_n)
    difference = one - two
    return (
        difference,
        difference - math.hypot(one - low_one, high_two - two),
        difference + math.hypot(high_one - one, two - low_two),
    )


def difference_of_means(values: Sequence[float], others: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the difference of two means and its 95% interval by Welch's t; None with fewer than two values on a side.

    >>> difference, low, high = difference_of_means([0.8, 0.82, 0.81], [0.7, 0.74, 0.72])
    >>> round(difference, 3), round(low, 3), round(high, 3)
    (0.09, 0.048, 0.132)
    """
    from scipy.stats import t

    if min(len(values), len(others)) < 2:
        return None
    difference = statistics.fmean(values) - statistics.fmean(others)
    one, two = (statistics.variance(side) / len(side) for side in (values, others))
    if one + two == 0:
        return difference, difference, difference
    freedom = (one + two) ** 2 / (one**2 / (len(values) - 1) + two**2 / (len(others) - 1))
    half = float(t.ppf(0.975, freedom)) * math.sqrt(one + two)
    return difference, difference - half, difference + half
