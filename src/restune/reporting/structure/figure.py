"""Lay out a network: a panel for its title, one per part and one for the legend, below each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from restune.networks.structure import Block, Description, Part, Shape, runs_of_equal_blocks
from restune.reporting.structure.cards import (
    GAP,
    SMALL,
    TEXT,
    Card,
    Pen,
    Placed,
    card_of,
    heights,
    place_card,
)
from restune.reporting.structure.fonts import shortened, text_width, wrapped
from restune.reporting.structure.geometry import BOTTOM, TOP, Box, Drawing
from restune.reporting.structure.words import (
    Say,
    block_title,
    figures,
    part_name,
    role,
    shape_text,
    total_line,
)

ZONE, RUN = 32.0, 21.0
"""Height of the passage above a panel's content, and of the line in it."""
RAIL = 14.0
FOLDS = ("grouped", "each", "folded")
"""Ways to draw a stage: runs of equal blocks once, each block, or as one box."""


@dataclass(frozen=True)
class Style:
    """Widths of a figure. `side` is the column of figures to the left of the blocks; 0 puts them above."""

    width: float
    side: float

    @property
    def left(self) -> float:
        """The line that leads down to the first block."""
        return self.side + 8

    @property
    def right(self) -> float:
        """The line that leads down to the next panel."""
        return self.width - 12

    @property
    def start(self) -> float:
        """Left side of the first card."""
        return self.left + RAIL

    @property
    def end(self) -> float:
        """Rightmost position of a card."""
        return self.right - RAIL


WIDE, NARROW = Style(930, 190), Style(400, 0)


@dataclass(frozen=True)
class Subject:
    """A network to draw, with its title; `beside` is the network it is compared with."""

    title: str
    description: Description
    beside: Description | None = None

    def inputs(self) -> list[Shape]:
        """Return the shape of each part's input."""
        parts = self.description.parts
        return [self.description.input_shape, *(part.shape for part in parts[:-1])]

    def described_before(self, part: Part) -> frozenset[str]:
        """Return the kinds of shortcuts of earlier stages, whose roles need no second sentence."""
        parts = self.description.parts
        earlier = parts[: parts.index(part)]
        return frozenset(block.shortcut for each in earlier for block in each.blocks)

    def counterpart(self, part: Part) -> Part | None:
        """Return the compared network's part of the same name."""
        others = self.beside.parts if self.beside else ()
        return next((other for other in others if other.name == part.name), None)


def style_for(subject: Subject, style: Style, say: Say) -> Style:
    """Widen a style until the network's widest block fits."""
    cards = [card for part in subject.description.parts for card in _cards(part, None, "grouped", say)]
    needed = max((card.width for card in cards), default=0.0)
    return replace(style, width=max(style.width, math.ceil(style.width - (style.end - style.start) + needed)))


def figure_panels(
    subject: Subject, style: Style, say: Say, *, fold: str = "grouped", least: Sequence[float] = ()
) -> list[Drawing]:
    """Return title, parts and notes as panels; `least` are minimum heights."""
    panels = [title_panel(subject, style, say, _at(least, 0))]
    for number, (part, before) in enumerate(zip(subject.description.parts, subject.inputs(), strict=True), start=1):
        panels.append(part_panel(subject, part, before, style, say, fold=fold, least=_at(least, number)))
    return panels


def _at(values: Sequence[float], position: int) -> float:
    return values[position] if position < len(values) else 0.0


