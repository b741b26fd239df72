"""Means with 95% intervals over a few seeds."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from restune.core.language import Text
from restune.reporting.plots import Series


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with the ends of its 95% interval (Student's t)."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return readable(self.value) + (f" ({readable(self.low)} – {readable(self.high)})" if self.n > 1 else "")

    def percent(self) -> str:
        """Return the mean and interval of a share, in percent."""
        return f"{self.value:.1%}" + (f" ({self.low:.1%} – {self.high:.1%})" if self.n > 1 else "")

    def signed(self) -> str:
        """Return the mean and interval of a difference, with signs."""
        return f"{self.value:+.3g}" + (f" ({self.low:+.3g} – {self.high:+.3g})" if self.n > 1 else "")


def readable(value: float) -> str:
    """Return a number to three digits, with a power of ten only where it is very large or very small.

    >>> readable(7268.5), readable(0.01868), readable(1.4e-60)
    ('7,270', '0.0187', '1.4×10⁻⁶⁰')
    """
    short = f"{value:.3g}"
    if value == 0 or not math.isfinite(value) or _SMALLEST <= abs(value) < _LARGEST:
        return f"{float(short):,.10g}"
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}×10{str(int(power)).translate(_SUPERSCRIPTS)}"


_SMALLEST, _LARGEST = 1e-4, 1e6
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def mean(values: Sequence[float], least: float = -math.inf, most: float = math.inf) -> Mean:
    """Return the mean of values from independent seeds; the interval of a single value is the value.

    Args:
        least, most: ends of the range of possible values, where the interval is cut.

    >>> mean([1.0, 2.0, 3.0]).value
    2.0
    """
    count = len(values)
    centre = math.fsum(values) / count
    if count < 2:
        return Mean(centre, centre, centre, count)
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    return Mean(centre, max(least, centre - half), min(most, centre + half), count)


def mean_share(values: Sequence[float]) -> Mean:
    """Return the mean of accuracies or other shares, whose interval ends at 0 and 1.

    >>> mean_share([0.9, 1.0]).high
    1.0
    """
    return mean(values, 0.0, 1.0)


def mean_loss(values: Sequence[float]) -> Mean:
    """Return the mean of losses, whose interval ends at 0.

    >>> mean_loss([0.1, 1.0]).low
    0.0
    """
    return mean(values, 0.0)


def geometric_mean(values: Sequence[float]) -> Mean:
    """Return the geometric mean of positive values, with its interval: for values that span orders of magnitude.

    >>> round(geometric_mean([1.0, 100.0]).value, 6)
    10.0
    """
    of_logs = mean([math.log(max(value, sys.float_info.min)) for value in values])
    low, high = (math.exp(max(-_MOST_LOG, min(_MOST_LOG, end))) for end in (of_logs.low, of_logs.high))
    return Mean(math.exp(of_logs.value), low, high, of_logs.n)


_MOST_LOG = 700.0
"""The logarithm of values near the end of the range of doubles."""


def band(
    label: Text, x: Sequence[float], means: Sequence[Mean], *, is_dashed: bool = False, at: int | None = None
) -> Series:
    """Return means over x as a line with its interval."""
    low, high = [value.low for value in means], [value.high for value in means]
    return Series(label, x, [value.value for value in means], low, high, is_dashed=is_dashed, at=at)
