"""Heat over a text: its characters, shaded."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from restune.evaluation.attribution.colours import css, scaled

_MOST_CHARACTERS = 20_000
_LEVELS = 20
_STRONG = 0.5


def shaded(text: str, heat: NDArray[np.float32], most: int = _MOST_CHARACTERS) -> Markup:
    """Return a text as HTML, its characters shaded by their values; strong ones are underlined, too.

    Args:
        text: the text.
        heat: one value per character; NaN where the network saw nothing.
        most: characters to show; a longer text ends in "...".

    >>> import numpy as np
    >>> print(shaded("a<", np.array([1.0, np.nan], np.float32)))
    <mark class="heat strong" style="background: rgb(230 97 0 / 0.60)">a</mark>&lt;
    """
    values = np.round(scaled(heat)[:most] * _LEVELS) / _LEVELS
    known = [None if np.isnan(value) or value == 0 else float(value) for value in values]
    parts: list[Markup] = []
    at = 0
    for value, group in groupby(known):
        length = len(list(group))
        piece = escape(text[at : at + length])
        at += length
        if value is None:
            parts.append(piece)
        else:
            strong = " strong" if value >= _STRONG else " against" if value <= -_STRONG else ""
            shade = Markup('<mark class="heat{}" style="background: {}">{}</mark>')
            parts.append(shade.format(strong, css(value), piece))
    return Markup("").join([*parts, Markup("...")] if len(text) > most else parts)