def title_panel(subject: Subject, style: Style, say: Say, least: float = 0.0) -> Drawing:
    """Draw the network's name and totals, and its input."""
    pen, described = Pen(), subject.description
    pen.label(shortened(subject.title, style.width - 16, 22, bold=True), 8, 28, 22, "title", bold=True)
    texts = total_line(described, say)
    others = total_line(subject.beside, say) if subject.beside else texts
    x, y = 8.0, 52.0
    for number, (text, other) in enumerate(zip(texts, others, strict=True)):
        width = text_width(text, TEXT) + 18
        if number and x + width > style.width:
            x, y = 8.0, y + 20
        pen.label(text, x, y, TEXT, "text" if text == other else "text differs")
        x += width
    if described.sees_everything:
        for line in wrapped(say("gates_see_all"), style.width - 16, SMALL):
            y += 18
            pen.label(line, 8, y, SMALL, "muted")
    text = say("input", shape=shape_text(described.input_shape))
    width = text_width(text, TEXT, bold=True) + 24
    top = y - 14 if x < style.width - 2 - width and not described.sees_everything else y + 14
    height = max(top + 44, least)
    box = pen.box("input", style.width - 2 - width, top, width, 28, "pill")
    pen.label(text, box.middle[0], top + 19, TEXT, "on-pill", anchor="middle", bold=True, inside="input")
    pen.edge([(style.right, box.y + box.height), (style.right, height)], "input", BOTTOM, arrow=False)
    return _drawing(pen, style, height)


def part_panel(
    subject: Subject,
    part: Part,
    before: Shape,
    style: Style,
    say: Say,
    *,
    fold: str = "grouped",
    least: float = 0.0,
) -> Drawing:
    """Draw one part: its figures, its blocks, and its role."""
    pen = Pen()
    other = subject.counterpart(part)
    pen.label(_passing(part, before, say), style.right - 16, RUN - 6, SMALL, "muted", anchor="end")
    if fold == "folded" and part.blocks:
        return _folded(pen, part, style, say, least)
    glyph = feature_map(part, subject.description) if part.name != "head" else None
    bottom = _heading(pen, part, other, glyph, style, say)
    top = ZONE if style.side else bottom + 6
    cards = _cards(part, other if subject.beside else None, fold, say)
    low, last = _place_cards(pen, cards, top, style)
    low += 6
    for line in wrapped(
        role(part, before, say, subject.described_before(part)), style.right - 14 - style.start, SMALL + 0.5
    ):
        low += 18
        pen.label(line, style.start, low, SMALL + 0.5, "muted role")
    height = max(low + 14, bottom + 8 if style.side else 0.0)
    if part.name == "head":
        return _with_logits(pen, part, last, style, say, height, least)
    height = max(height, least)
    pen.edge([last.leaving, (style.right, last.leaving[1]), (style.right, height)], last.last, BOTTOM, arrow=False)
    return _drawing(pen, style, height)


def filler_panel(style: Style, height: float) -> Drawing:
    """Draw the empty place of a stage that only the compared network has."""
    pen = Pen()
    pen.edge([(style.right, 0), (style.right, height)], TOP, BOTTOM, arrow=False)
    return _drawing(pen, style, height)


def _passing(part: Part, before: Shape, say: Say) -> str:  # noqa: ARG001
    return shape_text(before)


def feature_map(part: Part, described: Description) -> tuple[float, float, float]:
    """Return width, height and depth of a part's output as a solid: sides shrink with the resolution, depth grows with
    the channels, both by their square roots."""
    widest = max(each.shape[0] for each in described.parts[:-1])
    size = max(described.input_shape[-1], part.shape[-1])
    side = 36 * math.sqrt(part.shape[-1] / size)
    is_flat = len(part.shape) == 2
    return max(side, 4), 7 if is_flat else max(side, 4), max(2, 18 * math.sqrt(part.shape[0] / widest))


