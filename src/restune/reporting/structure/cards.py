"""Lay out one block, or the layers of stem and head, as a card: its branch from left to right, its shortcut above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from restune.networks.structure import Fork, Layer
from restune.reporting.structure.fonts import text_width
from restune.reporting.structure.geometry import Box, Edge, Label, Point
from restune.reporting.structure.words import Say, layer_lines, layer_title

STRIPE, GAP, DOT, SUM, PAD = 8.0, 16.0, 8.0, 20.0, 12.0
TEXT, SMALL, LINE = 14.0, 12.5, 17.0
HEADER, ARC_LABEL, ARC, ARC_GAP = 22.0, 18.0, 24.0, 10.0
STRIPES = ("norm", "activation")


@dataclass
class Pen:
    """Collects the shapes of a panel."""

    boxes: list[Box] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    def box(
        self, name: str, x: float, y: float, width: float, height: float, kind: str, inside: str = "", title: str = ""
    ) -> Box:
        """Add a box and return it."""
        box = Box(name=name, x=x, y=y, width=width, height=height, kind=kind, inside=inside, title=title)
        self.boxes.append(box)
        return box

    def label(
        self,
        text: str,
        x: float,
        y: float,
        size: float,
        kind: str = "text",
        *,
        anchor: str = "start",
        bold: bool = False,
        inside: str = "",
    ) -> None:
        """Add a label."""
        self.labels.append(Label(text=text, x=x, y=y, size=size, kind=kind, anchor=anchor, bold=bold, inside=inside))

    def edge(self, points: Sequence[Point], source: str, target: str, kind: str = "flow", arrow: bool = True) -> None:
        """Add an edge."""
        self.edges.append(Edge(points=tuple(points), source=source, target=target, kind=kind, arrow=arrow))


@dataclass(frozen=True)
class Chip:
    """A layer's box, with the norms and activations next to it as stripes."""

    lines: tuple[str, ...]
    kind: str
    titles: tuple[str, ...]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def body(self) -> float:
        """Width of the box without its stripes."""
        if not self.lines:
            return 0.0
        return max(34.0, max(text_width(line, TEXT) for line in self.lines) + 12)

    @property
    def width(self) -> float:
        """Width with stripes."""
        return self.body + STRIPE * (len(self.before) + len(self.after))


def chips_of(layers: Sequence[Layer], say: Say, *, in_one_line: bool = False) -> list[Chip]:
    """Group layers to chips: a norm or activation joins the layer before it, or else the one after it."""
    chips: list[Chip] = []
    waiting: list[Layer] = []
    for layer in layers:
        if layer.kind not in STRIPES:
            lines = layer_lines(layer, say)
            lines = [", ".join(lines)] if in_one_line else lines
            titles = tuple(layer_title(each, say) for each in (*waiting, layer))
            chips.append(Chip(tuple(lines), layer.kind, titles, before=tuple(each.kind for each in waiting)))
            waiting = []
        elif chips:
            last = chips[-1]
            chips[-1] = Chip(
                *(
                    last.lines,
                    last.kind,
                    (*last.titles, layer_title(layer, say)),
                    last.before,
                    (*last.after, layer.kind),
                )
            )
        else:
            waiting.append(layer)
    if waiting:
        titles = tuple(layer_title(layer, say) for layer in waiting)
        chips.append(Chip((), "stripes", titles, before=tuple(layer.kind for layer in waiting)))
    return chips


@dataclass(frozen=True)
class Row:
    """A straight sequence of chips."""

    chips: tuple[Chip, ...]

    @property
    def width(self) -> float:
        """From the first chip's left to the last one's right side."""
        return sum(chip.width for chip in self.chips) + GAP * (len(self.chips) - 1) if self.chips else 0.0


