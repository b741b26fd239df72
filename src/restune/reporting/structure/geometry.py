"""Shapes of a drawing: boxes, labels and edges with coordinates in pixels; y grows downwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from restune.reporting.structure.fonts import ASCENT, DESCENT, text_width

Point = tuple[float, float]
Bounds = tuple[float, float, float, float]

TOP, BOTTOM = "top", "bottom"
"""Names of a panel's ports, where edges from and to the neighbouring panels cross its border."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle. `kind` is its style; `inside` names the box that contains it; `title` is the text on hovering;
    `depth` is the drawn thickness of a feature map."""

    name: str
    x: float
    y: float
    width: float
    height: float
    kind: str
    inside: str = ""
    title: str = ""
    depth: float = 0.0

    @property
    def bounds(self) -> Bounds:
        """Left, top, right, bottom."""
        return self.x, self.y, self.x + self.width, self.y + self.height

    @property
    def middle(self) -> Point:
        """Its centre."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True, kw_only=True)
class Label:
    """A line of text at a baseline; `inside` names the box that it must fit into."""

    text: str
    x: float
    y: float
    size: float
    kind: str = "text"
    anchor: str = "start"
    bold: bool = False
    inside: str = ""

    @property
    def bounds(self) -> Bounds:
        """Left, top, right, bottom."""
        width = text_width(self.text, self.size, bold=self.bold)
        left = self.x - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return left, self.y - ASCENT * self.size, left + width, self.y + DESCENT * self.size


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A path of horizontal and vertical lines from box `source` to box `target`; either may be a port of the panel."""

    points: tuple[Point, ...]
    source: str
    target: str
    kind: str = "flow"
    arrow: bool = True


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A panel, or a figure of several."""

    width: float
    height: float
    boxes: tuple[Box, ...] = ()
    labels: tuple[Label, ...] = ()
    edges: tuple[Edge, ...] = ()

    def moved(self, dx: float, dy: float, prefix: str = "") -> Drawing:
        """Return a copy moved by (dx, dy), with `prefix` before the names of boxes and ports."""

        def named(name: str) -> str:
            return prefix + name if name else ""

        return replace(
            self,
            boxes=tuple(
                replace(box, x=box.x + dx, y=box.y + dy, name=named(box.name), inside=named(box.inside))
                for box in self.boxes
            ),
            labels=tuple(
                replace(label, x=label.x + dx, y=label.y + dy, inside=named(label.inside)) for label in self.labels
            ),
            edges=tuple(
                replace(
                    edge,
                    points=tuple((x + dx, y + dy) for x, y in edge.points),
                    source=named(edge.source),
                    target=named(edge.target),
                )
                for edge in self.edges
            ),
        )

    def over(self, other: Drawing, *, width: float, height: float) -> Drawing:
        """Return both drawings on one canvas of this size."""
        return Drawing(
            width=width,
            height=height,
            boxes=(*other.boxes, *self.boxes),
            labels=(*other.labels, *self.labels),
            edges=(*other.edges, *self.edges),
        )


def stacked(panels: Iterable[Drawing]) -> Drawing:
    """Put panels below each other; the ports of neighbours meet."""
    panels = list(panels)
    figure = Drawing(width=max(panel.width for panel in panels), height=0)
    for number, panel in enumerate(panels):
        moved = panel.moved(0, figure.height, f"{number}.")
        figure = moved.over(figure, width=figure.width, height=figure.height + panel.height)
    return figure


def beside(figures: Iterable[Drawing], gap: float) -> Drawing:
    """Put figures next to each other."""
    whole = Drawing(width=0, height=0)
    for number, figure in enumerate(figures):
        left = whole.width + (gap if number else 0)
        whole = figure.moved(left, 0, f"{number}/").over(
            whole, width=left + figure.width, height=max(whole.height, figure.height)
        )
    return whole