def _heading(
    pen: Pen, part: Part, other: Part | None, glyph: tuple[float, float, float] | None, style: Style, say: Say
) -> float:
    """Draw name, output shape, feature map and figures; return where they end."""
    compared = other if other is not None else part
    marks = [
        "text differs" if one != two else "text"
        for one, two in zip(figures(part, say), figures(compared, say), strict=True)
    ]
    shape = shape_text(part.shape)
    shape_kind = "muted" if part.shape == compared.shape else "muted differs"
    x = 8.0 if style.side else style.start
    y = ZONE + 15
    pen.label(part_name(part, say), x, y, 16, "heading", bold=True)
    pen.label(shape, x, y + 20, TEXT, shape_kind)
    if glyph is not None:
        right = style.side - 4 if style.side else style.right - 4
        free = right - x - text_width(shape, TEXT) - 6
        shrink = max(0.1, min(1.0, free / (glyph[0] + glyph[2])))  # a long shape leaves less room beside it
        width, height, depth = (extent * shrink for extent in glyph)
        room = y + 24
        pen.boxes.append(
            Box(
                name="map", x=right - width - depth, y=room - height - depth * 0.6, width=width + depth,
                height=height + depth * 0.6, kind="map", depth=depth, title=shape,
            )
        )  # fmt: skip
    y += 24
    texts = figures(part, say)
    rows = [[text] for text in texts] if style.side else [texts[:2], texts[2:]]
    for row in rows:
        y, at = y + 17, x
        for text in row:
            pen.label(text, at, y, SMALL, marks[texts.index(text)])
            at += text_width(text, SMALL) + 16
    return y + 4


def _cards(part: Part, other: Part | None, fold: str, say: Say) -> list[Card]:
    """Measure a part's cards; those that the compared part does not have are marked."""
    if not part.blocks:
        return [card_of(part.layers, "", "", "", say)] if part.layers else []
    cards = _block_cards(part.blocks, fold, say)
    if other is None:
        return cards
    others = _block_cards(other.blocks, fold, say)
    same = [_drawn_alike(card, others[number]) if number < len(others) else False for number, card in enumerate(cards)]
    return [card if alike else replace(card, kind="card differs") for card, alike in zip(cards, same, strict=True)]


def _drawn_alike(one: Card, two: Card) -> bool:
    return (one.title, one.badge, one.pieces) == (two.title, two.badge, two.pieces)


def _block_cards(blocks: Sequence[Block], fold: str, say: Say) -> list[Card]:
    cards, number = [], 1
    runs = runs_of_equal_blocks(blocks) if fold == "grouped" else [[block] for block in blocks]
    for run in runs:
        many = len(run) > 1
        title = say("blocks", first=number, last=number + len(run) - 1) if many else say("block", n=number)
        if run[0].shortcut == "none":
            title += f" · {say('none')}"
        badge = say("times", n=len(run)) if many else ""
        cards.append(card_of(run[0].items, title, badge, block_title(run[0], say), say))
        number += len(run)
    return cards


def _place_cards(pen: Pen, cards: Sequence[Card], y: float, style: Style) -> tuple[float, Placed]:
    """Draw cards in lines, like words of a text; return the lower end and the last card."""
    lines: list[list[Card]] = [[]]
    at = style.start
    for card in cards:
        if lines[-1] and at + card.width > style.end:
            lines.append([])
            at = style.start
        lines[-1].append(card)
        at += card.width + GAP
    if not cards:
        return _passage(pen, y, style)
    last: Placed | None = None
    number = 0
    for line in lines:
        sizes = heights(line)
        x = style.start
        for position, card in enumerate(line):
            placed = place_card(pen, card, f"card{number}", x, y, sizes)
            number += 1
            _lead(pen, last, placed, y, style, starts_line=position == 0)
            last = placed
            x += card.width + GAP
        y += sizes.card + 18
    assert last is not None
    return y - 18, last


def _lead(pen: Pen, last: Placed | None, placed: Placed, y: float, style: Style, *, starts_line: bool) -> None:
    """Draw the edge into a card: from the panel above, from the line above, or from the card before."""
    entry = placed.entry
    if last is None:
        points = [(style.right, 0.0), (style.right, RUN), (style.left, RUN), (style.left, entry[1]), entry]
        pen.edge(points, TOP, placed.first)
    elif starts_line:
        level = y - 9
        path = [last.leaving, (style.right, last.leaving[1]), (style.right, level), (style.left, level)]
        pen.edge([*path, (style.left, entry[1]), entry], last.last, placed.first)
    else:
        pen.edge([last.leaving, entry], last.last, placed.first)


