"""Vector plots for pages: drawn by matplotlib as SVG whose colours are the page's CSS variables."""

from __future__ import annotations

import io
import math
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from restune.core.language import Text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""One per series, so that no meaning is in colour alone."""


@dataclass(frozen=True)
class Series:
    """A line with its interval.

    Args:
        x, y: the points.
        low, high: ends of the interval at each point; empty: none is drawn.
        is_dashed: a second distinction besides the colour.
        at: the slider's position where the panel has one and this series belongs to a single position.
    """

    label: Text
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    is_dashed: bool = False
    at: int | None = None


@dataclass(frozen=True)
class Lines:
    """A panel of lines.

    Args:
        slider: what the positions of its slider are called; empty: no slider.
        is_bars: vertical bars in place of lines, one group per x.
        names: of the places on the x axis, where they are not numbers: one per x of the first series.
    """

    title: Text
    x: Text
    y: Text
    series: Sequence[Series]
    x_log: bool = False
    y_log: bool = False
    slider: Text | None = None
    is_bars: bool = False
    names: Sequence[Text] = ()


@dataclass(frozen=True)
class Contour:
    """A panel of contour lines of `values[row][column]` over `y[row]`, `x[column]`, at shared `levels`."""

    title: Text
    x: Sequence[float]
    y: Sequence[float]
    values: Sequence[Sequence[float]]
    levels: Sequence[float]
    labels: tuple[Text, Text] = field(
        default_factory=lambda: (Text("direction 1", "方向 1"), Text("direction 2", "方向 2"))
    )


Panel = Lines | Contour

_PLACEHOLDERS = {"#010101": "var(--ink)", "#020202": "var(--grid)", "#030303": "var(--paper)"}
_SERIES = tuple(f"#0a0a{number:02x}" for number in range(8))


def panel_svg(panel: Panel, language: str, *, at: int | None = None) -> str:
    """Draw a panel as an SVG element; `at` chooses the slider's position."""
    figure = _figure()
    _draw(figure.subplots(), panel, language, at)
    return figure_svg(figure, described(panel, language, at))


def scatter_svg(
    x_values: Sequence[float], y_values: Sequence[float], *, title: str, x: str, y: str, description: str
) -> str:
    """Draw points, and the line on which both values are equal, as an SVG element."""
    figure = _figure()
    axes = figure.subplots()
    _style(axes)
    ends = [min(*x_values, *y_values), max(*x_values, *y_values)]
    axes.plot(ends, ends, color="#020202", linewidth=1.2)
    few = len(x_values) <= 300
    axes.plot(x_values, y_values, "o", color=_SERIES[0], markersize=4 if few else 2.5, alpha=0.7 if few else 0.4)
    axes.set(xlabel=x, ylabel=y, title=title)
    return figure_svg(figure, description)


def row_svg(panels: Sequence[Panel], language: str) -> str:
    """Draw panels side by side as one SVG element, for a picture outside a page."""
    figure = _figure(columns=len(panels))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel, language, None)
    return figure_svg(figure, "; ".join(described(panel, language) for panel in panels))


def described(panel: Panel, language: str, at: int | None = None) -> str:
    """Describe a panel in words, for those who cannot see it: its title, and where each of its lines begins and ends.

    >>> loss = Series(Text("training", "训练"), [1, 2], [0.9, 0.25])
    >>> described(Lines(Text("loss", "损失"), Text("epoch", "轮"), Text("loss", "损失"), [loss]), "en")
    'loss: training from 0.9 to 0.25'
    """
    title = panel.title.of(language)
    if isinstance(panel, Contour):
        return title
    shown = (series for series in panel.series if len(series.y) and at in (None, series.at or at))
    lines = [_SPAN.of(language, label=one.label.of(language), first=one.y[0], last=one.y[-1]) for one in shown]
    return f"{title}: {_BETWEEN.of(language).join(lines)}"


_SPAN = Text("{label} from {first:.3g} to {last:.3g}", "{label}从 {first:.3g} 到 {last:.3g}")
_BETWEEN = Text("; ", "；")


def _draw(axes: Axes, panel: Panel, language: str, at: int | None) -> None:
    if isinstance(panel, Contour):
        _draw_contour(axes, panel, language)
    elif panel.is_bars:
        _draw_bars(axes, panel, language)
    else:
        _draw_lines(axes, panel, language, at)
    axes.set_title(panel.title.of(language))