@dataclass(frozen=True)
class Loop:
    """A branch, and the shortcut that goes around it."""

    branch: Row
    around: Row
    kind: str
    text: str
    hover: str

    @property
    def span(self) -> float:
        """From the middle of the dot where the paths part to the middle of the sum."""
        branch = DOT / 2 + GAP + self.branch.width + GAP + SUM / 2
        around = self.around.width + 2 * GAP if self.around.chips else 0.0
        return max(branch, around, text_width(self.text, SMALL) + 2 * GAP)

    @property
    def width(self) -> float:
        """With the dot and the sum."""
        return DOT / 2 + self.span + SUM / 2


@dataclass(frozen=True)
class Card:
    """What a card contains, measured but not yet placed."""

    title: str
    badge: str
    pieces: tuple[Row | Loop, ...]
    hover: str
    kind: str = "card"

    @property
    def content(self) -> float:
        """Width of the pieces."""
        return sum(piece.width for piece in self.pieces) + GAP * (len(self.pieces) - 1)

    @property
    def width(self) -> float:
        """Width with padding; at least that of the header."""
        header = text_width(self.title, SMALL) + (14 + text_width(self.badge, TEXT, bold=True) if self.badge else 0)
        return 2 * PAD + max(self.content, header)

    @property
    def has_loop(self) -> bool:
        """Whether a shortcut is drawn."""
        return any(isinstance(piece, Loop) for piece in self.pieces)

    @property
    def lines(self) -> int:
        """Most lines of text in a chip."""
        rows = [piece.branch if isinstance(piece, Loop) else piece for piece in self.pieces]
        return max((len(chip.lines) for row in rows for chip in row.chips), default=1)


def card_of(items: Sequence[Layer | Fork], title: str, badge: str, hover: str, say: Say) -> Card:
    """Measure a card for these layers."""
    pieces: list[Row | Loop] = []
    straight: list[Layer] = []
    for item in (*items, None):
        if isinstance(item, Layer):
            straight.append(item)
            continue
        if straight:
            pieces.append(Row(tuple(chips_of(straight, say))))
            straight = []
        if isinstance(item, Fork):
            around = Row(tuple(chips_of(item.shortcut, say, in_one_line=True)))
            pieces.append(
                Loop(Row(tuple(chips_of(item.branch, say))), around, item.kind, say(item.kind), say("hover_sum"))
            )
    return Card(title, badge, tuple(pieces), hover)


@dataclass(frozen=True)
class Heights:
    """Heights common to cards next to each other: of the header, of the space for shortcuts, and of chips."""

    header: float
    above: float
    chip: float

    @property
    def card(self) -> float:
        """Height of a card."""
        return self.header + 6 + self.above + self.chip + PAD


def heights(cards: Sequence[Card]) -> Heights:
    """Return the heights that suit all of these cards."""
    return Heights(
        HEADER if any(card.title or card.badge for card in cards) else 6.0,
        ARC_LABEL + ARC + ARC_GAP if any(card.has_loop for card in cards) else 0.0,
        max((LINE * card.lines + 10 for card in cards), default=0.0),
    )


@dataclass(frozen=True)
class Placed:
    """Where a placed card is entered and left."""

    first: str
    entry: Point
    last: str
    leaving: Point


def place_card(pen: Pen, card: Card, name: str, x: float, y: float, sizes: Heights) -> Placed:
    """Draw a card with its left upper corner at (x, y)."""
    pen.box(name, x, y, card.width, sizes.card, card.kind, title=card.hover)
    if card.title:
        pen.label(card.title, x + PAD, y + HEADER - 5, SMALL, "muted", inside=name)
    if card.badge:
        right = x + card.width - PAD
        pen.label(card.badge, right, y + HEADER - 5, TEXT, "badge", anchor="end", bold=True, inside=name)
    chip = sizes.chip
    middle = y + sizes.header + 6 + sizes.above + chip / 2
    at = x + (card.width - card.content) / 2
    ends: list[tuple[Box, Box]] = []
    for number, piece in enumerate(card.pieces):
        part = f"{name}.{number}"
        if isinstance(piece, Loop):
            ends.append(_place_loop(pen, piece, part, at, middle, chip, name))
        elif piece.chips:
            ends.append(_place_row(pen, piece, part, at, middle, chip, name))
        at += piece.width + GAP
    for (_, before), (after, _) in pairwise(ends):
        connect(pen, before, after)
    first, last = ends[0][0], ends[-1][1]
    return Placed(first.name, (first.x, first.middle[1]), last.name, (last.x + last.width, last.middle[1]))


