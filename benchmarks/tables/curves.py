"""Draw curves over time as an SVG that both light and dark pages can show, the same bytes for the same values."""

from __future__ import annotations

import math

SIZE, MARGIN = (670, 320), (56, 16, 48, 180)
"""Width and height; margins at the left, top, bottom and right."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444")
"""Told apart with any colour vision (Okabe and Ito 2008); further lines repeat them, dashed."""


def draw(lines: dict[str, list[list[float]]], x_title: str, y_title: str) -> str:
    """Return one line per name through its (x, y) points, x on a logarithmic axis."""
    points = [point for curve in lines.values() for point in curve if point[0] > 0]
    low_x, high_x = (math.log10(pick(x for x, _ in points)) for pick in (min, max))
    low_y = math.floor(min(y for _, y in points) / 10) * 10
    high_y = math.ceil(max(y for _, y in points) / 10) * 10
    left, top, bottom, right = MARGIN
    width, height = SIZE[0] - left - right, SIZE[1] - top - bottom

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - low_x) / max(high_x - low_x, 1e-9)
        return left + width * share, top + height * (1 - (y - low_y) / max(high_y - low_y, 1e-9))

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE[0]} {SIZE[1]}" font-family="sans-serif" '
             'font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>']  # fmt: skip
    for y in range(low_y, high_y + 1, 10):
        height_of = place(10**low_x, y)[1]
        parts.append(f'<path d="M{left} {height_of:.1f}h{width}" stroke="#dddddd"/>')
        parts.append(f'<text x="{left - 8}" y="{height_of + 4:.1f}" text-anchor="end" fill="#444444">{y}</text>')
    for x in ticks(10**low_x, 10**high_x):
        across = place(x, low_y)[0]
        parts.append(f'<path d="M{across:.1f} {top + height}v5" stroke="#444444"/>')
        parts.append(f'<text x="{across:.1f}" y="{top + height + 18}" text-anchor="middle" fill="#444444">{x:g}</text>')
    for number, (name, curve) in enumerate(lines.items()):
        stroke = f'stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="2"'
        stroke += ' stroke-dasharray="5 3"' if number >= len(COLOURS) else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve if point[0] > 0))
        parts.append(f'<polyline points="{path}" fill="none" {stroke}/>')
        level = top + 14 + 20 * number
        parts.append(f'<path d="M{left + width + 12} {level - 4}h18" {stroke}/>')
        parts.append(f'<text x="{left + width + 36}" y="{level}" fill="#222222">{name}</text>')
    middle = left + width / 2
    parts.append(f'<text x="{middle:.0f}" y="{SIZE[1] - 8}" text-anchor="middle" fill="#222222">{x_title}</text>')
    parts.append(f'<text transform="translate(14 {top + height / 2:.0f}) rotate(-90)" text-anchor="middle" '
                 f'fill="#222222">{y_title}</text></svg>\n')  # fmt: skip
    return "\n".join(parts)


def ticks(low: float, high: float) -> list[float]:
    """Return the values 1, 2 and 5 times powers of ten between two values."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for power in powers for step in (1, 2, 5) if low <= (value := step * 10.0**power) <= high]