def positions(panel: Panel) -> list[int]:
    """Return the positions of a panel's slider, in order; none where it has no slider."""
    if isinstance(panel, Contour) or panel.slider is None:
        return []
    return sorted({series.at for series in panel.series if series.at is not None})


def figure_svg(figure: Figure, label: str) -> str:
    """Return a figure as an SVG element without fixed colours, with text as text; `label` describes it in words."""
    import matplotlib as mpl

    buffer = io.StringIO()
    salt = f"{_figure.__name__}{next(_counter)}"
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # text stays text: the page's fonts have Chinese
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    view_box = re.search(r'viewBox="([^"]+)"', text)
    assert view_box is not None
    opening = f'<svg class="plot" viewBox="{view_box[1]}" role="img" aria-label="{escape(label)}">'
    text = opening + text[text.index(">") + 1 :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    for number, placeholder in enumerate(_SERIES):
        text = text.replace(placeholder, f"var(--series-{number + 1})")
    for placeholder, name in _PLACEHOLDERS.items():
        text = text.replace(placeholder, name)
    used = set(re.findall(r"#([\w.-]+)", text))  # the others are numbered anew in each figure
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    return text.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")


class _Counter:
    """Numbers the figures of a process, so that element ids of one page differ."""

    def __init__(self) -> None:
        self.value = 0

    def __next__(self) -> int:
        self.value += 1
        return self.value


_counter = _Counter()


def _figure(columns: int = 1) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(4.8 * columns, 3.8), layout="constrained", facecolor="none")


def _style(axes: Axes) -> None:
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_edgecolor("#020202")
    axes.tick_params(colors="#010101", which="both")
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set_color("#010101")
    axes.grid(color="#020202", linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_lines(axes: Axes, panel: Lines, language: str, at: int | None) -> None:
    _style(axes)
    labels = list(dict.fromkeys(series.label for series in panel.series))
    for series in panel.series:
        if series.at is not None and at is not None and series.at != at:
            continue
        number = labels.index(series.label)
        colour = _SERIES[number % len(_SERIES)]
        few = len(series.x) <= 16
        axes.plot(
            series.x, series.y, color=colour, label=series.label.of(language),
            marker=MARKERS[number % len(MARKERS)] if few else None, markersize=5,
            linestyle="--" if series.is_dashed else "-",
        )  # fmt: skip
        if len(series.low):
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.18, linewidth=0)
    axes.set(xlabel=panel.x.of(language), ylabel=panel.y.of(language))
    axes.set_xscale("log" if panel.x_log else "linear")
    axes.set_yscale("log" if panel.y_log else "linear")
    _place_ticks(axes, panel)
    if panel.slider is not None:
        _fix_limits(axes, panel)
    _legend(axes)


_MOST_TICKS = 8
_APART = 0.1
"""Least distance of two ticks, as a share of the axis, at which their labels do not touch."""


def _place_ticks(axes: Axes, panel: Lines) -> None:
    """Put ticks at the points themselves where these are few and apart, else at whole numbers where all x are whole."""
    from matplotlib.ticker import MaxNLocator

    points = sorted({x for series in panel.series for x in series.x})
    if panel.x_log and len(points) <= _MOST_TICKS:
        axes.set_xticks(points, [f"{x:g}" for x in points])
        axes.minorticks_off()
    elif not panel.x_log and all(x == round(x) for x in points):
        span = points[-1] - points[0]
        if all(after - before >= _APART * span for before, after in pairwise(points)):
            axes.set_xticks(points)
            return
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _fix_limits(axes: Axes, panel: Lines) -> None:
    """Give every position of a slider the same axes."""
    values = [value for series in panel.series for value in (*series.y, *series.low, *series.high)]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low)
    axes.set_ylim((low * 0.8, high * 1.25) if panel.y_log else (low - margin, high + margin))