def connect(pen: Pen, before: Box, after: Box, kind: str = "flow") -> None:
    """Draw a straight edge between neighbours."""
    y = after.middle[1]
    pen.edge([(before.x + before.width, y), (after.x, y)], before.name, after.name, kind)


def _place_row(
    pen: Pen, row: Row, name: str, x: float, middle: float, height: float, inside: str, kind: str = "flow"
) -> tuple[Box, Box]:
    boxes: list[Box] = []
    for number, chip in enumerate(row.chips):
        boxes.append(_place_chip(pen, chip, f"{name}.{number}", x, middle, height, inside))
        x += chip.width + GAP
    for before, after in pairwise(boxes):
        connect(pen, before, after, kind)
    return boxes[0], boxes[-1]


def _place_chip(pen: Pen, chip: Chip, name: str, x: float, middle: float, height: float, inside: str) -> Box:
    top = middle - height / 2
    box = pen.box(name, x, top, chip.width, height, f"chip {chip.kind}", inside, "\n".join(chip.titles))
    at = x
    for number, kind in enumerate((*chip.before, *chip.after)):
        if number == len(chip.before):
            at += chip.body
        pen.box(f"{name}.stripe{number}", at, top, STRIPE, height, f"stripe {kind}", name)
        at += STRIPE
    centre = x + STRIPE * len(chip.before) + chip.body / 2
    baseline = middle - LINE * (len(chip.lines) - 1) / 2 + TEXT * 0.36
    for number, line in enumerate(chip.lines):
        style = "on-chip" if number == 0 else "on-chip second"
        pen.label(line, centre, baseline + LINE * number, TEXT, style, anchor="middle", inside=name)
    return box


def _place_loop(
    pen: Pen, loop: Loop, name: str, x: float, middle: float, height: float, inside: str
) -> tuple[Box, Box]:
    dot = pen.box(f"{name}.dot", x, middle - DOT / 2, DOT, DOT, "dot", inside)
    total_x = x + DOT / 2 + loop.span - SUM / 2
    total = pen.box(f"{name}.sum", total_x, middle - SUM / 2, SUM, SUM, "sum", inside, loop.hover)
    pen.label(
        "+", total_x + SUM / 2, middle + TEXT * 0.36, TEXT, "on-sum", anchor="middle", bold=True, inside=total.name
    )
    if loop.branch.chips:
        room = total_x - (x + DOT) - loop.branch.width
        first, last = _place_row(pen, loop.branch, f"{name}.branch", x + DOT + room / 2, middle, height, inside)
        connect(pen, dot, first)
        connect(pen, last, total)
    else:
        connect(pen, dot, total)
    _place_shortcut(pen, loop, name, dot, total, middle - height / 2 - ARC_GAP - ARC / 2, inside)
    return dot, total


def _place_shortcut(pen: Pen, loop: Loop, name: str, dot: Box, total: Box, level: float, inside: str) -> None:
    """Draw the path from the dot up, across and down into the sum, with the shortcut's own layers on it."""
    start, end = (dot.middle[0], dot.y), (total.middle[0], total.y)
    across = (start[0] + end[0]) / 2
    label_y = level - ARC / 2 - 6
    pen.label(loop.text, across, label_y, SMALL, f"shortcut {loop.kind}", anchor="middle", inside=inside)
    if not loop.around.chips:
        pen.edge([start, (start[0], level), (end[0], level), end], dot.name, total.name, "shortcut")
        return
    left = across - loop.around.width / 2
    first, last = _place_row(pen, loop.around, f"{name}.around", left, level, ARC, inside, "shortcut")
    pen.edge([start, (start[0], level), (first.x, level)], dot.name, first.name, "shortcut")
    pen.edge([(last.x + last.width, level), (end[0], level), end], last.name, total.name, "shortcut")
