"""Colours of heat: orange for a class, violet against it, which colour-blind readers can tell apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOR, AGAINST = (230, 97, 0), (93, 58, 155)
"""They differ in lightness, too, and stay apart in every form of colour blindness."""


def scaled(heat: NDArray[np.float32], most: float | None = None) -> NDArray[np.float32]:
    """Divide by the largest magnitude, or by `most`, so that values lie in -1 to 1; NaN stays."""
    finite = np.abs(heat[np.isfinite(heat)])
    if most is None:
        most = float(finite.max()) if finite.size else 0.0
    return np.asarray(heat / most if most > 0 else heat * 0, np.float32)


def css(value: float, most: float = 0.6) -> str:
    """Return the colour of a value from -1 to 1, as transparent as the value is small.

    >>> css(1.0), css(-0.5)
    ('rgb(230 97 0 / 0.60)', 'rgb(93 58 155 / 0.30)')
    """
    red, green, blue = FOR if value >= 0 else AGAINST
    return f"rgb({red} {green} {blue} / {most * min(1.0, abs(value)):.2f})"