def _draw_bars(axes: Axes, panel: Lines, language: str) -> None:
    _style(axes)
    width = 0.8 / len(panel.series)
    for number, series in enumerate(panel.series):
        places = [x + (number - (len(panel.series) - 1) / 2) * width for x in series.x]
        errors: Any = None
        if len(series.low):
            errors = [
                [y - low for y, low in zip(series.y, series.low, strict=True)],
                [high - y for y, high in zip(series.y, series.high, strict=True)],
            ]
        axes.bar(
            places, series.y, width, color=_SERIES[number % len(_SERIES)], label=series.label.of(language),
            yerr=errors, ecolor="#010101", hatch=("", "//", "..", "xx")[number % 4], edgecolor="#030303",
        )  # fmt: skip
    axes.set(xlabel=panel.x.of(language), ylabel=panel.y.of(language))
    _place_ticks(axes, panel)
    if panel.names:
        axes.set_xticks(list(panel.series[0].x), [name.of(language) for name in panel.names])
    _legend(axes)


def _draw_contour(axes: Axes, panel: Contour, language: str) -> None:
    _style(axes)
    drawn = axes.contour(panel.x, panel.y, panel.values, levels=list(panel.levels), colors=_SERIES[0], linewidths=1.1)
    axes.clabel(drawn, fmt="%.3g", fontsize=8, colors="#010101")
    axes.plot([0], [0], marker="+", color="#010101", markersize=10)
    axes.set(xlabel=panel.labels[0].of(language), ylabel=panel.labels[1].of(language), aspect="equal")
    axes.grid(visible=False)


_LEGEND, _MARK, _MOST_COLUMNS = 60, 7, 4
"""Width of a legend, and of what stands before a label, in Latin characters."""
_UNKNOWN_WIDTH = 0.4
"""By how many ems a Chinese character is wider than the box that matplotlib measures where its fonts lack it."""


def _legend(axes: Axes) -> None:
    """Put the legend below the panel, where it covers no line."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        chinese = max(sum(unicodedata.east_asian_width(one) in "WF" for one in label) for label in labels)
        widest = max(map(len, labels)) + chinese
        columns = max(1, min(_MOST_COLUMNS, len(labels), _LEGEND // (widest + _MARK)))
        axes.figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            labelcolor="#010101",
            fontsize=9,
            columnspacing=2 + _UNKNOWN_WIDTH * chinese,
        )


def parallel_svg(axes_values: Sequence[tuple[str, Sequence[Any]]], label: str, *, falling: bool = False) -> str:
    """Draw parallel coordinates as an SVG element: one axis per setting, one line per trial, the score last.

    Args:
        axes_values: each axis's name and the trials' values: numbers, or words, which are spread evenly; the last axis
            has numbers.
        label: describes the picture in words.
        falling: whether low scores are good.

    The best tenth of the lines are thick.
    """
    figure = _figure(columns=2)
    axes = figure.subplots()
    _style(axes)
    heights = [_heights(values) for _, values in axes_values]
    scores = list(axes_values[-1][1])
    ranked = sorted(range(len(scores)), key=lambda row: scores[row], reverse=not falling)
    best = set(ranked[: max(1, len(ranked) // 10)])
    for row in reversed(ranked):
        line = [column[row] for column, _ in heights]
        thick = row in best
        axes.plot(
            range(len(line)), line, color=_SERIES[1 if thick else 0], linewidth=2.2 if thick else 0.8,
            alpha=1.0 if thick else 0.45,
        )  # fmt: skip
    for place, (_, marks) in enumerate(heights):
        axes.axvline(place, color="#010101", linewidth=0.8)
        for height, text in marks:
            axes.text(place + 0.02, height, text, fontsize=7, color="#010101", va="center")
    axes.set_xticks(range(len(heights)), [name for name, _ in axes_values], fontsize=8)
    axes.set_yticks([])
    axes.grid(visible=False)
    return figure_svg(figure, label)


def _heights(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return each value's height from 0 to 1, and the marks beside the axis; positive numbers over decades by log."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        words = sorted({str(value) for value in values})
        step = {word: number / max(1, len(words) - 1) for number, word in enumerate(words)}
        return [step[str(value)] for value in values], [(height, word) for word, height in step.items()]
    low, high = min(numbers), max(numbers)
    if low == high:
        return [0.5] * len(values), [(0.5, f"{low:.3g}")]
    if low > 0 and high / low > 20:
        span = math.log(high / low)
        return [math.log(value / low) / span for value in numbers], [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
    return [(value - low) / (high - low) for value in numbers], [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