def _passage(pen: Pen, y: float, style: Style) -> tuple[float, Placed]:
    """Draw the place of a part without layers."""
    box = pen.box("nothing", style.start, y, 40, 24, "pill quiet")
    pen.label("–", box.middle[0], y + 17, TEXT, "muted", anchor="middle", inside="nothing")
    entry, leaving = (box.x, box.middle[1]), (box.x + box.width, box.middle[1])
    placed = Placed(box.name, entry, box.name, leaving)
    _lead(pen, None, placed, y, style, starts_line=True)
    return y + box.height, placed


def _with_logits(pen: Pen, part: Part, last: Placed, style: Style, say: Say, height: float, least: float) -> Drawing:
    text = say("logits", n=part.shape[0])
    width = text_width(text, TEXT, bold=True) + 24
    y = last.leaving[1]
    if last.leaving[0] + GAP + 12 + width <= style.width - 2:
        box = pen.box("logits", last.leaving[0] + GAP + 12, y - 15, width, 30, "pill")
        pen.edge([last.leaving, (box.x, y)], last.last, "logits")
    else:
        box = pen.box("logits", style.width - 2 - width, height, width, 30, "pill")
        pen.edge([last.leaving, (style.right, y), (style.right, height)], last.last, "logits")
        height += 38
    pen.label(text, box.middle[0], box.middle[1] + 5, TEXT, "on-pill", anchor="middle", bold=True, inside="logits")
    return _drawing(pen, style, max(height, least))


def _folded(pen: Pen, part: Part, style: Style, say: Say, least: float) -> Drawing:
    """Draw a stage as one box."""
    count = say("count_block") if len(part.blocks) == 1 else say("count_blocks", n=len(part.blocks))
    text = f"{count} · {figures(part, say)[0]}"
    y, x = ZONE, style.start
    if style.side:
        pen.label(part_name(part, say), 8, y + 20, 16, "heading", bold=True)
    else:
        name = part_name(part, say)
        pen.label(name, x, y + 20, 16, "heading", bold=True)
        x += text_width(name, 16, bold=True) + 30
    width = min(text_width(text, TEXT) + 24, style.end - x)
    box = pen.box("all", x, y, width, 30, "pill quiet", title=part.role)
    pen.label(shortened(text, width - 16, TEXT), x + width / 2, y + 20, TEXT, "text", anchor="middle", inside="all")
    middle = box.middle[1]
    height = max(y + 42, least)
    if style.side:
        points = [(style.right, 0.0), (style.right, RUN), (style.left, RUN), (style.left, middle), (x, middle)]
    else:  # between the name and the box
        turn = x - 14
        points = [(style.right, 0.0), (style.right, RUN), (turn, RUN), (turn, middle), (x, middle)]
    pen.edge(points, TOP, "all")
    pen.edge([(x + width, middle), (style.right, middle), (style.right, height)], "all", BOTTOM, arrow=False)
    return _drawing(pen, style, height)


def _drawing(pen: Pen, style: Style, height: float) -> Drawing:
    return Drawing(
        width=style.width, height=height, boxes=tuple(pen.boxes), labels=tuple(pen.labels), edges=tuple(pen.edges)
    )


def legend_panel(style: Style, say: Say, kinds: Sequence[str], *, compared: bool = False) -> Drawing:
    """Draw what colours mean, for the kinds of layers that occur."""
    pen = Pen()
    order = ("conv", "norm", "activation", "pool", "attention", "linear", "embedding", "shortcut")
    shown = [kind for kind in order if kind in kinds] + (["differs"] if compared else [])
    x, y = 8.0, 14.0
    for kind in shown:
        text = say(f"legend_{kind}_other" if f"{kind}_other" in kinds else f"legend_{kind}")
        width = 18 + 8 + text_width(text, SMALL) + 20
        if x > 8 and x + width > style.width:
            x, y = 8.0, y + 24
        pen.box(f"legend.{kind}", x, y, 18, 14, f"swatch {kind}")
        pen.label(text, x + 26, y + 12, SMALL, "muted")
        x += width
    return _drawing(pen, style, y + 26)
