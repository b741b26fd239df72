"""Heat over a series: its channels as curves, the map as bands of colour and as bars below them."""

from __future__ import annotations

from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from restune.evaluation.attribution.colours import css, scaled

_WIDTH, _MARGIN, _LEFT = 760, 10, 58
_MOST_CHANNELS, _MOST_POINTS, _MOST_BANDS = 12, 800, 120
_BARS = 60
_LEVELS = 20


def series_svg(values: NDArray[np.float32], heat: NDArray[np.float32], alt: str, channel: str, map_name: str) -> str:
    """Draw a series with its map as an SVG that follows the page's text colour.

    The first channels of many are drawn, and a long series by the range of its values at each point.

    Args:
        values: ``[C, L]``.
        heat: ``[L]``, NaN where the network saw nothing.
        alt: what the picture shows, in words.
        channel: the label of a channel, with a field ``{n}``.
        map_name: the label of the bars.
    """
    drawn = values[:_MOST_CHANNELS]
    row = 150 if len(drawn) == 1 else 80 if len(drawn) < 5 else 50
    height = row * len(drawn) + _BARS + 2 * _MARGIN + 22
    bands = _binned(scaled(heat), _MOST_BANDS)
    parts = [
        f'<svg class="series" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(alt)}" font-family="sans-serif" font-size="12" fill="currentColor" '
        'shape-rendering="crispEdges">'
    ]
    parts += _bands(bands, _MARGIN, row * len(drawn))
    for number, one in enumerate(drawn):
        parts.append(_curve(one, _MARGIN + number * row, row))
        parts.append(_label(channel.format(n=number + 1), _MARGIN + number * row + row / 2))
    top = row * len(drawn) + 2 * _MARGIN
    parts += _bars(bands, top)
    parts.append(_label(map_name, top + _BARS / 2))
    parts += _ticks(values.shape[1], top + _BARS + 14)
    return "".join([*parts, "</svg>"])


def standalone(svg: str) -> str:
    """Return the drawing as a file of its own, readable on light and on dark backgrounds."""
    style = (
        "<style>svg{color:#1c2430;background:#fff}@media(prefers-color-scheme:dark){svg{color:#e4e9f0;background:#14181f}}"
        "</style>"
    )
    return svg.replace(">", f">{style}", 1)


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _MARGIN)


def _bands(bands: NDArray[np.float32], top: float, height: float) -> list[str]:
    """Draw the map behind the curves: one path per shade."""
    width = (_x(1) - _x(0)) / len(bands)
    shades: dict[float, list[str]] = {}
    for place, value in enumerate(bands.tolist()):
        level = round(value * _LEVELS) / _LEVELS if np.isfinite(value) else 0.0
        if level:
            shades.setdefault(level, []).append(_box(_x(place / len(bands)), top, width, height))
    return [f'<path d="{"".join(boxes)}" fill="{css(level)}"/>' for level, boxes in sorted(shades.items())]


def _bars(bands: NDArray[np.float32], top: float) -> list[str]:
    """Draw the map's values upwards for the class and downwards against it."""
    width, middle = (_x(1) - _x(0)) / len(bands), top + _BARS / 2
    parts = [f'<path d="M{_x(0)} {middle}H{_x(1)}" stroke="currentColor" stroke-width="0.7"/>']
    sizes = np.nan_to_num(bands) * (_BARS / 2)
    for sign in (1, -1):
        boxes = [
            _box(_x(place / len(bands)), middle - size if sign > 0 else middle, width, abs(size))
            for place, size in enumerate(sizes.tolist())
            if size * sign > 0
        ]
        parts.append(f'<path d="{"".join(boxes)}" fill="{css(sign, 1.0)}"/>')
    return parts


def _box(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:.1f} {y:.1f}h{width:.2f}v{height:.1f}h-{width:.2f}z"


def _curve(values: NDArray[np.float32], top: float, height: float) -> str:
    low, high = float(values.min()), float(values.max())
    span = high - low or 1.0
    places, shown = _thinned(values)
    points = " ".join(
        f"{_x((place + 0.5) / len(values)):.1f},{top + 4 + (height - 8) * (high - value) / span:.1f}"
        for place, value in zip(places.tolist(), shown.tolist(), strict=True)
    )
    return (
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.3" stroke-linejoin="round" '
        'shape-rendering="auto"/>'
    )


def _thinned(values: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the positions to draw: all, or the smallest and largest of each of many groups."""
    if len(values) <= _MOST_POINTS:
        return np.arange(len(values)), values
    edges = np.linspace(0, len(values), _MOST_POINTS // 2 + 1).astype(int)
    places = [
        place
        for start, end in pairwise(edges.tolist())
        for place in sorted({start + int(values[start:end].argmin()), start + int(values[start:end].argmax())})
    ]
    return np.array(places), values[places]


def _binned(values: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Return the value of largest magnitude in each of at most `most` equal parts."""
    if len(values) <= most:
        return values
    edges = np.linspace(0, len(values), most + 1).astype(int)
    strengths = np.nan_to_num(np.abs(values), nan=-1.0)
    places = [start + int(strengths[start:end].argmax()) for start, end in pairwise(edges.tolist())]
    return values[places]


def _label(text: str, y: float) -> str:
    return f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{escape(text)}</text>'


def _ticks(length: int, y: float) -> list[str]:
    """Label the first, the middle and the last position."""
    places = sorted({0, (length - 1) // 2, length - 1})
    anchors = {0: "start", length - 1: "end"}
    return [
        f'<text x="{_x((place + 0.5) / length):.1f}" y="{y}" text-anchor="{anchors.get(place, "middle")}">'
        f"{place:,}</text>"
        for place in places
    ]
